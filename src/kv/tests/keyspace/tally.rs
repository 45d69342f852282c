//! What is counted of what a key space does.

use rm_kv::{
    Command, DeleteRange, Grant, Keyspace, Operation, Put, Query, Range, Signed, StateMachine,
    Tally, Txn,
};
use rm_raft::{EntryId, Term};

use crate::support::{Disk, apply};

fn put(key: &'static str, lease: i64) -> Put {
    Put {
        key: key.into(),
        value: "value".into(),
        lease,
        ..Put::default()
    }
}

fn range(key: &'static str) -> Range {
    Range {
        key: key.into(),
        ..Range::default()
    }
}

fn delete(key: &'static str) -> DeleteRange {
    DeleteRange {
        key: key.into(),
        ..DeleteRange::default()
    }
}

fn txn(success: Vec<Operation>) -> Txn {
    Txn {
        success,
        ..Txn::default()
    }
}

/// What a command counts for.
fn counted(keyspace: &mut Keyspace, command: &Command) -> Tally {
    apply(keyspace, command).unwrap().unwrap().unwrap();
    keyspace.take_tally()
}

/// The same on a machine where nobody waits for the answer.
fn counted_elsewhere(keyspace: &mut Keyspace, command: Command) -> Tally {
    let entry = EntryId {
        term: Term(1),
        index: keyspace.applied().index.next(),
    };
    let signed = Signed { by: None, command };
    let outcome = keyspace.apply(entry, Some(&signed.encode()), false);
    outcome.unwrap().unwrap().unwrap();
    keyspace.take_tally()
}

#[test]
fn operations_count_alone_and_in_transactions_and_only_what_was_read_as_a_range() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    let tally = counted(&mut keyspace, &Command::Put(put("key", 0)));
    assert_eq!((tally.puts, tally.put_bytes, tally.txns), (1, 8, 0));
    assert_eq!(keyspace.take_tally(), Tally::default(), "it is taken");

    let within = txn(vec![
        Operation::Put(put("b", 0)),
        Operation::Range(range("b")),
    ]);
    let both = txn(vec![
        Operation::Range(range("key")),
        Operation::Put(put("a", 0)),
        Operation::DeleteRange(delete("key")),
        Operation::Txn(within),
    ]);
    let tally = counted(&mut keyspace, &Command::Txn(both.clone()));
    let expected = Tally {
        puts: 2,
        put_bytes: 12,
        ranges: 2,
        deletes: 1,
        txns: 1,
        ..Tally::default()
    };
    assert_eq!(tally, expected);
    let tally = counted_elsewhere(&mut keyspace, Command::Txn(both));
    assert_eq!(
        tally,
        Tally {
            ranges: 0,
            ..expected
        }
    );

    let reads = txn(vec![
        Operation::Range(range("a")),
        Operation::Txn(txn(vec![Operation::Range(range("b"))])),
    ]);
    for (query, ranges, txns) in [(Query::Range(range("a")), 1, 0), (Query::Txn(reads), 2, 1)] {
        keyspace.query(&query).unwrap().unwrap();
        let expected = Tally {
            ranges,
            txns,
            ..Tally::default()
        };
        assert_eq!(keyspace.take_tally(), expected, "{query:?}");
    }
}

#[test]
fn what_is_refused_counts_for_nothing() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    let lost = Command::Put(put("key", 404));
    apply(&mut keyspace, &lost).unwrap().unwrap().unwrap_err();
    let ahead = Query::Range(Range {
        revision: 99,
        ..range("key")
    });
    keyspace.query(&ahead).unwrap().unwrap_err();
    assert_eq!(keyspace.take_tally(), Tally::default());
}

#[test]
fn leases_count_when_they_are_granted_and_when_they_end_with_the_keys_on_them() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    let mut grants = Vec::new();
    for id in 1..=2 {
        let tally = counted(&mut keyspace, &Command::GrantLease { id, ttl: 60 });
        assert_eq!(tally.leases_granted, 1);
        let entry = keyspace.applied().index.0;
        grants.push(Grant { id, entry });
    }
    for (key, lease) in [("a", 1), ("b", 1), ("c", 2)] {
        counted(&mut keyspace, &Command::Put(put(key, lease)));
    }
    let tally = counted(&mut keyspace, &Command::RevokeLease { id: 1 });
    assert_eq!((tally.leases_ended, tally.deletes), (1, 2));
    counted(&mut keyspace, &Command::CountLeases);
    let reign = keyspace.applied().index.0;
    // The first has ended before.
    let tally = counted(&mut keyspace, &Command::ExpireLeases { reign, grants });
    assert_eq!((tally.leases_ended, tally.deletes), (1, 1));
}

#[test]
fn a_scrub_counts_what_it_removes() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    for _ in 0..3 {
        counted(&mut keyspace, &Command::Put(put("key", 0)));
    }
    let revision = keyspace.revision();
    let tally = counted(&mut keyspace, &Command::Compact { revision });
    assert_eq!(tally, Tally::default());
    let scrub = Command::Scrub {
        changes: 100,
        bytes: u32::MAX,
    };
    assert_eq!(counted(&mut keyspace, &scrub).scrubbed, 2);
    let value = keyspace.query(&Query::Range(range("key"))).unwrap();
    value.unwrap();
}
