//! The safety properties of Raft (figure 3), each in a file of its own and checked after every step of a simulation.

mod compaction;
mod election_safety;
mod leader_completeness;
mod log_matching;
mod monotonic;
mod proposals;
mod reads;
mod state_machine_safety;

pub(super) use proposals::Proposals;
pub(super) use reads::Reads;

use super::machine::Machine;

/// All properties that hold whatever fails.
#[derive(Debug, Default)]
pub(super) struct Properties {
    election_safety: election_safety::ElectionSafety,
    log_matching: log_matching::LogMatching,
    leader_completeness: leader_completeness::LeaderCompleteness,
    state_machine_safety: state_machine_safety::StateMachineSafety,
    monotonic: monotonic::Monotonic,
    compaction: compaction::Compaction,
}

impl Properties {
    /// Checks what an input may have changed at one machine: what its core says of itself.
    pub(super) fn check_core(&mut self, machine: &Machine) {
        self.monotonic.check(machine);
        self.election_safety.check(machine);
    }

    /// Checks what the effects, or a crash, may have changed at one machine.
    pub(super) fn check(&mut self, machine: &Machine) {
        self.check_core(machine);
        self.state_machine_safety.check(machine);
        self.log_matching.check(machine);
        let applied = self.state_machine_safety.longest();
        self.leader_completeness.check(machine, applied);
        self.compaction.check(machine, applied);
    }
}
