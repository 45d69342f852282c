//! How large a message and a request may be, beside etcd.

use rm_tests::raw::Raw;
use tonic::Code;

use crate::calls::{both, told};

/// The calls of etcd's services, but for those that 3.4 does not have.
const CALLS: [(&str, &str); 8] = [
    ("etcdserverpb.KV", "Range Put DeleteRange Txn Compact"),
    ("etcdserverpb.Watch", "Watch"),
    (
        "etcdserverpb.Lease",
        "LeaseGrant LeaseRevoke LeaseKeepAlive LeaseTimeToLive LeaseLeases",
    ),
    (
        "etcdserverpb.Cluster",
        "MemberAdd MemberRemove MemberUpdate MemberList MemberPromote",
    ),
    (
        "etcdserverpb.Maintenance",
        "Alarm Status Defragment Hash HashKV Snapshot MoveLeader",
    ),
    (
        "etcdserverpb.Auth",
        "AuthEnable AuthDisable Authenticate UserAdd UserGet UserList UserDelete UserChangePassword UserGrantRole \
         UserRevokeRole RoleAdd RoleGet RoleList RoleDelete RoleGrantPermission RoleRevokePermission",
    ),
    ("v3lockpb.Lock", "Lock Unlock"),
    (
        "v3electionpb.Election",
        "Campaign Proclaim Leader Observe Resign",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_large_is_refused_by_every_call_as_in_etcd() {
    let (_etcd, _cluster, addresses) = both().await;
    // A field that no message has, so that only the size is wrong.
    let mut padded = Vec::new();
    prost::encoding::bytes::encode(100, &vec![0; 2_200_000], &mut padded);
    let bytes = padded.len();
    let text = format!("grpc: received message larger than max ({bytes} vs. 2097152)");
    for (service, methods) in CALLS {
        for method in methods.split_whitespace() {
            let path = format!("/{service}/{method}");
            for address in addresses {
                let raw = Raw::connect(address).await;
                let refused = raw.open(&path, &[], &padded).await.end().await;
                let expected = (Code::ResourceExhausted, text.as_str());
                assert_eq!(told(&refused), expected, "{path} of {address}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_too_large_for_the_log_is_refused_as_in_etcd() {
    let (_etcd, _cluster, addresses) = both().await;
    let field = |number: u32, inner: &[u8]| {
        let mut message = Vec::new();
        prost::encoding::bytes::encode(number, &inner.to_vec(), &mut message);
        message
    };
    let large = vec![b'x'; 1_600_000];
    let first = || field(1, &large);
    let second = || [field(1, b"name"), field(2, &large)].concat();
    let requests = [
        ("/etcdserverpb.KV/Put", second()),
        ("/etcdserverpb.KV/DeleteRange", first()),
        ("/etcdserverpb.KV/Txn", field(2, &field(2, &second()))),
        ("/etcdserverpb.Auth/UserAdd", first()),
        ("/etcdserverpb.Auth/UserGet", first()),
        ("/etcdserverpb.Auth/UserDelete", first()),
        ("/etcdserverpb.Auth/UserChangePassword", second()),
        ("/etcdserverpb.Auth/UserGrantRole", first()),
        ("/etcdserverpb.Auth/UserRevokeRole", first()),
        ("/etcdserverpb.Auth/RoleAdd", first()),
        ("/etcdserverpb.Auth/RoleGet", first()),
        ("/etcdserverpb.Auth/RoleDelete", first()),
        (
            "/etcdserverpb.Auth/RoleGrantPermission",
            field(2, &field(2, &large)),
        ),
        ("/etcdserverpb.Auth/RoleRevokePermission", second()),
        ("/v3lockpb.Lock/Lock", first()),
        ("/v3lockpb.Lock/Unlock", first()),
        ("/v3electionpb.Election/Campaign", field(3, &large)),
    ];
    for (path, request) in requests {
        for address in addresses {
            let raw = Raw::connect(address).await;
            let refused = raw.call(path, &[], &request).await.end().await;
            let text = "etcdserver: request is too large";
            assert_eq!(refused.message(), text, "{path} of {address}");
            // These have one code for all refusals in etcd.
            let is_ours = address == addresses[1];
            let code = match path.starts_with("/v3") && !is_ours {
                true => Code::Unknown,
                false => Code::InvalidArgument,
            };
            assert_eq!(refused.code(), code, "{path} of {address}");
        }
    }
}
