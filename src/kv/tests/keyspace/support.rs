//! A machine's key space in a temporary folder, and short ways to speak to it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rm_kv::{
    Command, Failure, Keyspace, KeyspaceHash, KvError, Outcome, Put, Query, Range, RangeReply,
    ReplyBody, Signed, StateMachine,
};
use rm_raft::{EntryId, MachineId, Term};
use rm_store::{DataDirectory, Durability, Environment, Era, FaultHook, Identity, Options, Point};
use tempfile::TempDir;

/// A folder with the environment of one machine's key space.
pub(crate) struct Disk {
    pub(crate) environment: Environment,
    /// While set, no commit succeeds: the disk is full.
    pub(crate) full: Arc<AtomicBool>,
    _directory: DataDirectory,
    _folder: TempDir,
}

impl Disk {
    pub(crate) fn new() -> Disk {
        Disk::with_map_bytes(1 << 30)
    }

    pub(crate) fn with_map_bytes(map_bytes: usize) -> Disk {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity {
            domain: "test".into(),
            machine: "RM.01".into(),
            id: MachineId(1),
            joined: None,
            era: Era::FIRST,
        };
        let directory = DataDirectory::open(folder.path(), &identity).unwrap();
        let full = Arc::new(AtomicBool::new(false));
        let judge = Arc::clone(&full);
        let options = Options {
            map_bytes,
            durability: Durability::System,
            fault: FaultHook::new(move |point| match point {
                Point::Commit if judge.load(Ordering::Relaxed) => {
                    Err(io::ErrorKind::StorageFull.into())
                }
                _ => Ok(()),
            }),
            ..Options::default()
        };
        let environment = Environment::open(&directory, "state", &options).unwrap();
        Disk {
            environment,
            full,
            _directory: directory,
            _folder: folder,
        }
    }

    pub(crate) fn open(&self) -> Keyspace {
        Keyspace::open(&self.environment).unwrap()
    }

    /// All that the last checkpoint left in the tables: (table, key, value), but for the names of the tables themselves.
    pub(crate) fn dump(&self) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
        let env = self.environment.env();
        let mut dump = Vec::new();
        for name in [
            "attached",
            "auth",
            "branch",
            "key",
            "lease",
            "parameter",
            "revision",
        ] {
            let table = open_table(env, name);
            let txn = env.read_txn().unwrap();
            for item in table.iter(&txn).unwrap() {
                let (key, value) = item.unwrap();
                dump.push((name, key.to_vec(), value.to_vec()));
            }
        }
        dump
    }
}

pub(crate) type Table = heed::Database<'static, heed::types::Bytes, heed::types::Bytes>;

/// A table that is there.
pub(crate) fn open_table(env: &heed::Env<heed::WithoutTls>, name: &str) -> Table {
    let txn = env.read_txn().unwrap();
    env.open_databases_and_commit(txn, |opener, txn| {
        let table = opener.open_database(txn, Some(name))?;
        Ok::<_, heed::Error>(heed::CommitOrAbort::<_, ()>::Commit(table))
    })
    .unwrap()
    .commit()
    .flatten()
    .unwrap()
}

/// Applies a command as the next entry of the log.
pub(crate) fn apply(keyspace: &mut Keyspace, command: &Command) -> Result<Outcome, KvError> {
    let command = command.clone();
    apply_signed(keyspace, &Signed { by: None, command })
}

/// Applies a command on behalf of somebody as the next entry of the log.
pub(crate) fn apply_signed(keyspace: &mut Keyspace, signed: &Signed) -> Result<Outcome, KvError> {
    let entry = EntryId {
        term: Term(1),
        index: keyspace.applied().index.next(),
    };
    keyspace.apply(entry, Some(&signed.encode()), true)
}

/// Puts a key, which must succeed.
pub(crate) fn put(keyspace: &mut Keyspace, key: &[u8], value: &[u8]) {
    let put = Put {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
        ..Put::default()
    };
    let outcome = apply(keyspace, &Command::Put(put)).unwrap();
    outcome.unwrap().unwrap();
}

/// Reads a range.
pub(crate) fn range(keyspace: &Keyspace, range: Range) -> Result<RangeReply, Failure> {
    match keyspace.query(&Query::Range(range))??.body {
        ReplyBody::Range(reply) => Ok(reply),
        other => panic!("a range is answered by a range, not by {other:?}"),
    }
}

/// The value of a key now.
pub(crate) fn get(keyspace: &Keyspace, key: &[u8]) -> Result<Option<Bytes>, Failure> {
    let reply = range(
        keyspace,
        Range {
            key: Bytes::copy_from_slice(key),
            ..Range::default()
        },
    )?;
    Ok(reply.kvs.into_iter().next().map(|kv| kv.value))
}

/// All keys from the first on.
pub(crate) fn everything() -> Range {
    Range {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        ..Range::default()
    }
}

/// The hash of all that was applied, after a checkpoint.
pub(crate) fn hash(disk: &Disk, keyspace: &mut Keyspace, revision: i64) -> KeyspaceHash {
    keyspace.checkpoint().unwrap();
    rm_kv::hash(&disk.environment, revision).unwrap()
}
