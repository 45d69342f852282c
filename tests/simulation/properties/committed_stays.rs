//! From the term on in which an entry was committed, no log that holds it ever loses it (§5.3, §5.4.3; rules 2 and 3).

use rm_raft::{Index, Persist};

use super::{Check, Committed, require};
use crate::simulation::log_image::LogImage;

/// Checks what a machine is about to write over its log.
pub(super) fn check(persist: &Persist, log: &LogImage, committed: &[Committed]) -> Check {
    let Some(first) = persist.entries.first() else {
        return Ok(());
    };
    let end = log.last().index.0.min(committed.len() as u64);
    for index in first.id.index.0..=end {
        let before = log.id_at(Index(index));
        let place = index as usize - first.id.index.0 as usize;
        let after = persist.entries.get(place).map(|entry| entry.id);
        let Committed { id, term } = committed[index as usize - 1];
        let lost = before == Some(id) && before != after && persist.hard_state.term >= term;
        require(!lost, "committed stays", || {
            format!("{before:?} is committed and replaced by {after:?}")
        })?;
    }
    Ok(())
}
