//! Locks and elections on real machines where permissions are asked for: judged by the keys of the line, however long they are waited for.

use rm_proto::etcdserverpb::auth_client::AuthClient;
use rm_proto::etcdserverpb::{AuthenticateRequest, RangeRequest};
use rm_proto::v3lockpb::{LockResponse, UnlockRequest};
use rm_tests::etcd::{etcdctl, text};
use rm_tests::lines::{Lines, ended, leader, lock, refusal};
use rm_tests::{Cluster, Settings, until};
use tokio::task::JoinHandle;
use tonic::{Code, Request, Response, Status};

/// Users who may, and one who may only what is about the line `a`.
const USERS: [&[&str]; 7] = [
    &["user", "add", "root:secret"],
    &["user", "grant-role", "root", "root"],
    &["role", "add", "line"],
    &["role", "grant-permission", "line", "readwrite", "a/", "a0"],
    &["user", "add", "alice:secret"],
    &["user", "grant-role", "alice", "line"],
    &["auth", "enable"],
];

/// A request with a token.
fn by<T>(token: &str, request: T) -> Request<T> {
    let mut request = Request::new(request);
    let token = token.parse().expect("a token makes a header");
    request.metadata_mut().insert("token", token);
    request
}

fn start_to_lock(
    lines: &Lines,
    machine: usize,
    token: &str,
) -> JoinHandle<Result<Response<LockResponse>, Status>> {
    let (mut locks, request) = (lines.locks(machine), by(token, lock("a", 0)));
    tokio::spawn(async move { locks.lock(request).await })
}

fn administer(cluster: &Cluster, arguments: &[&str]) {
    let arguments = [&["--user=root:secret"], arguments].concat();
    let done = etcdctl(&cluster.endpoints(), "simple", &arguments, "");
    assert!(done.status.success(), "{arguments:?}: {}", text(&done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_is_for_who_may_use_its_keys_and_is_waited_in_though_permissions_change() {
    let settings = Settings::trio().with_timings_of_an_operator();
    let settings = settings.with("auth.bcrypt_cost", 4);
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let lines = Lines::new(cluster.machines.iter().map(|machine| machine.client));
    for arguments in USERS {
        let done = etcdctl(&cluster.endpoints(), "simple", arguments, "");
        assert!(done.status.success(), "{arguments:?}: {}", text(&done));
    }
    let token = async |name: &str| {
        until("a user is recognised", async || {
            let request = AuthenticateRequest {
                name: name.into(),
                password: "secret".into(),
            };
            let mut auth = AuthClient::new(client.channel(0));
            let token = auth.authenticate(request).await;
            let token = token.map_err(|status| status.to_string())?;
            Ok(token.into_inner().token)
        })
        .await
    };
    let (root, alice) = (token("root").await, token("alice").await);
    let standing = async |count: i64| {
        until("so many stand in line", async || {
            let line = RangeRequest {
                key: "a/".into(),
                range_end: "a0".into(),
                ..RangeRequest::default()
            };
            let read = client.kv(0).range(by(&root, line)).await;
            let read = read.map_err(|status| status.to_string())?.into_inner();
            let is_so = read.count == count;
            is_so.then_some(()).ok_or(format!("{read:?}"))
        })
        .await;
    };
    let nobody = refusal(lines.locks(0).lock(lock("a", 0)).await);
    let empty = "etcdserver: user name is empty".to_owned();
    assert_eq!(nobody, (Code::InvalidArgument, empty));
    let denied = "etcdserver: permission denied".to_owned();
    let denied = (Code::PermissionDenied, denied);
    let another = by(&alice, lock("b", 0));
    assert_eq!(refusal(lines.locks(1).lock(another).await), denied);
    let another = by(&alice, leader("b"));
    assert_eq!(refusal(lines.elections(1).leader(another).await), denied);
    let first = ended("it is free", start_to_lock(&lines, 0, &alice)).await;
    let first = first.expect("she may").into_inner().key;
    let second = start_to_lock(&lines, 1, &alice);
    standing(2).await;
    // What she may is found out anew from now on.
    administer(&cluster, &["role", "add", "another"]);
    let unlock = UnlockRequest { key: first };
    lines
        .locks(2)
        .unlock(by(&alice, unlock))
        .await
        .expect("she may");
    let second = ended("the second has the lock", second).await;
    let second = second.expect("she may still").into_inner().key;
    let third = start_to_lock(&lines, 2, &alice);
    standing(2).await;
    administer(&cluster, &["user", "revoke-role", "alice", "line"]);
    let unlock = UnlockRequest { key: second };
    let unlocked = lines.locks(0).unlock(by(&root, unlock)).await;
    unlocked.expect("who administers may");
    let third = ended("the third is told", third).await;
    assert_eq!(refusal(third), denied);
}
