//! Leases, as a client of some machine grants, renews and looks at them.

use rm_proto::etcdserverpb::lease_client::LeaseClient;
use rm_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest,
};
use tokio_stream as stream;
use tonic::transport::Channel;
use tonic::{IntoStreamingRequest, Status, Streaming};

use crate::client::Client;
use crate::wait::until;

/// etcd's Lease service of one machine.
pub fn service(client: &Client, machine: usize) -> LeaseClient<Channel> {
    LeaseClient::new(client.channel(machine))
}

/// Grants a lease of this id through some machine until that is acknowledged.
///
/// # Panics
/// When it is not in time.
pub async fn grant(client: &Client, id: i64, ttl: i64) {
    let mut turn = 0;
    until("a lease is granted", async || {
        turn += 1;
        let request = LeaseGrantRequest { ttl, id };
        let mut service = service(client, turn % client.machines());
        match service.lease_grant(request).await {
            // It was granted by an attempt whose answer was lost.
            Err(status) if status.message() == "etcdserver: lease already exists" => Ok(()),
            Err(status) => Err(status.to_string()),
            Ok(_) => Ok(()),
        }
    })
    .await;
}

/// Ends a lease through one machine, once.
///
/// # Errors
/// The machine's refusal, or the transport's failure.
pub async fn revoke(client: &Client, machine: usize, id: i64) -> Result<(), Status> {
    let request = LeaseRevokeRequest { id };
    service(client, machine).lease_revoke(request).await?;
    Ok(())
}

/// Puts a key that hangs on a lease through some machine until that is acknowledged.
///
/// # Panics
/// When it is not in time.
pub async fn put(client: &Client, key: &str, lease: i64) {
    let request = PutRequest {
        key: key.to_owned().into(),
        value: "value".into(),
        lease,
        ..Default::default()
    };
    let mut turn = 0;
    until("a key is put that hangs on a lease", async || {
        turn += 1;
        let mut kv = client.kv(turn % client.machines());
        let put = kv.put(request.clone()).await;
        put.map(drop).map_err(|status| status.to_string())
    })
    .await;
}

/// Renews a lease through one machine, once: the time that it has then; zero if there is none.
///
/// # Errors
/// The machine's refusal, or the transport's failure.
pub async fn renew(client: &Client, machine: usize, id: i64) -> Result<i64, Status> {
    let request = stream::iter([LeaseKeepAliveRequest { id }]);
    let mut answers = keep_alive(client, machine, request).await?;
    let answer = answers.message().await?;
    answer.map(|answer| answer.ttl).ok_or_else(|| {
        Status::unavailable("the stream of renewals ended without an answer or an error")
    })
}

/// Opens a stream of renewals at one machine.
///
/// # Errors
/// The machine's refusal, or the transport's failure.
pub async fn keep_alive(
    client: &Client,
    machine: usize,
    requests: impl IntoStreamingRequest<Message = LeaseKeepAliveRequest>,
) -> Result<Streaming<LeaseKeepAliveResponse>, Status> {
    let opened = service(client, machine).lease_keep_alive(requests).await?;
    Ok(opened.into_inner())
}

/// How it stands with a lease, with the keys that hang on it, as one machine tells once it can.
///
/// # Panics
/// When it does not in time.
pub async fn look(client: &Client, machine: usize, id: i64) -> LeaseTimeToLiveResponse {
    until("a machine tells how it stands with a lease", async || {
        let request = LeaseTimeToLiveRequest { id, keys: true };
        let told = service(client, machine).lease_time_to_live(request).await;
        told.map(tonic::Response::into_inner)
            .map_err(|status| status.to_string())
    })
    .await
}

/// The ids of all leases, in order, as one machine tells once it can.
///
/// # Panics
/// When it does not in time.
pub async fn list(client: &Client, machine: usize) -> Vec<i64> {
    let leases = until("a machine lists the leases", async || {
        let mut service = service(client, machine);
        let told = service.lease_leases(LeaseLeasesRequest {}).await;
        let told = told.map_err(|status| status.to_string())?;
        Ok(told.into_inner().leases)
    })
    .await;
    let mut ids: Vec<i64> = leases.into_iter().map(|lease| lease.id).collect();
    ids.sort_unstable();
    ids
}

/// Waits until a machine says that a lease is not there.
///
/// # Panics
/// When it says so in vain for long.
pub async fn ended(client: &Client, machine: usize, id: i64) {
    until("a lease has ended", async || {
        let told = look(client, machine, id).await;
        (told.ttl == -1).then_some(()).ok_or(format!("{told:?}"))
    })
    .await;
}
