//! The clock of leases. It counts the time in which this actor was at work, so that nothing grows older while nobody could renew it.

use std::time::{Duration, Instant};

/// The most that is counted between two looks at the clock: a few ticks, and well below the shortest lease. A longer gap is a pause of
/// the process, of the host, or of the clock: holders may have asked for their leases all the while and were not heard.
pub(super) const SPAN_MAX: Duration = Duration::from_millis(300);

/// Counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseClock {
    looked: Instant,
    passed: Duration,
}

impl LeaseClock {
    /// Begins at zero.
    pub(crate) fn new(now: Instant) -> LeaseClock {
        LeaseClock {
            looked: now,
            passed: Duration::ZERO,
        }
    }

    /// How much time has passed, in milliseconds. Never less than before.
    pub(crate) fn look(&mut self, now: Instant) -> u64 {
        let span = now.saturating_duration_since(self.looked);
        self.passed += span.min(SPAN_MAX);
        self.looked = now;
        u64::try_from(self.passed.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_between_looks_counts_but_for_pauses() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut clock = LeaseClock::new(began);
        assert_eq!(clock.look(at(100)), 100);
        assert_eq!(clock.look(at(400)), 400);
        assert_eq!(clock.look(at(1_000_000)), 700, "it was paused");
        assert_eq!(clock.look(at(1_000_200)), 900);
        assert_eq!(clock.look(at(900_000)), 900, "it never goes back");
        assert_eq!(clock.look(at(900_200)), 1_100);
    }
}
