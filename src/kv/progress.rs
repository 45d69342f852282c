//! Signs of life during long work, for whoever watches the thread that does it.

use std::cell::Cell;

/// How many steps there are between two signs.
const STEPS: u64 = 1_024;

/// So many bytes that are read or written are a step of their own, in bytes.
const STEP_BYTES: usize = 64 << 10;

/// Counts the steps of the work: each key that is looked at or changed is one.
pub(crate) struct Progress {
    steps: Cell<u64>,
    report: Box<dyn Fn() + Send>,
}

impl Progress {
    /// Calls `report` every [`STEPS`] steps.
    pub(crate) fn new(report: Box<dyn Fn() + Send>) -> Progress {
        Progress {
            steps: Cell::new(0),
            report,
        }
    }

    /// Notes a key that was looked at or changed, and how many bytes were read or written for it.
    pub(crate) fn step(&self, bytes: usize) {
        let before = self.steps.get();
        let now = before + 1 + (bytes / STEP_BYTES) as u64;
        self.steps.set(now);
        if before / STEPS != now / STEPS {
            (self.report)();
        }
    }

    /// How many steps there were.
    #[cfg(test)]
    pub(crate) fn steps(&self) -> u64 {
        self.steps.get()
    }
}

impl Default for Progress {
    fn default() -> Progress {
        Progress::new(Box::new(|| {}))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn many_small_steps_and_few_large_ones_are_told_alike() {
        let told = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&told);
        let progress = Progress::new(Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        for _ in 0..3 * STEPS {
            progress.step(100);
        }
        assert_eq!(told.load(Ordering::Relaxed), 3);
        for _ in 0..4 {
            progress.step(STEP_BYTES * STEPS as usize);
        }
        assert_eq!(told.load(Ordering::Relaxed), 7);
    }
}
