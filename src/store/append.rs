//! One batch of appends: checked, written, and made durable by one commit.

use heed::RwTxn;
use rm_raft::{Entry, EntryId, HardState, Index, Term};

use crate::{
    Era, Log, LogError, Point,
    tables::{Base, Tail},
};

/// A write transaction on the log. Dropped without [`Append::commit`], it leaves nothing behind.
///
/// Invariants: the log has no gap; terms in it never go down and never exceed the hard state's; nothing up to the commit
/// index changes; the commit index never exceeds the last entry; term, commit index and, within a term, vote never go back.
/// Nor does the base, which never exceeds the commit index.
pub struct Append<'a> {
    pub(crate) log: &'a Log,
    pub(crate) txn: RwTxn<'a>,
    /// What is durable.
    durable: Tail,
    pub(crate) hard_state: HardState,
    pub(crate) base: Base,
    /// As in [`Tail`].
    pub(crate) first: Index,
    pub(crate) last: EntryId,
    /// The era that the log is to name from this commit on, if another than before.
    pub(crate) era: Option<Era>,
    /// Bytes of the entries that were written.
    written_bytes: u64,
    /// Whether entries were written or removed.
    pub(crate) changed: bool,
    /// Whether a write has failed half-way.
    pub(crate) broken: bool,
}

impl<'a> Append<'a> {
    pub(crate) fn new(log: &'a Log, txn: RwTxn<'a>, durable: Tail) -> Append<'a> {
        Append {
            log,
            txn,
            durable,
            hard_state: durable.hard_state,
            base: durable.base,
            first: durable.first,
            last: durable.last,
            era: None,
            written_bytes: 0,
            changed: false,
            broken: false,
        }
    }

    /// The last entry, as it will be durable.
    pub fn last(&self) -> EntryId {
        self.last
    }

    /// Term, vote and commit index, as they will be durable.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Bytes of the entries in this batch, keys and values, as they lie in the log.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Adds a hard state and entries to the batch.
    ///
    /// Whatever the log holds from the first entry's index on is removed before; entries that are committed already must be
    /// the same, and are passed over.
    ///
    /// # Errors
    /// A refusal (up to [`LogError::CommitBeyondLog`]) is a fault of the caller and changes nothing. The caller drops the
    /// batch after it, since what comes next in it rests on what was refused; after any other error nothing else is left.
    pub fn persist(&mut self, hard_state: &HardState, entries: &[Entry]) -> Result<(), LogError> {
        if self.broken {
            return Err(LogError::Broken);
        }
        self.check_hard_state(hard_state)?;
        self.check_entries(hard_state.term, entries)?;
        let entries = self.pass_over_committed(entries)?;
        let last = entries.last().map_or(self.last, |entry| entry.id);
        if hard_state.commit > last.index {
            return Err(LogError::CommitBeyondLog {
                commit: hard_state.commit,
                last,
            });
        }
        if let Some(first) = entries.first() {
            self.broken = true;
            self.write(first.id.index, entries)?;
            self.broken = false;
        }
        self.last = last;
        self.hard_state = *hard_state;
        Ok(())
    }

    /// Makes the batch durable. An empty one costs nothing.
    ///
    /// # Errors
    /// Nothing of the batch is durable then, except after an error of the disk at the very end, when all of it may be.
    pub fn commit(mut self) -> Result<(), LogError> {
        if self.broken {
            return Err(LogError::Broken);
        }
        self.trim()?;
        if self.hard_state != self.durable.hard_state {
            self.changed = true;
            self.log
                .tables
                .put_hard_state(&mut self.txn, &self.hard_state)?;
        }
        if self.base != self.durable.base {
            self.changed = true;
            self.log.tables.put_base(&mut self.txn, &self.base)?;
        }
        if let Some(era) = self.era {
            self.changed = true;
            self.log.tables.put_era(&mut self.txn, era)?;
        }
        if !self.changed {
            return Ok(());
        }
        let tail = Tail {
            transaction: self.txn.id(),
            hard_state: self.hard_state,
            base: self.base,
            first: self.first,
            last: self.last,
        };
        self.log.environment.commit(self.txn)?;
        self.log.remember(tail);
        Ok(())
    }

    fn write(&mut self, from: Index, entries: &[Entry]) -> Result<(), LogError> {
        self.log.environment.at(Point::Write)?;
        // What is behind must be there, or the log has a gap that nobody would see.
        self.term_before(from)?;
        if from <= self.last.index {
            self.log.tables.truncate(&mut self.txn, from)?;
        }
        self.log.environment.at(Point::Append)?;
        self.written_bytes += self.log.tables.append(&mut self.txn, entries)?;
        self.changed = true;
        Ok(())
    }

    fn check_hard_state(&self, next: &HardState) -> Result<(), LogError> {
        let durable = &self.hard_state;
        if next.term < durable.term {
            return Err(LogError::TermRegressed {
                durable: durable.term,
                found: next.term,
            });
        }
        if let Some(vote) = durable.vote
            && next.term == durable.term
            && next.vote != durable.vote
        {
            return Err(LogError::VoteChanged {
                term: durable.term,
                durable: vote,
                found: next.vote,
            });
        }
        if next.commit < durable.commit {
            return Err(LogError::CommitRegressed {
                durable: durable.commit,
                found: next.commit,
            });
        }
        Ok(())
    }

    /// Checks that the entries follow on the log and on each other (§5.3, log matching).
    fn check_entries(&self, term: Term, entries: &[Entry]) -> Result<(), LogError> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        let expected = self.last.index.next();
        if first.id.index > expected || first.id.index == Index(0) {
            return Err(LogError::Gap {
                expected,
                found: first.id.index,
            });
        }
        let mut previous = EntryId {
            term: self.term_before(first.id.index)?,
            index: first.id.index.previous(),
        };
        for entry in entries {
            let found = entry.id;
            if found.index != previous.index.next() {
                return Err(LogError::Gap {
                    expected: previous.index.next(),
                    found: found.index,
                });
            }
            if found.term < previous.term || found.term > term {
                return Err(LogError::EntryTerm {
                    previous,
                    found,
                    term,
                });
            }
            previous = found;
        }
        Ok(())
    }

    /// The entries behind the commit index; those before must be what the log holds.
    fn pass_over_committed<'e>(&self, entries: &'e [Entry]) -> Result<&'e [Entry], LogError> {
        let commit = self.hard_state.commit;
        let committed = entries.iter().take_while(|entry| entry.id.index <= commit);
        let mut count = 0;
        for entry in committed {
            if !self.holds(entry)? {
                return Err(LogError::Committed {
                    found: entry.id,
                    commit,
                });
            }
            count += 1;
        }
        Ok(&entries[count..])
    }

    /// Whether a committed entry is the one that the log has there. Of those before the base nothing is left to compare.
    fn holds(&self, entry: &Entry) -> Result<bool, LogError> {
        let base = self.base.entry;
        if entry.id.index < base.index {
            return Ok(entry.id.term <= base.term);
        }
        if entry.id.index == base.index {
            return Ok(entry.id == base);
        }
        let found = self.log.tables.entry(&self.txn, entry.id.index)?;
        Ok(found.as_ref() == Some(entry))
    }

    /// The term of the entry before an index; zero where that is not known: before the first, and before the base.
    fn term_before(&self, index: Index) -> Result<Term, LogError> {
        let previous = index.previous();
        if previous == self.last.index {
            return Ok(self.last.term);
        }
        if previous == self.base.entry.index {
            return Ok(self.base.entry.term);
        }
        if previous < self.base.entry.index {
            return Ok(Term(0));
        }
        let entry = self.log.tables.entry(&self.txn, previous)?;
        let entry = entry.ok_or(LogError::Damaged {
            index: previous,
            reason: "it is missing",
        })?;
        Ok(entry.id.term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, entries, entry, hard_state, persist, remove};

    fn refusal(log: &Log, hard_state: HardState, entries: &[Entry]) -> LogError {
        let mut append = log.begin().expect("an append begins");
        let before = append.last();
        let error = append
            .persist(&hard_state, entries)
            .expect_err("it is refused");
        assert_eq!(append.last(), before, "a refusal changes nothing");
        append.commit().expect("nothing of it is half-written");
        error
    }

    #[test]
    fn what_is_committed_is_there_after_reopening() {
        let place = Place::new();
        {
            let (_directory, log) = place.open();
            persist(&log, hard_state(1, 2, 0), &entries(1, 1, 3));
            persist(&log, hard_state(3, 1, 2), &entries(3, 4, 6));
        }
        let (_directory, log) = place.open();
        let loaded = log.load().unwrap();
        assert_eq!(loaded.hard_state, hard_state(3, 1, 2));
        assert_eq!(loaded.terms, [entry(1, 1, 40).id, entry(3, 4, 40).id]);
        assert_eq!((loaded.first, loaded.last), (Index(1), entry(3, 6, 40).id));
        let read = log
            .reader()
            .entries(Index(1), Index(9), usize::MAX)
            .unwrap();
        assert_eq!(read, [entries(1, 1, 3), entries(3, 4, 6)].concat());
    }

    #[test]
    fn an_append_from_inside_the_log_truncates_it_there() {
        let place = Place::new();
        let (_directory, log) = place.open();
        persist(
            &log,
            hard_state(2, 0, 1),
            &[entries(1, 1, 3), entries(2, 4, 6)].concat(),
        );
        persist(&log, hard_state(3, 0, 1), &entries(3, 3, 3));
        let loaded = log.load().unwrap();
        assert_eq!(loaded.last, entry(3, 3, 40).id);
        assert_eq!(loaded.terms, [entry(1, 1, 40).id, entry(3, 3, 40).id]);
        let read = log
            .reader()
            .entries(Index(1), Index(9), usize::MAX)
            .unwrap();
        assert_eq!(read, [entries(1, 1, 2), entries(3, 3, 3)].concat());
    }

    #[test]
    fn a_gap_is_refused() {
        let place = Place::new();
        let (_directory, log) = place.open();
        persist(&log, hard_state(1, 0, 0), &entries(1, 1, 3));
        let error = refusal(&log, hard_state(1, 0, 0), &entries(1, 5, 5));
        assert!(
            matches!(
                error,
                LogError::Gap {
                    expected: Index(4),
                    found: Index(5)
                }
            ),
            "{error}"
        );
        let inside = [entries(1, 4, 4), entries(1, 6, 6)].concat();
        let error = refusal(&log, hard_state(1, 0, 0), &inside);
        assert!(
            matches!(
                error,
                LogError::Gap {
                    expected: Index(5),
                    found: Index(6)
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn terms_votes_and_commit_indexes_never_go_back() {
        let place = Place::new();
        let (_directory, log) = place.open();
        persist(&log, hard_state(3, 2, 2), &entries(2, 1, 3));
        let error = refusal(&log, hard_state(2, 2, 2), &[]);
        assert!(matches!(error, LogError::TermRegressed { .. }), "{error}");
        for vote in [0, 1] {
            let error = refusal(&log, hard_state(3, vote, 2), &[]);
            assert!(matches!(error, LogError::VoteChanged { .. }), "{error}");
        }
        let error = refusal(&log, hard_state(4, 0, 1), &[]);
        assert!(matches!(error, LogError::CommitRegressed { .. }), "{error}");
        persist(&log, hard_state(4, 0, 2), &[]);
        persist(&log, hard_state(4, 1, 3), &[]);
        assert_eq!(log.load().unwrap().hard_state, hard_state(4, 1, 3));
    }

    #[test]
    fn a_commit_index_beyond_the_log_is_refused() {
        let place = Place::new();
        let (_directory, log) = place.open();
        persist(&log, hard_state(1, 0, 0), &entries(1, 1, 3));
        let error = refusal(&log, hard_state(1, 0, 4), &[]);
        assert!(matches!(error, LogError::CommitBeyondLog { .. }), "{error}");
        persist(&log, hard_state(1, 0, 4), &entries(1, 4, 4));
    }

    #[test]
    fn an_entry_of_a_lower_term_or_above_the_machines_is_refused() {
        let place = Place::new();
        let (_directory, log) = place.open();
        persist(&log, hard_state(2, 0, 0), &entries(2, 1, 3));
        let error = refusal(&log, hard_state(2, 0, 0), &entries(1, 4, 4));
        assert!(matches!(error, LogError::EntryTerm { .. }), "{error}");
        let error = refusal(&log, hard_state(2, 0, 0), &entries(3, 4, 4));
        assert!(matches!(error, LogError::EntryTerm { .. }), "{error}");
    }

    #[test]
    fn committed_entries_stay_and_may_only_be_repeated() {
        let place = Place::new();
        let (_directory, log) = place.open();
        persist(&log, hard_state(1, 0, 3), &entries(1, 1, 4));
        let error = refusal(&log, hard_state(2, 0, 3), &entries(2, 3, 4));
        assert!(matches!(error, LogError::Committed { .. }), "{error}");
        let mut repeated = entries(1, 2, 3);
        repeated.extend(entries(2, 4, 5));
        persist(&log, hard_state(2, 0, 3), &repeated);
        assert_eq!(log.load().unwrap().last, entry(2, 5, 40).id);
        persist(&log, hard_state(2, 0, 3), &entries(1, 1, 2));
        assert_eq!(
            log.load().unwrap().last,
            entry(2, 5, 40).id,
            "a stale repetition truncates nothing"
        );
    }

    #[test]
    fn nothing_is_appended_behind_an_entry_that_is_missing() {
        let place = Place::new();
        let (_directory, log) = place.open();
        persist(&log, hard_state(1, 0, 0), &entries(1, 1, 6));
        remove(&log, Index(3));
        let mut append = log.begin().unwrap();
        let error = append
            .persist(&hard_state(2, 0, 0), &entries(2, 4, 4))
            .expect_err("entry 3 is missing");
        assert!(
            matches!(
                error,
                LogError::Damaged {
                    index: Index(3),
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_dropped_append_leaves_nothing() {
        let place = Place::new();
        let (_directory, log) = place.open();
        persist(&log, hard_state(1, 0, 0), &entries(1, 1, 2));
        let mut append = log.begin().unwrap();
        append
            .persist(&hard_state(2, 3, 1), &entries(2, 2, 9))
            .unwrap();
        drop(append);
        let loaded = log.load().unwrap();
        assert_eq!(
            (loaded.hard_state, loaded.last),
            (hard_state(1, 0, 0), entry(1, 2, 40).id)
        );
    }
}
