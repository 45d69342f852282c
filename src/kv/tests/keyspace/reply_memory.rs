//! Replies that ask for their memory while they are made: for all of it, for no more than they keep, and what comes of it where there is
//! none.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rm_kv::{
    Command, DeleteRange, KeyValue, Keyspace, Operation, Put, Query, Range, ReplyBody, ReplyMemory,
    RequestError, Slice, SortOrder, SortTarget, StateMachine, Txn, Work,
};

use crate::support::{Disk, everything, get, put};

/// So many bytes, and no more.
struct Purse {
    left: Cell<usize>,
    had: usize,
}

impl Purse {
    fn with(bytes: usize) -> Purse {
        Purse {
            left: Cell::new(bytes),
            had: bytes,
        }
    }

    fn spent(&self) -> usize {
        self.had - self.left.get()
    }
}

impl ReplyMemory for Purse {
    fn take(&self, bytes: usize) -> bool {
        let left = self.left.get().checked_sub(bytes);
        self.left.set(left.unwrap_or(self.left.get()));
        left.is_some()
    }

    fn give_back(&self, bytes: usize) {
        self.left.set(self.left.get() + bytes);
    }
}

const KEYS: usize = 3_000;

/// A key space with [`KEYS`] keys of two lengths.
fn filled(disk: &Disk) -> Keyspace {
    let mut keyspace = disk.open();
    for number in 0..KEYS {
        let value = vec![b'v'; 10 + number % 2];
        put(&mut keyspace, &key(number), &value);
    }
    keyspace
}

fn key(number: usize) -> Bytes {
    format!("{number:06}").into()
}

/// Answers a query in slices.
fn in_slices(keyspace: &Keyspace, query: &Query, memory: &dyn ReplyMemory) {
    let budget = Work {
        steps: 100,
        ..Work::UNBOUNDED
    };
    let mut slice = keyspace.begin(query, memory, budget).unwrap();
    while let Ok(Slice::Unfinished(reading)) = slice {
        slice = Ok(keyspace.go_on(reading, memory, budget).unwrap());
    }
    match slice {
        Ok(Slice::Answered(_)) => {}
        Ok(Slice::Unsorted(unsorted)) => drop(unsorted.sort(memory)),
        other => panic!("{other:?}"),
    }
}

/// What keys with their values take.
fn bytes(kvs: &[KeyValue]) -> usize {
    let of = |kv: &KeyValue| 2 * size_of::<KeyValue>() + kv.key.len() + kv.value.len();
    kvs.iter().map(of).sum()
}

#[test]
fn a_reply_has_taken_what_it_holds_when_it_is_made() {
    let disk = Disk::new();
    let keyspace = filled(&disk);
    let sorted = |sort_target, limit| Range {
        limit,
        sort_order: SortOrder::Descend,
        sort_target,
        ..everything()
    };
    for range in [
        everything(),
        Range {
            limit: 7,
            ..everything()
        },
        Range {
            keys_only: true,
            ..everything()
        },
        Range {
            count_only: true,
            ..everything()
        },
        sorted(SortTarget::Key, 5),
        sorted(SortTarget::Mod, 0),
        sorted(SortTarget::Value, 5),
        Range {
            keys_only: true,
            ..sorted(SortTarget::Value, 5)
        },
    ] {
        let purse = Purse::with(usize::MAX);
        let reply = keyspace.query_within(&Query::Range(range.clone()), &purse);
        let ReplyBody::Range(reply) = reply.unwrap().unwrap().body else {
            panic!("a range is answered by one");
        };
        assert_eq!(purse.spent(), bytes(&reply.kvs), "{range:?}");
        let purse = Purse::with(usize::MAX);
        in_slices(&keyspace, &Query::Range(range.clone()), &purse);
        assert_eq!(purse.spent(), bytes(&reply.kvs), "{range:?} in slices");
    }
}

#[test]
fn a_query_whose_reply_finds_no_memory_is_refused() {
    let disk = Disk::new();
    let keyspace = filled(&disk);
    let range = Query::Range(everything());
    let purse = Purse::with(usize::MAX);
    keyspace.query_within(&range, &purse).unwrap().unwrap();
    let enough = purse.spent();
    let refused = keyspace.query_within(&range, &Purse::with(enough - 1));
    assert_eq!(refused.unwrap(), Err(RequestError::NoRoomForReply));
    let txn = Query::Txn(Txn {
        success: vec![Operation::Range(everything()); 2],
        ..Txn::default()
    });
    let refused = keyspace.query_within(&txn, &Purse::with(2 * enough - 1));
    assert_eq!(refused.unwrap(), Err(RequestError::NoRoomForReply));
    let enough = Purse::with(2 * enough);
    assert!(keyspace.query_within(&txn, &enough).unwrap().is_ok());
}

#[test]
fn a_request_whose_reply_finds_no_memory_is_carried_out_and_says_so() {
    let disk = Disk::new();
    let mut keyspace = filled(&disk);
    let put = Put {
        key: key(0),
        value: "new".into(),
        prev_kv: true,
        ..Put::default()
    };
    let read_and_put = Command::Txn(Txn {
        success: vec![Operation::Range(everything()), Operation::Put(put.clone())],
        ..Txn::default()
    });
    let delete = Command::DeleteRange(DeleteRange {
        key: key(1),
        range_end: key(9),
        prev_kv: true,
    });
    let read = Command::Txn(Txn {
        success: vec![Operation::Range(everything())],
        failure: vec![Operation::Put(put)],
        ..Txn::default()
    });
    let revision = keyspace.revision();
    let after_change = |changes: i64| RequestError::NoRoomForReplyAfterChange {
        revision: revision + changes,
    };
    let expected = [
        (&read_and_put, after_change(1)),
        (&delete, after_change(2)),
        (&read, RequestError::NoRoomForReply),
    ];
    for (command, error) in expected {
        let outcome = apply_within(&mut keyspace, command, &Purse::with(20));
        assert_eq!(outcome, Err(error));
    }
    assert_eq!(get(&keyspace, &key(0)).unwrap(), Some("new".into()));
    assert_eq!(get(&keyspace, &key(1)).unwrap(), None);
}

fn apply_within(
    keyspace: &mut Keyspace,
    command: &Command,
    memory: &dyn ReplyMemory,
) -> Result<rm_kv::Reply, RequestError> {
    let applied = keyspace.applied();
    let next = rm_raft::EntryId {
        index: applied.index.next(),
        ..applied
    };
    let outcome = keyspace.apply_within(next, Some(&command.encode()), Some(memory));
    outcome.unwrap().expect("a command has an outcome")
}

#[test]
fn the_keys_of_a_lease_ask_for_memory_as_they_are_read() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    let unbounded = Purse::with(usize::MAX);
    let grant = Command::GrantLease { id: 5, ttl: 60 };
    apply_within(&mut keyspace, &grant, &unbounded).unwrap();
    for number in 0..KEYS {
        let put = Put {
            key: key(number),
            lease: 5,
            ..Put::default()
        };
        apply_within(&mut keyspace, &Command::Put(put), &unbounded).unwrap();
    }
    let signs = Arc::new(AtomicUsize::new(0));
    let counter = signs.clone();
    keyspace.on_progress(Box::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    }));
    let look = Query::Lease { id: 5, keys: true };
    let refused = keyspace.query_within(&look, &Purse::with(100));
    assert_eq!(refused.unwrap(), Err(RequestError::NoRoomForReply));
    assert_eq!(signs.swap(0, Ordering::Relaxed), 0, "few keys were read");
    let all = keyspace.query_within(&look, &unbounded);
    let ReplyBody::Lease(lease) = all.unwrap().unwrap().body else {
        panic!("a look at a lease is answered by one");
    };
    assert_eq!(lease.keys, (0..KEYS).map(key).collect::<Vec<_>>());
    assert!(signs.load(Ordering::Relaxed) > 0);
}
