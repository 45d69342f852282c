//! Makes the next generation of a state of the state itself: the same content in a file without free pages.
//!
//! It is made ready beside the present one, as one that comes in a snapshot is, and is in force once a commit of the log names it: a crash
//! before that leaves the old state, one after it the new one.

use std::fs;

use crate::{
    Append, DataDirectory, Environment, LogError, Options, Point, SnapshotError, Snapshots,
    environment::DATA_FILE, outgoing, sealed, snapshot::remove_file, states, verify::verify_copy,
};
use rm_raft::EntryId;

impl Snapshots {
    /// Copies the last commit of a state into the state of another generation, durably, and opens that. What fails on the way leaves
    /// nothing. Until the copy is complete, pages that the writer frees are not used again.
    ///
    /// # Errors
    /// [`SnapshotError::NoSpace`] when the disk would have less left than its reserve, [`SnapshotError::Stopped`] soon after `goes_on`,
    /// which is told the bytes so far, says no, [`SnapshotError::Damaged`] for a state that is.
    pub fn make_state(
        &self,
        directory: &DataDirectory,
        state: &Environment,
        generation: u64,
        options: &Options,
        goes_on: impl Fn(u64) -> bool,
    ) -> Result<Environment, SnapshotError> {
        let name = states::name(generation);
        states::remove(directory, &name)?;
        let made = self.fill_state(directory, state, &name, options, &goes_on);
        if made.is_err() {
            // Should it stay, the next opening of the directory removes it.
            let _ = states::remove(directory, &name);
        }
        made
    }

    fn fill_state(
        &self,
        directory: &DataDirectory,
        state: &Environment,
        name: &str,
        options: &Options,
        goes_on: &dyn Fn(u64) -> bool,
    ) -> Result<Environment, SnapshotError> {
        let folder = directory.path().join(name);
        let path = folder.join(DATA_FILE);
        let failed = |error| SnapshotError::io("write", &path, error);
        fs::create_dir(&folder).map_err(failed)?;
        let file = outgoing::create(&path)?;
        drop(outgoing::fill(state, &path, file, &self.options, goes_on)?);
        // What is damaged here must not take the place of what another machine could still be compared with.
        verify_copy(&path).map_err(|damage| SnapshotError::Damaged {
            path: path.clone(),
            damage,
        })?;
        self.options.fault.at(Point::Mark).map_err(failed)?;
        Environment::adopt(&folder, &directory.data_id(), name, options)?;
        remove_file(&folder.join("lock.mdb"))?;
        sealed::sync_parent(&path)
            .and_then(|()| sealed::sync_parent(&folder))
            .map_err(failed)?;
        directory.remember(name)?;
        Ok(Environment::open(directory, name, options)?)
    }
}

impl Append<'_> {
    /// Puts the state of another generation in force, which must be durable and have applied this entry. Nothing else of the log
    /// changes: what follows on that entry is in it.
    ///
    /// # Errors
    /// [`LogError::StaleSnapshot`] for a generation that was in force before, for a state before the base, whose next entries are gone, and for one
    /// whose last entry is not the log's; it changes nothing.
    pub fn replace_state(&mut self, generation: u64, applied: EntryId) -> Result<(), LogError> {
        if self.broken {
            return Err(LogError::Broken);
        }
        let reason = if generation <= self.base.generation {
            "a state of this generation was in force already"
        } else if applied.index < self.base.entry.index {
            "the log is compacted beyond it"
        } else if !self.has(applied)? {
            "the log does not have the entry that it applied last"
        } else {
            self.log.environment.at(Point::Install)?;
            // What is applied is committed, which may not have been worth a commit of its own until now.
            self.hard_state.commit = self.hard_state.commit.max(applied.index);
            self.base.generation = generation;
            return Ok(());
        };
        Err(LogError::StaleSnapshot {
            found: applied,
            generation,
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, entries, entry, hard_state, persist};
    use crate::{Log, SnapshotOptions};

    /// A log with a base and entries behind it, of which one is known to be committed.
    fn log(place: &Place) -> (DataDirectory, Log) {
        let (directory, log) = place.open();
        persist(&log, hard_state(1, 0, 6), &entries(1, 1, 9));
        let mut append = log.begin().unwrap();
        append.compact(entry(1, 4, 40).id).unwrap();
        append.commit().unwrap();
        (directory, log)
    }

    #[test]
    fn a_state_takes_the_place_of_another_and_the_log_stays_as_it_is() {
        let place = Place::new();
        let (directory, log) = log(&place);
        let before = log.load().unwrap();
        let snapshots = Snapshots::open(&directory, SnapshotOptions::default()).unwrap();
        let old = Environment::open_state(&directory, 0, &place.options).unwrap();
        let made = snapshots.make_state(&directory, &old, 1, &place.options, |_| true);
        drop(made.unwrap());
        let mut append = log.begin().unwrap();
        append.replace_state(1, entry(1, 8, 40).id).unwrap();
        append.commit().unwrap();
        let after = log.load().unwrap();
        assert_eq!((after.generation, after.base), (1, before.base));
        assert_eq!((after.last, after.terms), (before.last, before.terms));
        assert_eq!(after.hard_state, hard_state(1, 0, 8), "it was committed");
        drop(old);
        Environment::open_state(&directory, 1, &place.options).expect("it is in force");
        assert!(!directory.path().join("state").exists());
    }

    #[test]
    fn etcd_14685_a_crash_before_the_log_names_the_new_state_leaves_the_old_one() {
        let place = Place::new();
        let (directory, log) = log(&place);
        let snapshots = Snapshots::open(&directory, SnapshotOptions::default()).unwrap();
        let old = Environment::open_state(&directory, 0, &place.options).unwrap();
        let made = snapshots.make_state(&directory, &old, 1, &place.options, |_| true);
        drop(made.unwrap());
        let mut append = log.begin().unwrap();
        append.replace_state(1, entry(1, 8, 40).id).unwrap();
        drop(append);
        drop((old, snapshots, log, directory));
        let (directory, log) = place.open();
        let generation = log.load().unwrap().generation;
        assert_eq!(generation, 0, "nothing was committed");
        Environment::open_state(&directory, generation, &place.options).expect("it is in force");
        assert!(!directory.path().join("state-1").exists());
    }

    #[test]
    fn a_state_that_does_not_fit_the_log_is_refused_and_changes_nothing() {
        let place = Place::new();
        let (_directory, log) = log(&place);
        let before = log.load().unwrap();
        for (generation, term, index) in [(0, 1, 6), (1, 1, 3), (1, 2, 6), (1, 1, 10)] {
            let mut append = log.begin().unwrap();
            let error = append.replace_state(generation, entry(term, index, 40).id);
            let error = error.expect_err("it does not fit");
            assert!(matches!(error, LogError::StaleSnapshot { .. }), "{error}");
            append.commit().unwrap();
        }
        assert_eq!(log.load().unwrap(), before);
    }

    #[test]
    fn a_copy_that_is_stopped_leaves_nothing() {
        let place = Place::new();
        let (directory, _log) = log(&place);
        let snapshots = Snapshots::open(&directory, SnapshotOptions::default()).unwrap();
        let old = Environment::open_state(&directory, 0, &place.options).unwrap();
        let made = snapshots.make_state(&directory, &old, 1, &place.options, |_| false);
        let error = made.expect_err("it was stopped");
        assert!(matches!(error, SnapshotError::Stopped), "{error}");
        assert!(!directory.path().join("state-1").exists());
        assert!(!directory.knows("state-1"));
    }
}
