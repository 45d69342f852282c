//! Compaction of the log, and the switch to the state of a snapshot: both move the base, in the transaction of an append.

use rm_raft::{Configured, EntryId, Index};

use crate::{Append, LogError, Point};

/// The most compacted entries that one commit removes, so that a large compaction holds up no append; the next ones
/// remove the rest.
const TRIM_ENTRIES_MAX: u64 = 4096;

impl Append<'_> {
    /// Moves the base up to a committed entry that the durable state holds. From this commit on the log has no entry up to it;
    /// their space is given back by this commit and the following ones, some thousand entries each. One at or before the
    /// base changes nothing.
    ///
    /// # Errors
    /// [`LogError::CompactBeyondCommit`] for what is not committed and [`LogError::Committed`] for an entry that is not the one there; both
    /// change nothing.
    pub fn compact(&mut self, up_to: EntryId) -> Result<(), LogError> {
        if self.broken {
            return Err(LogError::Broken);
        }
        let commit = self.hard_state.commit;
        if up_to.index > commit {
            return Err(LogError::CompactBeyondCommit {
                found: up_to,
                commit,
            });
        }
        if up_to.index <= self.base.entry.index {
            return Ok(());
        }
        if !self.has(up_to)? {
            return Err(LogError::Committed {
                found: up_to,
                commit,
            });
        }
        self.base.entry = up_to;
        Ok(())
    }

    /// Puts the log on the base of a snapshot, and the state `generation` in force, which must be durable: one commit does
    /// both. Returns the last entry of the log as it will be.
    ///
    /// Entries that follow on the snapshot's last one and match are kept, which is so exactly when the log has that very entry
    /// (log matching, §5.3, §7); else none is. The commit index goes up to the snapshot's last entry at least, since a
    /// snapshot holds only what is committed. The snapshot's configuration takes the place of all up to its last entry.
    ///
    /// # Errors
    /// [`LogError::StaleSnapshot`] for one before the base, of a later term than the hard state's, or with a generation that was in force
    /// before; [`LogError::Committed`] for one that contradicts what is committed here. Both change nothing.
    pub fn install(
        &mut self,
        generation: u64,
        base: EntryId,
        configured: &Configured,
    ) -> Result<EntryId, LogError> {
        if self.broken {
            return Err(LogError::Broken);
        }
        self.check_snapshot(generation, base)?;
        let matches = self.has(base)?;
        let commit = self.hard_state.commit;
        if !matches && base.index <= commit {
            return Err(LogError::Committed {
                found: base,
                commit,
            });
        }
        self.broken = true;
        self.log.environment.at(Point::Install)?;
        if !matches {
            self.log.tables.clear(&mut self.txn)?;
            self.first = base.index.next();
            self.last = base;
        }
        self.log
            .tables
            .put_configuration(&mut self.txn, base, configured)?;
        self.broken = false;
        self.hard_state.commit = commit.max(base.index);
        self.base.generation = generation;
        self.base.entry = base;
        Ok(self.last)
    }

    fn check_snapshot(&self, generation: u64, base: EntryId) -> Result<(), LogError> {
        let reason = if generation <= self.base.generation {
            "a state of this generation was in force already"
        } else if base.index < self.base.entry.index {
            "the log is compacted beyond it"
        } else if base.term > self.hard_state.term {
            "the machine has not heard of its term"
        } else {
            return Ok(());
        };
        Err(LogError::StaleSnapshot {
            found: base,
            generation,
            reason,
        })
    }

    /// Removes the next slice of what is compacted.
    pub(crate) fn trim(&mut self) -> Result<(), LogError> {
        let base = self.base.entry.index;
        if self.first > base {
            return Ok(());
        }
        self.log.environment.at(Point::Trim)?;
        let up_to = Index(self.first.0 + TRIM_ENTRIES_MAX - 1).min(base);
        self.log.tables.trim(&mut self.txn, up_to)?;
        self.first = up_to.next();
        self.changed = true;
        Ok(())
    }

    /// Whether the log has an entry with this index and term, at the base or behind it.
    pub(crate) fn has(&self, id: EntryId) -> Result<bool, LogError> {
        if id == self.base.entry {
            return Ok(true);
        }
        if id.index <= self.base.entry.index {
            return Ok(false);
        }
        let entry = self.log.tables.entry(&self.txn, id.index)?;
        Ok(entry.is_some_and(|entry| entry.id == id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, entries, entry, hard_state, identity, persist};
    use crate::{DataDirectory, Environment, Log};
    use rm_raft::{Configuration, Entry, MachineId, Payload};

    fn configured(index: u64) -> Configured {
        Configured {
            index: Index(index),
            configuration: Configuration::of_voters([MachineId(index + 1)]),
        }
    }

    /// The entry that holds it.
    fn configuration(term: u64, index: u64) -> Entry {
        let Configured { configuration, .. } = configured(index);
        Entry {
            id: entry(term, index, 0).id,
            payload: Payload::Configuration {
                request: None,
                configuration: Box::new(configuration),
            },
        }
    }

    #[test]
    fn the_configuration_in_force_at_the_base_stays_when_its_entry_goes() {
        let place = Place::new();
        let (directory, log) = place.open();
        let mut all = entries(1, 1, 9);
        for index in [2, 4, 8] {
            all[index as usize - 1] = configuration(1, index);
        }
        persist(&log, hard_state(1, 0, 9), &all);
        let mut append = log.begin().unwrap();
        append.compact(entry(1, 6, 40).id).unwrap();
        append.commit().unwrap();
        let kept = [configured(4), configured(8)];
        assert_eq!(log.load().unwrap().configurations, kept);
        drop((directory, log));
        let (_directory, log) = place.open();
        assert_eq!(log.load().unwrap().configurations, kept);
        let mut append = log.begin().unwrap();
        append
            .install(1, entry(1, 7, 40).id, &configured(5))
            .unwrap();
        append.commit().unwrap();
        let kept = [configured(5), configured(8)];
        assert_eq!(log.load().unwrap().configurations, kept);
    }

    #[test]
    fn a_log_that_holds_a_configuration_is_of_the_second_format() {
        let place = Place::new();
        let (_directory, log) = place.open();
        persist(&log, hard_state(1, 0, 0), &[configuration(1, 1)]);
        let txn = log.environment.env().read_txn().unwrap();
        assert_eq!(log.tables.format(&txn).unwrap(), Some(2));
    }

    #[test]
    fn a_large_compaction_is_spread_over_commits() {
        let place = Place::new();
        let (_directory, log) = place.open();
        let count = 2 * TRIM_ENTRIES_MAX + 10;
        persist(&log, hard_state(1, 0, count), &entries(1, 1, count));
        let mut append = log.begin().unwrap();
        append.compact(entry(1, count - 5, 40).id).unwrap();
        append.commit().unwrap();
        let mut left = Vec::new();
        loop {
            let loaded = log
                .load()
                .expect("a slice leaves nothing that does not fit");
            assert_eq!(loaded.first, Index(count - 4));
            assert_eq!(loaded.terms, [entry(1, count - 4, 40).id]);
            left.push(log.untrimmed().unwrap());
            if left.last() == Some(&0) {
                break;
            }
            log.begin().unwrap().commit().unwrap();
        }
        assert_eq!(left, [TRIM_ENTRIES_MAX + 5, 5, 0]);
        let kept = log
            .reader()
            .entries(Index(count - 4), Index(count), usize::MAX);
        assert_eq!(kept.unwrap(), entries(1, count - 4, count));
    }

    #[test]
    fn what_is_compacted_is_told_from_damage() {
        let place = Place::new();
        let (_directory, log) = place.open();
        persist(&log, hard_state(1, 0, 6), &entries(1, 1, 9));
        let mut append = log.begin().unwrap();
        append.compact(entry(1, 4, 40).id).unwrap();
        append.commit().unwrap();
        let base = entry(1, 4, 40).id;
        for from in 1..=4 {
            let error = log.reader().entries(Index(from), Index(9), usize::MAX);
            let error = error.expect_err("it is gone");
            assert!(
                matches!(error, LogError::Compacted { index: Index(index), base: found } if index == from && found == base),
                "{error}"
            );
        }
        assert_eq!(
            log.reader().entries(Index(5), Index(9), 1).unwrap(),
            entries(1, 5, 5)
        );
    }

    #[test]
    fn only_what_is_committed_is_compacted() {
        let place = Place::new();
        let (_directory, log) = place.open();
        persist(&log, hard_state(2, 0, 3), &entries(1, 1, 5));
        let mut append = log.begin().unwrap();
        let error = append
            .compact(entry(1, 4, 40).id)
            .expect_err("4 may change");
        assert!(
            matches!(error, LogError::CompactBeyondCommit { .. }),
            "{error}"
        );
        let error = append
            .compact(entry(2, 3, 40).id)
            .expect_err("it is another");
        assert!(matches!(error, LogError::Committed { .. }), "{error}");
        append.compact(entry(1, 3, 40).id).unwrap();
        append
            .compact(entry(1, 2, 40).id)
            .expect("an older one is passed over");
        append.commit().unwrap();
        assert_eq!(log.load().unwrap().base, entry(1, 3, 40).id);
    }

    #[test]
    fn a_snapshot_keeps_what_follows_on_it_and_drops_what_contradicts_it() {
        for (term, kept) in [(1, 9), (2, 6)] {
            let place = Place::new();
            let (_directory, log) = place.open();
            persist(&log, hard_state(2, 0, 3), &entries(1, 1, 9));
            let mut append = log.begin().unwrap();
            let last = append
                .install(1, entry(term, 6, 40).id, &configured(5))
                .unwrap();
            assert_eq!(last.index, Index(kept));
            append.commit().unwrap();
            drop((_directory, log));
            let (_directory, log) = place.open();
            let loaded = log.load().unwrap();
            assert_eq!((loaded.base, loaded.generation), (entry(term, 6, 40).id, 1));
            assert_eq!((loaded.last, loaded.first), (last, Index(7)));
            assert_eq!(loaded.hard_state, hard_state(2, 0, 6));
            assert_eq!(loaded.configurations, [configured(5)]);
            persist(&log, hard_state(2, 0, 6), &entries(2, 7, 8));
            assert_eq!(log.load().unwrap().terms, [entry(2, 7, 40).id]);
        }
    }

    #[test]
    fn a_snapshot_that_is_stale_or_contradicts_what_is_committed_is_refused() {
        let place = Place::new();
        let (_directory, log) = place.open();
        persist(&log, hard_state(2, 0, 6), &entries(1, 1, 9));
        let mut append = log.begin().unwrap();
        append.compact(entry(1, 4, 40).id).unwrap();
        append
            .install(3, entry(1, 5, 40).id, &configured(5))
            .unwrap();
        for (generation, base) in [(3, (1, 7)), (4, (1, 4)), (4, (3, 12))] {
            let error = append.install(generation, entry(base.0, base.1, 40).id, &configured(1));
            let error = error.expect_err("it is stale");
            assert!(matches!(error, LogError::StaleSnapshot { .. }), "{error}");
        }
        let error = append.install(4, entry(2, 6, 40).id, &configured(5));
        let error = error.expect_err("entry 6 is committed in term 1");
        assert!(matches!(error, LogError::Committed { .. }), "{error}");
        append.commit().expect("a refusal breaks nothing");
    }

    #[test]
    fn entries_before_the_base_may_be_repeated_and_change_nothing() {
        let place = Place::new();
        let (_directory, log) = place.open();
        persist(&log, hard_state(1, 0, 6), &entries(1, 1, 6));
        let mut append = log.begin().unwrap();
        append.compact(entry(1, 6, 40).id).unwrap();
        append.commit().unwrap();
        persist(&log, hard_state(2, 0, 6), &entries(1, 2, 5));
        let repeated = [entries(1, 5, 6), entries(2, 7, 8)].concat();
        persist(&log, hard_state(2, 0, 6), &repeated);
        let loaded = log.load().unwrap();
        assert_eq!(
            (loaded.base, loaded.last),
            (entry(1, 6, 40).id, entry(2, 8, 40).id)
        );
        let mut append = log.begin().unwrap();
        let error = append.persist(&hard_state(3, 0, 6), &entries(2, 6, 7));
        let error = error.expect_err("entry 6 was of term 1");
        assert!(matches!(error, LogError::Committed { .. }), "{error}");
    }

    #[test]
    fn a_log_is_of_the_first_format_until_it_has_a_base_and_a_newer_one_is_refused() {
        let place = Place::new();
        let (directory, log) = place.open();
        persist(&log, hard_state(1, 0, 2), &entries(1, 1, 3));
        let format = |log: &Log| {
            let txn = log.environment.env().read_txn().unwrap();
            log.tables.format(&txn).unwrap()
        };
        assert_eq!(
            format(&log),
            Some(1),
            "a program that knows no base may open it"
        );
        let mut append = log.begin().unwrap();
        append.compact(entry(1, 2, 40).id).unwrap();
        append.commit().unwrap();
        assert_eq!(format(&log), Some(2));
        let mut txn = log.environment.env().write_txn().unwrap();
        log.tables.raise_format(&mut txn, 4).unwrap();
        log.environment.commit(txn).unwrap();
        drop((directory, log));
        let directory = DataDirectory::open(place.path(), &identity()).unwrap();
        let environment = Environment::open(&directory, "log", &place.options).unwrap();
        let error = Log::open(&environment).expect_err("it is newer");
        assert!(
            matches!(error, LogError::NewerFormat { found: 4, known: 3 }),
            "{error}"
        );
    }
}
