//! Snapshot files: what is saved is read and restored, and what is damaged, cut short, foreign or newer is refused by name.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rm_backup::{Anew, BackupError, MachineId, NewDomain, Restored, Saved, restore};
use rm_kv::{Command, Keyspace, Put, StateMachine};
use rm_raft::{EntryId, Index, Term};
use rm_store::{
    DataDirectory, Environment, Era, Identity, Log, OpenError, Options, SnapshotOptions, Snapshots,
};
use tempfile::TempDir;

/// How many keys the saved state has.
const KEYS: u64 = 300;

fn identity() -> Identity {
    Identity {
        domain: "before".to_owned(),
        machine: "RM.01".to_owned(),
        id: MachineId(1),
        joined: None,
        era: Era::FIRST,
    }
}

/// A state with some keys, and what a machine would send of it.
fn saved_bytes(folder: &Path, prepare: impl FnOnce(&Environment)) -> Vec<u8> {
    let directory = DataDirectory::open(&folder.join("data"), &identity()).unwrap();
    let state = Environment::open_state(&directory, 0, &Options::default()).unwrap();
    let mut keyspace = Keyspace::open(&state).unwrap();
    for index in 1..=KEYS {
        let command = Command::Put(Put {
            key: Bytes::from(format!("key {index}")),
            value: Bytes::from(vec![index as u8; 500]),
            ..Put::default()
        });
        let entry = EntryId {
            term: Term(3),
            index: Index(index),
        };
        let applied = keyspace.apply(entry, Some(&command.encode()), false);
        applied.unwrap().expect("a command").expect("it is good");
    }
    let who = Bytes::from_static(b"three machines of the domain that was before");
    keyspace.set_configuration(Index(1), who).unwrap();
    keyspace.checkpoint().unwrap();
    drop(keyspace);
    prepare(&state);
    let snapshots = Snapshots::open(&directory, SnapshotOptions::default()).unwrap();
    let file = snapshots.make_passing(&state, |_| true).unwrap();
    let mut bytes = vec![0; file.description().bytes as usize];
    assert_eq!(file.read(0, &mut bytes).unwrap(), bytes.len());
    bytes.extend_from_slice(&file.description().id.0);
    bytes
}

/// A good snapshot, and the folder that it lies in.
fn good() -> (TempDir, PathBuf, Vec<u8>) {
    let folder = TempDir::new().unwrap();
    let bytes = saved_bytes(folder.path(), |_| ());
    let path = folder.path().join("saved");
    fs::write(&path, &bytes).unwrap();
    (folder, path, bytes)
}

fn new_domain(machine: &str) -> NewDomain<'_> {
    NewDomain {
        domain: "after",
        machines: vec!["RM.02", "RM.01"],
        machine,
        id: MachineId(7),
        token: "",
        anew: Anew::default(),
    }
}

fn restored(path: &Path, new: &NewDomain<'_>, to: &Path) -> Result<Restored, BackupError> {
    restore(&Saved::open(path)?, new, to, &|_| ())
}

/// Why a file is refused, by whoever looks at all of it and by whoever restores it: both say the same.
fn refusal(folder: &Path, content: &[u8]) -> BackupError {
    let path = folder.join("refused");
    fs::write(&path, content).unwrap();
    let looked = Saved::open(&path).and_then(|saved| {
        saved.check(&|_| ())?;
        saved.summary(&|_| ())
    });
    let to = folder.join("restored");
    let refused = restored(&path, &new_domain("RM.01"), &to).expect_err("it is not good");
    let looked = looked.expect_err("it is not good");
    assert_eq!(looked.to_string(), refused.to_string());
    assert!(looked.to_string().contains(path.to_str().unwrap()));
    if to.exists() {
        let error = DataDirectory::open(&to, &identity());
        let error = error.expect_err("no machine starts on what is left");
        assert!(matches!(error, OpenError::Unfinished { .. }), "{error}");
        fs::remove_dir_all(&to).unwrap();
    }
    refused
}

#[test]
fn what_was_saved_is_read_with_its_keys_and_changes() {
    let (_folder, path, bytes) = good();
    let saved = Saved::open(&path).unwrap();
    saved.check(&|_| ()).unwrap();
    let summary = saved.summary(&|_| ()).unwrap();
    assert_eq!((summary.keys, summary.changes), (KEYS, KEYS));
    assert_eq!(summary.revision, KEYS as i64 + 1);
    assert_eq!(summary.applied.index, Index(KEYS));
    assert_eq!(fs::read(&path).unwrap(), bytes, "nothing is written to it");
    assert!(!path.with_file_name("saved-lock").exists());
}

#[test]
fn each_machine_of_a_domain_is_restored_to_the_same_log_state_and_era() {
    let (folder, path, _) = good();
    let restore_to = |name: &str, new: &NewDomain<'_>| {
        let to = folder.path().join(name);
        let restored = restored(&path, new, &to).unwrap();
        (to, restored)
    };
    let (one, first) = restore_to("one", &new_domain("RM.01"));
    let (_, second) = restore_to("two", &new_domain("RM.02"));
    assert_eq!(first, second);
    assert_ne!(first.era, Era::FIRST);
    let others = [
        NewDomain {
            token: "again",
            ..new_domain("RM.01")
        },
        NewDomain {
            domain: "another",
            ..new_domain("RM.01")
        },
        NewDomain {
            machines: vec!["RM.01"],
            ..new_domain("RM.01")
        },
        NewDomain {
            anew: Anew {
                raise_revision: 9,
                compact: true,
            },
            ..new_domain("RM.01")
        },
    ];
    for (number, other) in others.iter().enumerate() {
        let (_, other) = restore_to(&format!("other {number}"), other);
        assert_ne!(other.era, first.era, "{number}");
    }
    let owner = Identity {
        domain: "after".to_owned(),
        id: MachineId(7),
        era: first.era,
        ..identity()
    };
    let directory = DataDirectory::open(&one, &owner).unwrap();
    assert_eq!(directory.identity(), owner);
    let environment = Environment::open(&directory, "log", &Options::default());
    let log = Log::open(&environment.unwrap()).unwrap();
    let loaded = log.load().unwrap();
    let applied = EntryId {
        term: Term(3),
        index: Index(KEYS),
    };
    assert_eq!((loaded.base, loaded.last), (applied, applied));
    assert_eq!(loaded.hard_state.commit, applied.index);
    assert!(
        loaded.configurations.is_empty(),
        "the config says who takes part"
    );
    let state = Environment::open_state(&directory, loaded.generation, &Options::default());
    let peek = rm_kv::peek(&state.unwrap()).unwrap();
    assert_eq!((peek.applied, peek.configuration), (applied, None));
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let (folder, _, good) = good();
    // Somewhere in each page, and in the digest; the file's first word of its own is told apart below.
    let places = (0..good.len()).step_by(4096 + 57).map(|at| at + 300);
    let places = places.filter(|at| *at < good.len()).chain([good.len() - 1]);
    let mut tried = 0;
    for at in places {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        let error = refusal(folder.path(), &bytes);
        assert!(matches!(error, BackupError::Digest { .. }), "{at}: {error}");
        tried += 1;
    }
    assert!(tried > 10);
}

#[test]
fn a_file_that_is_cut_short_anywhere_is_told_so() {
    let (folder, _, good) = good();
    let state = good.len() - 32;
    for length in [0, 1, 19, 20, 32, 4_000, state - 1, state + 1, state + 31] {
        let error = refusal(folder.path(), &good[..length]);
        assert!(
            matches!(error, BackupError::Truncated { bytes, .. } if bytes == length as u64),
            "{length}: {error}"
        );
    }
    for length in [4_096, 8_192, state] {
        let error = refusal(folder.path(), &good[..length]);
        assert!(matches!(error, BackupError::NoDigest { .. }), "{error}");
    }
    // Where the length alone tells nothing, the digest does.
    let error = refusal(folder.path(), &good[..state - 4096 + 32]);
    assert!(matches!(error, BackupError::Digest { .. }), "{error}");
}

#[test]
fn files_of_others_are_refused_by_name() {
    let (folder, _, good) = good();
    let error = refusal(folder.path(), &[b'x'; 9_000]);
    assert!(matches!(error, BackupError::Foreign { .. }), "{error}");
    let mut bbolt = vec![0; 32 << 10];
    bbolt[16..20].copy_from_slice(&0xED0C_DAED_u32.to_le_bytes());
    let error = refusal(folder.path(), &bbolt);
    assert!(error.to_string().contains("etcd"), "{error}");
    let log = folder.path().join("data");
    let directory = DataDirectory::open(&log, &identity()).unwrap();
    let environment = Environment::open(&directory, "log", &Options::default());
    let environment = environment.unwrap();
    Log::open(&environment).unwrap();
    let snapshots = Snapshots::open(&directory, SnapshotOptions::default()).unwrap();
    let file = snapshots.make_passing(&environment, |_| true).unwrap();
    let mut bytes = vec![0; file.description().bytes as usize];
    file.read(0, &mut bytes).unwrap();
    bytes.extend_from_slice(&file.description().id.0);
    let error = refusal(folder.path(), &bytes);
    assert!(error.to_string().contains("without a key space"), "{error}");
    assert!(good.len() > 4096);
}

#[test]
fn a_snapshot_of_a_newer_program_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let bytes = saved_bytes(folder.path(), |state| {
        // A layout lies under its name as the CRC-32C of name and body, then the body: a number.
        let body = [100];
        let checksum = crc32c::crc32c_append(crc32c::crc32c(b"layout"), &body);
        let value = [&checksum.to_le_bytes()[..], &body].concat();
        let env = state.env();
        let txn = env.read_txn().unwrap();
        let opened = env.open_databases_and_commit(txn, |opener, txn| {
            let table = opener
                .open_database::<heed::types::Bytes, heed::types::Bytes>(txn, Some("parameter"))?;
            Ok::<_, heed::Error>(heed::CommitOrAbort::<_, ()>::Commit(table))
        });
        let table = opened.unwrap().commit().flatten().expect("it is there");
        let mut txn = env.write_txn().unwrap();
        table.put(&mut txn, b"layout", &value).unwrap();
        state.commit(txn).unwrap();
    });
    let error = refusal(folder.path(), &bytes);
    assert!(
        matches!(error, BackupError::Newer { found: 100, .. }),
        "{error}"
    );
}

#[test]
fn nothing_is_restored_over_anything() {
    let (folder, path, _) = good();
    let to = folder.path().join("there");
    fs::create_dir(&to).unwrap();
    fs::write(to.join("notes"), "of an operator").unwrap();
    for _ in 0..2 {
        let error = restored(&path, &new_domain("RM.01"), &to).expect_err("it is not empty");
        assert!(error.to_string().contains("notes"), "{error}");
    }
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
    fs::remove_file(to.join("notes")).unwrap();
    restored(&path, &new_domain("RM.01"), &to).expect("an empty one is taken");
    restored(&path, &new_domain("RM.01"), &to).expect_err("it has data now");
}
