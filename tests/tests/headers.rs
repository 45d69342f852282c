//! The header of every answer has what it has in etcd.

use std::net::SocketAddr;

use prost::Message;
use rm_proto::authpb::Permission;
use rm_proto::etcdserverpb::request_op::Request;
use rm_proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGrantPermissionRequest,
    AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest,
    AuthUserDeleteRequest, AuthUserGetRequest, AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest,
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseTimeToLiveRequest, MemberAddRequest, MemberAddResponse, MemberListRequest,
    MemberRemoveRequest, ResponseHeader, TxnRequest,
};
use rm_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderRequest, ProclaimRequest, ResignRequest,
};
use rm_proto::v3lockpb::{LockRequest, UnlockRequest};
use rm_tests::asks::{put, range, watch};
use rm_tests::client::operation;
use rm_tests::raw::Raw;
use rm_tests::{Cluster, LoneEtcd, Settings};

fn leader() -> LeaderRequest {
    LeaderRequest {
        name: "vote".into(),
    }
}

/// What any answer begins with.
#[derive(prost::Message)]
struct Headed {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

/// A header that has nothing in it tells no more than one that is not there.
fn header(answer: &[u8]) -> String {
    let headed = Headed::decode(answer).expect("it is an answer");
    let header = headed.header.unwrap_or_default();
    format!(
        "cluster {}, member {}, revision {}, term {}",
        header.cluster_id != 0,
        header.member_id != 0,
        header.revision,
        header.raft_term != 0
    )
}

/// The headers of what one server answers to calls of all services in a row.
async fn headers(address: SocketAddr) -> Vec<(String, String)> {
    let raw = Raw::connect(address).await;
    let mut all = Vec::new();
    for (path, request) in plain_calls() {
        let mut call = raw.call(path, &[], &request).await;
        let answer = call.message().await;
        let answer = answer.unwrap_or_else(|status| panic!("{path} of {address}: {status}"));
        all.push((path.to_owned(), header(&answer)));
    }
    let campaign = CampaignRequest {
        name: "vote".into(),
        lease: 7,
        value: "value".into(),
    };
    let mut ask = async |path: &str, request: Vec<u8>| {
        let mut call = raw.call(path, &[], &request).await;
        let answer = call.message().await;
        let answer = answer.unwrap_or_else(|status| panic!("{path} of {address}: {status}"));
        all.push((path.to_owned(), header(&answer)));
        (call, answer)
    };
    let path = "/v3electionpb.Election/Campaign";
    let (_, won) = ask(path, campaign.encode_to_vec()).await;
    let won = CampaignResponse::decode(won)
        .expect("it is an answer")
        .leader;
    let path = "/v3electionpb.Election/Observe";
    let _observing = ask(path, leader().encode_to_vec()).await;
    let path = "/v3electionpb.Election/Leader";
    ask(path, leader().encode_to_vec()).await;
    let proclaim = ProclaimRequest {
        leader: won.clone(),
        value: "other".into(),
    };
    let path = "/v3electionpb.Election/Proclaim";
    ask(path, proclaim.encode_to_vec()).await;
    let path = "/v3electionpb.Election/Resign";
    ask(path, ResignRequest { leader: won }.encode_to_vec()).await;
    let path = "/etcdserverpb.Cluster/MemberAdd";
    let url = "http://127.0.0.1:9?name=RM.02&client=127.0.0.1:10";
    let add = MemberAddRequest {
        peer_ur_ls: vec![url.to_owned()],
        is_learner: true,
    };
    let (_, added) = ask(path, add.encode_to_vec()).await;
    let added = MemberAddResponse::decode(added).expect("it is an answer");
    let id = added.member.expect("it was added").id;
    let path = "/etcdserverpb.Cluster/MemberRemove";
    ask(path, MemberRemoveRequest { id }.encode_to_vec()).await;
    let path = "/etcdserverpb.Watch/Watch";
    let mut watching = raw.open(path, &[], &watch().encode_to_vec()).await;
    let created = watching.message().await.expect("it is created");
    ask("/etcdserverpb.KV/Put", put().encode_to_vec()).await;
    all.push((path.to_owned(), header(&created)));
    let event = watching.message().await.expect("it tells of the put");
    all.push(("an event".to_owned(), header(&event)));
    all
}

/// Calls that need nothing of the answers to others.
fn plain_calls() -> Vec<(&'static str, Vec<u8>)> {
    let (user, role) = ("user".to_owned(), "role".to_owned());
    let permission = Permission {
        key: "key".into(),
        ..Default::default()
    };
    let add_user = AuthUserAddRequest {
        name: user.clone(),
        password: "password".to_owned(),
        ..Default::default()
    };
    let change_password = AuthUserChangePasswordRequest {
        name: user.clone(),
        password: "other".to_owned(),
        ..Default::default()
    };
    let grant_permission = AuthRoleGrantPermissionRequest {
        name: role.clone(),
        perm: Some(permission),
    };
    let revoke_permission = AuthRoleRevokePermissionRequest {
        role: role.clone(),
        key: "key".into(),
        ..Default::default()
    };
    let grant_role = AuthUserGrantRoleRequest {
        user: user.clone(),
        role: role.clone(),
    };
    let revoke_role = AuthUserRevokeRoleRequest {
        name: user.clone(),
        role: role.clone(),
    };
    let delete = DeleteRangeRequest {
        key: "key".into(),
        ..Default::default()
    };
    let txn = TxnRequest {
        success: vec![operation(Request::RequestPut(put()))],
        ..Default::default()
    };
    let compact = CompactionRequest {
        revision: 2,
        physical: false,
    };
    let lock = LockRequest {
        name: "lock".into(),
        lease: 7,
    };
    let unlock = UnlockRequest {
        key: "lock/7".into(),
    };
    let grant = LeaseGrantRequest { ttl: 600, id: 7 };
    let look = |id| LeaseTimeToLiveRequest { id, keys: false }.encode_to_vec();
    let renew = |id| LeaseKeepAliveRequest { id }.encode_to_vec();
    let list = |linearizable| MemberListRequest { linearizable }.encode_to_vec();
    let delete_user = AuthUserDeleteRequest { name: user.clone() };
    let get_user = AuthUserGetRequest { name: user };
    let add_role = AuthRoleAddRequest { name: role.clone() };
    let get_role = AuthRoleGetRequest { role: role.clone() };
    let delete_role = AuthRoleDeleteRequest { role };
    vec![
        ("/etcdserverpb.KV/Range", range().encode_to_vec()),
        ("/etcdserverpb.KV/DeleteRange", delete.encode_to_vec()),
        ("/etcdserverpb.KV/Put", put().encode_to_vec()),
        ("/etcdserverpb.KV/Range", range().encode_to_vec()),
        ("/etcdserverpb.KV/DeleteRange", delete.encode_to_vec()),
        ("/etcdserverpb.KV/Txn", txn.encode_to_vec()),
        ("/etcdserverpb.KV/Compact", compact.encode_to_vec()),
        ("/etcdserverpb.Lease/LeaseGrant", grant.encode_to_vec()),
        ("/etcdserverpb.Lease/LeaseTimeToLive", look(7)),
        ("/etcdserverpb.Lease/LeaseTimeToLive", look(8)),
        ("/etcdserverpb.Lease/LeaseLeases", Vec::new()),
        ("/etcdserverpb.Lease/LeaseKeepAlive", renew(7)),
        ("/etcdserverpb.Lease/LeaseKeepAlive", renew(8)),
        ("/v3lockpb.Lock/Lock", lock.encode_to_vec()),
        ("/v3lockpb.Lock/Unlock", unlock.encode_to_vec()),
        ("/etcdserverpb.Auth/UserAdd", add_user.encode_to_vec()),
        ("/etcdserverpb.Auth/RoleAdd", add_role.encode_to_vec()),
        (
            "/etcdserverpb.Auth/RoleGrantPermission",
            grant_permission.encode_to_vec(),
        ),
        (
            "/etcdserverpb.Auth/UserGrantRole",
            grant_role.encode_to_vec(),
        ),
        ("/etcdserverpb.Auth/UserGet", get_user.encode_to_vec()),
        ("/etcdserverpb.Auth/RoleGet", get_role.encode_to_vec()),
        ("/etcdserverpb.Auth/UserList", Vec::new()),
        ("/etcdserverpb.Auth/RoleList", Vec::new()),
        (
            "/etcdserverpb.Auth/UserChangePassword",
            change_password.encode_to_vec(),
        ),
        (
            "/etcdserverpb.Auth/UserRevokeRole",
            revoke_role.encode_to_vec(),
        ),
        (
            "/etcdserverpb.Auth/RoleRevokePermission",
            revoke_permission.encode_to_vec(),
        ),
        ("/etcdserverpb.Auth/UserDelete", delete_user.encode_to_vec()),
        ("/etcdserverpb.Auth/RoleDelete", delete_role.encode_to_vec()),
        ("/etcdserverpb.Auth/AuthDisable", Vec::new()),
        ("/etcdserverpb.Cluster/MemberList", list(false)),
        ("/etcdserverpb.Cluster/MemberList", list(true)),
        ("/etcdserverpb.Maintenance/Status", Vec::new()),
        ("/etcdserverpb.Maintenance/Hash", Vec::new()),
        ("/etcdserverpb.Maintenance/HashKV", Vec::new()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_begins_with_the_header_that_it_has_in_etcd() {
    let etcd = LoneEtcd::start().await;
    let cluster = Cluster::start(Settings::solo()).await;
    let theirs = etcd.endpoint().parse().expect("it is an address");
    let theirs = headers(theirs).await;
    let ours = headers(cluster.machines[0].client).await;
    assert_eq!(theirs.len(), ours.len());
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(theirs, ours);
    }
}
