//! How large something was each time, counted by steps: what Prometheus calls a histogram. To count is two additions that wait for nobody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A size in its smallest unit, counted by the first step that it fits.
#[derive(Debug)]
pub struct Histogram {
    /// The upper bounds of the steps, rising.
    bounds: &'static [u64],
    /// How many of the smallest units are one of those that are told.
    per_unit: u64,
    /// One more than there are bounds: the last is for what fits none.
    steps: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// What a histogram has counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Upper bounds, rising, each with how many sizes were no larger.
    pub steps: Vec<(f64, u64)>,
    /// How many there were.
    pub count: u64,
    /// All of them together.
    pub sum: f64,
}

/// Bounds of which each is twice the one before, as etcd has them.
pub(crate) const fn doubled<const COUNT: usize>(first: u64) -> [u64; COUNT] {
    let mut bounds = [first; COUNT];
    let mut step = 1;
    while step < COUNT {
        bounds[step] = bounds[step - 1] * 2;
        step += 1;
    }
    bounds
}

impl Histogram {
    /// Of whole seconds.
    pub fn of_whole_seconds(bounds: &'static [u64]) -> Histogram {
        Histogram::new(bounds, 1)
    }

    /// Of times, told in seconds; the bounds are in microseconds.
    pub fn of_times(bounds_us: &'static [u64]) -> Histogram {
        Histogram::new(bounds_us, 1_000_000)
    }

    /// Of times, told in milliseconds; the bounds are in microseconds.
    pub fn of_times_in_ms(bounds_us: &'static [u64]) -> Histogram {
        Histogram::new(bounds_us, 1_000)
    }

    fn new(bounds: &'static [u64], per_unit: u64) -> Histogram {
        Histogram {
            bounds,
            per_unit,
            steps: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a time.
    pub fn add_time(&self, took: Duration) {
        self.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts a size.
    pub(crate) fn add(&self, size: u64) {
        let step = self.bounds.partition_point(|bound| *bound < size);
        self.steps[step].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(size, Ordering::Relaxed);
    }

    /// What was counted until now.
    pub fn read(&self) -> Distribution {
        let told = |size: u64| size as f64 / self.per_unit as f64;
        let mut count = 0;
        let mut up_to = self.steps.iter().map(|step| {
            count += step.load(Ordering::Relaxed);
            count
        });
        let bounds = self.bounds.iter();
        let steps = bounds
            .zip(&mut up_to)
            .map(|(bound, count)| (told(*bound), count))
            .collect();
        let count = up_to.next().unwrap_or_default();
        Distribution {
            steps,
            count,
            sum: told(self.sum.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_counts_in_every_step_that_it_fits() {
        static BOUNDS: [u64; 3] = doubled(125);
        assert_eq!(BOUNDS, [125, 250, 500]);
        let histogram = Histogram::of_times(&BOUNDS);
        for micros in [0, 125, 126, 500, 501] {
            histogram.add_time(Duration::from_micros(micros));
        }
        let expected = Distribution {
            // A bound belongs to its step, and what fits none counts, too.
            steps: vec![(0.000_125, 2), (0.000_25, 3), (0.000_5, 4)],
            count: 5,
            sum: 0.001_252,
        };
        assert_eq!(histogram.read(), expected);
    }

    #[test]
    fn it_is_told_in_its_unit() {
        static BOUNDS: [u64; 1] = [2_000];
        let milliseconds = Histogram::of_times_in_ms(&BOUNDS);
        milliseconds.add_time(Duration::from_micros(1_500));
        assert_eq!(milliseconds.read().steps, [(2.0, 1)]);
        assert_eq!(milliseconds.read().sum, 1.5);
        let seconds = Histogram::of_whole_seconds(&BOUNDS);
        seconds.add(2_000);
        assert_eq!(seconds.read().steps, [(2_000.0, 1)]);
    }
}
