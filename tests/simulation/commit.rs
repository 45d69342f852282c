//! One durable commit as a disk sees it: data, a flush, the page that makes the data count, a flush.
//!
//! Until its flush a write may be lost, torn, or reach the disk before an earlier one. So the page that makes the data count is
//! written only after the data is flushed: before that a crash loses the commit, whatever of its data is on the disk, and after
//! that the commit has happened if its last page is whole. Whichever way it did not happen, the one before counts.

use super::random::Random;

/// A commit that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Commit {
    /// When the data is flushed, and the last page is on its way.
    flushed_at: u64,
    /// When all is done.
    pub(crate) done_at: u64,
}

/// What a crash made of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing of it counts.
    Lost,
    /// Its last page was torn, so that the one before counts.
    Torn,
    /// All of it counts, though nobody was told.
    Kept,
}

impl Commit {
    /// A commit that takes so long.
    pub(crate) fn new(now: u64, micros: u64) -> Commit {
        Commit {
            flushed_at: now + micros / 2,
            done_at: now + micros,
        }
    }

    /// The disk did nothing until now; what is left takes so long.
    pub(crate) fn resume(&mut self, now: u64, micros: u64) {
        if self.flushed_at > now {
            self.flushed_at = now + micros / 2;
        }
        self.done_at = now + micros;
    }

    /// What is left of it after a crash: the page that makes it count is written once the data is flushed, and not before.
    pub(crate) fn crash(self, now: u64, random: &mut Random) -> Fate {
        let counts = self.flushed_at <= now && random.chance(600);
        match (counts, random.chance(700)) {
            (false, _) => Fate::Lost,
            (true, false) => Fate::Torn,
            (true, true) => Fate::Kept,
        }
    }
}
