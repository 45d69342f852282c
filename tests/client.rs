//! A client of a cluster: raw stubs for one machine, and requests that are tried on all of them until one answers.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rm_proto::etcdserverpb::cluster_client::ClusterClient;
use rm_proto::etcdserverpb::kv_client::KvClient;
use rm_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use rm_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, HashKvRequest, HashKvResponse, HashRequest, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RequestOp, StatusRequest, StatusResponse, request_op,
};
use rm_proto::mvccpb::KeyValue;
use rm_proto::raftmachine::v1::admin_client::AdminClient;
use rm_proto::raftmachine::v1::{
    Actor, ActorsRequest, ArmFaultRequest, InfoRequest, InfoResponse, KillActorRequest,
};
use rm_tls::Dialler;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::wait::until;

/// How long one request may take: longer than the machines' own limit, so that their answer is seen.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How many pairs one page of a dump holds; with the values of these tests far below gRPC's 4 MiB.
const PAGE: i64 = 5_000;

fn endpoint(scheme: &str, address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("{scheme}://{address}"))
        .expect("an address makes a URI")
        .connect_timeout(Duration::from_millis(500))
        .timeout(REQUEST_TIMEOUT)
}

/// Connections to each machine of a cluster; cheap to clone, and they come back by themselves.
#[derive(Clone, Debug)]
pub struct Client {
    channels: Vec<Channel>,
}

impl Client {
    /// A client of the machines with these addresses. Must be called within a runtime.
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let addresses = addresses.into_iter();
        let channels = addresses.map(|address| endpoint("http", address).connect_lazy());
        Client {
            channels: channels.collect(),
        }
    }

    /// The same by TLS.
    pub fn by_tls(addresses: impl IntoIterator<Item = SocketAddr>, dialler: &Dialler) -> Self {
        let addresses = addresses.into_iter();
        let channels = addresses.map(|address| dialler.connect_lazily(&endpoint("https", address)));
        Client {
            channels: channels.collect(),
        }
    }

    /// The number of machines.
    pub fn machines(&self) -> usize {
        self.channels.len()
    }

    /// etcd's KV service of one machine.
    pub fn kv(&self, machine: usize) -> KvClient<Channel> {
        KvClient::new(self.channels[machine].clone())
    }

    /// etcd's Cluster service of one machine.
    pub fn cluster(&self, machine: usize) -> ClusterClient<Channel> {
        ClusterClient::new(self.channels[machine].clone())
    }

    /// etcd's Maintenance service of one machine.
    pub fn maintenance(&self, machine: usize) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channels[machine].clone())
    }

    /// The operator's service of one machine.
    pub fn admin(&self, machine: usize) -> AdminClient<Channel> {
        AdminClient::new(self.channels[machine].clone())
    }

    /// The connection to one machine, for services that are not etcd's and not ours.
    pub fn channel(&self, machine: usize) -> Channel {
        self.channels[machine].clone()
    }

    /// Writes through one machine, once.
    ///
    /// # Errors
    ///
    /// The machine's refusal, or the transport's failure: then the outcome is unknown.
    pub async fn put_on(
        &self,
        machine: usize,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<PutResponse, Status> {
        let request = PutRequest {
            key: key.into(),
            value: value.into(),
            ..Default::default()
        };
        Ok(self.kv(machine).put(request).await?.into_inner())
    }

    /// Writes until some machine acknowledges it. The write may happen more than once.
    ///
    /// # Panics
    ///
    /// When none does in time.
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> PutResponse {
        let (key, value) = (key.into(), value.into());
        let mut turn = 0;
        until("a write is acknowledged", async || {
            turn += 1;
            let machine = turn % self.machines();
            self.put_on(machine, key.clone(), value.clone())
                .await
                .map_err(|status| status.to_string())
        })
        .await
    }

    /// Reads one key through one machine, once.
    ///
    /// # Errors
    ///
    /// The machine's refusal, or the transport's failure.
    pub async fn get_on(
        &self,
        machine: usize,
        key: impl Into<Bytes>,
        serializable: bool,
    ) -> Result<Option<KeyValue>, Status> {
        let request = RangeRequest {
            key: key.into(),
            serializable,
            ..Default::default()
        };
        Ok(self.range_on(machine, request).await?.kvs.pop())
    }

    /// Reads one key through one machine, once, with this word in the header by which a client chooses what a read rests on.
    ///
    /// # Errors
    ///
    /// The machine's refusal, or the transport's failure.
    ///
    /// # Panics
    ///
    /// When the word makes no header.
    pub async fn get_by(
        &self,
        machine: usize,
        word: &str,
        key: impl Into<Bytes>,
    ) -> Result<Option<KeyValue>, Status> {
        let mut request = Request::new(RangeRequest {
            key: key.into(),
            ..Default::default()
        });
        let word = word.parse().expect("a word makes a header");
        request.metadata_mut().insert("raftmachine-read", word);
        let answer = self.kv(machine).range(request).await?;
        Ok(answer.into_inner().kvs.pop())
    }

    /// Reads a range through one machine, once.
    ///
    /// # Errors
    ///
    /// The machine's refusal, or the transport's failure.
    pub async fn range_on(
        &self,
        machine: usize,
        request: RangeRequest,
    ) -> Result<RangeResponse, Status> {
        Ok(self.kv(machine).range(request).await?.into_inner())
    }

    /// Compacts the key space through one machine, once.
    ///
    /// # Errors
    ///
    /// The machine's refusal, or the transport's failure: then the outcome is unknown.
    pub async fn compact_on(
        &self,
        machine: usize,
        revision: i64,
        physical: bool,
    ) -> Result<CompactionResponse, Status> {
        let request = CompactionRequest { revision, physical };
        Ok(self.kv(machine).compact(request).await?.into_inner())
    }

    /// Reads one key through one machine until it answers.
    ///
    /// # Panics
    ///
    /// When it does not in time.
    pub async fn get(&self, machine: usize, key: impl Into<Bytes>) -> Option<KeyValue> {
        let key = key.into();
        until("a linearizable read is answered", async || {
            self.get_on(machine, key.clone(), false)
                .await
                .map_err(|status| status.to_string())
        })
        .await
    }

    /// Everything that one machine itself holds, with all revisions, in the order of the keys; asked for until it answers.
    ///
    /// # Panics
    ///
    /// When it does not in time.
    pub async fn dump(&self, machine: usize) -> Vec<KeyValue> {
        until("a machine can be read", async || {
            self.dump_once(machine)
                .await
                .map_err(|status| status.to_string())
        })
        .await
    }

    /// As [`Client::dump`], asked for once.
    ///
    /// # Errors
    ///
    /// The machine's refusal, or the transport's failure.
    pub async fn dump_once(&self, machine: usize) -> Result<Vec<KeyValue>, Status> {
        let mut pairs: Vec<KeyValue> = Vec::new();
        loop {
            let mut from = pairs.last().map_or_else(Vec::new, |pair| pair.key.to_vec());
            from.push(0);
            let request = RangeRequest {
                key: from.into(),
                range_end: Bytes::from_static(b"\0"),
                limit: PAGE,
                serializable: true,
                ..Default::default()
            };
            let page = self.range_on(machine, request).await?;
            pairs.extend(page.kvs);
            if !page.more {
                return Ok(pairs);
            }
        }
    }

    /// etcd's status of one machine.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn status(&self, machine: usize) -> Result<StatusResponse, Status> {
        let answer = self.maintenance(machine).status(StatusRequest {}).await?;
        Ok(answer.into_inner())
    }

    /// etcd's hash of all that one machine itself holds up to a revision; asked for until it answers.
    ///
    /// # Panics
    ///
    /// When it does not in time.
    pub async fn hash_kv(&self, machine: usize, revision: i64) -> HashKvResponse {
        until("a machine tells its hash", async || {
            let request = HashKvRequest { revision };
            match self.maintenance(machine).hash_kv(request).await {
                Ok(answer) => Ok(answer.into_inner()),
                Err(status) => Err(status.to_string()),
            }
        })
        .await
    }

    /// etcd's hash of all that one machine holds; asked for until it answers.
    ///
    /// # Panics
    ///
    /// When it does not in time.
    pub async fn hash_whole(&self, machine: usize) -> u32 {
        until("a machine tells its hash", async || {
            match self.maintenance(machine).hash(HashRequest {}).await {
                Ok(answer) => Ok(answer.into_inner().hash),
                Err(status) => Err(status.to_string()),
            }
        })
        .await
    }

    /// What one machine knows of itself.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn info(&self, machine: usize) -> Result<InfoResponse, Status> {
        Ok(self.admin(machine).info(InfoRequest {}).await?.into_inner())
    }

    /// What one machine tells of itself, asked for until it answers.
    ///
    /// # Panics
    ///
    /// When it does not in time.
    pub async fn info_until(&self, machine: usize) -> InfoResponse {
        until("the machine answers", async || {
            let info = self.info(machine).await;
            info.map_err(|status| status.to_string())
        })
        .await
    }

    /// The actors of one machine, asked for until it answers.
    ///
    /// # Panics
    ///
    /// When it does not in time.
    pub async fn actors(&self, machine: usize) -> Vec<Actor> {
        until("a machine tells of its actors", async || {
            match self.admin(machine).actors(ActorsRequest {}).await {
                Ok(answer) => Ok(answer.into_inner().actors),
                Err(status) => Err(status.to_string()),
            }
        })
        .await
    }

    /// Makes an actor of one machine fail: by `panic`, `stop` or `hang`.
    ///
    /// # Errors
    ///
    /// When the machine refuses, or its answer is lost.
    pub async fn kill_actor(&self, machine: usize, actor: &str, how: &str) -> Result<(), Status> {
        let request = KillActorRequest {
            actor: actor.to_owned(),
            how: how.to_owned(),
        };
        self.admin(machine).kill_actor(request).await.map(drop)
    }

    /// Arms a fault point of one machine; zero times disarms it.
    ///
    /// # Panics
    ///
    /// When the machine refuses, or does not answer in time.
    pub async fn arm_fault(
        &self,
        machine: usize,
        actor: &str,
        point: &str,
        action: &str,
        times: u64,
    ) {
        let request = ArmFaultRequest {
            actor: actor.to_owned(),
            point: point.to_owned(),
            action: action.to_owned(),
            times,
        };
        until("a fault is armed", async || {
            match self.admin(machine).arm_fault(request.clone()).await {
                Ok(_) => Ok(()),
                Err(status) => Err(status.to_string()),
            }
        })
        .await;
    }
}

/// An operation of a transaction.
pub fn operation(request: request_op::Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}
