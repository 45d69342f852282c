//! An estimate of the pages that the open transaction has changed, which LMDB holds in memory and does not count aloud.

use heed::RoTxn;

use crate::error::KvError;
use crate::tables::Tables;

/// What was written since the last checkpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DirtyPages {
    changes: u64,
    record_bytes: usize,
}

impl DirtyPages {
    /// Notes changes, and the bytes of their records.
    pub(crate) fn wrote(&mut self, changes: u32, record_bytes: usize) {
        self.changes += u64::from(changes);
        self.record_bytes += record_bytes;
    }

    /// How many bytes the changed pages have.
    ///
    /// Records are appended, so that their pages are full. Of the index, `n` changes in random order touch
    /// `p * (1 - e^(-n/p))` of its `p` pages; nearer keys touch fewer.
    pub(crate) fn bytes(&self, tables: &Tables, txn: &RoTxn) -> usize {
        let index = |table: heed::Database<_, _>| -> Result<f64, KvError> {
            let stat = table.stat(txn)?;
            let pages = (stat.leaf_pages + stat.branch_pages).max(1) as f64;
            Ok(pages * (1.0 - (-(self.changes as f64) / pages).exp()) * f64::from(stat.page_size))
        };
        let keys =
            index(tables.index.keys).unwrap_or(0.0) + index(tables.index.branches).unwrap_or(0.0);
        self.record_bytes + keys as usize
    }
}
