//! The safety properties of Raft (figure 3), each in a file of its own and checked after every step of a simulation.

mod election_safety;
mod leader_completeness;
mod log_matching;
mod monotonic;
mod proposals;
mod reads;
mod state_machine_safety;

pub(super) use proposals::Proposals;
pub(super) use reads::Reads;

use std::collections::BTreeMap;

use super::machine::Machine;
use crate::MachineId;

/// All properties that hold whatever fails.
#[derive(Debug, Default)]
pub(super) struct Properties {
    election_safety: election_safety::ElectionSafety,
    log_matching: log_matching::LogMatching,
    leader_completeness: leader_completeness::LeaderCompleteness,
    state_machine_safety: state_machine_safety::StateMachineSafety,
    monotonic: monotonic::Monotonic,
}

impl Properties {
    /// Checks what may have changed at one machine.
    pub(super) fn check(&mut self, machines: &BTreeMap<MachineId, Machine>, changed: MachineId) {
        let machine = &machines[&changed];
        self.state_machine_safety.check(machine);
        self.monotonic.check(machine);
        self.log_matching.check(machine);
        self.election_safety.check(machine);
        let applied = self.state_machine_safety.longest();
        self.leader_completeness.check(machine, applied);
    }
}
