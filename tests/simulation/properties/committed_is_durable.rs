//! What anyone knows to be committed is durable on a majority (§5.3; rule 8): a machine counts from the moment that its disk
//! holds the entry, and no sooner.

use rm_raft::EntryId;

use super::{Check, require};
use crate::simulation::machine::Machine;

/// Checks an entry that has just become known as committed.
pub(super) fn check(id: EntryId, machines: &[Machine]) -> Check {
    let holders = machines
        .iter()
        .filter(|machine| machine.disk.log.covers(id))
        .count();
    require(2 * holders > machines.len(), "committed is durable", || {
        format!("{id} is committed, and durable on {holders} machines only")
    })
}
