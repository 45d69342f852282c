//! For how long a machine heard nothing of its leader: what a follower sees of heartbeats that are late or lost.

use std::time::Duration;

use rm_raft::{MachineId, Term, Time};

/// The silences of one leader, as the machine that follows it hears them: from one of its messages to the next, both as they come to
/// LogicCenter, since that is what an election depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Silence {
    leader: MachineId,
    term: Term,
    heard: Time,
    longest: Duration,
}

impl Silence {
    /// A leader that becomes known at this moment.
    pub(crate) fn of(leader: MachineId, term: Term, now: Time) -> Silence {
        Silence {
            leader,
            term,
            heard: now,
            longest: Duration::ZERO,
        }
    }

    /// The silence to go on with, now that this leader is known in this term, or none. A machine that hears nothing for so long that it
    /// stands itself knows no leader meanwhile; where the others refuse it, it follows the same one again in the same term, and that was the
    /// worst silence of all.
    pub(crate) fn next(
        present: Option<Silence>,
        leader: Option<MachineId>,
        term: Term,
        now: Time,
    ) -> Option<Silence> {
        match (present, leader) {
            (Some(silence), None) if silence.term == term => present,
            (Some(silence), Some(leader)) if silence.is_of(leader, term) => present,
            (_, Some(leader)) => Some(Silence::of(leader, term, now)),
            (_, None) => None,
        }
    }

    /// Whether it is that of this leader.
    pub(crate) fn is_of(&self, leader: MachineId, term: Term) -> bool {
        (self.leader, self.term) == (leader, term)
    }

    /// A machine said something in this term. What is not the leader's, or is of another term, ends no silence.
    pub(crate) fn heard(&mut self, from: MachineId, term: Term, now: Time) {
        if self.is_of(from, term) {
            self.longest = self.longest(now);
            self.heard = now;
        }
    }

    /// The longest so far, with the one that lasts.
    pub(crate) fn longest(&self, now: Time) -> Duration {
        self.longest.max(now.since(self.heard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time { micros: ms * 1_000 }
    }

    #[test]
    fn a_machine_that_stood_in_vain_has_not_forgotten_why() {
        let (leader, other) = (Some(MachineId(1)), Some(MachineId(2)));
        let (term, later) = (Term(4), Term(5));
        let first = Silence::next(None, leader, term, at(0));
        let mut missed = Silence::next(first, None, term, at(1_000)).expect("the term is the same");
        missed.heard(MachineId(1), term, at(1_500));
        let again = Silence::next(Some(missed), leader, term, at(1_500));
        assert_eq!(
            again.map(|it| it.longest(at(1_510)).as_millis()),
            Some(1_500)
        );
        for (leader, term) in [(other, term), (leader, later)] {
            let anew = Silence::next(again, leader, term, at(1_600));
            assert_eq!(anew.map(|it| it.longest(at(1_610)).as_millis()), Some(10));
        }
        assert_eq!(Silence::next(again, None, later, at(1_600)), None);
    }

    #[test]
    fn a_silence_lasts_from_one_message_of_the_leader_in_its_term_to_the_next() {
        let (leader, other) = (MachineId(1), MachineId(2));
        let (earlier, term) = (Term(3), Term(4));
        let mut silence = Silence::of(leader, term, at(100));
        let told = |silence: &Silence, ms| silence.longest(at(ms)).as_millis();
        assert_eq!(told(&silence, 100), 0);
        silence.heard(leader, term, at(130));
        assert_eq!(told(&silence, 130), 30);
        silence.heard(other, term, at(150));
        silence.heard(leader, earlier, at(160));
        assert_eq!(told(&silence, 180), 50, "the one that lasts");
        silence.heard(leader, term, at(200));
        silence.heard(leader, term, at(201));
        assert_eq!(told(&silence, 205), 70, "the longest stays");
    }

    #[test]
    fn another_leader_and_another_term_of_the_same_begin_anew() {
        let silence = Silence::of(MachineId(1), Term(4), at(0));
        assert!(silence.is_of(MachineId(1), Term(4)));
        assert!(!silence.is_of(MachineId(2), Term(4)));
        assert!(!silence.is_of(MachineId(1), Term(5)));
    }
}
