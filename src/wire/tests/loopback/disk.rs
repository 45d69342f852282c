//! Snapshots for tests: where their content comes from, and a disk that takes them as fast as the test lets it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use bytes::Bytes;
use rm_raft::{EntryId, Index, MachineId, Term};
use rm_wire::{
    IncomingSnapshot, SnapshotDigest, SnapshotFault, SnapshotHeader, SnapshotSink, SnapshotSource,
    SnapshotStart,
};

use crate::harness::PATIENCE;

/// A snapshot and its content.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) header: SnapshotHeader,
    pub(crate) content: Bytes,
    /// Where reading it fails.
    pub(crate) broken_at: u64,
}

impl Snapshot {
    pub(crate) fn of(bytes: usize) -> Snapshot {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let words = (0..bytes.div_ceil(8)).flat_map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()
        });
        Snapshot {
            header: SnapshotHeader {
                term: Term(7),
                id: [5; 32],
                last: EntryId {
                    term: Term(6),
                    index: Index(1_000),
                },
                length: bytes as u64,
                configuration: Bytes::from_static(b"RM.01 RM.02 RM.03"),
                configured: Index(3),
            },
            content: words.take(bytes).collect(),
            broken_at: u64::MAX,
        }
    }
}

impl SnapshotSource for Snapshot {
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), SnapshotFault> {
        let (start, end) = (offset as usize, offset as usize + buffer.len());
        if end as u64 > self.broken_at {
            return Err("a bad sector".into());
        }
        buffer.copy_from_slice(&self.content[start..end]);
        Ok(())
    }

    fn digest(&mut self) -> Result<SnapshotDigest, SnapshotFault> {
        Ok(digest(&self.content))
    }
}

pub(crate) fn digest(content: &[u8]) -> SnapshotDigest {
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&crc32c::crc32c(content).to_be_bytes());
    digest
}

/// A sink in memory. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub(crate) struct State {
    /// What is here of each snapshot.
    pub(crate) kept: BTreeMap<[u8; 32], Vec<u8>>,
    /// Those that are here whole.
    pub(crate) durable: Vec<[u8; 32]>,
    /// What was offered.
    pub(crate) offers: Vec<(MachineId, SnapshotHeader)>,
    /// All bytes that were ever taken.
    pub(crate) taken: u64,
    /// The longest chunk.
    pub(crate) chunk_max: usize,
    /// Why nothing is wanted.
    pub(crate) refuses: Option<&'static str>,
    /// The offset at which it fails.
    pub(crate) full_at: Option<u64>,
    /// The offset at which it waits.
    pub(crate) waits_at: Option<u64>,
}

impl Disk {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no test panics with it")
    }

    /// From now on it waits at this offset, or nowhere.
    pub(crate) fn waits_at(&self, offset: Option<u64>) {
        self.state().waits_at = offset;
        self.0.changed.notify_all();
    }

    pub(crate) fn taken(&self) -> u64 {
        self.state().taken
    }
}

impl SnapshotSink for Disk {
    fn begin(
        &self,
        from: MachineId,
        header: &SnapshotHeader,
    ) -> Result<SnapshotStart, SnapshotFault> {
        let mut state = self.state();
        state.offers.push((from, header.clone()));
        if let Some(reason) = state.refuses {
            return Err(reason.into());
        }
        if state.durable.contains(&header.id) {
            return Ok(SnapshotStart::AlreadyHere);
        }
        Ok(SnapshotStart::From {
            offset: state.kept.entry(header.id).or_default().len() as u64,
            incoming: Box::new(Incoming {
                disk: self.clone(),
                id: header.id,
            }),
        })
    }
}

struct Incoming {
    disk: Disk,
    id: [u8; 32],
}

impl IncomingSnapshot for Incoming {
    fn chunk(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SnapshotFault> {
        let end = offset + bytes.len() as u64;
        let waits = |state: &mut State| state.waits_at.is_some_and(|at| end > at);
        let changed = &self.disk.0.changed;
        let waited = changed.wait_timeout_while(self.disk.state(), PATIENCE, waits);
        let (mut state, timed_out) = waited.expect("no test panics with it");
        if timed_out.timed_out() {
            return Err("nobody let it go on".into());
        }
        if state.full_at.is_some_and(|at| end > at) {
            return Err("the disk is full".into());
        }
        state.taken += bytes.len() as u64;
        state.chunk_max = state.chunk_max.max(bytes.len());
        let kept = state.kept.get_mut(&self.id).expect("it has begun");
        assert_eq!(kept.len() as u64, offset, "each chunk follows on the last");
        kept.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, expected: SnapshotDigest) -> Result<(), SnapshotFault> {
        let mut state = self.disk.state();
        if digest(&state.kept[&self.id]) != expected {
            state.kept.remove(&self.id);
            return Err("the digest differs".into());
        }
        state.durable.push(self.id);
        Ok(())
    }
}
