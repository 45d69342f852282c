//! Another era of the domain begins with what one log holds: its machine becomes the only voter, whatever the others had.

use bytes::Bytes;
use rm_raft::{Configuration, Entry, EntryId, HardState, MachineId, Payload};

use crate::{Append, Era, LogError};

impl Append<'_> {
    /// Begins an era in which `machine` decides alone: a configuration with it as the only voter, and with what is told `about` it,
    /// lies behind the last entry, in a later term in which the machine has voted for itself, and all up to there is committed.
    /// Returns its entry.
    ///
    /// The commit of this append makes the entry, the hard state and the era durable at once. The term is later than any that the
    /// log or a vote of this machine names, so that nothing which was written or promised before is taken for part of it; what
    /// others wrote in that very term is of another era.
    ///
    /// # Errors
    /// As of [`Append::persist`].
    pub fn begin_era(
        &mut self,
        era: Era,
        machine: MachineId,
        about: Bytes,
    ) -> Result<EntryId, LogError> {
        let id = EntryId {
            term: self.hard_state.term.next(),
            index: self.last.index.next(),
        };
        let hard_state = HardState {
            term: id.term,
            vote: Some(machine),
            commit: id.index,
        };
        let configuration = Configuration {
            about: [(machine, about)].into(),
            ..Configuration::of_voters([machine])
        };
        let payload = Payload::Configuration {
            request: None,
            configuration: Box::new(configuration),
        };
        self.persist(&hard_state, &[Entry { id, payload }])?;
        self.era = Some(era);
        Ok(id)
    }

    /// Begins an empty log behind an entry that a state has applied: a new domain goes on with that state. No configuration is in it, so
    /// that the driver says who takes part.
    ///
    /// # Errors
    /// [`LogError::StaleSnapshot`] for a log that is not empty; [`LogError::Broken`].
    pub fn begin_behind(&mut self, applied: EntryId) -> Result<(), LogError> {
        if self.broken {
            return Err(LogError::Broken);
        }
        if self.last != EntryId::default() || self.hard_state != HardState::default() {
            return Err(LogError::StaleSnapshot {
                found: applied,
                generation: self.base.generation,
                reason: "the log is not empty",
            });
        }
        self.hard_state = HardState {
            term: applied.term,
            vote: None,
            commit: applied.index,
        };
        self.base.entry = applied;
        self.first = applied.index.next();
        self.last = applied;
        Ok(())
    }

    /// Has the log name the era that it is in, with this commit.
    pub fn keep_era(&mut self, era: Era) {
        self.era = Some(era);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, entries, entry, hard_state, persist};
    use rm_raft::{Configured, Index, Term};

    const LOCAL: MachineId = MachineId(1);

    fn begin(log: &crate::Log, era: Era) -> EntryId {
        let mut append = log.begin().unwrap();
        let id = append
            .begin_era(era, LOCAL, Bytes::from_static(b"here"))
            .unwrap();
        append.commit().unwrap();
        id
    }

    /// An entry that holds a joint configuration, in which the others could still decide.
    fn joint(term: u64, index: u64) -> Entry {
        let configuration = Configuration {
            voters: vec![MachineId(2), MachineId(3)],
            outgoing: vec![LOCAL, MachineId(2)],
            ..Configuration::default()
        };
        Entry {
            id: entry(term, index, 0).id,
            payload: Payload::Configuration {
                request: None,
                configuration: Box::new(configuration),
            },
        }
    }

    #[test]
    fn an_era_begins_with_all_that_the_log_holds_and_its_machine_alone() {
        let place = Place::new();
        let (directory, log) = place.open();
        let mut all = entries(3, 1, 5);
        all[4] = joint(3, 5);
        persist(&log, hard_state(7, 2, 2), &all);
        assert_eq!(log.era().unwrap(), None);
        let id = begin(&log, Era(42));
        assert_eq!((id.term, id.index), (Term(8), Index(6)));
        drop((directory, log));
        let (_directory, log) = place.open();
        let loaded = log.load().unwrap();
        assert_eq!((loaded.last, log.era().unwrap()), (id, Some(Era(42))));
        assert_eq!(loaded.hard_state, hard_state(8, 1, 6));
        let latest = Configured {
            index: id.index,
            configuration: Configuration {
                voters: vec![LOCAL],
                about: [(LOCAL, Bytes::from_static(b"here"))].into(),
                ..Configuration::default()
            },
        };
        assert_eq!(loaded.configurations.last(), Some(&latest));
        let kept = log.reader().entries(Index(1), Index(5), usize::MAX);
        assert_eq!(kept.unwrap(), all);
        persist(&log, hard_state(9, 1, 7), &entries(9, 7, 8));
    }

    #[test]
    fn an_era_begins_on_a_log_of_which_nothing_is_left_but_its_base_and_on_an_empty_one() {
        let place = Place::new();
        let (_directory, log) = place.open();
        assert_eq!(begin(&log, Era(1)).index, Index(1));
        persist(&log, hard_state(2, 1, 4), &entries(2, 2, 4));
        let mut append = log.begin().unwrap();
        append.compact(entry(2, 4, 40).id).unwrap();
        append.commit().unwrap();
        let id = begin(&log, Era(2));
        let loaded = log.load().unwrap();
        assert_eq!((loaded.last, loaded.base), (id, entry(2, 4, 40).id));
        assert_eq!((id.term, id.index), (Term(3), Index(5)));
    }

    #[test]
    fn a_log_that_names_an_era_is_of_the_third_format_for_good() {
        let place = Place::new();
        let (_directory, log) = place.open();
        let format = || {
            let txn = log.environment.env().read_txn().unwrap();
            log.tables.format(&txn).unwrap()
        };
        persist(&log, hard_state(1, 1, 3), &entries(1, 1, 3));
        assert_eq!(format(), Some(1));
        let mut append = log.begin().unwrap();
        append.keep_era(Era::FIRST);
        append.commit().unwrap();
        assert_eq!((format(), log.era().unwrap()), (Some(3), Some(Era::FIRST)));
        assert_eq!(
            log.load().unwrap().last,
            entry(1, 3, 40).id,
            "all else is as it was"
        );
        let mut append = log.begin().unwrap();
        append.compact(entry(1, 2, 40).id).unwrap();
        append.commit().unwrap();
        persist(&log, hard_state(1, 1, 3), &[joint(1, 4)]);
        assert_eq!(format(), Some(3), "an older need lowers it not");
    }
}
