//! Reads of many keys: what else is asked meanwhile is answered, and they tell of one moment whatever happens meanwhile.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use rm_actors::port::{
    Command, Consistency, Failure, Interest, KeyValue, NewWatcher, Notice, Operation, Port, Put,
    Query, Range, Refusal, Reply, ReplyBody, RequestError, SortOrder, Txn,
};
use rm_config::Config;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::solo::{PATIENCE, Solo, endure};

/// Far more than are read at once.
const KEYS: u32 = 50_000;
/// The keys that one transaction puts.
const TXN_KEYS: u32 = 5_000;

fn patient(config: &mut Config) {
    config.supervision.hang_ms = 60_000;
    config.timings.request_timeout_ms = 60_000;
    config.limits.transaction_operations_max = TXN_KEYS as usize;
}

/// A machine with [`KEYS`] keys.
async fn filled(change: impl FnOnce(&mut Config)) -> Solo {
    let solo = Solo::start(|config| {
        patient(config);
        change(config);
    })
    .await;
    for first in (0..KEYS).step_by(TXN_KEYS as usize) {
        let put = |number: u32| {
            Operation::Put(Put {
                key: key(number),
                value: "before".into(),
                ..Put::default()
            })
        };
        let txn = Command::Txn(Txn {
            success: (first..first + TXN_KEYS).map(put).collect(),
            ..Txn::default()
        });
        let outcome = solo.running.port().propose(txn).await;
        outcome.expect("nothing fails yet");
    }
    solo
}

fn key(number: u32) -> Bytes {
    number.to_be_bytes().to_vec().into()
}

/// Of all keys.
fn all() -> Range {
    Range {
        key: [0][..].into(),
        range_end: [0][..].into(),
        ..Range::default()
    }
}

fn ask(solo: &Solo, range: Range) -> JoinHandle<Result<Reply, Refusal>> {
    let port = solo.running.port();
    tokio::spawn(async move { port.query(Query::Range(range), Consistency::Quorum).await })
}

async fn put(port: &Port, number: u32) -> i64 {
    let put = Put {
        key: key(number),
        value: "after".into(),
        ..Put::default()
    };
    let reply = port.propose(Command::Put(put)).await;
    reply.expect("nothing fails").revision
}

/// What a list tells.
fn kvs(reply: Reply) -> Vec<KeyValue> {
    match reply.body {
        ReplyBody::Range(body) => body.kvs,
        other => panic!("a range is answered with a range, not {other:?}"),
    }
}

/// The same list as it was at a revision.
async fn list_at(port: &Port, revision: i64) -> Vec<KeyValue> {
    let range = Range { revision, ..all() };
    let reply = port.query(Query::Range(range), Consistency::Serializable);
    kvs(reply.await.expect("nothing is compacted"))
}

/// Asks for a list and returns when a part of it is made. On a busy host it may be whole before anybody looks; then it is asked again.
async fn amid(solo: &Solo, range: &Range) -> JoinHandle<Result<Reply, Refusal>> {
    let port = solo.running.port();
    let begun = &port.meters().keyspace.reads_begun;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list = ask(solo, range.clone());
        while !list.is_finished() {
            if begun.read() > 0 {
                return list;
            }
            tokio::task::yield_now().await;
        }
        assert!(Instant::now() < deadline, "no list is made in parts");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_and_reads_are_answered_amid_a_long_read_and_do_not_show_in_it() {
    let solo = filled(|_| ()).await;
    let port = solo.running.port();
    let begun = &port.meters().keyspace.reads_begun;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list = amid(&solo, &all()).await;
        let after = put(&port, KEYS / 2).await;
        let point = Range {
            key: key(KEYS / 2),
            ..Range::default()
        };
        let point = ask(&solo, point).await.expect("no panic");
        let is_amid = begun.read() > 0;
        assert_eq!(kvs(point.expect("it is answered"))[0].mod_revision, after);
        let list = list.await.expect("no panic").expect("it is answered");
        let revision = list.revision;
        assert!(kvs(list) == list_at(&port, revision).await);
        if is_amid {
            assert!(revision < after, "{revision} is of before {after}");
            return;
        }
        assert!(Instant::now() < deadline, "nothing is answered amid a list");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lists_and_then_watches_from_the_next_revision_on_misses_nothing() {
    let solo = filled(|_| ()).await;
    let port = solo.running.port();
    let writing = {
        let port = solo.running.port();
        tokio::spawn(async move {
            for number in (0..KEYS).step_by(7).cycle() {
                put(&port, number).await;
            }
        })
    };
    for _ in 0..3 {
        let list = amid(&solo, &all()).await;
        let list = list.await.expect("no panic").expect("it is answered");
        let from = list.revision + 1;
        let mut seen: BTreeMap<Bytes, i64> = BTreeMap::new();
        for kv in kvs(list) {
            seen.insert(kv.key, kv.mod_revision);
        }
        let up_to = put(&port, 1).await;
        let mut stream = port.watch().expect("it runs");
        let watcher = NewWatcher {
            interest: Interest {
                key: all().key,
                range_end: all().range_end,
                ..Interest::default()
            },
            start: from,
            ..NewWatcher::default()
        };
        stream.create(watcher, stream.room().await);
        let mut told = from - 1;
        while told < up_to {
            let notice = timeout(PATIENCE, stream.next()).await.expect("soon");
            let Notice::Happened { parts, .. } = notice.expect("the Watcher lives") else {
                continue;
            };
            for event in parts.iter().flat_map(|part| &part.events) {
                if event.revision() <= up_to {
                    seen.insert(event.kv.key.clone(), event.revision());
                }
                told = event.revision();
            }
        }
        let there = list_at(&port, up_to).await.into_iter();
        let there = there.map(|kv| (kv.key, kv.mod_revision)).collect();
        assert!(seen == there, "something was missed");
    }
    assert!(!writing.is_finished());
    writing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_read_that_nobody_waits_for_any_more_is_dropped_before_its_end() {
    let solo = filled(|_| ()).await;
    let port = solo.running.port();
    let meters = &port.meters().keyspace;
    amid(&solo, &all())
        .await
        .await
        .expect("no panic")
        .expect("it is answered");
    let whole = meters.read_slices.read();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let before = meters.read_slices.read();
        let list = amid(&solo, &all()).await;
        list.abort();
        solo.until("nothing of it is left", |solo| {
            meters.reads_begun.read() == 0 && solo.running.port().replies_bytes() == 0
        })
        .await;
        if meters.reads_abandoned.read() > 0 {
            assert!(
                meters.read_slices.read() - before < whole,
                "it was read to its end"
            );
            return;
        }
        assert!(Instant::now() < deadline, "each is read to its end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_has_a_long_read_begin_anew_and_refuses_one_that_named_its_revision() {
    let solo = filled(|_| ()).await;
    let port = solo.running.port();
    let overtaken = &port.meters().keyspace.reads_overtaken;
    let deadline = Instant::now() + PATIENCE;
    for is_named in [false, true] {
        loop {
            let revision = if is_named { port.report().revision } else { 0 };
            let range = Range { revision, ..all() };
            let before = overtaken.read();
            let list = amid(&solo, &range).await;
            let newest = put(&port, 1).await;
            port.compact(newest, false).await.expect("it compacts");
            let outcome = list.await.expect("no panic");
            if overtaken.read() > before {
                match is_named {
                    true => {
                        let refusal = outcome.expect_err("its revision is gone");
                        assert_eq!(refusal, Refusal::Request(RequestError::Compacted));
                    }
                    false => {
                        let list = outcome.expect("it is answered");
                        assert!(list.revision >= newest);
                        assert_eq!(kvs(list).len(), KEYS as usize);
                    }
                }
                break;
            }
            assert!(Instant::now() < deadline, "no compaction passes a list");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_read_ends_however_often_is_compacted() {
    let solo = filled(|_| ()).await;
    let port = solo.running.port();
    let overtaken = &port.meters().keyspace.reads_overtaken;
    let compacting = {
        let port = solo.running.port();
        tokio::spawn(async move {
            loop {
                let newest = put(&port, 1).await;
                port.compact(newest, false).await.expect("it compacts");
            }
        })
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let before = overtaken.read();
        let list = ask(&solo, all()).await.expect("no panic");
        list.expect("it is answered");
        // As often as it may; then it is made in one go.
        match overtaken.read() - before {
            3 => break,
            fewer @ 0..3 => assert!(Instant::now() < deadline, "{fewer} compactions pass a list"),
            more => panic!("{more} compactions passed a list"),
        }
    }
    compacting.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_read_begins_anew_with_another_state_or_another_applier() {
    let solo = filled(endure).await;
    let port = solo.running.port();
    for replaced in [false, true] {
        let list = amid(&solo, &all()).await;
        match replaced {
            true => port.defragment().await.expect("it is defragmented"),
            false => {
                let killed = port.kill_actor("applier", Failure::Panic);
                killed.expect("kills");
            }
        }
        let list = list.await.expect("no panic").expect("it is answered");
        let revision = list.revision;
        assert!(kvs(list) == list_at(&port, revision).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_is_sorted_as_it_was_asked_for() {
    let solo = filled(|_| ()).await;
    let descending = Range {
        sort_order: SortOrder::Descend,
        ..all()
    };
    let list = amid(&solo, &descending).await;
    let list = list.await.expect("no panic").expect("it is answered");
    let keys = kvs(list).into_iter().map(|kv| kv.key);
    assert!(keys.eq((0..KEYS).rev().map(key)), "it is not");
}
