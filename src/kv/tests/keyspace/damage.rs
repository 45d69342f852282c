//! A disk that lies, and a disk that is full: an error that says so, never a wrong value, and nothing lost.

use std::sync::atomic::Ordering;

use rm_kv::{Failure, Keyspace, KvError, StateMachine};

use crate::support::{Disk, everything, get, open_table, put, range};

/// Changes a stored value behind the key space's back.
fn rewrite(disk: &Disk, table: &str, change: impl Fn(&mut Vec<u8>)) {
    let env = disk.environment.env();
    let table = open_table(env, table);
    let mut txn = env.write_txn().unwrap();
    let (key, mut value) = {
        let (key, value) = table.last(&txn).unwrap().unwrap();
        (key.to_vec(), value.to_vec())
    };
    change(&mut value);
    table.put(&mut txn, &key, &value).unwrap();
    disk.environment.commit(txn).unwrap();
}

fn damaged_table(failure: Failure) -> &'static str {
    match failure {
        Failure::Store(KvError::Damaged { table, .. }) => table,
        other => panic!("damage was expected, not: {other}"),
    }
}

#[test]
fn any_flipped_bit_of_a_record_is_found_by_whoever_reads_it() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    put(&mut keyspace, b"a", b"1");
    keyspace.checkpoint().unwrap();
    drop(keyspace);
    let bytes = disk.dump().last().unwrap().2.len();
    for byte in 0..bytes {
        rewrite(&disk, "revision", |value| value[byte] ^= 0x10);
        let keyspace = disk.open();
        assert_eq!(damaged_table(get(&keyspace, b"a").unwrap_err()), "revision");
        let all = range(&keyspace, everything());
        assert_eq!(damaged_table(all.unwrap_err()), "revision");
        drop(keyspace);
        let hash = rm_kv::hash(&disk.environment, 0);
        assert_eq!(damaged_table(hash.unwrap_err()), "revision");
        rewrite(&disk, "revision", |value| value[byte] ^= 0x10);
    }
    assert_eq!(get(&disk.open(), b"a").unwrap().unwrap(), "1");
}

#[test]
fn a_damaged_index_is_found_by_reads_and_stops_writes() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    put(&mut keyspace, b"a", b"1");
    keyspace.checkpoint().unwrap();
    drop(keyspace);
    rewrite(&disk, "key", |value| value[5] ^= 1);
    let mut keyspace = disk.open();
    assert_eq!(damaged_table(get(&keyspace, b"a").unwrap_err()), "key");
    let error = crate::support::apply(
        &mut keyspace,
        &rm_kv::Command::DeleteRange(rm_kv::DeleteRange {
            key: "a".into(),
            ..Default::default()
        }),
    );
    assert!(matches!(error, Err(KvError::Damaged { table: "key", .. })));
    // What might be half done is given up for good: not even an empty entry counts as applied any more.
    let next = rm_raft::EntryId {
        term: rm_raft::Term(1),
        index: keyspace.applied().index.next(),
    };
    assert!(matches!(
        keyspace.apply(next, None, true),
        Err(KvError::GivenUp)
    ));
    assert!(matches!(keyspace.checkpoint(), Err(KvError::GivenUp)));
    assert!(matches!(
        get(&keyspace, b"a"),
        Err(Failure::Store(KvError::GivenUp))
    ));
}

#[test]
fn a_record_that_is_missing_or_cut_short_is_damage() {
    for cut in [0, 3, 12] {
        let disk = Disk::new();
        let mut keyspace = disk.open();
        put(&mut keyspace, b"a", b"value");
        keyspace.checkpoint().unwrap();
        drop(keyspace);
        rewrite(&disk, "revision", |value| value.truncate(cut));
        let keyspace = disk.open();
        assert_eq!(damaged_table(get(&keyspace, b"a").unwrap_err()), "revision");
    }
    let disk = Disk::new();
    let mut keyspace = disk.open();
    put(&mut keyspace, b"a", b"value");
    keyspace.checkpoint().unwrap();
    drop(keyspace);
    let env = disk.environment.env();
    let table = open_table(env, "revision");
    let mut txn = env.write_txn().unwrap();
    table.clear(&mut txn).unwrap();
    disk.environment.commit(txn).unwrap();
    let keyspace = disk.open();
    assert_eq!(damaged_table(get(&keyspace, b"a").unwrap_err()), "revision");
}

#[test]
fn damaged_parameters_keep_the_key_space_closed() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    put(&mut keyspace, b"a", b"1");
    keyspace.checkpoint().unwrap();
    drop(keyspace);
    rewrite(&disk, "parameter", |value| value[4] ^= 1);
    assert!(matches!(
        Keyspace::open(&disk.environment),
        Err(KvError::Damaged {
            table: "parameter",
            ..
        })
    ));
}

#[test]
fn a_full_disk_fails_the_checkpoint_and_loses_nothing_that_was_durable() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    put(&mut keyspace, b"a", b"1");
    keyspace.checkpoint().unwrap();
    put(&mut keyspace, b"b", b"2");
    disk.full.store(true, Ordering::Relaxed);
    assert!(matches!(keyspace.checkpoint(), Err(KvError::NoSpace)));
    assert!(matches!(keyspace.checkpoint(), Err(KvError::GivenUp)));
    drop(keyspace);

    // Reads go on from the last checkpoint, and writes when there is space.
    let mut keyspace = disk.open();
    assert_eq!(get(&keyspace, b"a").unwrap().unwrap(), "1");
    assert_eq!(get(&keyspace, b"b").unwrap(), None);
    assert_eq!(keyspace.applied().index.0, 1);
    disk.full.store(false, Ordering::Relaxed);
    put(&mut keyspace, b"b", b"2");
    keyspace.checkpoint().unwrap();
    drop(keyspace);
    assert_eq!(get(&disk.open(), b"b").unwrap().unwrap(), "2");
}

#[test]
fn a_full_map_refuses_the_write_and_keeps_the_last_checkpoint() {
    let disk = Disk::with_map_bytes(1 << 20);
    let mut keyspace = disk.open();
    put(&mut keyspace, b"a", b"1");
    keyspace.checkpoint().unwrap();
    let command = rm_kv::Command::Put(rm_kv::Put {
        key: "b".into(),
        value: vec![0; 100_000].into(),
        ..Default::default()
    });
    let error = (0..100)
        .find_map(|_| crate::support::apply(&mut keyspace, &command).err())
        .expect("ten times the map's size does not fit");
    assert!(matches!(error, KvError::MapFull), "{error}");
    drop(keyspace);
    let keyspace = disk.open();
    assert_eq!(get(&keyspace, b"a").unwrap().unwrap(), "1");
    assert_eq!(keyspace.revision(), 2);
}
