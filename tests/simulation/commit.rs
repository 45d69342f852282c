//! One durable commit as a disk sees it: data, a flush, the page that makes the data count, a flush.
//!
//! Until its flush a write may be lost, torn, or reach the disk before an earlier one. So a crash keeps any of the unflushed
//! writes; the commit has happened if its last page is whole, and then all that it names must be there. Whichever way it did not
//! happen, the one before counts.

use super::random::Random;

/// A commit that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Commit {
    /// How many pages of data it writes.
    pages: u64,
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
    /// A commit of so many pages that takes so long.
    pub(crate) fn new(pages: usize, now: u64, micros: u64) -> Commit {
        Commit {
            pages: pages as u64,
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

    /// What is left of it after a crash.
    pub(crate) fn crash(self, now: u64, random: &mut Random) -> Fate {
        let data_flushed = self.flushed_at <= now;
        // Not flushed: each page is on the disk or not, whatever the order in which they were written.
        let data_kept = data_flushed || (0..self.pages).all(|_| random.chance(500));
        // The page that makes it count is written once the data is flushed, and not before.
        let counts = data_flushed && random.chance(600);
        let whole = random.chance(700);
        match (counts, whole) {
            (false, _) => Fate::Lost,
            (true, false) => Fate::Torn,
            (true, true) => {
                assert!(data_kept, "a page counts whose data is lost");
                Fate::Kept
            }
        }
    }
}
