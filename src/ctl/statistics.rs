//! What a benchmark measured: how many requests, how fast, and how long each took.

use std::time::Duration;

use comfy_table::Table;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::output::{grid, right_align};

/// The longest latency told apart, in microseconds; a longer one counts as this.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Three significant digits: a latency is off by less than 0.1 %.
const DIGITS: u8 = 3;

/// What one thread of the load generator saw; merged at the end.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    latencies_us: Histogram<u64>,
    failed: u64,
    empty: u64,
    first_failure: Option<String>,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            latencies_us: Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS)
                .expect("the bounds are in order and the digits within 0 to 5"),
            failed: 0,
            empty: 0,
            first_failure: None,
        }
    }
}

impl Tally {
    /// Counts a request that was answered. `empty`: the answer held no key though one was asked for.
    pub(crate) fn succeeded(&mut self, latency: Duration, empty: bool) {
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latencies_us.saturating_record(latency_us.max(1));
        self.empty += u64::from(empty);
    }

    /// Counts a request that failed; the first text is kept.
    pub(crate) fn failed(&mut self, why: impl FnOnce() -> String) {
        self.failed += 1;
        self.first_failure.get_or_insert_with(why);
    }

    /// Adds what another thread saw.
    pub(crate) fn merge(&mut self, other: &Tally) {
        self.latencies_us
            .add(&other.latencies_us)
            .expect("all tallies have the same bounds");
        self.failed += other.failed;
        self.empty += other.empty;
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&other.first_failure);
        }
    }

    /// The figures for a run that took `elapsed`.
    pub(crate) fn summary(&self, elapsed: Duration) -> Summary {
        let at = |quantile| self.latencies_us.value_at_quantile(quantile);
        let requests = self.latencies_us.len();
        let seconds = elapsed.as_secs_f64();
        Summary {
            requests,
            failed: self.failed,
            empty: self.empty,
            first_failure: self.first_failure.clone(),
            seconds,
            // A run without time has no rate.
            requests_per_second: if seconds > 0.0 {
                requests as f64 / seconds
            } else {
                0.0
            },
            latency_us: Latency {
                min: if requests == 0 {
                    0
                } else {
                    self.latencies_us.min()
                },
                mean: self.latencies_us.mean(),
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p99_9: at(0.999),
                max: self.latencies_us.max(),
            },
        }
    }
}

/// The result of a benchmark, as `-o json` prints it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    /// Requests that were answered.
    pub(crate) requests: u64,
    /// Requests that were not, or with an error.
    pub(crate) failed: u64,
    /// Gets among the answered ones that found no key.
    pub(crate) empty: u64,
    /// What the first failure was.
    pub(crate) first_failure: Option<String>,
    /// How long the measured part took.
    pub(crate) seconds: f64,
    /// Answered requests a second.
    pub(crate) requests_per_second: f64,
    /// From sending to the answer, of answered requests.
    pub(crate) latency_us: Latency,
}

/// Latencies in microseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Latency {
    min: u64,
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    p99_9: u64,
    max: u64,
}

impl Summary {
    /// The figures for people.
    pub(crate) fn table(&self) -> Table {
        let mut table = grid(["measured", ""]);
        let latency = &self.latency_us;
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        row("requests", self.requests.to_string());
        row("failed", self.failed.to_string());
        if self.empty > 0 {
            row("found no key", self.empty.to_string());
        }
        row("seconds", format!("{:.2}", self.seconds));
        row("requests/s", format!("{:.0}", self.requests_per_second));
        for (name, value_us) in [
            ("min", latency.min as f64),
            ("mean", latency.mean),
            ("p50", latency.p50 as f64),
            ("p90", latency.p90 as f64),
            ("p99", latency.p99 as f64),
            ("p99.9", latency.p99_9 as f64),
            ("max", latency.max as f64),
        ] {
            row(&format!("{name} ms"), format!("{:.3}", value_us / 1000.0));
        }
        right_align(&mut table, &[1]);
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(latencies_us: impl IntoIterator<Item = u64>) -> Tally {
        let mut tally = Tally::default();
        for latency_us in latencies_us {
            tally.succeeded(Duration::from_micros(latency_us), false);
        }
        tally
    }

    #[test]
    fn percentiles_are_those_of_all_threads_together() {
        let mut all = tally(1..=500);
        all.merge(&tally(501..=1000));
        let summary = all.summary(Duration::from_secs(2));
        assert_eq!(summary.requests, 1000);
        assert_eq!(summary.requests_per_second, 500.0);
        assert_eq!(summary.latency_us.min, 1);
        assert_eq!(summary.latency_us.p50, 500);
        assert_eq!(summary.latency_us.p99, 990);
        assert_eq!(summary.latency_us.max, 1000);
    }

    #[test]
    fn failures_are_counted_apart_and_the_first_text_is_kept() {
        let mut all = tally([10]);
        let mut other = tally([]);
        other.failed(|| "first".to_owned());
        other.failed(|| "second".to_owned());
        all.merge(&other);
        let summary = all.summary(Duration::from_secs(1));
        assert_eq!((summary.requests, summary.failed), (1, 2));
        assert_eq!(summary.first_failure.as_deref(), Some("first"));
    }

    #[test]
    fn a_run_without_answers_has_figures_all_the_same() {
        let summary = Tally::default().summary(Duration::ZERO);
        assert_eq!(summary.requests_per_second, 0.0);
        assert!(summary.table().to_string().contains("p99.9 ms"));
    }

    #[test]
    fn a_latency_beyond_the_scale_counts_as_the_longest() {
        let summary = tally([u64::MAX]).summary(Duration::from_secs(1));
        assert!(summary.latency_us.max >= LATENCY_US_MAX);
    }
}
