//! What a key space has done, for whoever monitors the machine. It is no part of the state: machines may differ in it.

use std::ops::AddAssign;

/// How much of what was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Keys that were put, in transactions too.
    pub puts: u64,
    /// Bytes of these keys and of the values that were given for them.
    pub put_bytes: u64,
    /// Ranges that were read, in transactions too: those of a transaction that writes only where its answer was asked for.
    pub ranges: u64,
    /// Ranges that were deleted, in transactions too, and each key that hung on a lease when it ended.
    pub deletes: u64,
    /// Transactions that were carried out, those that only read among them. One in another is none of its own.
    pub txns: u64,
    /// Changes that a scrub removed.
    pub scrubbed: u64,
    /// Leases that were granted.
    pub leases_granted: u64,
    /// Leases that have ended, because they were revoked or because their time was over.
    pub leases_ended: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Tally) {
        self.puts += more.puts;
        self.put_bytes += more.put_bytes;
        self.ranges += more.ranges;
        self.deletes += more.deletes;
        self.txns += more.txns;
        self.scrubbed += more.scrubbed;
        self.leases_granted += more.leases_granted;
        self.leases_ended += more.leases_ended;
    }
}
