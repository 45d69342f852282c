//! What the tests of the store share: a data directory in a temporary folder, and entries to fill it with.

use std::path::Path;

use bytes::Bytes;
use rm_raft::{Entry, EntryId, HardState, Index, MachineId, Payload, Proposal, RequestId, Term};
use tempfile::TempDir;

use crate::{DataDirectory, Environment, Era, Identity, Log, Options, codec};

pub(crate) fn identity() -> Identity {
    Identity {
        domain: "test.example".to_owned(),
        machine: "RM.01".to_owned(),
        id: MachineId(1),
        joined: None,
        era: Era::FIRST,
    }
}

/// A log in a folder of its own, which can be closed and opened again.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) options: Options,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place {
            folder: TempDir::new().expect("a temporary folder"),
            options: Options {
                map_bytes: 64 << 20,
                ..Options::default()
            },
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn open(&self) -> (DataDirectory, Log) {
        let directory = DataDirectory::open(self.path(), &identity()).expect("the directory opens");
        let environment =
            Environment::open(&directory, "log", &self.options).expect("the environment opens");
        let log = Log::open(&environment).expect("the log opens");
        (directory, log)
    }
}

/// Entries `from..=to` of one term, each with a command that tells its index and term.
pub(crate) fn entries(term: u64, from: u64, to: u64) -> Vec<Entry> {
    (from..=to).map(|index| entry(term, index, 40)).collect()
}

pub(crate) fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let mut command = format!("command {index} of term {term} ").into_bytes();
    command.resize(bytes, b'.');
    Entry {
        id: EntryId {
            term: Term(term),
            index: Index(index),
        },
        payload: Payload::Command(Proposal {
            request: RequestId {
                machine: MachineId(1),
                number: index,
            },
            command: Bytes::from(command),
        }),
    }
}

pub(crate) fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState {
        term: Term(term),
        vote: (vote != 0).then_some(MachineId(vote)),
        commit: Index(commit),
    }
}

/// Persists in one commit of its own.
pub(crate) fn persist(log: &Log, hard_state: HardState, entries: &[Entry]) {
    let mut append = log.begin().expect("an append begins");
    append
        .persist(&hard_state, entries)
        .expect("it is in order");
    append.commit().expect("the disk takes it");
}

/// Takes one entry out of the log, as no append ever does.
pub(crate) fn remove(log: &Log, index: Index) {
    let mut txn = log.environment.env().write_txn().expect("it begins");
    let removed = log.tables.log.delete(&mut txn, &codec::key(index));
    assert!(removed.expect("it is removed"), "there is no entry {index}");
    log.environment.commit(txn).expect("the disk takes it");
}
