//! Signs of life during long work, for whoever watches the thread that does it.

use std::cell::Cell;

/// How many steps there are between two signs.
const STEPS: u64 = 1_024;

/// So many bytes that are read or written are a step of their own, in bytes.
const STEP_BYTES: usize = 64 << 10;

/// How much work was done, or may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Keys and changes that were looked at.
    pub steps: u64,
    /// Bytes of keys and values that were read or written.
    pub bytes: u64,
}

impl Work {
    /// More than there is.
    pub const UNBOUNDED: Work = Work {
        steps: u64::MAX,
        bytes: u64::MAX,
    };

    /// How much more it is than what was done before.
    pub fn since(self, before: Work) -> Work {
        Work {
            steps: self.steps - before.steps,
            bytes: self.bytes - before.bytes,
        }
    }

    /// Whether it is all that may be done.
    pub fn spends(self, budget: Work) -> bool {
        self.steps >= budget.steps || self.bytes >= budget.bytes
    }
}

/// Counts the steps of the work: each key that is looked at or changed is one.
pub(crate) struct Progress {
    done: Cell<Work>,
    /// The steps, those among them that only stand for many bytes.
    signs: Cell<u64>,
    report: Box<dyn Fn() + Send>,
}

impl Progress {
    /// Calls `report` every [`STEPS`] steps.
    pub(crate) fn new(report: Box<dyn Fn() + Send>) -> Progress {
        Progress {
            done: Cell::default(),
            signs: Cell::new(0),
            report,
        }
    }

    /// Notes a key that was looked at or changed, and how many bytes were read or written for it.
    pub(crate) fn step(&self, bytes: usize) {
        let done = self.done.get();
        self.done.set(Work {
            steps: done.steps + 1,
            bytes: done.bytes + bytes as u64,
        });
        let before = self.signs.get();
        let now = before + 1 + (bytes / STEP_BYTES) as u64;
        self.signs.set(now);
        if before / STEPS != now / STEPS {
            (self.report)();
        }
    }

    /// How much was done.
    pub(crate) fn done(&self) -> Work {
        self.done.get()
    }
}

/// A part of some work that may be interrupted: it is over when its budget is spent.
pub(crate) struct Turn<'t> {
    progress: &'t Progress,
    before: Work,
    budget: Work,
}

impl<'t> Turn<'t> {
    pub(crate) fn new(progress: &'t Progress, budget: Work) -> Turn<'t> {
        Turn {
            progress,
            before: progress.done(),
            budget,
        }
    }

    /// Whether the rest must wait. A turn in which nothing was done is never over, so that each comes to something.
    pub(crate) fn is_over(&self) -> bool {
        let done = self.progress.done().since(self.before);
        done.steps > 0 && done.spends(self.budget)
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
