//! A linearizable read sees all that was known to be committed anywhere when it came (dissertation 6.4).

use std::collections::BTreeMap;

use crate::{Index, MachineId, ReadId};

#[derive(Debug, Default)]
pub(in crate::testing) struct Reads {
    /// The highest commit index that any machine ever knew.
    committed: Index,
    /// What that was when each open read came.
    open: BTreeMap<(MachineId, ReadId), Index>,
}

impl Reads {
    pub(in crate::testing) fn committed(&mut self, index: Index) {
        self.committed = self.committed.max(index);
    }

    pub(in crate::testing) fn came(&mut self, machine: MachineId, read: ReadId) {
        self.open.insert((machine, read), self.committed);
    }

    pub(in crate::testing) fn readable(&mut self, machine: MachineId, read: ReadId, index: Index) {
        let needed = self.open.remove(&(machine, read));
        let needed = needed.expect("an answer is to an open read, and the only one");
        assert!(
            index >= needed,
            "a stale read: index {index}, but {needed} was committed when it came"
        );
    }

    pub(in crate::testing) fn refused(&mut self, machine: MachineId, read: ReadId) {
        let open = self.open.remove(&(machine, read));
        assert!(open.is_some(), "a refusal is of an open read");
    }

    pub(in crate::testing) fn crashed(&mut self, machine: MachineId) {
        self.open.retain(|(local, _), _| *local != machine);
    }

    /// How many have no answer.
    pub(in crate::testing) fn open(&self) -> usize {
        self.open.len()
    }
}
