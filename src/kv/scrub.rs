//! Compaction: from which revision on the key space can be read, and the removal of what no such read finds any more.
//!
//! A compaction at the revision `R` only forgets: what is older can be read no more, from that entry of the log on. The *scrub*
//! removes what has lost its readers by that, some changes an entry, so that no entry takes long and every machine removes the same
//! at the same entry. A change at `R` or before is removed
//!
//! - if a newer change of its key is at `R` or before, which every read from `R` on finds instead;
//! - if it deleted its key before `R`. One at `R` itself stays until the next compaction, so that a watch from `R` on sees it
//!   (etcd #19179).
//!
//! The scrub looks at the changes from the revision that was compacted before up to `R`, in order. Each names the change that it
//! replaced, which is removed; what was replaced by an older one, an earlier scrub has removed. It begins with the earlier revision itself,
//! for the sake of the deletions that stayed there.

use bytes::Bytes;
use heed::RoTxn;

use crate::change::Change;
use crate::error::{KvError, RequestError};
use crate::revision::{Record, Revision};
use crate::tables::{State, Tables};

/// How far a key space is compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// The revision that was compacted last; -1 when none was.
    pub revision: i64,
    /// The newest revision whose changes the scrub has looked at: all of them, and those of all revisions before. At least
    /// `revision` when nothing is left to do.
    pub scrubbed: i64,
}

impl Compaction {
    /// Of a key space that was never compacted.
    pub const NONE: Compaction = Compaction {
        revision: -1,
        scrubbed: -1,
    };

    /// Whether all that the compaction left without a reader is removed.
    pub fn is_complete(&self) -> bool {
        self.scrubbed >= self.revision
    }
}

impl State {
    /// How far the key space is compacted.
    pub(crate) fn compaction(&self) -> Compaction {
        Compaction {
            revision: self.compact_revision,
            scrubbed: self.scrub_from.main - 1,
        }
    }

    /// From which revision on nothing was removed that is not older than its compaction allows: what a watch that goes on may still be
    /// told of.
    pub(crate) fn whole_from(&self) -> i64 {
        let Revision { main, sub } = self.scrub_from;
        self.compact_revision.min(main + i64::from(sub > 0))
    }

    /// Forgets what the key space was before a revision. As in etcd, the revision zero can be compacted once.
    pub(crate) fn compact(&mut self, revision: i64) -> Result<(), RequestError> {
        if revision <= self.compact_revision {
            return Err(RequestError::Compacted);
        }
        if revision > self.revision {
            return Err(RequestError::FutureRevision);
        }
        let start = Revision::first_of(self.compact_revision.max(0));
        self.scrub_from = self.scrub_from.min(start);
        self.compact_revision = revision;
        Ok(())
    }
}

impl Change<'_, '_> {
    /// Does the next part of the scrub: looks at so many changes, or at fewer once their keys and values have so many bytes.
    pub(crate) fn scrub(&mut self, changes: u32, bytes: u32) -> Result<(), KvError> {
        let mut bytes_left = bytes as usize;
        for _ in 0..changes {
            let Some(read) = self.scrub_next()? else {
                break;
            };
            self.progress.step(read);
            bytes_left = bytes_left.saturating_sub(read);
            if bytes_left == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Looks at the next change and tells the bytes of its key and value; none when there is none left to look at.
    fn scrub_next(&mut self) -> Result<Option<usize>, KvError> {
        let compacted = self.state.compact_revision;
        let revisions = &self.tables.revisions;
        let next = revisions.first_from(self.txn, self.state.scrub_from)?;
        let Some((revision, record)) = next.filter(|(revision, _)| revision.main <= compacted)
        else {
            self.state.scrub_from = Revision::first_of(compacted + 1);
            return Ok(None);
        };
        let (bytes, previous) = (record.key.len() + record.value.len(), record.link.previous);
        let deleted = is_forgotten_deletion(revision, &record, compacted)
            .then(|| Bytes::copy_from_slice(record.key));
        self.remove(previous)?;
        if let Some(key) = deleted {
            self.remove(revision)?;
            self.forget(&key, revision)?;
        }
        self.state.scrub_from = revision.next();
        Ok(Some(bytes))
    }

    /// Removes a change, unless an earlier scrub has.
    fn remove(&mut self, revision: Revision) -> Result<(), KvError> {
        let removed = self.tables.revisions.remove(self.txn, revision)?;
        self.written.removed += u64::from(removed);
        self.tally.scrubbed += u64::from(removed);
        Ok(())
    }

    /// Takes a key out of the index if the change is the newest of it.
    fn forget(&mut self, key: &[u8], revision: Revision) -> Result<(), KvError> {
        let index = &self.tables.index;
        let newest = index.get(self.txn, key)?;
        if newest.is_some_and(|head| head.revision == revision) {
            index.remove(self.txn, key)?;
            self.written.forgotten += 1;
        }
        Ok(())
    }
}

/// Whether a change deleted its key so long ago that nobody can learn of it any more.
fn is_forgotten_deletion(revision: Revision, record: &Record, compacted: i64) -> bool {
    record.meta.is_tombstone() && revision.main < compacted
}

/// Calls `each` once for every change that the rest of the scrub will remove.
pub(crate) fn for_each_left_over(
    tables: &Tables,
    txn: &RoTxn,
    state: &State,
    mut each: impl FnMut(Revision, &Record),
) -> Result<(), KvError> {
    let (from, compacted) = (state.scrub_from, state.compact_revision);
    for change in tables.revisions.scan(txn, from.main)? {
        let (revision, record) = change?;
        if revision.main > compacted {
            break;
        }
        if revision < from {
            continue;
        }
        if is_forgotten_deletion(revision, &record, compacted) {
            each(revision, &record);
        }
        let previous = record.link.previous;
        if let Some(replaced) = tables.revisions.get(txn, previous)? {
            // A deletion among the changes that are still to be looked at is told of there.
            let told = previous >= from && is_forgotten_deletion(previous, &replaced, compacted);
            if !told {
                each(previous, &replaced);
            }
        }
    }
    Ok(())
}
