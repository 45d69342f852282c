//! What waits for clients' streams of watchers, over all of them: the more it is, the less may wait for one.
//!
//! A stream whose client takes nothing must not keep events from the others, nor many such streams together. So each has at most a part of
//! what is free, which leaves some for whoever comes next, and a little in any case: it is told one thing after the other then, and never
//! nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One stream has at most one of so many parts of what is free.
const PARTS: usize = 16;

/// So much may wait for each, however little is free, in bytes. One thing more than that finds room where less waits.
const LEAST_BYTES: usize = 16 << 10;

/// The memory for what waits for streams.
#[derive(Debug)]
pub(crate) struct Backlog {
    bytes_max: usize,
    bytes: AtomicUsize,
}

impl Backlog {
    /// With room for so many bytes (`watch.queues_bytes_max`), beyond which each stream has next to nothing.
    pub(crate) fn new(bytes_max: usize) -> Arc<Backlog> {
        Arc::new(Backlog {
            bytes_max,
            bytes: AtomicUsize::new(0),
        })
    }

    /// How many bytes wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How many bytes may wait for one stream.
    pub(crate) fn share_bytes(&self) -> usize {
        let free = self.bytes_max.saturating_sub(self.bytes());
        (free / PARTS).max(LEAST_BYTES)
    }

    /// About how much late watchers may be told in one turn, before it is looked again how much may wait for a stream.
    pub(crate) fn turn_bytes(&self) -> usize {
        let free = self.bytes_max.saturating_sub(self.bytes());
        (free / 2).max(PARTS / 2 * LEAST_BYTES)
    }

    /// So many bytes wait, until what is returned is dropped.
    pub(crate) fn count(self: &Arc<Backlog>, bytes: usize) -> Counted {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Counted {
            backlog: self.clone(),
            bytes,
        }
    }
}

/// Some of what waits for clients' streams. Dropped, it waits no longer.
#[derive(Debug)]
pub struct Counted {
    backlog: Arc<Backlog>,
    bytes: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.backlog.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn the_more_waits_the_less_may_wait_for_one_and_never_nothing() {
        let backlog = Backlog::new(64 * MIB);
        assert_eq!(backlog.share_bytes(), 4 * MIB);
        let half = backlog.count(32 * MIB);
        assert_eq!(backlog.share_bytes(), 2 * MIB);
        let too_much = backlog.count(33 * MIB);
        assert_eq!(backlog.share_bytes(), LEAST_BYTES);
        drop(half);
        assert_eq!(
            (backlog.bytes(), backlog.share_bytes()),
            (33 * MIB, 31 * MIB / 16)
        );
        drop(too_much);
        assert_eq!(backlog.bytes(), 0);
    }
}
