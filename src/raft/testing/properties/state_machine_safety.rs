//! Every machine applies the same entry at the same index (§5.4.3).

use std::collections::BTreeMap;

use crate::testing::machine::Machine;
use crate::{Entry, MachineId};

#[derive(Debug, Default)]
pub(super) struct StateMachineSafety {
    /// The longest sequence that any machine applied.
    longest: Vec<Entry>,
    /// How much of each machine's was compared.
    compared: BTreeMap<MachineId, usize>,
}

impl StateMachineSafety {
    pub(super) fn check(&mut self, machine: &Machine) {
        let compared = self.compared.entry(machine.config.local).or_default();
        *compared = (*compared).min(machine.applied.len());
        for (place, entry) in machine.applied.iter().enumerate().skip(*compared) {
            match self.longest.get(place) {
                Some(known) => assert_eq!(known, entry, "two machines applied different entries"),
                None => self.longest.push(entry.clone()),
            }
        }
        *compared = machine.applied.len();
    }

    pub(super) fn longest(&self) -> &[Entry] {
        &self.longest
    }
}
