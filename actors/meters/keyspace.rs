//! What the key space has done since the process began, and how long that took. What is applied again after a failure is counted once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rm_kv::{Kind, Tally};

use super::{Histogram, Meter, doubled};

/// How long a command or a range takes (etcd: from 100 us to 52 s).
static WORK_US: [u64; 20] = doubled(100);
/// How long a step of a scrub holds up all else (etcd: from 1 ms to 4 s).
static PAUSE_US: [u64; 13] = doubled(1_000);
/// How long it takes until a compaction has left nothing (etcd: from 100 ms to 819 s).
static COMPACTION_US: [u64; 14] = doubled(100_000);
/// For how long leases are granted, in seconds (etcd: up to 97 days).
static TTL_SECONDS: [u64; 24] = doubled(1);

/// What takes longer is slow (etcd: `--warning-apply-duration`).
const SLOW: Duration = Duration::from_millis(100);

/// The meters of the key space.
#[derive(Debug)]
pub struct KeyspaceMeters {
    /// The keys, with those that are deleted and not compacted yet; one of more than 500 bytes counts more than once.
    pub keys: Meter,
    /// Keys that were put, in transactions too.
    pub puts: Meter,
    /// Bytes of these keys and of the values that were given for them.
    pub put_bytes: Meter,
    /// Ranges that were read, in transactions too.
    pub ranges: Meter,
    /// Ranges that were deleted, in transactions too, and each key that hung on a lease when it ended.
    pub deletes: Meter,
    /// Transactions.
    pub txns: Meter,
    /// How long the ranges that stand alone took: those that failed, and those that did not.
    pub range_times: [Histogram; 2],
    /// How long each kind of command took: those that failed, and those that did not.
    pub command_times: Vec<(Kind, [Histogram; 2])>,
    /// Reads of which a part is done.
    pub reads_begun: Meter,
    /// The parts of reads beyond the first of each.
    pub read_slices: Meter,
    /// Reads of which a part was done when nobody waited for them any more.
    pub reads_abandoned: Meter,
    /// Reads of which a part was done when a compaction passed their revision.
    pub reads_overtaken: Meter,
    /// Commands, ranges and transactions that took longer than 100 ms, what was done between the parts of a long read included.
    pub slow: Meter,
    /// How long each step of a scrub held up all else.
    pub scrub_pauses: Histogram,
    /// Changes that scrubs have removed.
    pub scrubbed: Meter,
    /// How long it took, each time, from a compaction to the end of the scrub.
    pub compactions: Histogram,
    /// When the last of these ended, in seconds since 1970; zero while there was none.
    pub compacted_at: Meter,
    /// Leases that were granted.
    pub leases_granted: Meter,
    /// Leases that have ended, because they were revoked or because their time was over.
    pub leases_ended: Meter,
    /// For how long leases were granted.
    pub lease_ttls: Histogram,
}

impl Default for KeyspaceMeters {
    fn default() -> KeyspaceMeters {
        let both = || [const { &WORK_US }; 2].map(|bounds| Histogram::of_times(bounds));
        KeyspaceMeters {
            keys: Meter::default(),
            puts: Meter::default(),
            put_bytes: Meter::default(),
            ranges: Meter::default(),
            deletes: Meter::default(),
            txns: Meter::default(),
            range_times: both(),
            command_times: Kind::ALL.map(|kind| (kind, both())).into(),
            reads_begun: Meter::default(),
            read_slices: Meter::default(),
            reads_abandoned: Meter::default(),
            reads_overtaken: Meter::default(),
            slow: Meter::default(),
            scrub_pauses: Histogram::of_times_in_ms(&PAUSE_US),
            scrubbed: Meter::default(),
            compactions: Histogram::of_times_in_ms(&COMPACTION_US),
            compacted_at: Meter::default(),
            leases_granted: Meter::default(),
            leases_ended: Meter::default(),
            lease_ttls: Histogram::of_whole_seconds(&TTL_SECONDS),
        }
    }
}

impl KeyspaceMeters {
    pub(crate) fn count(&self, done: &Tally) {
        for (meter, more) in [
            (&self.puts, done.puts),
            (&self.put_bytes, done.put_bytes),
            (&self.ranges, done.ranges),
            (&self.deletes, done.deletes),
            (&self.txns, done.txns),
            (&self.scrubbed, done.scrubbed),
            (&self.leases_granted, done.leases_granted),
            (&self.leases_ended, done.leases_ended),
        ] {
            if more > 0 {
                meter.add(more);
            }
        }
    }

    pub(crate) fn applied(&self, kind: Kind, succeeded: bool, took: Duration) {
        // They lie in the order of their kinds.
        let (_, times) = &self.command_times[kind as usize];
        times[usize::from(succeeded)].add_time(took);
        if kind == Kind::Scrub {
            self.scrub_pauses.add_time(took);
        }
        self.note_slow(took);
    }

    pub(crate) fn granted(&self, ttl: i64) {
        self.lease_ttls.add(u64::try_from(ttl).unwrap_or_default());
    }

    pub(crate) fn read(&self, is_range: bool, succeeded: bool, took: Duration) {
        if is_range {
            self.range_times[usize::from(succeeded)].add_time(took);
        }
        self.note_slow(took);
    }

    pub(crate) fn compacted(&self, took: Duration) {
        self.compactions.add_time(took);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        self.compacted_at
            .set(usize::try_from(now).unwrap_or(usize::MAX));
    }

    fn note_slow(&self, took: Duration) {
        if took > SLOW {
            self.slow.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_takes_longer_than_the_limit_is_slow() {
        let meters = KeyspaceMeters::default();
        meters.applied(Kind::Put, true, SLOW);
        meters.read(true, true, SLOW);
        assert_eq!(meters.slow.read(), 0);
        let longer = SLOW + Duration::from_micros(1);
        meters.applied(Kind::Txn, false, longer);
        meters.read(false, true, longer);
        assert_eq!(meters.slow.read(), 2);
        let counts = |[failed, done]: &[Histogram; 2]| (failed.read().count, done.read().count);
        assert_eq!(counts(&meters.range_times), (0, 1));
        for (kind, times) in &meters.command_times {
            let expected = match kind {
                Kind::Put => (0, 1),
                Kind::Txn => (1, 0),
                _ => (0, 0),
            };
            assert_eq!(counts(times), expected, "{kind:?}");
        }
    }
}
