//! What a quorum of the voters has reached: a majority of them, and while joint a majority of each side (§6).

use crate::{Configuration, MachineId};

/// So many values are sorted without asking for memory: more than most domains have voters.
const FEW: usize = 9;

/// The voters of a domain, of whom a majority decides (§5.1); while joint, a majority of either side (§6).
#[derive(Clone, Debug, Hash)]
pub(crate) struct Quorum {
    voters: Vec<MachineId>,
    /// The voters of the configuration being left; empty unless joint.
    outgoing: Vec<MachineId>,
}

impl Quorum {
    /// The quorum of a configuration.
    pub(crate) fn new(configuration: &Configuration) -> Quorum {
        Quorum {
            voters: configuration.voters.clone(),
            outgoing: configuration.outgoing.clone(),
        }
    }

    /// Whether this machine has a vote.
    pub(crate) fn contains(&self, machine: MachineId) -> bool {
        self.voters.binary_search(&machine).is_ok() || self.outgoing.binary_search(&machine).is_ok()
    }

    /// Whether this machine has a vote, and keeps it once a change that is under way is complete.
    pub(crate) fn stays(&self, machine: MachineId) -> bool {
        self.voters.binary_search(&machine).is_ok()
    }

    /// The greatest value that a quorum has reached, given what each voter has; none without voters.
    pub(crate) fn reached<T: Ord + Copy>(&self, value: impl Fn(MachineId) -> T) -> Option<T> {
        let of_voters = reached(&self.voters, &value)?;
        match reached(&self.outgoing, &value) {
            Some(of_outgoing) => Some(of_voters.min(of_outgoing)),
            None => Some(of_voters),
        }
    }

    /// Whether a quorum says yes.
    pub(crate) fn agrees(&self, yes: impl Fn(MachineId) -> bool) -> bool {
        agrees(&self.voters, &yes) && (self.outgoing.is_empty() || agrees(&self.outgoing, &yes))
    }
}

/// The greatest value that a majority has reached: of the values in their order the one in the middle, or just below it.
fn reached<T: Ord + Copy>(voters: &[MachineId], value: impl Fn(MachineId) -> T) -> Option<T> {
    let first = value(*voters.first()?);
    let (mut few, mut many) = ([first; FEW], Vec::new());
    let values = if voters.len() <= FEW {
        &mut few[..voters.len()]
    } else {
        many.resize(voters.len(), first);
        &mut many[..]
    };
    for (slot, &voter) in values[1..].iter_mut().zip(&voters[1..]) {
        *slot = value(voter);
    }
    values.sort_unstable();
    Some(values[(values.len() - 1) / 2])
}

/// Whether a majority says yes.
fn agrees(voters: &[MachineId], yes: impl Fn(MachineId) -> bool) -> bool {
    is_majority(voters, voters.iter().filter(|&&voter| yes(voter)).count())
}

fn is_majority(voters: &[MachineId], count: usize) -> bool {
    count > voters.len() / 2
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The naive twin: of each value count who has reached it.
    fn reached_by_counting(voters: &[MachineId], values: &[u64]) -> u64 {
        let values = || voters.iter().map(|id| values[id.0 as usize]);
        let by_majority =
            |value: &u64| 2 * values().filter(|it| it >= value).count() > voters.len();
        values()
            .filter(by_majority)
            .max()
            .expect("the least is reached by all")
    }

    /// From one machine up to more than [`FEW`].
    fn voters() -> impl Strategy<Value = Vec<MachineId>> {
        prop::collection::btree_set(1u64..16, 1..FEW + 4)
            .prop_map(|ids: BTreeSet<u64>| ids.into_iter().map(MachineId).collect())
    }

    fn quorum(voters: &[MachineId], outgoing: &[MachineId]) -> Quorum {
        Quorum {
            voters: voters.to_vec(),
            outgoing: outgoing.to_vec(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn sorting_finds_what_counting_finds(
            voters in voters(),
            outgoing in voters(),
            values in prop::collection::vec(0u64..12, 16),
        ) {
            let value = |machine: MachineId| values[machine.0 as usize];
            let (new, old) = (reached_by_counting(&voters, &values), reached_by_counting(&outgoing, &values));
            prop_assert_eq!(quorum(&voters, &[]).reached(value), Some(new));
            prop_assert_eq!(quorum(&voters, &outgoing).reached(value), Some(new.min(old)));
        }

        #[test]
        fn a_quorum_agrees_exactly_if_it_reached_yes(voters in voters(), outgoing in voters(), yes in any::<u64>()) {
            let says = |machine: MachineId| yes >> machine.0 & 1 == 1;
            for quorum in [quorum(&voters, &[]), quorum(&voters, &outgoing)] {
                prop_assert_eq!(quorum.agrees(says), quorum.reached(says) == Some(true));
            }
        }

        #[test]
        fn a_joint_quorum_meets_every_majority_of_either_side(
            voters in voters(),
            outgoing in voters(),
            joint in any::<u64>(),
            other in any::<u64>(),
        ) {
            let says = |bits: u64| move |machine: MachineId| bits >> machine.0 & 1 == 1;
            if !quorum(&voters, &outgoing).agrees(says(joint)) {
                return Ok(());
            }
            for side in [&voters, &outgoing] {
                // The naive twin counts in a set.
                let yes: BTreeSet<_> = side.iter().filter(|&&id| says(other)(id)).collect();
                let is_majority = 2 * yes.len() > side.len();
                prop_assert_eq!(quorum(side, &[]).agrees(says(other)), is_majority);
                if is_majority {
                    prop_assert!(yes.iter().any(|&&id| says(joint)(id)));
                }
            }
        }
    }

    #[test]
    fn a_lone_voter_is_a_majority() {
        let quorum = quorum(&[MachineId(7)], &[]);
        assert!(quorum.agrees(|machine| machine == MachineId(7)));
        assert!(!quorum.agrees(|_| false));
    }

    #[test]
    fn without_voters_nothing_is_decided() {
        let quorum = quorum(&[], &[]);
        assert!(!quorum.agrees(|_| true));
        assert_eq!(quorum.reached(|_| 1), None);
    }
}
