//! A leader's log holds all that was committed in earlier terms (§5.4).

use std::collections::BTreeSet;

use crate::testing::machine::Machine;
use crate::{Entry, MachineId, Role, Term};

#[derive(Debug, Default)]
pub(super) struct LeaderCompleteness {
    seen: BTreeSet<(Term, MachineId)>,
}

impl LeaderCompleteness {
    /// Checks a machine that has just begun to lead against the longest log that any machine ever applied.
    pub(super) fn check(&mut self, machine: &Machine, applied: &[Entry]) {
        let Some(status) = machine.core.as_ref().map(|core| core.status()) else {
            return;
        };
        if status.role != Role::Leader || !self.seen.insert((status.term, machine.config.local)) {
            return;
        }
        let earlier = applied
            .iter()
            .take_while(|entry| entry.id.term < status.term);
        let log = machine.log();
        let compacted = match log.first() {
            Some(first) => first.id.index.0 as usize - 1,
            None => machine.checkpoint.0 as usize,
        };
        for entry in earlier.skip(compacted) {
            let held = log.get(entry.id.index.0 as usize - 1 - compacted);
            assert_eq!(
                held,
                Some(entry),
                "the leader of term {} lacks what is committed",
                status.term
            );
        }
    }
}
