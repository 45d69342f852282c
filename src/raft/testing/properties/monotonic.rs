//! A machine's term never goes back, also across restarts; its commit index not while it runs.

use std::collections::BTreeMap;

use crate::testing::machine::Machine;
use crate::{Index, MachineId, Term};

#[derive(Debug, Default)]
pub(super) struct Monotonic {
    durable_terms: BTreeMap<MachineId, Term>,
    running: BTreeMap<MachineId, (Term, Index)>,
}

impl Monotonic {
    pub(super) fn check(&mut self, machine: &Machine) {
        let local = machine.config.local;
        let durable = self.durable_terms.entry(local).or_default();
        assert!(
            machine.disk.hard_state.term >= *durable,
            "a durable term went back"
        );
        *durable = machine.disk.hard_state.term;
        let Some(status) = machine.core.as_ref().map(|core| core.status()) else {
            self.running.remove(&local);
            return;
        };
        let now = (status.term, status.commit);
        let before = self.running.insert(local, now).unwrap_or(now);
        assert!(now.0 >= before.0, "a term went back");
        assert!(now.1 >= before.1, "a commit index went back");
        assert!(status.term >= *durable, "a machine forgot its term");
    }
}
