//! What anyone knows to be committed is durable on a majority, while joint of either side (§5.3, §6; rules 8, 11 and 12): a machine counts from the moment that its disk
//! holds the entry, and no sooner.

use rm_raft::{Configuration, EntryId, MachineId};

use super::{Check, require};
use crate::simulation::machine::Machine;
use crate::simulation::members::is_quorum;

/// Checks an entry that has just become known as committed.
pub(super) fn check(id: EntryId, machines: &[Machine], configuration: &Configuration) -> Check {
    let holds = |at: MachineId| machines[at.0 as usize - 1].disk.log.covers(id);
    require(
        is_quorum(configuration, holds),
        "committed is durable",
        || {
            let machines = machines.iter().map(|machine| machine.id);
            let holders: Vec<MachineId> = machines.filter(|&at| holds(at)).collect();
            format!("{id} is committed, and durable on {holders:?} only, of {configuration:?}")
        },
    )
}
