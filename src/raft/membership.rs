//! Changes of who takes part: what may be asked, what comes of it, and why it is refused (§6, dissertation 4).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::{ABOUT_BYTES_MAX, Configuration, Index, MEMBERS_MAX, MachineId};

/// The most steps of one change.
pub const STEPS_MAX: usize = 2 * MEMBERS_MAX;

/// One change of who takes part: all its steps together, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Change {
    /// What is to be done, in order.
    pub steps: Vec<Step>,
    /// Do it even if a learner is not caught up, or if too few of the new voters were heard.
    pub force: bool,
    /// The entry with the configuration that whoever asks has looked at: with another one in force, nothing is done. None if it
    /// does not matter.
    pub based_on: Option<Index>,
}

/// A part of a change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A machine joins as a learner, with what the driver wants to know of it.
    Add(MachineId, Bytes),
    /// A machine joins as a voter at once. Its log may be empty, so it counts as one that is not heard: better let it
    /// learn first, unless it takes the place of a machine that is lost.
    AddVoter(MachineId, Bytes),
    /// A learner becomes a voter.
    Promote(MachineId),
    /// A voter becomes a learner.
    Demote(MachineId),
    /// A machine leaves.
    Remove(MachineId),
    /// What the driver wants to know of a machine changes.
    Update(MachineId, Bytes),
}

/// Why a change was not begun. Nothing of it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ChangeRefused {
    /// The machine that was asked does not lead.
    #[error("this machine does not lead: ask the leader, or try again once there is one")]
    NotLeader,
    /// The change before is not complete (§6: one at a time).
    #[error("another change is under way: wait until it is committed, and try again")]
    UnderWay,
    /// The configuration in force is not the one that the change was made for.
    #[error(
        "the members have changed meanwhile: look at them, and try again if the change still makes sense"
    )]
    Outdated,
    /// The leader has not committed in its term yet, so it does not know whether an earlier change is (dissertation 4.1).
    #[error("the leader is new and has committed nothing in its term yet: try again in a moment")]
    LeaderIsNew,
    /// The leader is handing leadership over (dissertation 3.10).
    #[error("the leader is handing leadership over: try again in a moment")]
    Transferring,
    /// There is nothing to do.
    #[error("the change has no step: say what is to change")]
    Empty,
    /// Zero means no machine.
    #[error("0 names no machine: number the machines from 1")]
    MachineZero,
    /// A step is about a stranger.
    #[error("machine {0} is not a member: add it first, or look up its number")]
    NoSuchMachine(MachineId),
    /// A machine is to be added that is there.
    #[error("machine {0} is a member already: promote or update it, or remove it first")]
    AlreadyMember(MachineId),
    /// A voter is to be promoted.
    #[error("machine {0} is a voter already: there is nothing to promote")]
    AlreadyVoter(MachineId),
    /// A learner is to be demoted.
    #[error("machine {0} is a learner already: there is nothing to demote")]
    AlreadyLearner(MachineId),
    /// A learner lacks too much of the log to vote now (dissertation 4.2.1).
    #[error(
        "machine {machine} is not caught up: it holds the log up to {matched} of {last}; wait until it is, look why it \
         does not receive the log, or force the change"
    )]
    NotCaughtUp {
        /// The learner.
        machine: MachineId,
        /// Up to where its log is known to match.
        matched: Index,
        /// The end of the leader's log.
        last: Index,
    },
    /// Nobody could decide anything.
    #[error("no voter would be left: keep one, or add another in the same change")]
    NoVoterLeft,
    /// The new voters might not be able to commit the change.
    #[error(
        "only {heard} of the new voters were heard within an election timeout, and {needed} are needed: bring the others back, \
         remove those that are lost instead, or force the change"
    )]
    QuorumAtRisk {
        /// How many of the new voters were heard.
        heard: usize,
        /// How many make a majority of them.
        needed: usize,
    },
    /// A bound is passed.
    #[error(
        "a domain has at most {MEMBERS_MAX} machines, and a change at most {STEPS_MAX} steps: do less at once"
    )]
    TooMany,
    /// A bound is passed.
    #[error("more than {ABOUT_BYTES_MAX} bytes are told about machine {0}: shorten that")]
    AboutTooLong(MachineId),
}

/// The members while the steps of a change are done one by one.
struct Draft {
    voters: BTreeSet<MachineId>,
    learners: BTreeSet<MachineId>,
    about: BTreeMap<MachineId, Bytes>,
}

impl Change {
    /// The configuration that is to follow on `present`, which is not joint. One voter more or less changes at once: any
    /// majority of the one meets any of the other (dissertation 4.1). More go through a joint configuration (§6).
    ///
    /// # Errors
    /// The first reason why the change makes no sense.
    pub(crate) fn apply(&self, present: &Configuration) -> Result<Configuration, ChangeRefused> {
        if self.steps.is_empty() {
            return Err(ChangeRefused::Empty);
        }
        if self.steps.len() > STEPS_MAX {
            return Err(ChangeRefused::TooMany);
        }
        let mut draft = Draft {
            voters: present.voters.iter().copied().collect(),
            learners: present.learners.iter().copied().collect(),
            about: present.about.clone(),
        };
        for step in &self.steps {
            draft.take(step)?;
        }
        draft.finish(present)
    }

    /// The learners of `present` that would vote in `next`.
    pub(crate) fn promoted(present: &Configuration, next: &Configuration) -> Vec<MachineId> {
        let learners = present.learners.iter().copied();
        learners.filter(|id| next.voters.contains(id)).collect()
    }
}

impl Draft {
    fn take(&mut self, step: &Step) -> Result<(), ChangeRefused> {
        match step {
            Step::Add(machine, about) => {
                self.add(*machine, about)?;
                self.learners.insert(*machine);
            }
            Step::AddVoter(machine, about) => {
                self.add(*machine, about)?;
                self.voters.insert(*machine);
            }
            Step::Promote(machine) => {
                self.known(*machine)?;
                if !self.learners.remove(machine) {
                    return Err(ChangeRefused::AlreadyVoter(*machine));
                }
                self.voters.insert(*machine);
            }
            Step::Demote(machine) => {
                self.known(*machine)?;
                if !self.voters.remove(machine) {
                    return Err(ChangeRefused::AlreadyLearner(*machine));
                }
                self.learners.insert(*machine);
            }
            Step::Remove(machine) => {
                self.known(*machine)?;
                self.voters.remove(machine);
                self.learners.remove(machine);
                self.about.remove(machine);
            }
            Step::Update(machine, about) => {
                self.known(*machine)?;
                self.tell(*machine, about)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, machine: MachineId, about: &Bytes) -> Result<(), ChangeRefused> {
        if machine == MachineId(0) {
            return Err(ChangeRefused::MachineZero);
        }
        if self.knows(machine) {
            return Err(ChangeRefused::AlreadyMember(machine));
        }
        self.tell(machine, about)
    }

    fn tell(&mut self, machine: MachineId, about: &Bytes) -> Result<(), ChangeRefused> {
        if about.len() > ABOUT_BYTES_MAX {
            return Err(ChangeRefused::AboutTooLong(machine));
        }
        self.about.insert(machine, about.clone());
        Ok(())
    }

    fn knows(&self, machine: MachineId) -> bool {
        self.voters.contains(&machine) || self.learners.contains(&machine)
    }

    fn known(&self, machine: MachineId) -> Result<(), ChangeRefused> {
        if self.knows(machine) {
            Ok(())
        } else {
            Err(ChangeRefused::NoSuchMachine(machine))
        }
    }

    fn finish(mut self, present: &Configuration) -> Result<Configuration, ChangeRefused> {
        if self.voters.is_empty() {
            return Err(ChangeRefused::NoVoterLeft);
        }
        let before: BTreeSet<MachineId> = present.voters.iter().copied().collect();
        let changed = before.symmetric_difference(&self.voters).count();
        let outgoing = if changed > 1 {
            // Those who leave are still spoken to, so what is known of them is kept.
            for (&machine, about) in &present.about {
                if before.contains(&machine) {
                    self.about.entry(machine).or_insert(about.clone());
                }
            }
            present.voters.clone()
        } else {
            Vec::new()
        };
        let next = Configuration {
            voters: self.voters.into_iter().collect(),
            outgoing,
            learners: self.learners.into_iter().collect(),
            about: self.about,
        };
        if next.members().len() > MEMBERS_MAX {
            return Err(ChangeRefused::TooMany);
        }
        assert_eq!(next.check(), Ok(()), "a change keeps the invariants");
        Ok(next)
    }
}
