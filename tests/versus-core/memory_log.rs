//! The log that stands in for a disk: what is appended is durable at once.

use std::collections::VecDeque;
use std::ops::Range;

/// How many entries are kept. Older ones are forgotten without ceremony: no machine here lags that far behind.
const KEPT: usize = 4_096;

/// The last entries of a machine's log.
#[derive(Clone, Debug)]
pub(crate) struct MemoryLog<Entry> {
    /// The index of the first entry that is kept.
    first: u64,
    entries: VecDeque<Entry>,
}

impl<Entry: Clone> MemoryLog<Entry> {
    /// An empty log whose first entry will have this index.
    pub(crate) fn starting_at(first: u64) -> MemoryLog<Entry> {
        MemoryLog {
            first,
            entries: VecDeque::new(),
        }
    }

    /// The first index that is kept.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The index after the last.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Appends entries from the index `from`; what stood there is removed before.
    pub(crate) fn append(&mut self, from: u64, entries: impl IntoIterator<Item = Entry>) {
        assert!(from <= self.end(), "an append leaves no gap");
        self.entries.truncate((from - self.first) as usize);
        self.entries.extend(entries);
        while self.entries.len() > KEPT {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// The entry at an index, if it is kept.
    pub(crate) fn get(&self, index: u64) -> Option<&Entry> {
        self.entries.get(index.checked_sub(self.first)? as usize)
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Option<&Entry> {
        self.entries.back()
    }

    /// The entries of a range, as far as they are kept.
    pub(crate) fn range(&self, range: Range<u64>) -> impl Iterator<Item = &Entry> {
        let start = range.start.clamp(self.first, self.end());
        let end = range.end.clamp(start, self.end());
        self.entries
            .range((start - self.first) as usize..(end - self.first) as usize)
    }
}
