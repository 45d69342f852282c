//! How much comes from one peer.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what comes from one peer, on all of its connections.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    bytes: AtomicU64,
    broken: AtomicU64,
}

/// What came from one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeardCounts {
    /// The bytes of messages and of snapshots.
    pub bytes: u64,
    /// Connections that were closed for what came on them.
    pub broken: u64,
}

impl Heard {
    pub(crate) fn bytes(&self, more: usize) {
        self.bytes.fetch_add(more as u64, Ordering::Relaxed);
    }

    pub(crate) fn broken(&self) {
        self.broken.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> HeardCounts {
        HeardCounts {
            bytes: self.bytes.load(Ordering::Relaxed),
            broken: self.broken.load(Ordering::Relaxed),
        }
    }
}
