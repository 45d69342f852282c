//! A machine in this process for tests: a map of keys behind etcd's KV service, and the answers an operator asks for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rm_proto::etcdserverpb::kv_server::{Kv, KvServer};
use rm_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse,
};
use rm_proto::mvccpb::KeyValue;
use rm_proto::raftmachine::v1 as admin;
use rm_proto::raftmachine::v1::admin_server::{Admin, AdminServer};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::client::Endpoint;

/// A machine that runs until it is dropped.
pub(crate) struct Fake {
    endpoint: Endpoint,
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<Bytes, Bytes>,
    revision: i64,
    refusal: Option<String>,
    machines: Vec<admin::Machine>,
    refusals: Vec<admin::PeerRefusal>,
    followers: Vec<admin::Follower>,
    killed: Vec<(String, String)>,
    levels_set: Vec<(String, String)>,
    transfers: Vec<u64>,
    changes: Vec<admin::ChangeMembersRequest>,
    endpoint: String,
}

impl Fake {
    /// Starts it on a free port of loopback.
    pub(crate) fn start() -> Fake {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener
            .set_nonblocking(true)
            .expect("a socket that does not block");
        let address = listener.local_addr().expect("an address").to_string();
        let state = Arc::new(Mutex::new(State {
            endpoint: address.clone(),
            ..State::default()
        }));
        let service = Service(state.clone());
        let entered = runtime.enter();
        let listener = TcpListener::from_std(listener).expect("a listener");
        drop(entered);
        runtime.spawn(
            Server::builder()
                .add_service(KvServer::new(service.clone()))
                .add_service(AdminServer::new(service))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Fake {
            endpoint: address.parse().expect("an endpoint"),
            state,
            runtime: Some(runtime),
        }
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    /// An endpoint where nobody listens, nor ever will: its port stays taken while the tests run, or one of them might get it.
    pub(crate) fn absent() -> Endpoint {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket
            .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .expect("a free port");
        let address = socket.local_addr().expect("an address").to_string();
        std::mem::forget(socket);
        address.parse().expect("an endpoint")
    }

    /// Refuses every request for keys from now on, with this text.
    pub(crate) fn refuse(&self, text: &str) {
        self.state().refusal = Some(text.to_owned());
    }

    /// Forgets all keys.
    pub(crate) fn clear(&self) {
        self.state().keys.clear();
    }

    /// All keys.
    pub(crate) fn keys(&self) -> BTreeMap<Bytes, Bytes> {
        self.state().keys.clone()
    }

    /// The machines that it names when it is asked; itself alone otherwise.
    pub(crate) fn name_machines(&self, clients: &[String]) {
        self.state().machines = clients
            .iter()
            .enumerate()
            .map(|(position, client)| admin::Machine {
                id: position as u64 + 1,
                name: format!("RM.{:02}", position + 1),
                peer: "127.0.0.1:7600".to_owned(),
                client: client.clone(),
                ..admin::Machine::default()
            })
            .collect();
    }

    /// It tells that a peer refuses it, or is refused by it, for this reason.
    pub(crate) fn tell_refusal(&self, peer: &str, reason: &str) {
        self.state().refusals.push(admin::PeerRefusal {
            peer: peer.to_owned(),
            reason: reason.to_owned(),
        });
    }

    /// It tells how far it has got with another machine.
    pub(crate) fn tell_follower(&self, follower: admin::Follower) {
        self.state().followers.push(follower);
    }

    /// Which actors were killed, and how.
    pub(crate) fn killed(&self) -> Vec<(String, String)> {
        self.state().killed.clone()
    }

    /// Of which logs the level was set, and to which.
    pub(crate) fn levels_set(&self) -> Vec<(String, String)> {
        self.state().levels_set.clone()
    }

    /// The changes of members that were asked for.
    pub(crate) fn changes(&self) -> Vec<admin::ChangeMembersRequest> {
        self.state().changes.clone()
    }

    /// To whom it was told to hand leadership over.
    pub(crate) fn transfers(&self) -> Vec<u64> {
        self.state().transfers.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds it")
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // Tests drop it inside a runtime of their own, where waiting for its end is not allowed.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Clone)]
struct Service(Arc<Mutex<State>>);

impl Service {
    fn open(&self) -> Result<std::sync::MutexGuard<'_, State>, Status> {
        let state = self.0.lock().expect("no test panics while it holds it");
        match &state.refusal {
            Some(text) => Err(Status::unavailable(text.clone())),
            None => Ok(state),
        }
    }
}

fn header(state: &State) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision: state.revision,
        ..Default::default()
    })
}

fn holds(key: &Bytes, start: &Bytes, end: &Bytes) -> bool {
    match &end[..] {
        b"" => key == start,
        b"\0" => key >= start,
        _ => key >= start && key < end,
    }
}

#[tonic::async_trait]
impl Kv for Service {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let state = self.open()?;
        let asked = request.into_inner();
        let kvs: Vec<_> = state
            .keys
            .iter()
            .filter(|(key, _)| holds(key, &asked.key, &asked.range_end))
            .map(|(key, value)| KeyValue {
                key: key.clone(),
                value: value.clone(),
                version: 1,
                ..Default::default()
            })
            .collect();
        Ok(Response::new(RangeResponse {
            header: header(&state),
            count: kvs.len() as i64,
            more: false,
            kvs,
        }))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let mut state = self.open()?;
        let asked = request.into_inner();
        state.keys.insert(asked.key, asked.value);
        state.revision += 1;
        Ok(Response::new(PutResponse {
            header: header(&state),
            prev_kv: None,
        }))
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let mut state = self.open()?;
        let asked = request.into_inner();
        let before = state.keys.len();
        state
            .keys
            .retain(|key, _| !holds(key, &asked.key, &asked.range_end));
        state.revision += 1;
        Ok(Response::new(DeleteRangeResponse {
            header: header(&state),
            deleted: (before - state.keys.len()) as i64,
            prev_kvs: Vec::new(),
        }))
    }

    async fn txn(&self, _: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        Err(Status::unimplemented("no command of rmctl asks for it"))
    }

    async fn compact(
        &self,
        _: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        Err(Status::unimplemented("no command of rmctl asks for it"))
    }
}

#[tonic::async_trait]
impl Admin for Service {
    async fn info(
        &self,
        _: Request<admin::InfoRequest>,
    ) -> Result<Response<admin::InfoResponse>, Status> {
        let state = self.open()?;
        let own = admin::Machine {
            id: 1,
            name: "RM.01".to_owned(),
            peer: "127.0.0.1:7600".to_owned(),
            client: state.endpoint.clone(),
            ..admin::Machine::default()
        };
        let machines = if state.machines.is_empty() {
            vec![own]
        } else {
            state.machines.clone()
        };
        Ok(Response::new(admin::InfoResponse {
            domain: "test".to_owned(),
            name: "RM.01".to_owned(),
            machine_id: 1,
            number: 1,
            role: "leader".to_owned(),
            term: 3,
            leader: 1,
            machines,
            revision: state.revision,
            leader_silence_ms: Some(107),
            refusals: state.refusals.clone(),
            followers: state.followers.clone(),
            ..Default::default()
        }))
    }

    async fn actors(
        &self,
        _: Request<admin::ActorsRequest>,
    ) -> Result<Response<admin::ActorsResponse>, Status> {
        let actor = admin::Actor {
            name: "timer".to_owned(),
            group: "brain".to_owned(),
            state: "running".to_owned(),
            incarnation: 2,
            restarts: 1,
            failures: 1,
            last_failure: "panic: struck".to_owned(),
            recovery_us: Some(1500),
            ..Default::default()
        };
        Ok(Response::new(admin::ActorsResponse {
            actors: vec![actor],
        }))
    }

    async fn kill_actor(
        &self,
        request: Request<admin::KillActorRequest>,
    ) -> Result<Response<admin::KillActorResponse>, Status> {
        let asked = request.into_inner();
        self.open()?.killed.push((asked.actor, asked.how));
        Ok(Response::new(admin::KillActorResponse {}))
    }

    async fn arm_fault(
        &self,
        _: Request<admin::ArmFaultRequest>,
    ) -> Result<Response<admin::ArmFaultResponse>, Status> {
        Err(Status::failed_precondition("fault injection is off"))
    }

    async fn log_levels(
        &self,
        _: Request<admin::LogLevelsRequest>,
    ) -> Result<Response<admin::LogLevelsResponse>, Status> {
        Ok(Response::new(admin::LogLevelsResponse {
            levels: BTreeMap::from([("timer".to_owned(), "info".to_owned())]),
        }))
    }

    async fn set_log_level(
        &self,
        request: Request<admin::SetLogLevelRequest>,
    ) -> Result<Response<admin::SetLogLevelResponse>, Status> {
        let asked = request.into_inner();
        self.open()?.levels_set.push((asked.actor, asked.level));
        Ok(Response::new(admin::SetLogLevelResponse {}))
    }

    async fn transfer(
        &self,
        request: Request<admin::TransferRequest>,
    ) -> Result<Response<admin::TransferResponse>, Status> {
        let to = request.into_inner().to;
        self.open()?.transfers.push(to);
        Ok(Response::new(admin::TransferResponse { leader: to }))
    }

    async fn members(
        &self,
        _: Request<admin::MembersRequest>,
    ) -> Result<Response<admin::MembersResponse>, Status> {
        let info = self
            .info(Request::new(admin::InfoRequest {}))
            .await?
            .into_inner();
        Ok(Response::new(admin::MembersResponse {
            domain: info.domain,
            machines: info.machines,
            era: info.era,
            applied_index: info.applied_index,
        }))
    }

    async fn change_members(
        &self,
        request: Request<admin::ChangeMembersRequest>,
    ) -> Result<Response<admin::ChangeMembersResponse>, Status> {
        self.open()?.changes.push(request.into_inner());
        Ok(Response::new(admin::ChangeMembersResponse::default()))
    }
}
