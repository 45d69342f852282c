//! Members change one step at a time (§6, dissertation 4.1; rule 11): a log holds at most one configuration that is not
//! committed, every quorum of a configuration meets every quorum of the one before it, and whoever leaves the joint state forgets
//! nothing of those who stay. That each committed one is in the log
//! of every later leader is leader completeness.

use rm_raft::{Configuration, Index, MachineId};

use super::{Check, require};
use crate::simulation::log_image::LogImage;
use crate::simulation::members::is_quorum;

/// Checks a log that got a configuration.
pub(super) fn check(log: &LogImage, committed: Index) -> Check {
    let all = log.configurations();
    let open = all.iter().filter(|each| each.index > committed).count();
    require(open <= 1, "configuration safety", || {
        format!(
            "{open} configurations are beyond {committed}, up to where the log is committed: {all:?}"
        )
    })?;
    for pair in all.windows(2) {
        let (before, after) = (&pair[0].configuration, &pair[1].configuration);
        require(always_meet(before, after), "configuration safety", || {
            format!("a quorum of {before:?} need not meet one of {after:?}")
        })?;
        let leaves_joint = before.is_joint() && !after.is_joint();
        let known = |id: &MachineId| before.about.get(id) == after.about.get(id);
        let kept = !leaves_joint || after.members().iter().all(known);
        require(kept, "configuration safety", || {
            format!("{after:?} tells other things of its members than {before:?}")
        })?;
    }
    Ok(())
}

/// Whether no quorum of the one leaves a quorum of the other: tried with every set of machines.
fn always_meet(one: &Configuration, other: &Configuration) -> bool {
    if one.voters.is_empty() {
        return true; // a machine that is to join has none
    }
    let members = [one.members(), other.members()].concat();
    let all = members.iter().map(|id| id.0).max().unwrap_or_default();
    let within = |set: u64| move |id: MachineId| set >> (id.0 - 1) & 1 == 1;
    (0..1 << all).all(|set: u64| !is_quorum(one, within(set)) || !is_quorum(other, within(!set)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_meet_after_one_step_or_through_a_joint_configuration() {
        let of = |voters: &[u64]| Configuration::of_voters(voters.iter().copied().map(MachineId));
        assert!(always_meet(&of(&[1, 2, 3]), &of(&[1, 2, 3, 4])));
        assert!(!always_meet(&of(&[1, 2, 3]), &of(&[1, 4, 5])));
        let mut joint = of(&[1, 4, 5]);
        joint.outgoing = of(&[1, 2, 3]).voters;
        assert!(always_meet(&of(&[1, 2, 3]), &joint));
        assert!(always_meet(&joint, &of(&[1, 4, 5])));
    }
}
