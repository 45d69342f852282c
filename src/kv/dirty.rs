//! An estimate of the pages that the open transaction has changed, which LMDB holds in memory and does not count aloud.

use std::ops::AddAssign;

use heed::RoTxn;

use crate::error::KvError;
use crate::lease::Leases;
use crate::tables::Tables;

/// What was written: since the last checkpoint, or by one request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    /// Changes that were made: a record and an entry of the index each.
    pub(crate) changes: u64,
    /// Bytes of their records.
    pub(crate) record_bytes: usize,
    /// Changes that were removed.
    pub(crate) removed: u64,
    /// Keys that left the index.
    pub(crate) forgotten: u64,
    /// Leases that were written or removed.
    pub(crate) leases: u64,
    /// Keys that came to hang on a lease, or do no more.
    pub(crate) attached: u64,
}

impl AddAssign for Written {
    fn add_assign(&mut self, other: Written) {
        self.changes += other.changes;
        self.record_bytes += other.record_bytes;
        self.removed += other.removed;
        self.forgotten += other.forgotten;
        self.leases += other.leases;
        self.attached += other.attached;
    }
}

impl Written {
    /// How many bytes the changed pages have.
    ///
    /// Records are appended, so that their pages are full. Of a table with `p` pages, `n` writes or removals in random order touch
    /// `p * (1 - e^(-n/p))`; nearer ones touch fewer.
    pub(crate) fn dirty_bytes(&self, tables: &Tables, leases: &Leases, txn: &RoTxn) -> usize {
        let touched = |table: heed::Database<_, _>, count: u64| -> Result<f64, KvError> {
            let stat = table.stat(txn)?;
            let pages = (stat.leaf_pages + stat.branch_pages).max(1) as f64;
            Ok(pages * (1.0 - (-(count as f64) / pages).exp()) * f64::from(stat.page_size))
        };
        let entries = self.changes + self.forgotten;
        let pages: f64 = [
            (tables.index.keys, entries),
            (tables.index.branches, entries),
            (tables.revisions.table, self.removed),
            (leases.leases, self.leases),
            (leases.attached, self.attached),
        ]
        .map(|(table, count)| touched(table, count).unwrap_or(0.0))
        .iter()
        .sum();
        self.record_bytes + pages as usize
    }
}
