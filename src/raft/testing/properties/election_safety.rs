//! At most one leader a term (§5.2).

use std::collections::BTreeMap;

use crate::testing::machine::Machine;
use crate::{MachineId, Role, Term};

#[derive(Debug, Default)]
pub(super) struct ElectionSafety {
    leaders: BTreeMap<Term, MachineId>,
}

impl ElectionSafety {
    pub(super) fn check(&mut self, machine: &Machine) {
        let Some(status) = machine.core.as_ref().map(|core| core.status()) else {
            return;
        };
        if status.role == Role::Leader {
            let local = machine.config.local;
            let leader = *self.leaders.entry(status.term).or_insert(local);
            assert_eq!(leader, local, "two leaders in term {}", status.term);
        }
    }
}
