//! Requests that read or answer much: they show that they are at work, and what they answer has a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rm_kv::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, Failure, Keyspace, Operation, Put,
    Query, Range, ReplyBody, RequestError, SortOrder, SortTarget, StateMachine, Txn,
};

use crate::support::{Disk, apply, everything, get, put, range};

const KEYS: u64 = 3_000;
const VALUE_BYTES: usize = 100;
/// Keys that are looked at between two signs of life.
const STEPS: u64 = 1_024;

fn key(number: u64) -> Bytes {
    format!("{number:06}").into()
}

/// Puts [`KEYS`] keys, each with another value of [`VALUE_BYTES`].
fn fill(keyspace: &mut Keyspace) {
    for number in 0..KEYS {
        put(
            keyspace,
            &key(number),
            format!("{number:VALUE_BYTES$}").as_bytes(),
        );
    }
}

/// Has the key space count its signs of life.
fn watch(keyspace: &mut Keyspace) -> impl Fn() -> u64 + use<> {
    let signs = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&signs);
    keyspace.on_progress(Box::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    }));
    move || signs.swap(0, Ordering::Relaxed)
}

fn delete_everything(prev_kv: bool) -> DeleteRange {
    DeleteRange {
        key: everything().key,
        range_end: everything().range_end,
        prev_kv,
    }
}

fn refused(outcome: Result<impl std::fmt::Debug, Failure>) -> RequestError {
    match outcome {
        Err(Failure::Request(error)) => error,
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

#[test]
fn long_reads_and_changes_show_that_they_are_at_work() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    fill(&mut keyspace);
    let signs = watch(&mut keyspace);
    let counted = Range {
        count_only: true,
        ..everything()
    };
    assert_eq!(range(&keyspace, counted).unwrap().count, KEYS as i64);
    assert_eq!(signs(), KEYS / STEPS);
    // The keys, then their values.
    range(&keyspace, everything()).unwrap();
    assert!(signs() >= 2 * (KEYS / STEPS));
    // The keys, then the changes.
    let delete = Command::DeleteRange(delete_everything(false));
    apply(&mut keyspace, &delete).unwrap().unwrap().unwrap();
    assert!(signs() >= 2 * (KEYS / STEPS));
    // Keys that were deleted are looked at too.
    assert_eq!(range(&keyspace, everything()).unwrap().count, 0);
    assert!(signs() >= KEYS / STEPS);
}

#[test]
fn a_comparison_of_a_range_ends_with_the_first_key_that_decides_it() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    fill(&mut keyspace);
    let signs = watch(&mut keyspace);
    let compare = |version| {
        let txn = Txn {
            compare: vec![Compare {
                key: everything().key,
                range_end: everything().range_end,
                result: CompareResult::Equal,
                target: CompareTarget::Version(version),
            }],
            ..Txn::default()
        };
        match keyspace.query(&Query::Txn(txn)).unwrap().unwrap().body {
            ReplyBody::Txn(reply) => reply.succeeded,
            other => panic!("a transaction is answered by one, not by {other:?}"),
        }
    };
    for _ in 0..STEPS / 2 {
        assert!(!compare(7));
    }
    assert!(signs() <= 1);
    assert!(compare(1));
    assert!(signs() >= KEYS / STEPS);
}

#[test]
fn a_reply_has_a_bound_over_all_ranges_of_a_transaction() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    fill(&mut keyspace);
    let most = KEYS as usize * 2 * VALUE_BYTES;
    keyspace.bound_replies(most);
    let some = |limit| Range {
        limit,
        ..everything()
    };
    assert_eq!(
        refused(range(&keyspace, everything())),
        RequestError::ReplyTooLarge
    );
    let half = KEYS as i64 / 2;
    let reply = range(&keyspace, some(half)).unwrap();
    assert_eq!((reply.count, reply.more), (KEYS as i64, true));
    let twice = |limit| {
        Query::Txn(Txn {
            success: vec![Operation::Range(some(limit)); 2],
            ..Txn::default()
        })
    };
    assert_eq!(
        keyspace.query(&twice(half)).unwrap(),
        Err(RequestError::ReplyTooLarge)
    );
    assert!(keyspace.query(&twice(half / 2)).unwrap().is_ok());
}

#[test]
fn a_sorted_range_needs_room_only_for_what_it_answers() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    fill(&mut keyspace);
    keyspace.bound_replies(KEYS as usize * 2 * VALUE_BYTES);
    for sort_target in [SortTarget::Key, SortTarget::Mod, SortTarget::Value] {
        let newest = Range {
            limit: 2,
            sort_order: SortOrder::Descend,
            sort_target,
            ..everything()
        };
        keyspace.bound_replies(2_100 * 3 * VALUE_BYTES);
        let reply = range(&keyspace, newest).unwrap();
        let keys: Vec<_> = reply.kvs.iter().map(|kv| kv.key.clone()).collect();
        assert_eq!(keys, [key(KEYS - 1), key(KEYS - 2)], "{sort_target:?}");
        assert_eq!((reply.count, reply.more), (KEYS as i64, true));
    }
}

#[test]
fn a_request_whose_reply_is_too_large_changes_what_it_changes_without_a_reply() {
    let (disk, other_disk) = (Disk::new(), Disk::new());
    let (mut keyspace, mut other) = (disk.open(), other_disk.open());
    fill(&mut keyspace);
    fill(&mut other);
    keyspace.bound_replies(10 * VALUE_BYTES);
    let set = |key: Bytes| {
        Operation::Put(Put {
            key,
            value: "new".into(),
            prev_kv: true,
            ..Put::default()
        })
    };
    let txn = Command::Txn(Txn {
        success: vec![Operation::Range(everything()), set("a".into()), set(key(5))],
        ..Txn::default()
    });
    let delete = Command::DeleteRange(delete_everything(true));
    for command in [txn, delete] {
        let outcome = apply(&mut keyspace, &command).unwrap().unwrap();
        assert_eq!(outcome, Err(RequestError::ReplyTooLargeAfterChange));
        // On the other machine nobody waits for the reply.
        let next = rm_raft::EntryId {
            index: other.applied().index.next(),
            ..other.applied()
        };
        other.apply(next, Some(&command.encode()), false).unwrap();
        assert_eq!(get(&keyspace, b"a").unwrap(), get(&other, b"a").unwrap());
    }
    let reads = Command::Txn(Txn {
        success: vec![Operation::Range(everything())],
        failure: vec![set("b".into())],
        ..Txn::default()
    });
    fill(&mut keyspace);
    fill(&mut other);
    let outcome = apply(&mut keyspace, &reads).unwrap().unwrap();
    assert_eq!(outcome, Err(RequestError::ReplyTooLarge));
    let next = rm_raft::EntryId {
        index: other.applied().index.next(),
        ..other.applied()
    };
    other.apply(next, Some(&reads.encode()), false).unwrap();
    keyspace.checkpoint().unwrap();
    other.checkpoint().unwrap();
    assert_eq!(disk.dump(), other_disk.dump());
}
