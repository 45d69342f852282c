//! What the tests of the store share: a machine, entries, and numbers that follow from a seed.

#![allow(dead_code, reason = "each test file uses its own part of this")]

pub(crate) mod state;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rm_raft::{Entry, EntryId, HardState, Index, MachineId, Payload, Proposal, RequestId, Term};
use rm_store::{DataDirectory, Environment, Era, Identity, Log, LogError, OpenError, Options};

/// Whatever may refuse a log, from its folder to its last entry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Lets the tests of one process take turns. Between fork and exec a child holds the locks of its parent, so a directory that
/// another test has just closed would seem to be in use.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn identity() -> Identity {
    Identity {
        domain: "test.example".into(),
        machine: "RM.01".into(),
        id: MachineId(1),
        joined: None,
        era: Era::FIRST,
    }
}

pub(crate) fn options() -> Options {
    Options {
        map_bytes: 1 << 30,
        ..Options::default()
    }
}

/// Opens the log in a data directory.
pub(crate) fn open(path: &Path, options: &Options) -> Result<(DataDirectory, Log), Refusal> {
    let directory = DataDirectory::open(path, &identity())?;
    let environment = Environment::open(&directory, "log", options)?;
    let log = Log::open(&environment)?;
    Ok((directory, log))
}

pub(crate) fn hard_state(term: u64, commit: u64) -> HardState {
    HardState {
        term: Term(term),
        vote: Some(MachineId(1)),
        commit: Index(commit),
    }
}

/// An entry whose command of `bytes` bytes follows from its index and term.
pub(crate) fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let mut numbers = Numbers(term << 32 | index);
    let command: Vec<u8> = (0..bytes).map(|_| numbers.next() as u8).collect();
    let request = RequestId {
        machine: MachineId(1),
        number: index,
    };
    Entry {
        id: EntryId {
            term: Term(term),
            index: Index(index),
        },
        payload: Payload::Command(Proposal {
            request,
            command: Bytes::from(command),
        }),
    }
}

/// Persists in one commit of its own.
pub(crate) fn persist(log: &Log, hard_state: HardState, entries: &[Entry]) -> Result<(), LogError> {
    let mut append = log.begin()?;
    append.persist(&hard_state, entries)?;
    append.commit()
}

/// Reads the whole log.
pub(crate) fn read_all(log: &Log) -> Result<Vec<Entry>, LogError> {
    let loaded = log.load()?;
    log.reader()
        .entries(loaded.first, loaded.last.index, usize::MAX)
}

/// Numbers that look random and follow from a seed (splitmix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
