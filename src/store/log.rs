//! The log of one machine: its hard state and its entries, durable.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rm_raft::{Configured, EntryId, HardState, Index};

use crate::{
    Append, Environment, Era, LogError, LogReader, Space,
    tables::{Tables, Tail},
};

/// The durable half of Raft, in an environment of its own.
///
/// One thread appends through [`Log::begin`]; any other reads through [`Log::reader`] meanwhile.
#[derive(Debug)]
pub struct Log {
    pub(crate) environment: Environment,
    pub(crate) tables: Tables,
    /// What the last commit left, to spare the next append from reading it.
    tail: Mutex<Option<Tail>>,
}

/// What is durable when a machine starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// The first entry of each term, in order, as far as the log has them: the first of them is the first entry behind the
    /// base. Empty when no entry is behind the base.
    pub terms: Vec<EntryId>,
    /// The entry up to which the log is compacted; zeros while it is whole.
    pub base: EntryId,
    /// Which state is in force: 0 until the first snapshot is installed.
    pub generation: u64,
    /// The index of the first entry behind the base, or the one that it would have.
    pub first: Index,
    /// The last entry; the base when there is none behind it.
    pub last: EntryId,
    /// The configuration in force at the base, if one is known, and those that the log holds behind it, in order.
    pub configurations: Vec<Configured>,
}

impl Log {
    /// Opens the log in its environment, and creates it in an empty one.
    ///
    /// # Errors
    /// [`LogError::NewerFormat`] when a later version wrote it.
    pub fn open(environment: &Environment) -> Result<Log, LogError> {
        Ok(Log {
            environment: environment.clone(),
            tables: Tables::open(environment)?,
            tail: Mutex::new(None),
        })
    }

    /// What is durable. It is read from the ends of the log, the number of its entries and the beginnings of its terms; the
    /// checksums of what is read are verified.
    ///
    /// # Errors
    /// [`LogError::Damaged`] and [`LogError::DamagedParameter`] when it does not fit together.
    pub fn load(&self) -> Result<Loaded, LogError> {
        let txn = self.environment.env().read_txn()?;
        let hard_state = self.tables.hard_state(&txn)?;
        let first = self.tables.first(&txn)?;
        let last = self.tables.last(&txn)?;
        let terms = self.tables.terms(&txn)?;
        self.tables.check_count(&txn, first, last)?;
        self.tables.check_terms(&txn, &terms, first, last)?;
        let base = self.tables.base(&txn)?;
        self.tables.check_base(&txn, base.entry, first, last)?;
        let configurations = self.tables.configurations(&txn, base.entry.index)?;
        let last = last.unwrap_or(base.entry);
        let commits = base.entry.index..=last.index;
        if !commits.contains(&hard_state.commit) || hard_state.term < last.term {
            return Err(LogError::DamagedParameter {
                name: "hard state",
                reason: "it does not fit the last entry",
            });
        }
        Ok(Loaded {
            hard_state,
            terms: terms_behind(base.entry, terms, last),
            base: base.entry,
            generation: base.generation,
            first: base.entry.index.next(),
            last,
            configurations,
        })
    }

    /// Begins a batch: everything persisted in it becomes durable in one commit, or nothing does.
    ///
    /// Waits while another append of this log is open.
    pub fn begin(&self) -> Result<Append<'_>, LogError> {
        let txn = self.environment.env().write_txn()?;
        // Taken, not copied: should this append fail, the next one reads what is durable.
        let remembered = self
            .tail()
            .take()
            .filter(|tail| tail.transaction + 1 == txn.id());
        let tail = match remembered {
            Some(tail) => tail,
            None => self.tables.tail(&txn)?,
        };
        Ok(Append::new(self, txn, tail))
    }

    /// Reads entries on any thread while this one appends.
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.environment.clone(), self.tables)
    }

    /// Which state is in force: 0 until the first snapshot is installed.
    ///
    /// # Errors
    /// [`LogError::DamagedParameter`], or LMDB's own.
    pub fn generation(&self) -> Result<u64, LogError> {
        let txn = self.environment.env().read_txn()?;
        Ok(self.tables.base(&txn)?.generation)
    }

    /// The era that the log names, if it names one: then [`Append::begin_era`] or [`Append::keep_era`] was used on it.
    ///
    /// # Errors
    /// [`LogError::DamagedParameter`], or LMDB's own.
    pub fn era(&self) -> Result<Option<Era>, LogError> {
        let txn = self.environment.env().read_txn()?;
        self.tables.era(&txn)
    }

    /// What the log takes, and what is left for it.
    ///
    /// # Errors
    /// LMDB's own.
    pub fn space(&self) -> Result<Space, LogError> {
        Ok(self.environment.space()?)
    }

    /// How many entries are compacted and not removed yet; the next commits remove them.
    ///
    /// # Errors
    /// [`LogError::Damaged`], or LMDB's own.
    pub fn untrimmed(&self) -> Result<u64, LogError> {
        let txn = self.environment.env().read_txn()?;
        let tail = self.tables.tail(&txn)?;
        let next = tail.base.entry.index.next();
        Ok(next.0.saturating_sub(tail.first.0))
    }

    pub(crate) fn remember(&self, tail: Tail) {
        *self.tail() = Some(tail);
    }

    fn tail(&self) -> MutexGuard<'_, Option<Tail>> {
        // A tail is set as a whole, and is only used by the transaction that follows on it.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The beginnings of terms behind the base, the first of which is the first entry there, whenever its term began.
fn terms_behind(base: EntryId, mut terms: Vec<EntryId>, last: EntryId) -> Vec<EntryId> {
    let first = base.index.next();
    let before = terms.partition_point(|begin| begin.index <= first);
    let current = terms[..before].last().copied();
    terms.drain(..before);
    if let Some(current) = current.filter(|_| last.index >= first) {
        let index = first;
        terms.insert(0, EntryId { index, ..current });
    }
    terms
}

#[cfg(test)]
mod tests {
    use crate::{
        LogError,
        testing::{Place, entries, hard_state, persist, remove},
    };
    use rm_raft::Index;

    #[test]
    fn a_log_with_a_gap_in_it_is_not_loaded() {
        let place = Place::new();
        let (_directory, log) = place.open();
        persist(&log, hard_state(1, 0, 0), &entries(1, 1, 9));
        log.load().expect("nothing is missing");
        remove(&log, Index(5));
        let error = log.load().expect_err("entry 5 is missing");
        assert!(
            matches!(
                error,
                LogError::Damaged {
                    index: Index(9),
                    ..
                }
            ),
            "{error}"
        );
    }
}
