//! An estimate of the pages that the open transaction has changed, which LMDB holds in memory and does not count aloud.

use heed::RoTxn;

use crate::error::KvError;
use crate::tables::Tables;

/// What was written since the last checkpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DirtyPages {
    /// Entries of the index that were written or removed.
    entries: u64,
    /// Records that were removed.
    removed: u64,
    /// Bytes of records that were appended.
    record_bytes: usize,
}

impl DirtyPages {
    /// Notes changes, and the bytes of their records.
    pub(crate) fn wrote(&mut self, changes: u32, record_bytes: usize) {
        self.entries += u64::from(changes);
        self.record_bytes += record_bytes;
    }

    /// Notes changes that were removed, and keys that left the index.
    pub(crate) fn removed(&mut self, changes: u32, keys: u32) {
        self.removed += u64::from(changes);
        self.entries += u64::from(keys);
    }

    /// How many bytes the changed pages have.
    ///
    /// Records are appended, so that their pages are full. Of a table with `p` pages, `n` writes or removals in random order touch
    /// `p * (1 - e^(-n/p))`; nearer ones touch fewer.
    pub(crate) fn bytes(&self, tables: &Tables, txn: &RoTxn) -> usize {
        let touched = |table: heed::Database<_, _>, count: u64| -> Result<f64, KvError> {
            let stat = table.stat(txn)?;
            let pages = (stat.leaf_pages + stat.branch_pages).max(1) as f64;
            Ok(pages * (1.0 - (-(count as f64) / pages).exp()) * f64::from(stat.page_size))
        };
        let pages = touched(tables.index.keys, self.entries).unwrap_or(0.0)
            + touched(tables.index.branches, self.entries).unwrap_or(0.0)
            + touched(tables.revisions.table, self.removed).unwrap_or(0.0);
        self.record_bytes + pages as usize
    }
}
