//! The entries that the Applier is to apply next: from memory as far as they came that way, else from the log.

use std::collections::VecDeque;

use rm_raft::{Entries, Entry, Index};
use rm_store::{LogError, LogReader};

/// The most bytes of entries that are read from the log at a time.
const READ_BYTES: usize = 1 << 20;

/// Entries in the order of the log, possibly with gaps; what is missing is read from the log.
pub(crate) struct Ahead {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// About how many bytes to keep; what comes beyond is read from the log when its turn comes.
    bytes_max: usize,
    log: LogReader,
}

impl Ahead {
    pub(crate) fn new(log: LogReader, bytes_max: usize) -> Ahead {
        Ahead {
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max,
            log,
        }
    }

    /// Keeps entries that came from memory, as far as there is room.
    pub(crate) fn keep(&mut self, entries: &Entries) {
        for entry in entries {
            if self.bytes > self.bytes_max {
                return;
            }
            self.bytes += entry.size();
            self.entries.push_back(entry.clone());
        }
    }

    /// Forgets what it keeps: another state goes on elsewhere in the log.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// The entry at `next`; of the log nothing beyond `up_to` is read. None if the log does not hold it.
    ///
    /// # Errors
    /// The log's own.
    pub(crate) fn take(&mut self, next: Index, up_to: Index) -> Result<Option<Entry>, LogError> {
        while let Some(entry) = self.entries.pop_front() {
            if entry.id.index > next {
                self.entries.push_front(entry);
                break;
            }
            self.bytes -= entry.size();
            if entry.id.index == next {
                return Ok(Some(entry));
            }
        }
        let up_to = match self.entries.front() {
            Some(entry) => entry.id.index.previous(),
            None => up_to,
        };
        let mut entries = self.log.entries(next, up_to, READ_BYTES)?.into_iter();
        let first = entries.next();
        for entry in entries.rev() {
            self.bytes += entry.size();
            self.entries.push_front(entry);
        }
        Ok(first)
    }
}
