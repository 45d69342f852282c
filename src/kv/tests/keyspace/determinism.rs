//! What must be the same on every machine, and what may not happen out of order.

use bytes::Bytes;
use rm_kv::{
    AuthCommand, Command, DeleteRange, Failure, KvError, Put, Query, Range, RequestError,
    StateMachine, Txn,
};
use rm_raft::{EntryId, Index, Term};

use crate::support::{Disk, apply, everything, get, hash, put, range};

fn entry(term: u64, index: u64) -> EntryId {
    EntryId {
        term: Term(term),
        index: Index(index),
    }
}

#[test]
fn an_entry_that_does_not_follow_is_refused_without_effect() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    keyspace.apply(entry(2, 1), None, true).unwrap();
    for wrong in [entry(2, 1), entry(2, 3), entry(1, 2), entry(2, 0)] {
        let error = keyspace.apply(wrong, None, true).unwrap_err();
        assert!(
            matches!(error, KvError::OutOfOrder { .. }),
            "{wrong}: {error}"
        );
        assert_eq!(keyspace.applied(), entry(2, 1));
    }
    keyspace.apply(entry(3, 2), None, true).unwrap();
    assert_eq!(keyspace.applied(), entry(3, 2));
}

#[test]
fn a_refused_request_advances_the_applied_entry_but_not_the_revision() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    let unknown_lease = Command::Put(Put {
        key: Bytes::from_static(b"a"),
        lease: 5,
        ..Put::default()
    });
    let outcome = apply(&mut keyspace, &unknown_lease).unwrap().unwrap();
    assert_eq!(outcome, Err(RequestError::LeaseNotFound));
    assert_eq!(keyspace.applied(), entry(1, 1));
    assert_eq!(keyspace.revision(), 1);
}

#[test]
fn an_entry_that_cannot_be_decoded_is_never_passed_over() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    put(&mut keyspace, b"a", b"1");
    let newer = keyspace
        .apply(entry(1, 2), Some(b"\xffnewer"), true)
        .unwrap_err();
    assert_eq!(
        newer.to_string(),
        format!(
            "entry {} is encoded in version 255, which this program does not know; upgrade this machine",
            entry(1, 2)
        )
    );
    for malformed in [&b""[..], b"\x00", b"\x01garbage"] {
        let error = keyspace
            .apply(entry(1, 2), Some(malformed), true)
            .unwrap_err();
        assert!(
            matches!(error, KvError::MalformedCommand { entry: found, .. } if found == entry(1, 2)),
            "{error}"
        );
    }
    assert_eq!((keyspace.applied(), keyspace.revision()), (entry(1, 1), 2));
    // The key space is whole: whoever can decode the entry goes on from here.
    put(&mut keyspace, b"a", b"2");
    assert_eq!((keyspace.applied(), keyspace.revision()), (entry(1, 2), 3));
}

#[test]
fn the_hash_of_the_whole_follows_from_the_commands_and_tells_what_clients_do_not_see() {
    let whole = |disk: &Disk, user: &str, checkpoints: bool| {
        let mut keyspace = disk.open();
        for number in 0..3_u8 {
            put(&mut keyspace, &[b'a' + number], b"1");
            if checkpoints {
                keyspace.checkpoint().unwrap();
            }
        }
        let add = Command::Auth(AuthCommand::AddUser {
            name: user.into(),
            password: None,
        });
        apply(&mut keyspace, &add).unwrap().unwrap().unwrap();
        let of_keys = hash(disk, &mut keyspace, 0);
        (rm_kv::hash_whole(&disk.environment).unwrap(), of_keys)
    };
    let disks = [Disk::new(), Disk::new(), Disk::new()];
    let one = whole(&disks[0], "alice", false);
    assert_eq!(one, whole(&disks[1], "alice", true));
    let (other, of_keys) = whole(&disks[2], "bob", false);
    assert_eq!(of_keys, one.1, "the keys are the same");
    assert_ne!(other, one.0, "the users are not");
}

#[test]
fn a_committed_request_that_no_gate_should_have_let_through_is_refused_alike() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    let empty_key = Command::DeleteRange(DeleteRange::default());
    let outcome = apply(&mut keyspace, &empty_key).unwrap().unwrap();
    assert_eq!(outcome, Err(RequestError::EmptyKey));
}

#[test]
fn etcd_13766_applied_entry_and_revision_are_of_the_same_moment_as_the_data_after_a_crash() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    put(&mut keyspace, b"a", b"1");
    let report = keyspace.checkpoint().unwrap();
    assert_eq!(report.applied, entry(1, 1));
    put(&mut keyspace, b"b", b"2");
    drop(keyspace);
    let keyspace = disk.open();
    assert_eq!((keyspace.applied(), keyspace.revision()), (entry(1, 1), 2));
    assert_eq!(range(&keyspace, everything()).unwrap().count, 1);
}

#[test]
fn a_checkpoint_with_nothing_to_write_writes_nothing() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    put(&mut keyspace, b"a", b"1");
    assert!(keyspace.dirty_bytes() > 0);
    assert!(keyspace.checkpoint().unwrap().bytes > 0);
    assert_eq!(keyspace.dirty_bytes(), 0);
    assert_eq!(keyspace.checkpoint().unwrap().bytes, 0);
}

#[test]
fn the_hash_up_to_a_revision_does_not_change_with_what_comes_after() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    put(&mut keyspace, b"a", b"1");
    let early = hash(&disk, &mut keyspace, 2);
    assert_eq!((early.revision, early.compact_revision), (2, -1));
    put(&mut keyspace, b"a", b"2");
    assert_eq!(hash(&disk, &mut keyspace, 2), early);
    assert_ne!(hash(&disk, &mut keyspace, 0).hash, early.hash);
    assert!(matches!(
        rm_kv::hash(&disk.environment, 4),
        Err(Failure::Request(RequestError::FutureRevision))
    ));
}

#[test]
fn the_hash_is_of_the_last_checkpoint_and_can_be_made_on_another_thread() {
    let disk = Disk::new();
    let none = rm_kv::hash(&disk.environment, 0).unwrap();
    assert_eq!((none.hash, none.revision), (0, 1));
    let mut keyspace = disk.open();
    assert_eq!(rm_kv::hash(&disk.environment, 0).unwrap(), none);
    put(&mut keyspace, b"a", b"1");
    let durable = hash(&disk, &mut keyspace, 0);
    // The key space's transaction is open meanwhile, and has a change that no checkpoint made durable.
    put(&mut keyspace, b"a", b"2");
    let environment = disk.environment.clone();
    let elsewhere = std::thread::spawn(move || rm_kv::hash(&environment, 0).unwrap());
    assert_eq!(elsewhere.join().unwrap(), durable);
    assert_eq!(hash(&disk, &mut keyspace, 0).revision, 3);
}

#[test]
fn the_hash_tells_apart_what_lies_between_key_and_value() {
    let of = |key: &[u8], value: &[u8]| {
        let disk = Disk::new();
        let mut keyspace = disk.open();
        put(&mut keyspace, key, value);
        hash(&disk, &mut keyspace, 0).hash
    };
    assert_ne!(of(b"ab", b"c"), of(b"a", b"bc"));
}

#[test]
fn every_revision_of_a_key_that_changes_often_is_found() {
    const CHANGES: i64 = 700;
    let disk = Disk::new();
    let mut keyspace = disk.open();
    for number in 0..CHANGES {
        put(&mut keyspace, b"hot", number.to_string().as_bytes());
    }
    for number in 0..CHANGES {
        let reply = range(
            &keyspace,
            Range {
                key: Bytes::from_static(b"hot"),
                revision: number + 2,
                ..Range::default()
            },
        )
        .unwrap();
        let [kv] = &reply.kvs[..] else {
            panic!("revision {}: {reply:?}", number + 2);
        };
        assert_eq!(kv.value, number.to_string());
        assert_eq!((kv.mod_revision, kv.version), (number + 2, number + 1));
    }
}

#[test]
fn a_query_that_would_write_is_refused() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    let txn = Txn {
        failure: vec![rm_kv::Operation::DeleteRange(DeleteRange {
            key: Bytes::from_static(b"a"),
            ..DeleteRange::default()
        })],
        ..Txn::default()
    };
    put(&mut keyspace, b"a", b"1");
    assert!(matches!(
        keyspace.query(&Query::Txn(txn)),
        Ok(Err(RequestError::NotReadOnly))
    ));
    assert_eq!(get(&keyspace, b"a").unwrap().unwrap(), "1");
}
