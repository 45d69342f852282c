//! Keys longer than LMDB's own, in every order that a range can ask for.

use bytes::Bytes;
use rm_kv::{Range, SortOrder};

use crate::support::{Disk, everything, get, put, range};

/// Keys that share long prefixes, and end before, at and behind the places at which the index divides them; sorted.
fn keys() -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    for shared in [0, 1, 498, 499, 500, 501, 999, 1_000, 1_001, 5_000] {
        for tail in [
            &b""[..],
            b"\0",
            b"\0\0",
            b"a",
            b"k",
            b"k\0",
            b"\xff",
            b"\xff\xff",
        ] {
            let key = [&vec![b'k'; shared], tail].concat();
            if !key.is_empty() {
                keys.push(key);
            }
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

#[test]
fn keys_of_any_length_are_found_and_lie_in_order() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    let sorted = keys();
    let (even, odd) = (sorted.iter().step_by(2), sorted.iter().skip(1).step_by(2));
    for key in odd.rev().chain(even) {
        assert_eq!(get(&keyspace, key).unwrap(), None);
        put(&mut keyspace, key, key);
        assert_eq!(get(&keyspace, key).unwrap().unwrap(), key);
    }
    let all = range(&keyspace, everything()).unwrap();
    let found: Vec<_> = all.kvs.iter().map(|kv| kv.key.to_vec()).collect();
    assert_eq!(found, sorted);
    assert!(
        all.kvs
            .iter()
            .all(|kv| kv.key == kv.value && kv.version == 1)
    );
}

#[test]
fn a_range_between_any_two_keys_holds_what_lies_between() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    let sorted = keys();
    // Every other key exists, so that the ends of ranges do and do not.
    let existing: Vec<_> = sorted.iter().step_by(2).collect();
    for key in &existing {
        put(&mut keyspace, key, b"");
    }
    for from in &sorted {
        for to in &sorted {
            let reply = range(
                &keyspace,
                Range {
                    key: Bytes::copy_from_slice(from),
                    range_end: Bytes::copy_from_slice(to),
                    keys_only: true,
                    ..Range::default()
                },
            )
            .unwrap();
            let found: Vec<_> = reply.kvs.iter().map(|kv| kv.key.to_vec()).collect();
            let expected: Vec<_> = existing
                .iter()
                .filter(|key| match &to[..] {
                    [0] => **key >= from,
                    _ => **key >= from && **key < to,
                })
                .map(|key| key.to_vec())
                .collect();
            assert_eq!(found, expected, "from {from:?} to {to:?}");
        }
    }
}

#[test]
fn a_key_as_long_as_a_request_may_be_is_kept() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    let key = vec![b'k'; 1_500_000];
    put(&mut keyspace, &key, b"1");
    put(&mut keyspace, &key, b"2");
    assert_eq!(get(&keyspace, &key).unwrap().unwrap(), "2");
    let reply = range(
        &keyspace,
        Range {
            sort_order: SortOrder::Descend,
            ..everything()
        },
    );
    assert_eq!(reply.unwrap().kvs[0].key, key);
}
