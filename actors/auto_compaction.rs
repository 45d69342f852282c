//! When to compact the key space without being asked, and up to which revision: etcd's rules, with the time given.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rm_config::{AutoCompaction, AutoCompactionMode};

/// The longest time between two compactions by time.
const HOUR: Duration = Duration::from_secs(60 * 60);

/// How many samples there are between two compactions by time.
const SAMPLES: u32 = 10;

/// What is to be compacted when.
#[derive(Debug)]
pub(crate) enum Schedule {
    /// By time.
    Periodic(Periodic),
    /// By the number of revisions.
    Revisions {
        /// How many before the newest stay.
        retention: i64,
        /// How often to look.
        interval: Duration,
    },
}

/// Compactions by time: what was the newest revision a retention ago, every retention, but at least every hour.
#[derive(Debug)]
pub(crate) struct Periodic {
    retention: Duration,
    /// When the revision was sampled, and what it was; oldest first. The first alone may be older than the retention.
    samples: VecDeque<(Instant, i64)>,
    /// When it was compacted last.
    compacted_at: Option<Instant>,
}

impl Schedule {
    /// What the config wants; none if nothing.
    pub(crate) fn new(config: &AutoCompaction) -> Option<Schedule> {
        match config.mode {
            AutoCompactionMode::Off => None,
            AutoCompactionMode::Periodic => Some(Schedule::Periodic(Periodic {
                retention: Duration::from_secs(config.retention_seconds?),
                samples: VecDeque::new(),
                compacted_at: None,
            })),
            AutoCompactionMode::Revisions => Some(Schedule::Revisions {
                retention: i64::try_from(config.retention_revisions?).ok()?,
                interval: Duration::from_secs(config.interval_seconds),
            }),
        }
    }

    /// How often to call [`Schedule::look`].
    pub(crate) fn interval(&self) -> Duration {
        match self {
            Schedule::Periodic(periodic) => periodic.interval() / SAMPLES,
            Schedule::Revisions { interval, .. } => *interval,
        }
    }

    /// Takes note of the newest revision; which one to compact now, if one is due.
    pub(crate) fn look(&mut self, now: Instant, newest: i64) -> Option<i64> {
        match self {
            Schedule::Periodic(periodic) => periodic.look(now, newest),
            Schedule::Revisions { retention, .. } => Some(newest - *retention),
        }
    }

    /// What was due is compacted.
    pub(crate) fn done(&mut self, now: Instant) {
        if let Schedule::Periodic(periodic) = self {
            periodic.compacted_at = Some(now);
        }
    }
}

impl Periodic {
    /// The time between two compactions.
    fn interval(&self) -> Duration {
        self.retention.min(HOUR)
    }

    fn look(&mut self, now: Instant, newest: i64) -> Option<i64> {
        self.samples.push_back((now, newest));
        let is_old = |sample: &(Instant, i64)| now.duration_since(sample.0) >= self.retention;
        while self.samples.get(1).is_some_and(is_old) {
            self.samples.pop_front();
        }
        let is_due = |at| now.duration_since(at) >= self.interval();
        let oldest = self.samples.front().filter(|sample| is_old(sample))?;
        self.compacted_at.is_none_or(is_due).then_some(oldest.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn periodic(retention: Duration) -> Schedule {
        let config = AutoCompaction {
            mode: AutoCompactionMode::Periodic,
            retention_seconds: Some(retention.as_secs()),
            ..AutoCompaction::default()
        };
        Schedule::new(&config).expect("the config wants it")
    }

    /// Looks as often as the schedule says for so long, with a new revision every minute; the minutes at which it compacted, and what.
    fn compactions(schedule: &mut Schedule, span: Duration) -> Vec<(u64, i64)> {
        let began = Instant::now();
        let mut compactions = Vec::new();
        let mut passed = Duration::ZERO;
        while passed <= span {
            let minute = passed.as_secs() / 60;
            if let Some(revision) = schedule.look(began + passed, minute as i64) {
                schedule.done(began + passed);
                compactions.push((minute, revision));
            }
            passed += schedule.interval();
        }
        compactions
    }

    #[test]
    fn within_an_hour_what_is_older_than_the_retention_goes_once_a_retention() {
        let mut schedule = periodic(30 * MINUTE);
        assert_eq!(schedule.interval(), 3 * MINUTE);
        let expected = [(30, 0), (60, 30), (90, 60), (120, 90)];
        assert_eq!(compactions(&mut schedule, 120 * MINUTE), expected);
    }

    #[test]
    fn of_a_longer_retention_a_part_goes_every_hour_once_it_is_over() {
        let mut schedule = periodic(3 * HOUR);
        assert_eq!(schedule.interval(), 6 * MINUTE);
        let expected = [(180, 0), (240, 60), (300, 120)];
        assert_eq!(compactions(&mut schedule, 5 * HOUR), expected);
    }

    #[test]
    fn what_could_not_be_compacted_is_due_until_it_is() {
        let mut schedule = periodic(10 * MINUTE);
        let began = Instant::now();
        for minute in 0..10 {
            assert_eq!(schedule.look(began + minute * MINUTE, 5), None);
        }
        assert_eq!(schedule.look(began + 10 * MINUTE, 6), Some(5));
        assert_eq!(schedule.look(began + 11 * MINUTE, 6), Some(5));
        schedule.done(began + 11 * MINUTE);
        assert_eq!(schedule.look(began + 20 * MINUTE, 7), None);
        assert_eq!(schedule.look(began + 21 * MINUTE, 8), Some(6));
    }

    #[test]
    fn by_their_number_all_but_the_newest_revisions_go() {
        let config = AutoCompaction {
            mode: AutoCompactionMode::Revisions,
            retention_revisions: Some(1_000),
            ..AutoCompaction::default()
        };
        let mut schedule = Schedule::new(&config).expect("the config wants it");
        assert_eq!(schedule.interval(), 5 * MINUTE);
        let now = Instant::now();
        assert_eq!(schedule.look(now, 1_500), Some(500));
        assert_eq!(
            schedule.look(now, 10),
            Some(-990),
            "there is no such revision"
        );
        assert!(Schedule::new(&AutoCompaction::default()).is_none());
    }
}
