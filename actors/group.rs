//! One group of the supervision tree: who is restarted with whom, after what pause, and when it is too often.
//!
//! The vocabulary is Erlang/OTP's: a strategy, and an intensity, which is the most failures within a window.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rm_config::{Restarts, Strategy};

use crate::{ActorName, GroupName};

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A restart is planned.
    Restart,
    /// The group has failed too often.
    GiveUp,
}

/// The state of one group.
pub(crate) struct Group {
    actors: Vec<ActorName>,
    restarts: Restarts,
    /// When the failures within the window were, oldest first; never more than the intensity and one.
    failures: VecDeque<Instant>,
    planned: Option<Planned>,
    /// Those that are being stopped, to be started anew: that one of them fails on the way changes nothing.
    leaving: Vec<ActorName>,
    jitter: u64,
}

/// A restart that is to come.
struct Planned {
    due: Instant,
    set: Vec<ActorName>,
}

impl Group {
    pub(crate) fn new(name: GroupName, restarts: Restarts) -> Group {
        Group {
            actors: name.actors(),
            restarts,
            failures: VecDeque::new(),
            planned: None,
            leaving: Vec::new(),
            jitter: 0,
        }
    }

    pub(crate) fn restarts(&self) -> &Restarts {
        &self.restarts
    }

    /// Takes note of a failure and plans the restart. Failures that come before the planned restart join it; one of an
    /// actor that is being stopped for its restart neither counts nor plans another.
    pub(crate) fn fail(&mut self, actor: ActorName, now: Instant) -> Verdict {
        if self.leaving.contains(&actor) {
            return Verdict::Restart;
        }
        let window = Duration::from_millis(self.restarts.window_ms);
        while self
            .failures
            .front()
            .is_some_and(|at| now.duration_since(*at) > window)
        {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        if self.failures.len() > self.restarts.intensity as usize {
            return Verdict::GiveUp;
        }
        let due = now + self.pause();
        let joins = self.restarted_with(actor);
        let planned = self.planned.get_or_insert(Planned {
            due,
            set: Vec::new(),
        });
        planned.set.extend(joins);
        planned.set.sort();
        planned.set.dedup();
        Verdict::Restart
    }

    /// When the planned restart is due, if there is one.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.planned.as_ref().map(|planned| planned.due)
    }

    /// The actors to restart now, in the order in which to start them. All are to be stopped first, and then
    /// [`Group::all_have_stopped`] is to be called.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Vec<ActorName>> {
        if self.due()? > now {
            return None;
        }
        let set = self.planned.take()?.set;
        self.leaving.clone_from(&set);
        Some(set)
    }

    /// Those that were due have stopped: from now on a failure is one of their next lives.
    pub(crate) fn all_have_stopped(&mut self) {
        self.leaving.clear();
    }

    fn restarted_with(&self, actor: ActorName) -> Vec<ActorName> {
        let actors = self.actors.iter().copied();
        match self.restarts.strategy {
            Strategy::OneForOne => vec![actor],
            Strategy::RestForOne => actors.skip_while(|each| *each != actor).collect(),
            Strategy::OneForAll => actors.collect(),
        }
    }

    /// None for the first failure within the window, then the shortest pause, doubled with each further one, with up
    /// to a quarter taken off at random so that machines that fail together do not restart in step.
    fn pause(&mut self) -> Duration {
        let doublings = match self.failures.len() {
            0 | 1 => return Duration::ZERO,
            n => (n - 2).min(32) as u32,
        };
        let longest = self.restarts.backoff_max_ms * 1_000;
        let pause_us = (self.restarts.backoff_min_ms * 1_000)
            .saturating_mul(1 << doublings)
            .min(longest);
        self.jitter = self
            .jitter
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(std::process::id() as u64 * 2 + 1);
        let off = (pause_us / 4).saturating_mul(self.jitter >> 56) / 256;
        Duration::from_micros(pause_us - off)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(strategy: Strategy, intensity: u32) -> Group {
        let restarts = Restarts {
            strategy,
            intensity,
            window_ms: 1_000,
            backoff_min_ms: 8,
            backoff_max_ms: 20,
        };
        Group::new(GroupName::Brain, restarts)
    }

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn each_strategy_restarts_its_set_in_starting_order() {
        use ActorName::{Applier, LogicCenter, Storage, Timer};
        let now = Instant::now();
        for (strategy, set) in [
            (Strategy::OneForOne, vec![LogicCenter]),
            (Strategy::RestForOne, vec![LogicCenter, Timer]),
            (
                Strategy::OneForAll,
                vec![Storage, Applier, LogicCenter, Timer],
            ),
        ] {
            let mut group = group(strategy, 3);
            assert_eq!(group.fail(LogicCenter, now), Verdict::Restart);
            assert_eq!(group.take_due(now), Some(set), "{strategy:?}");
            assert_eq!(group.take_due(now), None);
        }
    }

    #[test]
    fn a_failure_on_the_way_to_a_restart_neither_counts_nor_plans_another() {
        let now = Instant::now();
        let mut group = group(Strategy::RestForOne, 1);
        group.fail(ActorName::LogicCenter, now);
        group.take_due(now).expect("due");
        assert_eq!(group.fail(ActorName::Timer, now), Verdict::Restart);
        assert_eq!(group.due(), None, "it is about to be started anyway");
        group.all_have_stopped();
        assert_eq!(group.fail(ActorName::Timer, now), Verdict::GiveUp);
    }

    #[test]
    fn a_failure_of_who_stays_while_others_are_stopped_counts() {
        let now = Instant::now();
        let mut group = group(Strategy::RestForOne, 2);
        group.fail(ActorName::LogicCenter, now);
        group.take_due(now).expect("due");
        assert_eq!(group.fail(ActorName::Applier, now), Verdict::Restart);
        assert!(group.due().is_some(), "it was not to be stopped");
    }

    #[test]
    fn a_failure_before_the_planned_restart_joins_it() {
        let now = Instant::now();
        let mut group = group(Strategy::RestForOne, 9);
        group.fail(ActorName::Timer, now);
        group.fail(ActorName::Applier, now);
        let set = group.take_due(now).expect("due");
        assert_eq!(
            set,
            [ActorName::Applier, ActorName::LogicCenter, ActorName::Timer]
        );
    }

    #[test]
    fn the_pause_doubles_up_to_its_longest() {
        let start = Instant::now();
        let mut group = group(Strategy::OneForOne, 9);
        let mut pauses = Vec::new();
        for _ in 0..4 {
            group.fail(ActorName::Timer, start);
            pauses.push(
                group
                    .due()
                    .expect("planned")
                    .duration_since(start)
                    .as_millis(),
            );
            group.planned = None;
        }
        assert_eq!(pauses[0], 0);
        assert!((6..=8).contains(&pauses[1]), "{pauses:?}");
        assert!((12..=16).contains(&pauses[2]), "{pauses:?}");
        assert!((15..=20).contains(&pauses[3]), "{pauses:?}");
    }

    #[test]
    fn one_failure_more_than_the_intensity_within_the_window_is_too_many() {
        let start = Instant::now();
        let mut group = group(Strategy::OneForOne, 2);
        assert_eq!(group.fail(ActorName::Timer, start), Verdict::Restart);
        assert_eq!(
            group.fail(ActorName::Timer, after(start, 900)),
            Verdict::Restart
        );
        assert_eq!(
            group.fail(ActorName::Timer, after(start, 1_100)),
            Verdict::Restart
        );
        assert_eq!(
            group.fail(ActorName::Timer, after(start, 1_200)),
            Verdict::GiveUp
        );
    }
}
