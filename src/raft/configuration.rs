//! Who takes part: the configuration that an entry of the log carries, and those that a machine's log holds.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{Index, MachineId};

/// The most machines of a domain, learners included: a bound for messages and for what a leader holds of each.
pub const MEMBERS_MAX: usize = 64;

/// The most bytes that a configuration may hold about one machine.
pub const ABOUT_BYTES_MAX: usize = 1024;

/// Who takes part, and how (§6, dissertation 4). It lives in the log, whole in each entry, never as a difference.
///
/// Invariants:
/// - each list is sorted, without repetition, and none names machine zero;
/// - no voter is a learner; one of the voters being left is, if it is demoted;
/// - while joint there are voters on both sides;
/// - `about` speaks only of machines that are listed;
/// - there are at most [`MEMBERS_MAX`] machines, each with at most [`ABOUT_BYTES_MAX`] bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Configuration {
    /// The voters; while joint, those of the new configuration.
    pub voters: Vec<MachineId>,
    /// While joint, the voters of the configuration being left; else empty.
    pub outgoing: Vec<MachineId>,
    /// Receive the log and have no vote.
    pub learners: Vec<MachineId>,
    /// What the driver wants to know of each machine; opaque to Raft.
    pub about: BTreeMap<MachineId, Bytes>,
}

/// Why a configuration cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// Zero means no machine.
    #[error("a member has the number 0, which names no machine: number the machines from 1")]
    MachineZero,
    /// A list is not in order, or names a machine twice.
    #[error("machine {0} is listed twice or out of order: name each machine once, in rising order")]
    Order(MachineId),
    /// A voter needs no place among the learners.
    #[error("machine {0} is listed as voter and as learner: list it as one of the two")]
    VoterAndLearner(MachineId),
    /// Nobody could decide anything.
    #[error("there are members but no voter: list at least one voter")]
    NoVoter,
    /// Something is told about a stranger.
    #[error(
        "something is told about machine {0}, which is not a member: list it, or leave that out"
    )]
    AboutStranger(MachineId),
    /// Too many machines.
    #[error("there are more than {MEMBERS_MAX} members: remove some")]
    TooMany,
    /// Too much is told about a machine.
    #[error("more than {ABOUT_BYTES_MAX} bytes are told about machine {0}: shorten that")]
    AboutTooLong(MachineId),
}

impl Configuration {
    /// The configuration of a domain that begins with these voters, in any order.
    pub fn of_voters(voters: impl IntoIterator<Item = MachineId>) -> Configuration {
        let mut voters: Vec<MachineId> = voters.into_iter().collect();
        voters.sort_unstable();
        Configuration {
            voters,
            ..Configuration::default()
        }
    }

    /// Whether it is a step between two configurations: decisions need majorities of both (§6).
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the machine has a vote, on either side.
    pub fn has_vote(&self, machine: MachineId) -> bool {
        holds(&self.voters, machine) || holds(&self.outgoing, machine)
    }

    /// Whether the machine takes part in any way.
    pub fn contains(&self, machine: MachineId) -> bool {
        self.has_vote(machine) || holds(&self.learners, machine)
    }

    /// All that take part, sorted, each once.
    pub fn members(&self) -> Vec<MachineId> {
        let mut members = [&self.voters[..], &self.outgoing, &self.learners].concat();
        members.sort_unstable();
        members.dedup();
        members
    }

    /// What follows on a joint configuration (§6: the new one alone).
    pub(crate) fn without_outgoing(&self) -> Configuration {
        let mut next = self.clone();
        next.outgoing.clear();
        let members = next.members();
        next.about.retain(|&machine, _| holds(&members, machine));
        next
    }

    /// The bytes of it that count for limits.
    pub(crate) fn size(&self) -> usize {
        let lists = self.voters.len() + self.outgoing.len() + self.learners.len();
        let about = self.about.values().map(|about| 8 + about.len());
        8 * lists + about.sum::<usize>()
    }

    /// Refuses what breaks an invariant. Empty is sound: it is what a machine has that is to join.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn check(&self) -> Result<(), ConfigurationError> {
        for list in [&self.voters, &self.outgoing, &self.learners] {
            if list.first() == Some(&MachineId(0)) {
                return Err(ConfigurationError::MachineZero);
            }
            if let Some(pair) = list.windows(2).find(|pair| pair[0] >= pair[1]) {
                return Err(ConfigurationError::Order(pair[1]));
            }
        }
        if let Some(&both) = self.learners.iter().find(|&&id| holds(&self.voters, id)) {
            return Err(ConfigurationError::VoterAndLearner(both));
        }
        let members = self.members();
        if self.voters.is_empty() && !members.is_empty() {
            return Err(ConfigurationError::NoVoter);
        }
        if members.len() > MEMBERS_MAX {
            return Err(ConfigurationError::TooMany);
        }
        for (&machine, about) in &self.about {
            if !holds(&members, machine) {
                return Err(ConfigurationError::AboutStranger(machine));
            }
            if about.len() > ABOUT_BYTES_MAX {
                return Err(ConfigurationError::AboutTooLong(machine));
            }
        }
        Ok(())
    }
}

fn holds(sorted: &[MachineId], machine: MachineId) -> bool {
    sorted.binary_search(&machine).is_ok()
}

/// A configuration and the entry that holds it; at index 0 stands the one with which this machine began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Configured {
    /// The index of the entry.
    pub index: Index,
    /// What it says.
    pub configuration: Configuration,
}

/// The configurations of a machine's log, in order, from the one that was in force at the log's base.
///
/// Invariants: never empty; indexes rise; only the first is at or before the base.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Configurations {
    all: Vec<Configured>,
    /// The machine whose log it is.
    local: MachineId,
    /// Whether that machine took part in one that was committed and is compacted.
    took_part: bool,
}

impl Configurations {
    /// Those that were found durable.
    pub(crate) fn new(local: MachineId, all: Vec<Configured>) -> Configurations {
        assert!(
            !all.is_empty(),
            "a machine has a configuration, if an empty one"
        );
        Configurations {
            all,
            local,
            took_part: false,
        }
    }

    /// The one in force: the latest of the log, committed or not (§6).
    pub(crate) fn latest(&self) -> &Configured {
        self.all.last().expect("never empty")
    }

    /// The latest that is known to be committed; before that, the first.
    pub(crate) fn committed(&self, commit: Index) -> &Configured {
        let place = self.all.partition_point(|each| each.index <= commit);
        &self.all[place.saturating_sub(1)]
    }

    /// Whether this machine took part in any of them, or in an earlier one.
    pub(crate) fn took_part(&self) -> bool {
        let mut all = self.all.iter();
        self.took_part || all.any(|each| each.configuration.contains(self.local))
    }

    /// An entry with a configuration came into the log: it is in force from now on.
    pub(crate) fn push(&mut self, configured: Configured) {
        assert!(configured.index > self.latest().index, "indexes rise");
        self.all.push(configured);
    }

    /// The log was truncated: what was in force before is again (§6). False if none was lost.
    pub(crate) fn truncate(&mut self, from: Index) -> bool {
        let keep = self.all.partition_point(|each| each.index < from).max(1);
        let lost = keep < self.all.len();
        self.all.truncate(keep);
        lost
    }

    /// The log is compacted up to `base`: of what came before, the one that was in force there stays (§7).
    pub(crate) fn compact(&mut self, base: Index) {
        let place = self.all.partition_point(|each| each.index <= base);
        let local = self.local;
        for gone in self.all.drain(..place.saturating_sub(1)) {
            self.took_part |= gone.configuration.contains(local);
        }
    }

    /// A snapshot that ends with `last` took the place of the log up to there; of what follows, what the log keeps is still in
    /// force (§7). What is gone was committed up to `commit`.
    pub(crate) fn install(
        &mut self,
        snapshot: &Configured,
        last: Index,
        keeps_suffix: bool,
        commit: Index,
    ) {
        let (local, committed) = (self.local, commit);
        let before = self.all.iter().filter(|each| each.index <= committed);
        self.took_part |= before
            .map(|each| &each.configuration)
            .any(|each| each.contains(local));
        self.all.retain(|each| keeps_suffix && each.index > last);
        self.all.insert(0, snapshot.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u64]) -> Vec<MachineId> {
        numbers.iter().copied().map(MachineId).collect()
    }

    fn joint() -> Configuration {
        Configuration {
            voters: ids(&[1, 2, 4]),
            outgoing: ids(&[1, 2, 3]),
            learners: ids(&[3, 5]),
            about: [(MachineId(4), Bytes::from_static(b"four"))].into(),
        }
    }

    #[test]
    fn a_configuration_that_breaks_an_invariant_is_refused() {
        let refused = |change: fn(&mut Configuration)| {
            let mut configuration = joint();
            change(&mut configuration);
            configuration.check().expect_err("refused")
        };
        assert_eq!(joint().check(), Ok(()));
        assert_eq!(Configuration::default().check(), Ok(()));
        assert_eq!(
            refused(|c| c.voters[0] = MachineId(0)),
            ConfigurationError::MachineZero
        );
        assert_eq!(
            refused(|c| c.outgoing[1] = MachineId(1)),
            ConfigurationError::Order(MachineId(1))
        );
        assert_eq!(
            refused(|c| c.learners[1] = MachineId(4)),
            ConfigurationError::VoterAndLearner(MachineId(4))
        );
        assert_eq!(refused(|c| c.voters.clear()), ConfigurationError::NoVoter);
        assert_eq!(
            refused(|c| c.learners = (5..80).map(MachineId).collect()),
            ConfigurationError::TooMany
        );
        assert_eq!(
            refused(|c| {
                c.about.insert(MachineId(9), Bytes::new());
            }),
            ConfigurationError::AboutStranger(MachineId(9))
        );
        assert_eq!(
            refused(|c| {
                c.about
                    .insert(MachineId(1), vec![0; ABOUT_BYTES_MAX + 1].into());
            }),
            ConfigurationError::AboutTooLong(MachineId(1))
        );
    }

    #[test]
    fn what_follows_on_a_joint_configuration_forgets_who_left() {
        let mut configuration = joint();
        configuration.learners = ids(&[5]);
        configuration.about.insert(MachineId(3), Bytes::new());
        let next = configuration.without_outgoing();
        assert_eq!(next.members(), ids(&[1, 2, 4, 5]));
        assert!(!next.is_joint() && !next.about.contains_key(&MachineId(3)));
        assert_eq!(next.check(), Ok(()));
    }

    #[test]
    fn a_truncated_configuration_falls_back_to_the_one_before() {
        let at = |index, voters: &[u64]| Configured {
            index: Index(index),
            configuration: Configuration::of_voters(ids(voters)),
        };
        let mut all = Configurations::new(MachineId(1), vec![at(0, &[1])]);
        all.push(at(4, &[1, 2]));
        all.push(at(7, &[1, 2, 3]));
        assert_eq!(all.committed(Index(6)), &at(4, &[1, 2]));
        assert!(!all.truncate(Index(8)));
        assert!(all.truncate(Index(7)));
        assert_eq!(all.latest(), &at(4, &[1, 2]));
        assert!(all.truncate(Index(1)));
        assert_eq!(all.latest(), &at(0, &[1]));
    }

    #[test]
    fn compaction_keeps_the_configuration_that_is_in_force_at_the_base() {
        let at = |index, voters: &[u64]| Configured {
            index: Index(index),
            configuration: Configuration::of_voters(ids(voters)),
        };
        let mut all = Configurations::new(MachineId(1), vec![at(0, &[1, 2]), at(3, &[2])]);
        all.push(at(6, &[2, 3]));
        all.compact(Index(2));
        assert_eq!(all.all, [at(0, &[1, 2]), at(3, &[2]), at(6, &[2, 3])]);
        all.compact(Index(5));
        assert_eq!(all.all, [at(3, &[2]), at(6, &[2, 3])]);
        assert!(all.took_part(), "though nothing of that is left");
    }

    #[test]
    fn a_snapshot_takes_the_place_of_all_but_the_suffix_that_is_kept() {
        let at = |index, voters: &[u64]| Configured {
            index: Index(index),
            configuration: Configuration::of_voters(ids(voters)),
        };
        let all = Configurations::new(MachineId(1), vec![at(0, &[2]), at(3, &[1, 2]), at(8, &[2])]);
        let mut kept = all.clone();
        kept.install(&at(5, &[2, 3]), Index(6), true, Index(0));
        assert_eq!(kept.all, [at(5, &[2, 3]), at(8, &[2])]);
        assert!(
            !kept.took_part(),
            "what was not committed may never have been"
        );
        let mut gone = all;
        gone.install(&at(5, &[2, 3]), Index(6), false, Index(4));
        assert_eq!(gone.all, [at(5, &[2, 3])]);
        assert!(gone.took_part());
    }
}
