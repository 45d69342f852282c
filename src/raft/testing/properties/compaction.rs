//! What a log no longer holds is in the machine's durable state, and was committed (§7). Neither goes back.

use std::collections::BTreeMap;

use crate::testing::machine::Machine;
use crate::{Entry, Index, MachineId};

#[derive(Debug, Default)]
pub(super) struct Compaction {
    checkpoints: BTreeMap<MachineId, Index>,
}

impl Compaction {
    /// Checks a machine against the longest log that any machine ever applied.
    pub(super) fn check(&mut self, machine: &Machine, applied: &[Entry]) {
        let base = machine.disk.base;
        assert!(
            base.index <= machine.checkpoint,
            "the log is compacted beyond the durable state"
        );
        if let Some(place) = base.index.0.checked_sub(1) {
            let committed = applied.get(place as usize).map(|entry| entry.id);
            assert_eq!(committed, Some(base), "the base of a log is committed");
        }
        let before = self.checkpoints.entry(machine.config.local).or_default();
        assert!(machine.checkpoint >= *before, "a durable state went back");
        *before = machine.checkpoint;
    }
}
