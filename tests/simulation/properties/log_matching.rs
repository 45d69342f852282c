//! If two logs hold an entry with the same index and term, they are the same up to it (§5.3; rule 3). It follows when every
//! such entry, anywhere, has the same content and the same entry before it.

use std::collections::HashMap;

use rm_raft::{EntryId, Payload, Persist};

use super::{Check, require};
use crate::simulation::log_image::LogImage;

/// Every entry that any machine ever asked to write: the one before it, and what it says.
#[derive(Debug, Default)]
pub(super) struct LogMatching {
    entries: HashMap<EntryId, (EntryId, Payload)>,
}

impl LogMatching {
    /// Checks what a machine is about to write over its log.
    pub(super) fn check(&mut self, persist: &Persist, log: &LogImage) -> Check {
        let Some(first) = persist.entries.first() else {
            return Ok(());
        };
        let before = first.id.index.previous();
        let mut before = log.id_at(before).unwrap_or_default();
        for entry in &persist.entries {
            let here = (before, entry.payload.clone());
            let known = self.entries.entry(entry.id).or_insert(here);
            let same = known.0 == before && known.1 == entry.payload;
            require(same, "log matching", || {
                let here = (before, &entry.payload);
                format!("{} is {here:?} here and {known:?} elsewhere", entry.id)
            })?;
            before = entry.id;
        }
        Ok(())
    }
}
