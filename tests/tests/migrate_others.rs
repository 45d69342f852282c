//! `rmctl migrate` beside others who write into the target's range, and with writes that nobody has answered.

use bytes::Bytes;
use rm_proto::etcdserverpb::{DeleteRangeRequest, PutRequest};
use rm_tests::rmctl::{Running, caught_up, ended_with};
use rm_tests::{Between, Client, Cluster, LoneEtcd, Settings, leases, until};
use rustix::process::Signal;

/// Follows an etcd, as a migration that was told no more than that.
fn follow(from: &str, to: &str, more: &[&str]) -> Running {
    let arguments = ["migrate", "--from", from, "--follow", "-o", "json"];
    Running::start(to, &[&arguments[..], more].concat())
}

async fn delete(client: &Client, key: &'static str) {
    let request = DeleteRangeRequest {
        key: key.into(),
        ..DeleteRangeRequest::default()
    };
    let deleted = client.kv(0).delete_range(request).await;
    assert_eq!(deleted.expect("it answers").into_inner().deleted, 1);
}

/// What a key has at a machine.
async fn value(client: &Client, key: &'static str) -> Option<Bytes> {
    client.get(0, key).await.map(|pair| pair.value)
}

/// Waits until a key has this value at the target, or is gone.
async fn becomes(target: &Client, key: &'static str, wanted: Option<&str>) {
    until("the target has it", async || {
        let found = value(target, key).await;
        match found.as_deref() == wanted.map(str::as_bytes) {
            true => Ok(()),
            false => Err(format!("{key}: {found:?}")),
        }
    })
    .await;
}

/// Writes at the source, and waits until the target has it: a new key, which a target may lack, where it is not followed yet.
async fn arrives(source: &Client, target: &Client, key: &'static str, new: &'static str) {
    source.put(key, new).await;
    becomes(target, key, Some(new)).await;
}

fn assert_refused(said: &str, key: &str) {
    let named = format!("somebody else has written {key} at the target");
    assert!(said.contains(&named) && said.contains("--force"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_write_while_the_source_is_followed_is_neither_overwritten_nor_deleted() {
    let etcd = LoneEtcd::start().await;
    let cluster = Cluster::start(Settings::solo()).await;
    let (source, target) = (etcd.client(), cluster.client());
    let (from, to) = (etcd.endpoint(), cluster.endpoints());
    source.put("a", "1").await;
    source.put("b", "1").await;

    // A key that is new at both.
    let run = follow(&from, &to, &[]);
    arrives(&source, &target, "marker", "1").await;
    target.put("new", "theirs").await;
    source.put("new", "ours").await;
    let said = ended_with(run, 1).await;
    assert_refused(&said, "new");
    assert!(said.contains("it holds all up to revision 4"), "{said}");
    assert_eq!(value(&target, "new").await, Some("theirs".into()));
    delete(&target, "new").await;
    delete(&source, "new").await;

    // A key that we have written.
    let run = follow(&from, &to, &[]);
    arrives(&source, &target, "second marker", "1").await;
    arrives(&source, &target, "a", "ours").await;
    target.put("a", "theirs").await;
    source.put("a", "2").await;
    assert_refused(&ended_with(run, 1).await, "a");
    assert_eq!(value(&target, "a").await, Some("theirs".into()));
    target.put("a", "2").await;

    // A key that goes.
    let run = follow(&from, &to, &[]);
    arrives(&source, &target, "third marker", "1").await;
    arrives(&source, &target, "a", "what an earlier run has left").await;
    target.put("b", "theirs").await;
    delete(&source, "b").await;
    assert_refused(&ended_with(run, 1).await, "b");
    assert_eq!(value(&target, "b").await, Some("theirs".into()));

    // With --force all of it becomes as at the source, and what they delete comes back.
    let run = follow(&from, &to, &["--force"]);
    arrives(&source, &target, "marker", "4").await;
    becomes(&target, "b", None).await;
    target.put("a", "theirs").await;
    arrives(&source, &target, "a", "3").await;
    target.put("b", "theirs").await;
    arrives(&source, &target, "b", "3").await;
    delete(&target, "marker").await;
    arrives(&source, &target, "marker", "5").await;
    target.put("theirs", "theirs").await;
    caught_up(run).await;
    etcd.assert_moved_to(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_write_during_a_copy_and_before_the_next_one_is_left_alone() {
    let etcd = LoneEtcd::start().await;
    let source = etcd.client();
    for number in 0..3_000 {
        source.put(format!("key/{number:05}"), "1").await;
    }
    let cluster = Cluster::start(Settings::solo()).await;
    let target = cluster.client();
    let (from, to) = (etcd.endpoint(), cluster.endpoints());
    let mut run = follow(&from, &to, &["--max-txn-ops", "1"]);
    becomes(&target, "key/00000", Some("1")).await;
    run.signal(Signal::STOP);
    assert_eq!(value(&target, "key/02999").await, None, "it goes on");
    target.put("key/02999", "theirs").await;
    run.signal(Signal::CONT);
    let said = ended_with(run, 1).await;
    assert_refused(&said, "key/02999");
    assert!(said.contains("changes by copies were written"), "{said}");
    assert_eq!(value(&target, "key/02999").await, Some("theirs".into()));

    // The source compacts what comes next, so that the two are compared anew.
    delete(&target, "key/02999").await;
    let mut run = follow(&from, &to, &[]);
    arrives(&source, &target, "marker", "1").await;
    run.signal(Signal::STOP);
    target.put("theirs", "precious").await;
    compact_what_was_not_heard(&etcd).await;
    run.signal(Signal::CONT);
    let said = ended_with(run, 1).await;
    assert!(said.contains("has compacted revision"), "{said}");
    assert_refused(&said, "theirs");
    assert_eq!(value(&target, "theirs").await, Some("precious".into()));
}

/// As in `migrate_follow.rs`: more than etcd and the connection hold for a watch.
async fn compact_what_was_not_heard(etcd: &LoneEtcd) {
    let source = etcd.client();
    let tasks = (0..16).map(|writer| {
        let source = source.clone();
        tokio::spawn(async move {
            for _ in 0..200 {
                let put = source.put_on(0, format!("busy/{writer}"), vec![b'x'; 8_192]);
                put.await.expect("etcd answers");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no writer panics");
    }
    let put = source.put("after", "all").await;
    let last = put.header.map_or(0, |header| header.revision);
    let compacted = source.compact_on(0, last, true).await;
    compacted.expect("etcd answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_on_which_others_have_put_keys_is_not_revoked_with_the_sources() {
    let etcd = LoneEtcd::start().await;
    let cluster = Cluster::start(Settings::solo()).await;
    let (source, target) = (etcd.client(), cluster.client());
    for (id, key) in [(0x11, "first"), (0x22, "second")] {
        leases::grant(&source, id, 600).await;
        leases::put(&source, key, id).await;
    }
    let run = follow(&etcd.endpoint(), &cluster.endpoints(), &[]);
    arrives(&source, &target, "marker", "1").await;
    leases::put(&target, "theirs", 0x11).await;
    for id in [0x11, 0x22] {
        leases::revoke(&source, 0, id).await.expect("it is there");
    }
    leases::ended(&target, 0, 0x22).await;
    // What is granted is moved once it was settled which have ended.
    leases::grant(&source, 0x33, 600).await;
    until("the next lease is moved", async || {
        let here = leases::list(&target, 0).await;
        here.contains(&0x33)
            .then_some(())
            .ok_or(format!("{here:x?}"))
    })
    .await;
    becomes(&target, "first", None).await;
    assert_eq!(value(&target, "theirs").await, Some("value".into()));
    let mut run = run;
    run.signal(Signal::INT);
    assert_refused(&ended_with(run, 1).await, "theirs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_comes_late_changes_nothing() {
    let etcd = LoneEtcd::start().await;
    let cluster = Cluster::start(Settings::solo()).await;
    let (source, target) = (etcd.client(), cluster.client());
    let between = Between::start(cluster.machines[0].client).await;
    let run = follow(&etcd.endpoint(), &between.endpoint(), &["--patience", "60"]);
    arrives(&source, &target, "marker", "1").await;
    // A key that is made, and gone by the time.
    between.hold_a_transaction();
    arrives(&source, &target, "late", "old").await;
    assert_eq!(between.held(), 1, "it was sent twice");
    delete(&source, "late").await;
    becomes(&target, "late", None).await;
    assert!(!between.release_a_transaction().await, "it is too late");
    assert_eq!(value(&target, "late").await, None);
    // A key that is changed, and has changed again.
    between.hold_a_transaction();
    arrives(&source, &target, "marker", "2").await;
    assert_eq!(between.held(), 1, "it was sent twice");
    arrives(&source, &target, "marker", "3").await;
    assert!(!between.release_a_transaction().await, "it is too late");
    let (report, said) = caught_up(run).await;
    assert_eq!(report["copies"], 1, "{said}");
    etcd.assert_moved_to(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_was_lost_is_known_for_ours() {
    let etcd = LoneEtcd::start().await;
    let cluster = Cluster::start(Settings::solo()).await;
    let (source, target) = (etcd.client(), cluster.client());
    let between = Between::start(cluster.machines[0].client).await;
    let run = follow(&etcd.endpoint(), &between.endpoint(), &["--patience", "60"]);
    arrives(&source, &target, "marker", "1").await;
    for (key, new) in [("made", "1"), ("marker", "2")] {
        between.lose_an_answer();
        arrives(&source, &target, key, new).await;
        until("the answer is lost", async || {
            let is_lost = !between.has_answers_to_lose();
            is_lost.then_some(()).ok_or("it is not".to_owned())
        })
        .await;
        arrives(&source, &target, key, "changed").await;
    }
    between.lose_an_answer();
    delete(&source, "made").await;
    becomes(&target, "made", None).await;
    arrives(&source, &target, "made", "again").await;
    let (report, said) = caught_up(run).await;
    assert_eq!(report["copies"], 1, "{said}");
    etcd.assert_moved_to(&cluster).await;
}

/// A put that a machine takes, and no transaction with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_that_just_fits_is_moved_and_guarded_by_a_look() {
    let etcd = LoneEtcd::start().await;
    let narrow = Settings::solo().with("limits.request_bytes_max", 2_048);
    let cluster = Cluster::start(narrow).await;
    let (source, target) = (etcd.client(), cluster.client());
    // The largest that it takes.
    let mut largest = 2_048;
    let put = |bytes: usize| PutRequest {
        key: "key".into(),
        value: vec![b'x'; bytes].into(),
        ..PutRequest::default()
    };
    while target.kv(0).put(put(largest)).await.is_err() {
        largest -= 1;
    }
    assert!(largest > 1_900, "{largest}");
    delete(&target, "key").await;
    let run = follow(&etcd.endpoint(), &cluster.endpoints(), &[]);
    arrives(&source, &target, "marker", "1").await;
    for bytes in [largest, largest - 40, largest] {
        source.kv(0).put(put(bytes)).await.expect("etcd takes it");
        until("the target has it", async || {
            let found = value(&target, "key").await.map_or(0, |value| value.len());
            (found == bytes).then_some(()).ok_or(found.to_string())
        })
        .await;
    }
    target.put("key", "theirs").await;
    source.kv(0).put(put(largest)).await.expect("etcd takes it");
    assert_refused(&ended_with(run, 1).await, "key");
    assert_eq!(value(&target, "key").await, Some("theirs".into()));
}

/// A machine takes it once in a request, and not in a comparison beside that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_too_long_to_be_named_twice_is_deleted_and_guarded_by_a_look() {
    let etcd = LoneEtcd::start().await;
    let narrow = Settings::solo().with("limits.request_bytes_max", 2_048);
    let cluster = Cluster::start(narrow).await;
    let (source, target) = (etcd.client(), cluster.client());
    let long = "k".repeat(1_500);
    let run = follow(&etcd.endpoint(), &cluster.endpoints(), &[]);
    arrives(&source, &target, "marker", "1").await;
    source.put(long.clone(), "1").await;
    arrives(&source, &target, "marker", "2").await;
    assert!(target.get(0, long.clone()).await.is_some());
    let request = DeleteRangeRequest {
        key: long.clone().into(),
        ..DeleteRangeRequest::default()
    };
    let deleted = source.kv(0).delete_range(request).await;
    assert!(deleted.is_ok(), "{deleted:?}");
    arrives(&source, &target, "marker", "3").await;
    assert_eq!(target.get(0, long).await, None);
    let (report, said) = caught_up(run).await;
    assert_eq!(report["copies"], 1, "{said}");
    etcd.assert_moved_to(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_comes_late_changes_nothing_where_its_key_cannot_be_named_twice() {
    let etcd = LoneEtcd::start().await;
    let narrow = Settings::solo().with("limits.request_bytes_max", 2_048);
    let cluster = Cluster::start(narrow).await;
    let (source, target) = (etcd.client(), cluster.client());
    let between = Between::start(cluster.machines[0].client).await;
    let run = follow(&etcd.endpoint(), &between.endpoint(), &["--patience", "60"]);
    arrives(&source, &target, "marker", "1").await;
    let long: &'static str = "k".repeat(1_500).leak();
    arrives(&source, &target, long, "1").await;
    // A key that is gone, and has come again.
    between.hold_a_transaction_without(long);
    delete(&source, long).await;
    becomes(&target, long, None).await;
    assert_eq!(between.held(), 1, "it was sent twice");
    arrives(&source, &target, long, "2").await;
    assert!(!between.release_a_transaction().await, "it is too late");
    assert_eq!(value(&target, long).await, Some("2".into()));
    // A key that is changed, and has changed again.
    between.hold_a_transaction_without(long);
    arrives(&source, &target, long, "3").await;
    assert_eq!(between.held(), 1, "it was sent twice");
    arrives(&source, &target, long, "4").await;
    assert!(!between.release_a_transaction().await, "it is too late");
    let (report, said) = caught_up(run).await;
    assert_eq!(report["copies"], 1, "{said}");
    etcd.assert_moved_to(&cluster).await;
}
