//! Who leads has a vote by its own log, in force or as of what it knows to be committed: a learner never stands (rule 12).

use rm_raft::Status;

use super::{Check, require};
use crate::simulation::machine::Machine;

/// Checks a machine that was elected.
pub(crate) fn elected(machine: &Machine, status: &Status) -> Check {
    let log = &machine.logic.log;
    let in_force = log.configured().configuration;
    let committed = log.configured_at(status.commit).configuration;
    let may = in_force.has_vote(machine.id) || committed.has_vote(machine.id);
    require(may, "only voters lead", || {
        format!(
            "machine {} leads without a vote by {in_force:?}",
            machine.id
        )
    })
}
