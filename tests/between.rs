//! What stands between a client and a machine that speaks etcd's API, and plays tricks: it holds requests back, loses answers, tells too
//! early that all was told, names another cluster, and goes away.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use rm_proto::etcdserverpb::kv_client::KvClient;
use rm_proto::etcdserverpb::kv_server::{Kv, KvServer};
use rm_proto::etcdserverpb::lease_client::LeaseClient;
use rm_proto::etcdserverpb::lease_server::{Lease, LeaseServer};
use rm_proto::etcdserverpb::watch_client::WatchClient;
use rm_proto::etcdserverpb::watch_request::RequestUnion;
use rm_proto::etcdserverpb::watch_server::{Watch, WatchServer};
use rm_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, ResponseHeader, TxnRequest, TxnResponse, WatchRequest, WatchResponse,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::ports::{Port, claim};

/// How many messages of a stream wait at a time.
const MESSAGES_MAX: usize = 64;

/// Something in between, which passes on what it has no trick for.
#[derive(Debug)]
pub struct Between {
    tricks: Tricks,
    port: Port,
    server: JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Tricks(Arc<Told>);

/// What it was told to do.
#[derive(Debug)]
struct Told {
    to: Channel,
    is_gone: watch::Sender<bool>,
    refusals: AtomicUsize,
    holds_events: watch::Sender<bool>,
    /// The cluster that it says it is; zero for the true one.
    cluster: AtomicU64,
    /// How many transactions are held back.
    holding: AtomicUsize,
    /// Those that compare this key are passed on.
    not_holding: Mutex<Option<Bytes>>,
    held: Mutex<Vec<TxnRequest>>,
    /// How many transactions are carried out, and not answered.
    losing: AtomicUsize,
    /// How often each lease was asked about.
    questions: Mutex<BTreeMap<i64, usize>>,
}

impl Between {
    /// In front of this machine.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    pub async fn start(to: SocketAddr) -> Between {
        let port = claim(1).pop().expect("one was asked for");
        let to = Endpoint::from_shared(format!("http://{to}"));
        let tricks = Tricks(Arc::new(Told {
            to: to.expect("an address makes a URI").connect_lazy(),
            is_gone: watch::Sender::new(false),
            refusals: AtomicUsize::new(0),
            holds_events: watch::Sender::new(false),
            cluster: AtomicU64::new(0),
            holding: AtomicUsize::new(0),
            not_holding: Mutex::default(),
            held: Mutex::default(),
            losing: AtomicUsize::new(0),
            questions: Mutex::default(),
        }));
        let listener = TcpListener::bind(port.address).await;
        let incoming = TcpListenerStream::new(listener.expect("the port is ours"));
        let serving = Server::builder()
            .add_service(KvServer::new(tricks.clone()))
            .add_service(LeaseServer::new(tricks.clone()))
            .add_service(WatchServer::new(tricks.clone()))
            .serve_with_incoming(incoming);
        let server = tokio::spawn(async move { serving.await.expect("it serves") });
        Between {
            tricks,
            port,
            server,
        }
    }

    /// Where clients reach it.
    pub fn endpoint(&self) -> String {
        self.port.address.to_string()
    }

    /// It serves nobody any more.
    pub fn go_away(&self) {
        self.tricks.0.is_gone.send_replace(true);
    }

    /// It is here again.
    pub fn come_back(&self) {
        self.tricks.0.is_gone.send_replace(false);
    }

    /// How many calls have found it gone.
    pub fn refusals(&self) -> usize {
        self.tricks.0.refusals.load(Ordering::Relaxed)
    }

    /// It says from now on that it is this cluster.
    pub fn name_cluster(&self, cluster: u64) {
        self.tricks.0.cluster.store(cluster, Ordering::Relaxed);
    }

    /// Holds the next transaction back, and says that it could not be carried out.
    pub fn hold_a_transaction(&self) {
        self.tricks.0.holding.fetch_add(1, Ordering::Relaxed);
    }

    /// The same of the next one that does not compare this key.
    ///
    /// # Panics
    ///
    /// When another thread has panicked with the key.
    pub fn hold_a_transaction_without(&self, key: impl Into<Bytes>) {
        let mut not_holding = self.tricks.not_holding();
        *not_holding = Some(key.into());
        self.hold_a_transaction();
    }

    /// How many are held back.
    ///
    /// # Panics
    ///
    /// When another thread has panicked with them.
    pub fn held(&self) -> usize {
        self.tricks
            .0
            .held
            .lock()
            .expect("nobody panics with it")
            .len()
    }

    /// Has a transaction that was held back arrive, late: whether it was carried out.
    ///
    /// # Panics
    ///
    /// When none is held, or it is not answered.
    pub async fn release_a_transaction(&self) -> bool {
        let held = self
            .tricks
            .0
            .held
            .lock()
            .expect("nobody panics with it")
            .pop();
        let answer = self.tricks.kv().txn(held.expect("one is held")).await;
        answer.expect("the machine answers").into_inner().succeeded
    }

    /// Has the next transaction carried out, and loses the answer.
    pub fn lose_an_answer(&self) {
        self.tricks.0.losing.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there is an answer that is yet to be lost.
    pub fn has_answers_to_lose(&self) -> bool {
        self.tricks.0.losing.load(Ordering::Relaxed) > 0
    }

    /// Tells no events from now on, and says to whoever asks that it has told all.
    pub fn hold_events(&self) {
        self.tricks.0.holds_events.send_replace(true);
    }

    /// How often it was asked about a lease.
    ///
    /// # Panics
    ///
    /// When another thread has panicked with the count.
    pub fn questions_about(&self, lease: i64) -> usize {
        let questions = self
            .tricks
            .0
            .questions
            .lock()
            .expect("nobody panics with it");
        questions.get(&lease).copied().unwrap_or(0)
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Takes one away, unless there is none.
fn take_one(count: &AtomicUsize) -> bool {
    let less = |count: usize| count.checked_sub(1);
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

fn gone() -> Status {
    Status::unavailable("it has gone away")
}

impl Tricks {
    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.0.to.clone()).max_decoding_message_size(usize::MAX)
    }

    fn not_holding(&self) -> MutexGuard<'_, Option<Bytes>> {
        self.0.not_holding.lock().expect("nobody panics with it")
    }

    fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.0.to.clone())
    }

    fn is_here(&self) -> Result<(), Status> {
        match *self.0.is_gone.borrow() {
            true => {
                self.0.refusals.fetch_add(1, Ordering::Relaxed);
                Err(gone())
            }
            false => Ok(()),
        }
    }

    fn name(&self, header: &mut Option<ResponseHeader>) {
        let cluster = self.0.cluster.load(Ordering::Relaxed);
        if let Some(header) = header
            && cluster != 0
        {
            header.cluster_id = cluster;
        }
    }

    /// Says that all was told, whatever was.
    async fn early_notice(&self) -> Result<WatchResponse, Status> {
        let request = RangeRequest {
            key: "any".into(),
            ..RangeRequest::default()
        };
        let answer = self.kv().range(request).await?.into_inner();
        Ok(WatchResponse {
            header: answer.header,
            watch_id: -1,
            ..WatchResponse::default()
        })
    }

    async fn pass_requests_on(
        self,
        mut asked: Streaming<WatchRequest>,
        on: mpsc::Sender<WatchRequest>,
        tell: mpsc::Sender<Result<WatchResponse, Status>>,
    ) {
        while let Ok(Some(request)) = asked.message().await {
            let is_question = matches!(
                request.request_union,
                Some(RequestUnion::ProgressRequest(_))
            );
            let is_early = is_question && *self.0.holds_events.borrow();
            let passed = match is_early {
                true => tell.send(self.early_notice().await).await.is_ok(),
                false => on.send(request).await.is_ok(),
            };
            if !passed {
                return;
            }
        }
    }

    async fn pass_events_on(
        self,
        mut told: Streaming<WatchResponse>,
        tell: mpsc::Sender<Result<WatchResponse, Status>>,
    ) {
        let mut is_gone = self.0.is_gone.subscribe();
        let mut holds = self.0.holds_events.subscribe();
        loop {
            let next = async {
                let response = told.message().await;
                if let Ok(Some(response)) = &response
                    && !response.events.is_empty()
                {
                    let _ = holds.wait_for(|holds| !*holds).await;
                }
                response
            };
            let response = tokio::select! {
                response = next => response,
                _ = is_gone.wait_for(|gone| *gone) => Err(gone()),
            };
            let response = match response {
                Ok(None) => return,
                Ok(Some(mut response)) => {
                    self.name(&mut response.header);
                    Ok(response)
                }
                Err(status) => Err(status),
            };
            let is_end = response.is_err();
            if tell.send(response).await.is_err() || is_end {
                return;
            }
        }
    }
}

#[tonic::async_trait]
impl Kv for Tricks {
    async fn range(&self, asked: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        self.is_here()?;
        let mut answer = self.kv().range(asked.into_inner()).await?;
        self.name(&mut answer.get_mut().header);
        Ok(answer)
    }

    async fn put(&self, asked: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.is_here()?;
        self.kv().put(asked.into_inner()).await
    }

    async fn delete_range(
        &self,
        asked: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        self.is_here()?;
        self.kv().delete_range(asked.into_inner()).await
    }

    async fn txn(&self, asked: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        self.is_here()?;
        let passed_on = self.not_holding().clone();
        let mut compared = asked.get_ref().compare.iter();
        let is_passed_on = compared.any(|compare| Some(&compare.key) == passed_on.as_ref());
        if !is_passed_on && take_one(&self.0.holding) {
            let mut held = self.0.held.lock().expect("nobody panics with it");
            held.push(asked.into_inner());
            return Err(Status::unavailable("nobody knows what becomes of it"));
        }
        let mut answer = self.kv().txn(asked.into_inner()).await?;
        self.name(&mut answer.get_mut().header);
        match take_one(&self.0.losing) {
            true => Err(Status::unavailable("nobody knows what has become of it")),
            false => Ok(answer),
        }
    }

    async fn compact(
        &self,
        asked: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        self.is_here()?;
        self.kv().compact(asked.into_inner()).await
    }
}

#[tonic::async_trait]
impl Lease for Tricks {
    type LeaseKeepAliveStream = Streaming<LeaseKeepAliveResponse>;

    async fn lease_grant(
        &self,
        asked: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        self.is_here()?;
        self.lease().lease_grant(asked.into_inner()).await
    }

    async fn lease_revoke(
        &self,
        asked: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        self.is_here()?;
        self.lease().lease_revoke(asked.into_inner()).await
    }

    async fn lease_keep_alive(
        &self,
        asked: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        self.is_here()?;
        let requests = asked.into_inner().map_while(Result::ok);
        self.lease().lease_keep_alive(requests).await
    }

    async fn lease_time_to_live(
        &self,
        asked: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        self.is_here()?;
        let asked = asked.into_inner();
        {
            let mut questions = self.0.questions.lock().expect("nobody panics with it");
            *questions.entry(asked.id).or_default() += 1;
        }
        self.lease().lease_time_to_live(asked).await
    }

    async fn lease_leases(
        &self,
        asked: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        self.is_here()?;
        self.lease().lease_leases(asked.into_inner()).await
    }
}

#[tonic::async_trait]
impl Watch for Tricks {
    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        asked: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.is_here()?;
        let (on, requests) = mpsc::channel(MESSAGES_MAX);
        let (tell, told) = mpsc::channel(MESSAGES_MAX);
        let asked = asked.into_inner();
        tokio::spawn(self.clone().pass_requests_on(asked, on, tell.clone()));
        // etcd answers nothing before it is asked something: the requests must be on their way by now.
        let mut machine = WatchClient::new(self.0.to.clone());
        let responses = machine.watch(ReceiverStream::new(requests)).await?;
        tokio::spawn(self.clone().pass_events_on(responses.into_inner(), tell));
        Ok(Response::new(ReceiverStream::new(told)))
    }
}
