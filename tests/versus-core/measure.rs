//! One turn of one core: a fresh cluster, a warm-up, and a stretch of time that counts.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::allocations;
use crate::work::Cluster;

/// About how many proposals pass between two looks at the clock.
const PROPOSALS_A_LOOK: usize = 2048;

/// What a turn showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    proposals: u64,
    elapsed: Duration,
    processor_time: Duration,
    allocations: u64,
}

impl Round {
    /// Proposals a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.proposals as f64 / self.elapsed.as_secs_f64()
    }

    /// Nanoseconds of processor time for each proposal.
    pub(crate) fn processor_ns(&self) -> f64 {
        self.processor_time.as_nanos() as f64 / self.proposals as f64
    }

    /// Allocations for each proposal.
    pub(crate) fn allocations(&self) -> f64 {
        self.allocations as f64 / self.proposals as f64
    }
}

/// Runs a fresh cluster for a fifth of `turn` that does not count, and for `turn`.
pub(crate) fn measure<C: Cluster>(batch: usize, turn: Duration) -> Round {
    let mut cluster = C::start();
    run_for(&mut cluster, batch, turn / 5);
    let round = run_for(&mut cluster, batch, turn);
    let applied = cluster.applied();
    assert!(
        applied.iter().all(|machine| *machine == applied[0])
            && applied[0].commands >= round.proposals,
        "all machines of {} have applied the same: {applied:?}",
        C::NAME
    );
    round
}

fn run_for<C: Cluster>(cluster: &mut C, batch: usize, turn: Duration) -> Round {
    let batches = (PROPOSALS_A_LOOK / batch).max(1);
    let allocations = allocations::count();
    let processor_time = processor_time();
    let began = Instant::now();
    let mut proposals = 0;
    while began.elapsed() < turn {
        cluster.run(batch, batches);
        proposals += (batch * batches) as u64;
    }
    Round {
        proposals,
        elapsed: began.elapsed(),
        processor_time: self::processor_time() - processor_time,
        allocations: allocations::count() - allocations,
    }
}

/// What this process has used of its processors: less disturbed by others on the host than the time that went by.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
