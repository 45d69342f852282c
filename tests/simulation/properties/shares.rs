//! The clients of one machine leave room for those of others (rule 21): each proposal that a leader takes still fits when what is
//! open of its machine is counted twice, unless nothing of that machine is open. So no machine's clients come to hold more than
//! half of what may be open, and half a proposal.

use std::collections::BTreeMap;

use rm_raft::{Entry, Index, MachineId, Payload, Persist};

use super::{Check, require};
use crate::simulation::machine::Machine;

/// Checks what a leader adds to its log, of which all after `settled` is open. What was taken in an earlier term counts for nothing:
/// after a restart a core does not know the size of that.
pub(super) fn check(machine: &Machine, persist: &Persist, settled: Index) -> Check {
    let added = persist.entries.iter().filter_map(proposal);
    let added: BTreeMap<MachineId, usize> = added.collect(); // of each machine, the last
    let Some(last) = persist.entries.last().filter(|_| !added.is_empty()) else {
        return Ok(());
    };
    // Not that of the hard state, which may have moved on in the same batch.
    let term = last.id.term;
    let mut held: BTreeMap<MachineId, usize> = BTreeMap::new();
    let entries = machine.logic.log.entries().iter().rev();
    let open = entries.take_while(|entry| entry.id.index > settled && entry.id.term == term);
    for (proposer, bytes) in open.filter_map(proposal) {
        *held.entry(proposer).or_default() += bytes;
    }
    let bound = machine.config.uncommitted_bytes_max;
    for (proposer, last) in added {
        let before = held
            .get(&proposer)
            .map_or(0, |all| all.saturating_sub(last));
        require(
            before == 0 || 2 * before + last <= bound,
            "fair shares",
            || {
                format!(
                    "{last} bytes of {proposer} were taken, of which {before} were open, and {bound} may be in all"
                )
            },
        )?;
    }
    Ok(())
}

/// Whose clients want an entry, and its size.
fn proposal(entry: &Entry) -> Option<(MachineId, usize)> {
    match &entry.payload {
        Payload::Command(proposal) => Some((proposal.request.machine, entry.size())),
        Payload::Empty | Payload::Configuration { .. } => None,
    }
}
