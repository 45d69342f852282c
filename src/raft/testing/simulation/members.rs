//! How the members of a simulation change.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Simulation;
use crate::testing::machine::Machine;
use crate::{Change, Input, MachineId, RequestId, Step};

/// Who takes part, by the latest configuration on a machine's disk.
pub(super) fn members(machine: &Machine) -> BTreeSet<MachineId> {
    let configurations = machine.configurations();
    let latest = configurations.last().expect("there is one to begin with");
    latest.configuration.members().into_iter().collect()
}

impl Simulation {
    /// A client of any machine wants other members. Most changes are refused: they make no sense, or come at a wrong time.
    pub(super) fn change_members(&mut self) {
        let count = self.machines.len() as u64;
        let machine = MachineId(1 + self.below(count));
        let steps = (0..1 + self.below(3)).map(|_| self.step()).collect();
        let force = self.chance(10);
        self.numbers += 1;
        let number = self.numbers;
        let request = RequestId { machine, number };
        let change = Change {
            steps,
            force,
            based_on: None,
        };
        self.input(machine, Input::Change { request, change });
    }

    fn step(&mut self) -> Step {
        let count = self.machines.len() as u64;
        let machine = MachineId(1 + self.below(count));
        let about = Bytes::from(vec![b'a'; self.below(20) as usize]);
        match self.below(8) {
            0 => Step::Add(machine, about),
            1 => Step::AddVoter(machine, about),
            2 | 3 => Step::Promote(machine),
            4 => Step::Demote(machine),
            5 => Step::Remove(machine),
            6 => Step::Update(machine, about),
            _ => Step::Add(machine, about),
        }
    }
}
