//! Calls that nobody answers, streams that go on, and of whom they are asked.

use std::net::SocketAddr;

use prost::Message;
use rm_proto::etcdserverpb::request_op::Request;
use rm_proto::etcdserverpb::{
    AlarmRequest, AuthUserListRequest, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest,
    LeaseKeepAliveRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberListRequest,
    TxnRequest,
};
use rm_proto::v3electionpb::{CampaignRequest, LeaderRequest};
use rm_proto::v3lockpb::LockRequest;
use rm_tests::asks::{put, range, watch};
use rm_tests::client::operation;
use rm_tests::raw::{Call, Raw};
use rm_tests::{Cluster, LoneEtcd, Settings, until};
use tonic::{Code, Status};

/// Machines that give up no request as long as a test lasts.
pub(crate) fn patient(settings: Settings) -> Settings {
    settings.with("timings.request_timeout_ms", 600_000)
}

/// A machine without a quorum that has seen so, and its cluster: what was under way before that would be given up by itself.
pub(crate) async fn left_alone(settings: Settings) -> (Cluster, SocketAddr) {
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    // Before it has once heard whether permissions are asked for, a machine keeps all calls waiting.
    client.get(0, "key").await;
    for machine in [1, 2] {
        cluster.machines[machine].kill();
    }
    until("there is no leader", async || {
        let leader = client.info_until(0).await.leader;
        (leader == 0).then_some(()).ok_or(leader.to_string())
    })
    .await;
    let address = cluster.machines[0].client;
    (cluster, address)
}

/// Calls that nobody answers without a quorum, one at least of each service that has some.
pub(crate) fn unanswered() -> Vec<(&'static str, Vec<u8>)> {
    let txn = TxnRequest {
        success: vec![operation(Request::RequestPut(put()))],
        ..Default::default()
    };
    let delete = DeleteRangeRequest {
        key: "key".into(),
        ..Default::default()
    };
    let grant = LeaseGrantRequest { ttl: 60, id: 0 };
    let look = LeaseTimeToLiveRequest { id: 1, keys: false };
    let list = MemberListRequest { linearizable: true };
    let lock = LockRequest {
        name: "lock".into(),
        lease: 1,
    };
    let campaign = CampaignRequest {
        name: "vote".into(),
        lease: 1,
        value: "value".into(),
    };
    vec![
        ("/etcdserverpb.KV/Put", put().encode_to_vec()),
        ("/etcdserverpb.KV/Range", range().encode_to_vec()),
        ("/etcdserverpb.KV/DeleteRange", delete.encode_to_vec()),
        ("/etcdserverpb.KV/Txn", txn.encode_to_vec()),
        (
            "/etcdserverpb.KV/Compact",
            CompactionRequest::default().encode_to_vec(),
        ),
        ("/etcdserverpb.Lease/LeaseGrant", grant.encode_to_vec()),
        (
            "/etcdserverpb.Lease/LeaseRevoke",
            LeaseRevokeRequest { id: 1 }.encode_to_vec(),
        ),
        ("/etcdserverpb.Lease/LeaseTimeToLive", look.encode_to_vec()),
        (
            "/etcdserverpb.Auth/UserList",
            AuthUserListRequest {}.encode_to_vec(),
        ),
        ("/etcdserverpb.Cluster/MemberList", list.encode_to_vec()),
        (
            "/etcdserverpb.Maintenance/Alarm",
            AlarmRequest::default().encode_to_vec(),
        ),
        ("/v3lockpb.Lock/Lock", lock.encode_to_vec()),
        ("/v3electionpb.Election/Campaign", campaign.encode_to_vec()),
        ("/v3electionpb.Election/Leader", leader().encode_to_vec()),
    ]
}

/// Streams that go on until somebody ends them.
pub(crate) fn streams() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("/etcdserverpb.Watch/Watch", watch().encode_to_vec()),
        (
            "/etcdserverpb.Lease/LeaseKeepAlive",
            LeaseKeepAliveRequest { id: 1 }.encode_to_vec(),
        ),
        ("/v3electionpb.Election/Observe", leader().encode_to_vec()),
        ("/grpc.health.v1.Health/Watch", Vec::new()),
    ]
}

/// Calls a method, and leaves the call open to more requests where it takes them.
pub(crate) async fn begin(raw: &Raw, path: &str, headers: &[(&str, &str)], message: &[u8]) -> Call {
    match path {
        "/etcdserverpb.Watch/Watch" | "/etcdserverpb.Lease/LeaseKeepAlive" => {
            raw.open(path, headers, message).await
        }
        _ => raw.call(path, headers, message).await,
    }
}

pub(crate) fn leader() -> LeaderRequest {
    LeaderRequest {
        name: "vote".into(),
    }
}

pub(crate) fn told(status: &Status) -> (Code, &str) {
    (status.code(), status.message())
}

/// Of etcd, and of us.
pub(crate) async fn both() -> (LoneEtcd, Cluster, [SocketAddr; 2]) {
    let etcd = LoneEtcd::start().await;
    let cluster = Cluster::start(Settings::solo()).await;
    let theirs = etcd.endpoint().parse().expect("it is an address");
    let addresses = [theirs, cluster.machines[0].client];
    (etcd, cluster, addresses)
}
