//! A log as it lies on a disk, or as it will once all that was asked is written.

use rm_raft::{Entry, EntryId, Index};

/// Entries without a gap.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogImage {
    entries: Vec<Entry>,
}

impl LogImage {
    /// The last entry.
    pub(crate) fn last(&self) -> EntryId {
        self.entries
            .last()
            .map(|entry| entry.id)
            .unwrap_or_default()
    }

    /// The entry at an index.
    pub(crate) fn get(&self, index: Index) -> Option<&Entry> {
        self.entries.get((index.0 as usize).checked_sub(1)?)
    }

    /// The name of the entry at an index; the place before the first has the name of no entry.
    pub(crate) fn id_at(&self, index: Index) -> Option<EntryId> {
        match index {
            Index(0) => Some(EntryId::default()),
            _ => self.get(index).map(|entry| entry.id),
        }
    }

    /// Whether this very entry stands in it.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        self.id_at(id.index) == Some(id)
    }

    /// Puts entries where they belong; what stood there and after is removed. Tells what is wrong if they leave a gap.
    pub(crate) fn write(&mut self, entries: &[Entry]) -> Result<(), String> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        let keep = first.id.index.0 as usize - 1;
        if keep > self.entries.len() {
            let last = self.last();
            return Err(format!("{} leaves a gap after {last}", first.id));
        }
        self.entries.truncate(keep);
        self.entries.extend_from_slice(entries);
        Ok(())
    }

    /// The first entry of each term.
    pub(crate) fn terms(&self) -> Vec<EntryId> {
        let mut terms: Vec<EntryId> = Vec::new();
        let mut place = 0;
        while let Some(first) = self.entries.get(place) {
            terms.push(first.id);
            place += self.entries[place..].partition_point(|entry| entry.id.term <= first.id.term);
        }
        terms
    }

    /// Entries from `from` to `up_to`, at most `bytes_max` bytes unless the first is larger.
    pub(crate) fn read(&self, from: Index, up_to: Index, bytes_max: usize) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut next = from;
        while let Some(entry) = self.get(next).filter(|_| next <= up_to) {
            bytes += entry.size();
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
            next = next.next();
        }
        entries
    }

    /// All entries.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}
