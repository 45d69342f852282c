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
