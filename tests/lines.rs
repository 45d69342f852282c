//! Lines before locks and elections: clients of some machine that stand in them for as long as it takes.

use std::future::Future;

use bytes::Bytes;
use rm_proto::etcdserverpb::{RangeRequest, ResponseHeader};
use rm_proto::v3electionpb::election_client::ElectionClient;
use rm_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
};
use rm_proto::v3lockpb::lock_client::LockClient;
use rm_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest};
use rm_tls::Dialler;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::client::Client;
use crate::wait::{PATIENCE, until};

/// Connections whose calls take as long as they take, one to each address (`HOST:PORT`).
#[derive(Clone, Debug)]
pub struct Lines {
    channels: Vec<Channel>,
}

impl Lines {
    /// Must be called within a runtime.
    ///
    /// # Panics
    /// When an address makes no URI.
    pub fn new(addresses: impl IntoIterator<Item = impl ToString>) -> Lines {
        let channel = |address: String| {
            let endpoint = Endpoint::from_shared(format!("http://{address}"));
            endpoint.expect("an address makes a URI").connect_lazy()
        };
        let addresses = addresses.into_iter().map(|it| it.to_string());
        Lines {
            channels: addresses.map(channel).collect(),
        }
    }

    /// The same by TLS.
    ///
    /// # Panics
    /// When an address makes no URI.
    pub fn by_tls(addresses: impl IntoIterator<Item = impl ToString>, dialler: &Dialler) -> Lines {
        let channel = |address: String| {
            let endpoint = Endpoint::from_shared(format!("https://{address}"));
            dialler.connect_lazily(&endpoint.expect("an address makes a URI"))
        };
        let addresses = addresses.into_iter().map(|it| it.to_string());
        Lines {
            channels: addresses.map(channel).collect(),
        }
    }

    /// etcd's Lock service of one machine.
    pub fn locks(&self, machine: usize) -> LockClient<Channel> {
        LockClient::new(self.channels[machine].clone())
    }

    /// etcd's Election service of one machine.
    pub fn elections(&self, machine: usize) -> ElectionClient<Channel> {
        ElectionClient::new(self.channels[machine].clone())
    }

    /// Stands in line for a lock; its key once it is held.
    ///
    /// # Errors
    /// The machine's refusal, or the transport's failure.
    pub async fn lock(&self, machine: usize, name: &str, lease: i64) -> Result<Bytes, Status> {
        let request = lock(name, lease);
        let locked: LockResponse = self.locks(machine).lock(request).await?.into_inner();
        Ok(locked.key)
    }

    /// The same on a task of its own.
    pub fn start_to_lock(
        &self,
        machine: usize,
        name: &'static str,
        lease: i64,
    ) -> JoinHandle<Result<Bytes, Status>> {
        let lines = self.clone();
        tokio::spawn(async move { lines.lock(machine, name, lease).await })
    }

    /// Unlocks through one machine, once.
    ///
    /// # Errors
    /// The machine's refusal, or the transport's failure.
    pub async fn unlock(&self, machine: usize, key: impl Into<Bytes>) -> Result<(), Status> {
        let request = UnlockRequest { key: key.into() };
        self.locks(machine).unlock(request).await.map(drop)
    }

    /// Stands for an election; the leader's key once it is won.
    ///
    /// # Errors
    /// The machine's refusal, or the transport's failure.
    pub async fn campaign(
        &self,
        machine: usize,
        name: &str,
        lease: i64,
        value: &str,
    ) -> Result<LeaderKey, Status> {
        let request = CampaignRequest {
            name: name.to_owned().into(),
            lease,
            value: value.to_owned().into(),
        };
        let won: CampaignResponse = self
            .elections(machine)
            .campaign(request)
            .await?
            .into_inner();
        won.leader
            .ok_or_else(|| Status::internal("who leads is told its key"))
    }

    /// The same on a task of its own.
    pub fn start_to_campaign(
        &self,
        machine: usize,
        name: &'static str,
        lease: i64,
        value: &'static str,
    ) -> JoinHandle<Result<LeaderKey, Status>> {
        let lines = self.clone();
        tokio::spawn(async move { lines.campaign(machine, name, lease, value).await })
    }

    /// Tells another value as the leader, through one machine, once.
    ///
    /// # Errors
    /// The machine's refusal, or the transport's failure.
    pub async fn proclaim(
        &self,
        machine: usize,
        leader: &LeaderKey,
        value: &str,
    ) -> Result<(), Status> {
        let request = ProclaimRequest {
            leader: Some(leader.clone()),
            value: value.to_owned().into(),
        };
        self.elections(machine).proclaim(request).await.map(drop)
    }

    /// Observes an election at one machine.
    ///
    /// # Errors
    /// The machine's refusal, or the transport's failure.
    pub async fn observe(
        &self,
        machine: usize,
        name: &str,
    ) -> Result<Streaming<LeaderResponse>, Status> {
        let request = leader(name);
        let observed = self.elections(machine).observe(request).await?;
        Ok(observed.into_inner())
    }
}

/// A request for a lock.
pub fn lock(name: &str, lease: i64) -> LockRequest {
    LockRequest {
        name: name.to_owned().into(),
        lease,
    }
}

/// A request for who leads.
pub fn leader(name: &str) -> LeaderRequest {
    LeaderRequest {
        name: name.to_owned().into(),
    }
}

/// The keys of a line in their order, as one machine reads them once it can.
///
/// # Panics
/// When it does not in time.
pub async fn standing(client: &Client, machine: usize, name: &str) -> Vec<Bytes> {
    let request = RangeRequest {
        key: format!("{name}/").into(),
        range_end: format!("{name}0").into(),
        sort_target: 2,
        sort_order: 1,
        ..RangeRequest::default()
    };
    let read = until("a line is read", async || {
        let read = client.range_on(machine, request.clone()).await;
        read.map_err(|status| status.to_string())
    })
    .await;
    read.kvs.into_iter().map(|kv| kv.key).collect()
}

/// Waits until so many stand in a line.
///
/// # Panics
/// When they do not in time.
pub async fn await_standing(client: &Client, name: &str, count: usize) {
    until("so many stand in line", async || {
        let keys = standing(client, 0, name).await;
        let is_so = keys.len() == count;
        is_so.then_some(()).ok_or(format!("{keys:?}, not {count}"))
    })
    .await;
}

/// What must come, and does.
///
/// # Panics
/// When it does not in time.
pub async fn in_time<T>(what: &str, waited: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, waited).await;
    waited.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain until {what}"))
}

/// What a task that must end in time ends with.
///
/// # Panics
/// When it does not, or panics.
pub async fn ended<T>(what: &str, task: JoinHandle<T>) -> T {
    in_time(what, task).await.expect("the task does not panic")
}

/// The code and the text of a refusal.
///
/// # Panics
/// When it is none.
pub fn refusal<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.expect_err("it is refused");
    (status.code(), status.message().to_owned())
}

/// The revision that a header tells.
///
/// # Panics
/// When there is none.
pub fn revision(header: Option<ResponseHeader>) -> i64 {
    header.expect("every answer has one").revision
}
