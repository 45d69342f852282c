//! From the term on in which an entry was committed, no log that holds it ever loses it (§5.3, §5.4.3; rules 2 and 3).

use rm_raft::{EntryId, Index, Persist, Status, Term};

use super::{Check, Committed, require};
use crate::simulation::log_image::LogImage;

/// In which term each machine's log began to change since its core handed out effects.
///
/// One that was stopped takes in all that came meanwhile at once: an earlier leader's entries in an earlier term, and then the
/// news of a later term, by whose leader others may have committed what it has just removed. So what changed in several terms before
/// the effects were handed out counts for the earliest of them.
#[derive(Debug)]
pub(super) struct Changes {
    machines: Vec<Change>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Change {
    life: u64,
    last: EntryId,
    begun: Option<Term>,
}

impl Changes {
    pub(super) fn new(machines: usize) -> Changes {
        Changes {
            machines: vec![Change::default(); machines],
        }
    }

    /// A core took an input.
    pub(super) fn stepped(&mut self, place: usize, life: u64, status: &Status) {
        let change = &mut self.machines[place];
        if (change.life, change.last) != (life, status.last) {
            let begun = change.begun.filter(|_| change.life == life);
            *change = Change {
                life,
                last: status.last,
                begun: begun.or(Some(status.term)),
            };
        }
    }

    /// A core handed out all its effects, before which a leader may have added to its log once more.
    pub(super) fn flushed(&mut self, place: usize, status: &Status) {
        let change = &mut self.machines[place];
        change.begun = None;
        change.last = status.last;
    }

    /// When the machine's log began to change to what it is about to write.
    fn begun(&self, place: usize, persist: &Persist) -> Term {
        let begun = self.machines[place].begun;
        begun.unwrap_or(persist.hard_state.term)
    }
}

/// Checks what a machine is about to write over its log.
pub(super) fn check(
    place: usize,
    persist: &Persist,
    log: &LogImage,
    changes: &Changes,
    committed: &[Committed],
) -> Check {
    let Some(first) = persist.entries.first() else {
        return Ok(());
    };
    let changed_in = changes.begun(place, persist);
    let end = log.last().index.0.min(committed.len() as u64);
    for index in first.id.index.0..=end {
        let before = log.id_at(Index(index));
        let after = (index - first.id.index.0) as usize;
        let after = persist.entries.get(after).map(|entry| entry.id);
        let Committed { id, term } = committed[index as usize - 1];
        let lost = before == Some(id) && before != after && changed_in >= term;
        require(!lost, "committed stays", || {
            format!("{before:?} is committed and replaced by {after:?}")
        })?;
    }
    Ok(())
}
