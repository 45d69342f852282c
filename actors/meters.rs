//! What the actors count for whoever monitors the machine. Each count is one addition that waits for nobody, and so is each look at
//! one: a monitor holds up nothing. The counts begin with the process and outlive the actors.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::port::Port;

/// The upper bounds of the steps of a distribution, in microseconds: etcd's, each twice the one before, and three below its first
/// millisecond, where the commits of a good disk lie.
const STEPS_US: [u64; 17] = [
    125, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000,
    1_024_000, 2_048_000, 4_096_000, 8_192_000,
];

/// A number that only goes up, or one that is set anew.
#[derive(Debug, Default)]
pub(crate) struct Meter(AtomicU64);

impl Meter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, now: usize) {
        self.0.store(now as u64, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long something took, each time.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    /// By the first step that it fits; the last is for what fits none.
    steps: [AtomicU64; STEPS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Durations {
    pub(crate) fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let step = STEPS_US.partition_point(|bound| *bound < micros);
        self.steps[step].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
    }

    fn read(&self) -> Distribution {
        let mut count = 0;
        let mut up_to = self.steps.iter().map(|step| {
            count += step.load(Ordering::Relaxed);
            count
        });
        let steps = STEPS_US.iter().zip(&mut up_to);
        let steps = steps
            .map(|(bound, count)| (Duration::from_micros(*bound), count))
            .collect();
        let count = up_to.next().unwrap_or_default();
        Distribution {
            steps,
            count,
            sum: Duration::from_micros(self.sum_us.load(Ordering::Relaxed)),
        }
    }
}

/// The meters of one machine.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    pub(crate) log_commits: Durations,
    pub(crate) checkpoints: Durations,
    pub(crate) leader_changes: Meter,
    pub(crate) writes_pending: Meter,
    pub(crate) writes_failed: Meter,
    pub(crate) reads_failed: Meter,
    pub(crate) keys: Meter,
    pub(crate) streams: Meter,
    pub(crate) watchers: Meter,
    pub(crate) watchers_late: Meter,
    pub(crate) events: Meter,
    pub(crate) leases: Meter,
    pub(crate) leases_expired: Meter,
}

/// How long something took, over all times since the process began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Upper bounds, rising, each with how many times it took no longer.
    pub steps: Vec<(Duration, u64)>,
    /// How many times there were.
    pub count: u64,
    /// How long all of them took.
    pub sum: Duration,
}

/// What a machine has counted since its process began, and how much of some things there is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readings {
    /// The durable commits of the log, flushes included.
    pub log_commits: Distribution,
    /// The durable commits of the state, flushes included.
    pub checkpoints: Distribution,
    /// How often another leader was learnt of.
    pub leader_changes: u64,
    /// The writes of clients that wait for their answer.
    pub writes_pending: u64,
    /// Writes of clients that were not carried out, or whose outcome is unknown, by no fault of their own.
    pub writes_failed: u64,
    /// Linearizable reads that were not answered, by no fault of their own.
    pub reads_failed: u64,
    /// The keys of the key space, with those that are deleted and not compacted yet; one of more than 500 bytes counts more than once.
    pub keys: u64,
    /// The revision up to which the key space is compacted.
    pub compacted: i64,
    /// The revision up to which nothing is left of what was compacted.
    pub scrubbed: i64,
    /// The clients' streams of watchers.
    pub streams: u64,
    /// Their watchers.
    pub watchers: u64,
    /// Those of them that have yet to be told what happened.
    pub watchers_late: u64,
    /// The events that clients were told.
    pub events: u64,
    /// The leases whose time this machine counts: all of them if it leads, else none.
    pub leases: u64,
    /// The leases that it had ended because their time was over.
    pub leases_expired: u64,
}

impl Port {
    /// What the machine has counted.
    pub fn readings(&self) -> Readings {
        let board = &self.shared.board;
        let meters = &board.meters;
        let compaction = *board.compaction().borrow();
        Readings {
            log_commits: meters.log_commits.read(),
            checkpoints: meters.checkpoints.read(),
            leader_changes: meters.leader_changes.read(),
            writes_pending: meters.writes_pending.read(),
            writes_failed: meters.writes_failed.read(),
            reads_failed: meters.reads_failed.read(),
            keys: meters.keys.read(),
            compacted: compaction.revision,
            scrubbed: compaction.scrubbed,
            streams: meters.streams.read(),
            watchers: meters.watchers.read(),
            watchers_late: meters.watchers_late.read(),
            events: meters.events.read(),
            leases: meters.leases.read(),
            leases_expired: meters.leases_expired.read(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_every_step_that_it_fits() {
        let durations = Durations::default();
        for micros in [0, 125, 126, 8_192_000, 8_192_001] {
            durations.add(Duration::from_micros(micros));
        }
        let read = durations.read();
        let up_to = |bound_us: u64| {
            let bound = Duration::from_micros(bound_us);
            let step = read.steps.iter().find(|(each, _)| *each == bound);
            step.map(|(_, count)| *count)
        };
        assert_eq!(up_to(125), Some(2), "a bound belongs to its step");
        assert_eq!(up_to(250), Some(3));
        assert_eq!(up_to(4_096_000), Some(3));
        assert_eq!(up_to(8_192_000), Some(4));
        assert_eq!(read.count, 5, "what fits no step counts, too");
        assert_eq!(read.sum, Duration::from_micros(16_384_252));
    }
}
