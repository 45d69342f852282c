//! Locks and elections on real machines where permissions are asked for: judged by the keys of the line, however long they are waited for.

use rm_proto::etcdserverpb::{LeaseGrantRequest, RangeRequest};
use rm_proto::v3lockpb::{LockResponse, UnlockRequest};
use rm_tests::etcd::{etcdctl, text};
use rm_tests::leases;
use rm_tests::lines::{Lines, ended, leader, lock};
use rm_tests::openssl::{P256, private_key};
use rm_tests::users::{
    DENIED, EMPTY, OLD, assert_refused, authenticate, by, enable, settings, token,
};
use rm_tests::{Client, Cluster, until};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::{Response, Status};

fn start_to_lock(
    lines: &Lines,
    machine: usize,
    token: &str,
    lease: i64,
) -> JoinHandle<Result<Response<LockResponse>, Status>> {
    let (mut locks, request) = (lines.locks(machine), by(token, lock("a", lease)));
    tokio::spawn(async move { locks.lock(request).await })
}

fn administer(cluster: &Cluster, arguments: &[&str]) {
    let arguments = [&["--user=root:secret"], arguments].concat();
    let done = etcdctl(&cluster.endpoints(), "simple", &arguments, "");
    assert!(done.status.success(), "{arguments:?}: {}", text(&done));
}

/// Waits until so many stand in the line `a`.
async fn await_standing(client: &Client, count: i64) {
    until("so many stand in line", async || {
        let line = RangeRequest {
            key: "a/".into(),
            range_end: "a0".into(),
            ..RangeRequest::default()
        };
        let root = authenticate(client, 0, "root").await;
        let root = root.map_err(|status| status.to_string())?;
        let read = client.kv(0).range(by(&root, line)).await;
        let read = read.map_err(|status| status.to_string())?.into_inner();
        let is_so = read.count == count;
        is_so.then_some(()).ok_or(format!("{read:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_is_for_who_may_use_its_keys_and_is_waited_in_though_permissions_change() {
    let cluster = Cluster::start(settings().with_timings_of_an_operator()).await;
    let client = cluster.client();
    let lines = Lines::new(cluster.machines.iter().map(|machine| machine.client));
    enable(&client, "a/", "a0").await;
    let root = token(&client, 0, "root").await;
    let alice = token(&client, 0, "alice").await;
    let nobody = lines.locks(0).lock(lock("a", 0)).await;
    assert_refused(nobody, EMPTY.0, EMPTY.1);
    let another = lines.locks(1).lock(by(&alice, lock("b", 0))).await;
    assert_refused(another, DENIED.0, DENIED.1);
    let another = lines.elections(1).leader(by(&alice, leader("b"))).await;
    assert_refused(another, DENIED.0, DENIED.1);
    let first = ended("it is free", start_to_lock(&lines, 0, &alice, 0)).await;
    let first = first.expect("she may").into_inner().key;
    let second = start_to_lock(&lines, 1, &alice, 0);
    await_standing(&client, 2).await;
    // What she may is found out anew from now on.
    administer(&cluster, &["role", "add", "another"]);
    let unlock = UnlockRequest { key: first };
    let unlocked = lines.locks(2).unlock(by(&alice, unlock)).await;
    unlocked.expect("she may");
    let second = ended("the second has the lock", second).await;
    let second = second.expect("she may still").into_inner().key;
    let third = start_to_lock(&lines, 2, &alice, 0);
    await_standing(&client, 2).await;
    administer(&cluster, &["user", "revoke-role", "alice", "some"]);
    let unlock = UnlockRequest { key: second };
    let unlocked = lines.locks(0).unlock(by(&root, unlock)).await;
    unlocked.expect("who administers may");
    let third = ended("the third is told", third).await;
    assert_refused(third, DENIED.0, DENIED.1);
}

/// A signed token ends with any change of users, while its user may keep the lease for ever by another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_in_line_leaves_it_though_its_token_has_ended() {
    let folder = TempDir::with_prefix("raft-machine-test-").expect("a temporary folder");
    let key = private_key(folder.path(), "tokens.key", P256);
    let jwt = json!({ "sign_method": "ES256", "private_key": key });
    let settings = settings().with_timings_of_an_operator();
    let cluster = Cluster::start(settings.with("auth.jwt", jwt)).await;
    let client = cluster.client();
    let lines = Lines::new(cluster.machines.iter().map(|machine| machine.client));
    enable(&client, "a/", "a0").await;
    let alice = token(&client, 0, "alice").await;
    let first = ended("it is free", start_to_lock(&lines, 0, &alice, 0)).await;
    let first = first.expect("she may").into_inner().key;
    let mut waiting = Vec::new();
    for lease in [7, 8] {
        let grant = LeaseGrantRequest {
            id: lease,
            ttl: 3_600,
        };
        let mut leases = leases::service(&client, 1);
        let granted = leases.lease_grant(by(&alice, grant)).await;
        granted.expect("somebody may");
        waiting.push(start_to_lock(&lines, 1, &alice, lease));
        await_standing(&client, lease - 5).await;
    }
    administer(&cluster, &["role", "add", "another"]);
    let given_up = waiting.pop().expect("two wait");
    given_up.abort();
    await_standing(&client, 2).await;
    let unlock = UnlockRequest { key: first };
    let again = token(&client, 2, "alice").await;
    let unlocked = lines.locks(2).unlock(by(&again, unlock)).await;
    unlocked.expect("she may");
    let told = ended("who waits is told", waiting.pop().expect("one waits")).await;
    assert_refused(told, OLD.0, OLD.1);
    await_standing(&client, 0).await;
}
