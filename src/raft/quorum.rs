//! What a majority of the voters has reached. Joint consensus will ask the same questions of two sets of voters (§6).

use crate::MachineId;

/// The voters of a domain, of whom a majority decides (§5.1).
///
/// Invariants: sorted, without repetition, not empty.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Quorum {
    voters: Vec<MachineId>,
}

impl Quorum {
    /// The quorum of these voters, in any order.
    pub(crate) fn new(mut voters: Vec<MachineId>) -> Quorum {
        voters.sort_unstable();
        voters.dedup();
        Quorum { voters }
    }

    /// All voters, sorted.
    pub(crate) fn voters(&self) -> &[MachineId] {
        &self.voters
    }

    /// Whether this machine has a vote.
    pub(crate) fn contains(&self, machine: MachineId) -> bool {
        self.voters.binary_search(&machine).is_ok()
    }

    /// The greatest value that a majority has reached, given what each voter has. The voters are few, so that counting
    /// beats sorting, and needs no memory.
    pub(crate) fn reached<T: Ord + Copy>(&self, value: impl Fn(MachineId) -> T) -> Option<T> {
        let values = || self.voters.iter().map(|&voter| value(voter));
        values()
            .filter(|candidate| self.is_majority(values().filter(|v| v >= candidate).count()))
            .max()
    }

    /// Whether a majority says yes.
    pub(crate) fn agrees(&self, yes: impl Fn(MachineId) -> bool) -> bool {
        self.is_majority(self.voters.iter().filter(|&&voter| yes(voter)).count())
    }

    fn is_majority(&self, count: usize) -> bool {
        count > self.voters.len() / 2
    }

    /// Asserts the invariants.
    pub(crate) fn check(&self) {
        assert!(!self.voters.is_empty(), "a domain has voters");
        assert!(
            self.voters.windows(2).all(|pair| pair[0] < pair[1]),
            "voters are sorted and distinct"
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The naive twin: sort, and take the value that stands at the place of the majority.
    fn reached_by_sorting(mut values: Vec<u64>) -> u64 {
        values.sort_unstable_by(|a, b| b.cmp(a));
        values[values.len() / 2]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn counting_finds_what_sorting_finds(values in prop::collection::vec(0u64..12, 1..9)) {
            let quorum = Quorum::new((1..=values.len() as u64).map(MachineId).collect());
            quorum.check();
            let found = quorum.reached(|machine| values[machine.0 as usize - 1]);
            prop_assert_eq!(found, Some(reached_by_sorting(values)));
        }

        #[test]
        fn two_majorities_share_a_voter(first in prop::collection::vec(any::<bool>(), 1..9), seed in any::<u64>()) {
            let quorum = Quorum::new((1..=first.len() as u64).map(MachineId).collect());
            let one = |machine: MachineId| first[machine.0 as usize - 1];
            let other = |machine: MachineId| seed >> machine.0 & 1 == 1;
            if quorum.agrees(one) && quorum.agrees(other) {
                prop_assert!(quorum.voters().iter().any(|&machine| one(machine) && other(machine)));
            }
        }
    }

    #[test]
    fn a_lone_voter_is_a_majority() {
        let quorum = Quorum::new(vec![MachineId(7)]);
        assert!(quorum.agrees(|machine| machine == MachineId(7)));
        assert!(!quorum.agrees(|_| false));
    }
}
