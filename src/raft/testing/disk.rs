//! What survives a crash of a machine under test: the hard state and the log, which may be compacted.

use crate::{Configured, Entry, EntryId, HardState, Index, Payload};

/// The durable half of Storage.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) hard_state: HardState,
    /// The entry up to which the log is compacted.
    pub(super) base: EntryId,
    /// The configuration in force there, if the log or a snapshot held one.
    pub(super) configured: Option<Configured>,
    /// The entries after it.
    pub(super) log: Vec<Entry>,
}

impl Disk {
    /// The last entry.
    pub(super) fn last(&self) -> EntryId {
        self.log.last().map_or(self.base, |entry| entry.id)
    }

    /// The entry at an index.
    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        let place = index.0.checked_sub(self.base.index.0 + 1)?;
        self.log.get(place as usize)
    }

    /// Whether this very entry is known to be in the log, or compacted.
    pub(super) fn holds(&self, id: EntryId) -> bool {
        match self.entry(id.index) {
            Some(entry) => entry.id == id,
            None => id == self.base,
        }
    }

    /// Removes what is before `up_to`, and that entry too.
    pub(super) fn compact(&mut self, up_to: EntryId) {
        assert!(self.holds(up_to), "what is compacted is there");
        let mut held = self.configurations().into_iter();
        let at_base = held.rfind(|each| each.index <= up_to.index);
        self.configured = at_base.or(self.configured.take());
        self.log.retain(|entry| entry.id.index > up_to.index);
        self.base = up_to;
    }

    /// Makes room for a snapshot that ends with `last`.
    pub(super) fn install(&mut self, last: EntryId, configured: Configured) {
        if self.holds(last) {
            self.compact(last);
        } else {
            self.log.clear();
            self.base = last;
        }
        self.configured = Some(configured);
    }

    /// The configurations that the entries hold.
    pub(super) fn configurations(&self) -> Vec<Configured> {
        configurations(&self.log)
    }

    pub(super) fn persist(&mut self, hard_state: HardState, entries: &[Entry]) {
        assert!(
            hard_state.term >= self.hard_state.term,
            "the durable term never goes back"
        );
        assert!(
            hard_state.commit >= self.hard_state.commit,
            "the durable commit index never goes back"
        );
        if hard_state.term == self.hard_state.term && self.hard_state.vote.is_some() {
            assert_eq!(hard_state.vote, self.hard_state.vote, "one vote a term");
        }
        let committed = self.hard_state.commit;
        self.hard_state = hard_state;
        if let Some(first) = entries.first() {
            let before = first.id.index.previous();
            assert!(before <= self.last().index, "an append leaves no gap");
            assert!(before >= committed, "nothing committed is removed");
            assert!(before >= self.base.index, "nothing compacted is written");
            self.log.truncate((before.0 - self.base.index.0) as usize);
            self.log.extend_from_slice(entries);
        }
    }
}

/// The configurations that entries hold, in order.
pub(super) fn configurations(entries: &[Entry]) -> Vec<Configured> {
    let held = entries.iter().filter_map(|entry| match &entry.payload {
        Payload::Configuration { configuration, .. } => Some(Configured {
            index: entry.id.index,
            configuration: crate::Configuration::clone(configuration),
        }),
        Payload::Empty | Payload::Command(_) => None,
    });
    held.collect()
}
