//! A log as it lies on a disk, or as it will once all that was asked is written.

use rm_raft::{Configuration, Configured, Entry, EntryId, Index, Payload, Snapshot};

/// Entries without a gap, after the one up to which the log is compacted.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogImage {
    base: EntryId,
    /// The configuration in force at the base.
    configured: Configured,
    entries: Vec<Entry>,
}

impl LogImage {
    /// An empty log, of a machine that begins with a configuration.
    pub(crate) fn new(configuration: Configuration) -> LogImage {
        let configured = Configured {
            index: Index(0),
            configuration,
        };
        LogImage {
            configured,
            ..LogImage::default()
        }
    }

    /// The entry up to which it is compacted.
    pub(crate) fn base(&self) -> EntryId {
        self.base
    }

    /// The last entry.
    pub(crate) fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base, |entry| entry.id)
    }

    /// The entry at an index, if it is not compacted.
    pub(crate) fn get(&self, index: Index) -> Option<&Entry> {
        let place = index.0.checked_sub(self.base.index.0 + 1)?;
        self.entries.get(place as usize)
    }

    /// The name of the entry at an index, the one up to which the log is compacted included.
    pub(crate) fn id_at(&self, index: Index) -> Option<EntryId> {
        match index == self.base.index {
            true => Some(self.base),
            false => self.get(index).map(|entry| entry.id),
        }
    }

    /// Whether this very entry stands in it.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        self.id_at(id.index) == Some(id)
    }

    /// Whether a committed entry stands in it, or in the state that stands for its beginning.
    pub(crate) fn covers(&self, id: EntryId) -> bool {
        id.index < self.base.index || self.holds(id)
    }

    /// Puts entries where they belong; what stood there and after is removed. Tells what is wrong if they leave a gap, or would
    /// change what is compacted.
    pub(crate) fn write(&mut self, entries: &[Entry]) -> Result<(), String> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        let keep = first.id.index.0.checked_sub(self.base.index.0 + 1);
        let keep = keep.filter(|&keep| keep <= self.entries.len() as u64);
        let Some(keep) = keep else {
            let (base, last) = (self.base, self.last());
            return Err(format!(
                "{} does not follow on the log from {base} to {last}",
                first.id
            ));
        };
        self.entries.truncate(keep as usize);
        self.entries.extend_from_slice(entries);
        Ok(())
    }

    /// Removes the entries up to this one.
    pub(crate) fn compact(&mut self, up_to: EntryId) {
        if self.holds(up_to) {
            self.configured = self.configured_at(up_to.index);
            let count = up_to.index.0 - self.base.index.0;
            self.entries.drain(..count as usize);
            self.base = up_to;
        }
    }

    /// Lets a snapshot stand for its beginning; what follows on the last entry of the snapshot stays (rule 13).
    pub(crate) fn install(&mut self, snapshot: &Snapshot) {
        let last = snapshot.last;
        if self.holds(last) {
            self.compact(last);
        } else if last.index > self.base.index {
            self.entries.clear();
            self.base = last;
        } else {
            return;
        }
        self.configured = snapshot.configured.clone();
    }

    /// The configuration in force at the base, and those that follow, in order.
    pub(crate) fn configurations(&self) -> Vec<Configured> {
        let later = self.entries.iter().filter_map(configured);
        [self.configured.clone()].into_iter().chain(later).collect()
    }

    /// The configuration in force: the latest, committed or not.
    pub(crate) fn configured(&self) -> Configured {
        self.configured_at(self.last().index)
    }

    /// The configuration in force at an index that is not before the base.
    pub(crate) fn configured_at(&self, index: Index) -> Configured {
        let upto = index.0.saturating_sub(self.base.index.0) as usize;
        let entries = &self.entries[..upto.min(self.entries.len())];
        let last = entries.iter().rev().find_map(configured);
        last.unwrap_or_else(|| self.configured.clone())
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

/// The configuration that an entry brings, if it does.
fn configured(entry: &Entry) -> Option<Configured> {
    match &entry.payload {
        Payload::Configuration { configuration, .. } => Some(Configured {
            index: entry.id.index,
            configuration: rm_raft::Configuration::clone(configuration),
        }),
        Payload::Empty | Payload::Command(_) => None,
    }
}
