//! Reads entries back, on any thread, while the log is appended to.

use std::ops::Bound;

use rm_raft::{Entry, Index};

use crate::{Environment, LogError, codec, tables::Tables};

/// Reads the log. Each call sees all that was durable when it began.
#[derive(Clone, Debug)]
pub struct LogReader {
    environment: Environment,
    tables: Tables,
}

impl LogReader {
    pub(crate) fn new(environment: Environment, tables: Tables) -> LogReader {
        LogReader {
            environment,
            tables,
        }
    }

    /// The entries from `from` to `up_to`, both included, as far as the log has them; at most `bytes_max` bytes
    /// ([`Entry::size`]), but always the first.
    ///
    /// # Errors
    /// [`LogError::Compacted`] when only the state holds the first of them; [`LogError::Damaged`] at an entry that is not what
    /// was written, or is missing between others.
    pub fn entries(
        &self,
        from: Index,
        up_to: Index,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, LogError> {
        let mut entries = Vec::new();
        if from > up_to {
            return Ok(entries);
        }
        let txn = self.environment.env().read_txn()?;
        let base = self.tables.base(&txn)?.entry;
        if base.index > Index(0) && from <= base.index {
            return Err(LogError::Compacted { index: from, base });
        }
        let (lowest, highest) = (codec::key(from), codec::key(up_to));
        let range = (Bound::Included(&lowest[..]), Bound::Included(&highest[..]));
        let mut expected = from;
        let mut bytes = 0_usize;
        for item in self.tables.log.range(&txn, &range)? {
            let (key, value) = item?;
            if codec::index(key)? != expected {
                return Err(LogError::Damaged {
                    index: expected,
                    reason: "it is missing",
                });
            }
            let entry = codec::decode(expected, value)?;
            bytes = bytes.saturating_add(entry.size());
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry);
            expected = expected.next();
        }
        Ok(entries)
    }
}
