//! If two logs hold an entry with the same index and term, they are the same up to it (§5.3). It follows when every such
//! entry, anywhere, has the same content and the same entry before it.

use std::collections::BTreeMap;

use crate::testing::machine::Machine;
use crate::{Entry, EntryId};

#[derive(Debug, Default)]
pub(super) struct LogMatching {
    entries: BTreeMap<EntryId, (EntryId, Entry)>,
}

impl LogMatching {
    /// Checks what Storage was last asked to write; all else was checked before.
    pub(super) fn check(&mut self, machine: &Machine) {
        let Some((mut before, entries)) = machine.last_to_write() else {
            return;
        };
        for entry in entries {
            let here = (before, entry.clone());
            let known = self.entries.entry(entry.id).or_insert_with(|| here.clone());
            assert_eq!(*known, here, "two logs differ before or at {}", entry.id);
            before = entry.id;
        }
    }
}
