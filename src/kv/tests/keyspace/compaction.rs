//! What a compaction and the scrub after it leave: nothing that is not needed, and all that is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rm_kv::{Command, DeleteRange, Failure, Keyspace, Range, RequestError, StateMachine};

use crate::support::{Disk, apply, everything, get, hash, put, range};

fn compact(keyspace: &mut Keyspace, revision: i64) {
    let compact = Command::Compact { revision };
    apply(keyspace, &compact).unwrap().unwrap().unwrap();
}

fn scrub(keyspace: &mut Keyspace, changes: u32) {
    let scrub = Command::Scrub {
        changes,
        bytes: u32::MAX,
    };
    apply(keyspace, &scrub).unwrap().unwrap().unwrap();
}

/// Scrubs until nothing is left to do, and tells in how many steps.
fn scrub_all(keyspace: &mut Keyspace, changes: u32) -> u32 {
    let mut steps = 0;
    while !keyspace.compaction().is_complete() {
        scrub(keyspace, changes);
        steps += 1;
    }
    steps
}

fn delete(keyspace: &mut Keyspace, key: &[u8]) {
    let delete = DeleteRange {
        key: Bytes::copy_from_slice(key),
        ..DeleteRange::default()
    };
    let outcome = apply(keyspace, &Command::DeleteRange(delete)).unwrap();
    outcome.unwrap().unwrap();
}

fn changes(keyspace: &Keyspace) -> u64 {
    keyspace.size().unwrap().changes
}

#[test]
fn of_keys_that_are_deleted_and_compacted_nothing_is_left_however_long_they_were() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    // Of the lengths around which the index divides keys, and with branches that several keys share.
    let lengths = [1, 499, 500, 501, 999, 1_000, 1_001, 1_501, 2_750];
    let keys: Vec<_> = lengths
        .iter()
        .flat_map(|&length| {
            [
                vec![b'k'; length],
                [vec![b'k'; length], b"z".into()].concat(),
            ]
        })
        .collect();
    for key in &keys {
        put(&mut keyspace, key, b"1");
        put(&mut keyspace, key, b"2");
    }
    for key in &keys {
        delete(&mut keyspace, key);
    }
    let revision = keyspace.revision();
    compact(&mut keyspace, revision);
    scrub_all(&mut keyspace, 7);
    // The last deletion is at the compacted revision.
    assert_eq!(changes(&keyspace), 1);

    put(&mut keyspace, b"other", b"1");
    delete(&mut keyspace, b"other");
    put(&mut keyspace, b"last", b"1");
    let revision = keyspace.revision();
    compact(&mut keyspace, revision);
    scrub_all(&mut keyspace, 7);
    assert_eq!(changes(&keyspace), 1);
    keyspace.checkpoint().unwrap();
    let left: Vec<_> = disk
        .dump()
        .into_iter()
        .filter(|(table, ..)| *table != "parameter")
        .map(|(table, key, _)| (table, key))
        .collect();
    let last = [&revision.to_be_bytes()[..], &[0; 4]].concat();
    assert_eq!(left, [("key", b"last".to_vec()), ("revision", last)]);
    assert_eq!(get(&keyspace, b"last").unwrap().unwrap(), "1");
}

#[test]
fn every_revision_that_can_be_read_is_found_in_a_chain_that_is_compacted_now_and_then() {
    const CHANGES: i64 = 600;
    const LIFE: i64 = 11;
    let disk = Disk::new();
    let mut keyspace = disk.open();
    let mut compacted = 0;
    for number in 1..=CHANGES {
        if number % LIFE == 0 {
            delete(&mut keyspace, b"key");
        } else {
            put(&mut keyspace, b"key", number.to_string().as_bytes());
        }
        // Some compactions hit a deletion, and some begin while the scrub before is under way.
        if number % 37 == 0 {
            compacted = number + 1 - number / 37 % 12;
            compact(&mut keyspace, compacted);
        }
        if number % 5 == 0 {
            scrub(&mut keyspace, 3);
        }
        if number % 50 != 0 {
            continue;
        }
        for at in compacted.max(1)..=number + 1 {
            let read = Range {
                key: Bytes::from_static(b"key"),
                revision: at,
                ..Range::default()
            };
            let found = range(&keyspace, read).unwrap().kvs.pop();
            // The key space begins with revision one.
            let change = at - 1;
            let expected = (change > 0 && change % LIFE != 0).then(|| change.to_string());
            assert_eq!(
                found.map(|kv| kv.value),
                expected.map(Bytes::from),
                "at {at}"
            );
        }
    }
    assert!(changes(&keyspace) < CHANGES as u64 / 2);
}

#[test]
fn the_hash_is_the_same_at_every_step_of_a_scrub() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    for number in 0..60 {
        let key = [b'a' + number % 7];
        if number % 5 == 4 {
            delete(&mut keyspace, &[b'a' + (number - 1) % 7]);
        } else {
            put(&mut keyspace, &key, &[number]);
        }
    }
    for revision in [20, 21, 40] {
        compact(&mut keyspace, revision);
        let before = hash(&disk, &mut keyspace, 0);
        let at_compacted = hash(&disk, &mut keyspace, revision);
        assert_eq!(before.compact_revision, revision);
        // The scrub before is cut short by the next compaction once, and ends once.
        for _ in 0..if revision == 20 { 3 } else { 50 } {
            scrub(&mut keyspace, 1);
            assert_eq!(hash(&disk, &mut keyspace, 0), before);
            assert_eq!(hash(&disk, &mut keyspace, revision), at_compacted);
        }
        assert!(matches!(
            rm_kv::hash(&disk.environment, revision - 1),
            Err(Failure::Request(RequestError::Compacted))
        ));
    }
    assert!(keyspace.compaction().is_complete());
}

#[test]
fn etcd_17780_the_revision_stays_when_everything_is_deleted_and_compacted() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    put(&mut keyspace, b"a", b"1");
    delete(&mut keyspace, b"a");
    put(&mut keyspace, b"b", b"1");
    delete(&mut keyspace, b"b");
    compact(&mut keyspace, 5);
    for _ in 0..3 {
        scrub(&mut keyspace, 1);
        keyspace.checkpoint().unwrap();
        drop(keyspace);
        keyspace = disk.open();
        assert_eq!(keyspace.revision(), 5);
    }
    scrub_all(&mut keyspace, 1);
    keyspace.checkpoint().unwrap();
    drop(keyspace);
    let mut keyspace = disk.open();
    assert_eq!(
        (keyspace.revision(), keyspace.compaction().revision),
        (5, 5)
    );
    put(&mut keyspace, b"c", b"1");
    assert_eq!(keyspace.revision(), 6);
}

#[test]
fn a_step_of_a_scrub_ends_with_the_bytes_it_was_given_but_not_before_one_change() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    for number in 0..10 {
        put(&mut keyspace, b"key", &[number; 99]);
    }
    compact(&mut keyspace, 11);
    let mut step = |bytes| {
        let scrub = Command::Scrub {
            changes: 1_000,
            bytes,
        };
        let before = changes(&keyspace);
        apply(&mut keyspace, &scrub).unwrap().unwrap().unwrap();
        before - changes(&keyspace)
    };
    // The first change of a key replaced nothing.
    assert_eq!(step(0), 0);
    assert_eq!(step(102), 1);
    assert_eq!(step(103), 2);
    assert_eq!(step(u32::MAX), 6);
    assert!(keyspace.compaction().is_complete());
}

#[test]
fn a_long_scrub_shows_that_it_is_at_work() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    for number in 0..3_000_u32 {
        put(&mut keyspace, b"key", &number.to_be_bytes());
    }
    let revision = keyspace.revision();
    compact(&mut keyspace, revision);
    let signs = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&signs);
    keyspace.on_progress(Box::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    }));
    scrub(&mut keyspace, u32::MAX);
    assert!(keyspace.compaction().is_complete());
    // One about every 1,024 changes.
    assert_eq!(signs.load(Ordering::Relaxed), 2);
}

#[test]
fn what_a_scrub_removes_counts_as_changed_pages_and_makes_room() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    for round in 0..2 {
        for number in 0..400_u32 {
            put(&mut keyspace, &number.to_be_bytes(), &[round; 1_000]);
        }
    }
    let revision = keyspace.revision();
    compact(&mut keyspace, revision);
    keyspace.checkpoint().unwrap();
    assert_eq!(keyspace.dirty_bytes(), 0);
    let used_before = keyspace.size().unwrap().used_bytes;
    assert_eq!(scrub_all(&mut keyspace, 100), 9);
    assert!(
        keyspace.dirty_bytes() > 400_000,
        "{}",
        keyspace.dirty_bytes()
    );
    assert_eq!(changes(&keyspace), 400);
    assert_eq!(range(&keyspace, everything()).unwrap().count, 400);
    for _ in 0..2 {
        put(&mut keyspace, b"more", b"1");
        keyspace.checkpoint().unwrap();
    }
    let used_after = keyspace.size().unwrap().used_bytes;
    assert!(
        used_after < used_before * 2 / 3,
        "{used_before} -> {used_after}"
    );
}
