//! The tables of the log, and what can be asked of them in any transaction.

use std::ops::Bound;

use heed::{CommitOrAbort, Database, RoTxn, RwTxn, types::Bytes};
use rm_raft::{Configured, Entry, EntryId, HardState, Index, Payload, Term};

use crate::{Environment, Era, LogError, codec};

/// The oldest format: no base, and no table of the configurations.
const FORMAT_FIRST: u32 = 1;

/// The format of a log with a base, and of one that holds configurations. It is written with the first of either, so that a
/// program that would miss entries before the base, or the members, refuses the log.
const FORMAT_BASE: u32 = 2;

/// The format of a log that names an era: the newest that this program reads. A program that knows no eras would bring the
/// machine back among those that it has nothing to do with any more.
const FORMAT: u32 = 3;

/// What the base is called among the parameters.
pub(crate) const BASE_NAME: &str = "base";

/// What the era is called among the parameters.
pub(crate) const ERA_NAME: &str = "era";

const FORMAT_KEY: &[u8] = b"format";
const HARD_STATE_KEY: &[u8] = b"hard state";

type Table = Database<'static, Bytes, Bytes>;

/// The tables of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tables {
    /// Format and hard state, by name.
    parameter: Table,
    /// Entries by index.
    pub(crate) log: Table,
    /// The term of the first entry of each term, by that entry's index.
    terms: Table,
    /// The entries that hold a configuration, once more, by index: so that they are found without the rest of the log. Of those
    /// at or before the base the last one stays: it is in force there.
    configurations: Table,
}

/// What stands for the entries that are no longer in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Base {
    /// Which of the states that this machine ever had is in force; 0 until the first snapshot is installed.
    pub(crate) generation: u64,
    /// The last of the entries that only the state holds; zeros while the log is whole.
    pub(crate) entry: EntryId,
}

/// What an append must know of the log that it appends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The transaction that left it so.
    pub(crate) transaction: usize,
    pub(crate) hard_state: HardState,
    pub(crate) base: Base,
    /// The first entry that the table holds, or the next one that it will: entries up to the base are removed slice by slice.
    pub(crate) first: Index,
    pub(crate) last: EntryId,
}

impl Tables {
    /// Opens the tables, and creates them in an empty environment.
    pub(crate) fn open(environment: &Environment) -> Result<Tables, LogError> {
        let env = environment.env();
        let txn = env.write_txn()?;
        let opened = env.create_databases_and_commit(txn, |opener, txn| {
            let parameter = opener.create_database::<Bytes, Bytes>(txn, Some("parameter"))?;
            let log = opener.create_database::<Bytes, Bytes>(txn, Some("log"))?;
            let terms = opener.create_database::<Bytes, Bytes>(txn, Some("terms"))?;
            let configurations =
                opener.create_database::<Bytes, Bytes>(txn, Some("configurations"))?;
            match parameter
                .get(txn, FORMAT_KEY)?
                .map(parse_format)
                .transpose()?
            {
                Some(FORMAT_FIRST | FORMAT_BASE | FORMAT) => {}
                Some(found) => {
                    return Err(LogError::NewerFormat {
                        found,
                        known: FORMAT,
                    });
                }
                None => {
                    parameter.put(txn, FORMAT_KEY, &FORMAT_FIRST.to_le_bytes())?;
                    environment.stamp(txn)?;
                }
            }
            Ok(CommitOrAbort::<_, LogError>::Commit((
                parameter,
                log,
                terms,
                configurations,
            )))
        })?;
        match opened {
            CommitOrAbort::Commit((parameter, log, terms, configurations)) => Ok(Tables {
                parameter,
                log,
                terms,
                configurations,
            }),
            CommitOrAbort::Abort(error) => Err(error),
        }
    }

    /// What the transaction finds at the end of the log.
    pub(crate) fn tail(&self, txn: &RoTxn<'_>) -> Result<Tail, LogError> {
        let base = self.base(txn)?;
        let last = self.last(txn)?.unwrap_or(base.entry);
        let first = self.first(txn)?;
        Ok(Tail {
            transaction: txn.id(),
            hard_state: self.hard_state(txn)?,
            base,
            first: first.map_or(last.index.next(), |first| first.index),
            last,
        })
    }

    /// The hard state; all zeros before the first.
    pub(crate) fn hard_state(&self, txn: &RoTxn<'_>) -> Result<HardState, LogError> {
        let value = self.parameter.get(txn, HARD_STATE_KEY)?;
        value.map_or(Ok(HardState::default()), codec::decode_hard_state)
    }

    /// Writes the hard state.
    pub(crate) fn put_hard_state(
        &self,
        txn: &mut RwTxn<'_>,
        hard_state: &HardState,
    ) -> Result<(), LogError> {
        let value = codec::encode_hard_state(hard_state);
        Ok(self.parameter.put(txn, HARD_STATE_KEY, &value)?)
    }

    /// The base; zeros while the log is whole.
    pub(crate) fn base(&self, txn: &RoTxn<'_>) -> Result<Base, LogError> {
        let value = self.parameter.get(txn, BASE_NAME.as_bytes())?;
        value.map_or(Ok(Base::default()), codec::decode_base)
    }

    /// The era that the log names, if it does.
    pub(crate) fn era(&self, txn: &RoTxn<'_>) -> Result<Option<Era>, LogError> {
        let value = self.parameter.get(txn, ERA_NAME.as_bytes())?;
        value.map(codec::decode_era).transpose()
    }

    /// Writes the era.
    pub(crate) fn put_era(&self, txn: &mut RwTxn<'_>, era: Era) -> Result<(), LogError> {
        self.raise_format(txn, FORMAT)?;
        let value = codec::encode_era(era);
        Ok(self.parameter.put(txn, ERA_NAME.as_bytes(), &value)?)
    }

    /// The format of the tables.
    pub(crate) fn format(&self, txn: &RoTxn<'_>) -> Result<Option<u32>, LogError> {
        let format = self.parameter.get(txn, FORMAT_KEY)?;
        format.map(parse_format).transpose()
    }

    /// Makes the format at least this one.
    pub(crate) fn raise_format(&self, txn: &mut RwTxn<'_>, format: u32) -> Result<(), LogError> {
        if self.format(txn)? < Some(format) {
            self.parameter.put(txn, FORMAT_KEY, &format.to_le_bytes())?;
        }
        Ok(())
    }

    /// Writes the base.
    pub(crate) fn put_base(&self, txn: &mut RwTxn<'_>, base: &Base) -> Result<(), LogError> {
        self.raise_format(txn, FORMAT_BASE)?;
        let value = codec::encode_base(base);
        Ok(self.parameter.put(txn, BASE_NAME.as_bytes(), &value)?)
    }

    /// The first entry in the table, which may lie before the base; none in an empty one.
    pub(crate) fn first(&self, txn: &RoTxn<'_>) -> Result<Option<EntryId>, LogError> {
        self.log.first(txn)?.map(entry_id).transpose()
    }

    /// The last entry in the table; none in an empty one.
    pub(crate) fn last(&self, txn: &RoTxn<'_>) -> Result<Option<EntryId>, LogError> {
        self.log.last(txn)?.map(entry_id).transpose()
    }

    /// The entry at an index, if the log has one there.
    pub(crate) fn entry(&self, txn: &RoTxn<'_>, index: Index) -> Result<Option<Entry>, LogError> {
        let value = self.log.get(txn, &codec::key(index))?;
        value.map(|value| codec::decode(index, value)).transpose()
    }

    /// The first entry of each term that the table holds, in order.
    pub(crate) fn terms(&self, txn: &RoTxn<'_>) -> Result<Vec<EntryId>, LogError> {
        let mut terms = Vec::new();
        for item in self.terms.iter(txn)? {
            let (key, value) = item?;
            let index = codec::index(key)?;
            let term = value.try_into().map_err(|_| LogError::Damaged {
                index,
                reason: "the record of its term is cut short",
            })?;
            terms.push(EntryId {
                term: Term(u64::from_le_bytes(term)),
                index,
            });
        }
        Ok(terms)
    }

    /// The configuration in force at the base, if one is known, and those that the log holds behind it, in order.
    pub(crate) fn configurations(
        &self,
        txn: &RoTxn<'_>,
        base: Index,
    ) -> Result<Vec<Configured>, LogError> {
        let mut configurations: Vec<Configured> = Vec::new();
        for item in self.configurations.iter(txn)? {
            let (key, value) = item?;
            let index = codec::index(key)?;
            let Payload::Configuration { configuration, .. } = codec::decode(index, value)?.payload
            else {
                return Err(LogError::Damaged {
                    index,
                    reason: "the record of its configuration holds none",
                });
            };
            if index <= base {
                configurations.clear();
            }
            configurations.push(Configured {
                index,
                configuration: *configuration,
            });
        }
        Ok(configurations)
    }

    /// Writes the configuration that a snapshot brings in the place of all at or before its last entry.
    pub(crate) fn put_configuration(
        &self,
        txn: &mut RwTxn<'_>,
        base: EntryId,
        configured: &Configured,
    ) -> Result<(), LogError> {
        self.configurations
            .delete_range(txn, &up_to(&codec::key(base.index)))?;
        // It stands for the entry that held it, whose own term and request nobody asks for any more.
        let entry = Entry {
            id: EntryId {
                term: base.term,
                index: configured.index,
            },
            payload: Payload::Configuration {
                request: None,
                configuration: Box::new(configured.configuration.clone()),
            },
        };
        let mut value = Vec::new();
        codec::encode(&entry, &mut value);
        let key = codec::key(configured.index);
        Ok(self.configurations.put(txn, &key, &value)?)
    }

    /// Checks that the log has as many entries as its ends say.
    pub(crate) fn check_count(
        &self,
        txn: &RoTxn<'_>,
        first: Option<EntryId>,
        last: Option<EntryId>,
    ) -> Result<(), LogError> {
        let last = last.unwrap_or_default();
        let expected = first.map_or(Some(0), |first| {
            let behind_first = last.index.0.checked_sub(first.index.0)?;
            behind_first.checked_add(1)
        });
        if expected != Some(self.log.len(txn)?) {
            return Err(LogError::Damaged {
                index: last.index,
                reason: "it is the last, and entries before it are missing",
            });
        }
        Ok(())
    }

    /// Checks each beginning of a term against the entries beside it, and that none is missing at the ends.
    pub(crate) fn check_terms(
        &self,
        txn: &RoTxn<'_>,
        terms: &[EntryId],
        first: Option<EntryId>,
        last: Option<EntryId>,
    ) -> Result<(), LogError> {
        let last = last.unwrap_or_default();
        let damaged = |index| LogError::Damaged {
            index,
            reason: "the record of its term does not match",
        };
        if terms.first().copied() != first
            || terms.last().map_or(Term(0), |id| id.term) != last.term
        {
            return Err(damaged(last.index));
        }
        let mut before = Term(0);
        for begin in terms {
            let entry = self.entry(txn, begin.index)?.ok_or(damaged(begin.index))?;
            let previous = self
                .entry(txn, begin.index.previous())?
                .map_or(Term(0), |entry| entry.id.term);
            if entry.id != *begin || previous != before || begin.term <= before {
                return Err(damaged(begin.index));
            }
            before = begin.term;
        }
        Ok(())
    }

    /// Checks that the entries go on where the base ends, and that the one at the base is it.
    pub(crate) fn check_base(
        &self,
        txn: &RoTxn<'_>,
        base: EntryId,
        first: Option<EntryId>,
        last: Option<EntryId>,
    ) -> Result<(), LogError> {
        let damaged = |reason| LogError::DamagedParameter {
            name: BASE_NAME,
            reason,
        };
        let entry = self.entry(txn, base.index)?;
        if entry.is_some_and(|entry| entry.id != base) {
            return Err(damaged("the entry there is another"));
        }
        if first.is_some_and(|first| first.index > base.index.next()) {
            return Err(damaged("entries behind it are missing"));
        }
        if last.is_some_and(|last| last.index < base.index || last.term < base.term) {
            return Err(damaged("the log ends before it"));
        }
        Ok(())
    }

    /// Removes every entry from an index on.
    pub(crate) fn truncate(&self, txn: &mut RwTxn<'_>, from: Index) -> Result<(), LogError> {
        let from = codec::key(from);
        let range = (Bound::Included(&from[..]), Bound::Unbounded);
        self.log.delete_range(txn, &range)?;
        self.terms.delete_range(txn, &range)?;
        self.configurations.delete_range(txn, &range)?;
        Ok(())
    }

    /// Removes the entries up to an index, and keeps the beginning of the term that goes on behind it.
    pub(crate) fn trim(&self, txn: &mut RwTxn<'_>, index: Index) -> Result<(), LogError> {
        let (cut, next) = (codec::key(index), codec::key(index.next()));
        let range = up_to(&cut);
        let goes_on = self.log.get(txn, &next)?.is_some() && self.terms.get(txn, &next)?.is_none();
        let term = self.terms.get_lower_than_or_equal_to(txn, &cut)?;
        let term = term.filter(|_| goes_on).map(|(_, term)| term.to_vec());
        self.log.delete_range(txn, &range)?;
        self.terms.delete_range(txn, &range)?;
        if let Some(term) = term {
            self.terms.put(txn, &next, &term)?;
        }
        let in_force = self.configurations.get_lower_than_or_equal_to(txn, &cut)?;
        if let Some(before) = in_force
            .map(|(key, _)| codec::index(key))
            .transpose()?
            .filter(|index| *index > Index(0))
        {
            let before = codec::key(before.previous());
            self.configurations.delete_range(txn, &up_to(&before))?;
        }
        Ok(())
    }

    /// Removes every entry.
    pub(crate) fn clear(&self, txn: &mut RwTxn<'_>) -> Result<(), LogError> {
        self.log.clear(txn)?;
        self.configurations.clear(txn)?;
        Ok(self.terms.clear(txn)?)
    }

    /// Writes entries behind all that the table has.
    pub(crate) fn append(&self, txn: &mut RwTxn<'_>, entries: &[Entry]) -> Result<u64, LogError> {
        let mut bytes = 0;
        let mut previous = self.terms.last(txn)?.map(|(_, term)| term.to_vec());
        let mut value = Vec::new();
        for entry in entries {
            let key = codec::key(entry.id.index);
            codec::encode(entry, &mut value);
            self.log
                .put_with_flags(txn, heed::PutFlags::APPEND, &key, &value)?;
            bytes += (key.len() + value.len()) as u64;
            let term = entry.id.term.0.to_le_bytes();
            if previous.as_deref() != Some(&term[..]) {
                self.terms.put(txn, &key, &term)?;
                previous = Some(term.to_vec());
            }
            if let Payload::Configuration { .. } = entry.payload {
                self.raise_format(txn, FORMAT_BASE)?;
                self.configurations.put(txn, &key, &value)?;
            }
        }
        Ok(bytes)
    }
}

/// All keys up to this one.
fn up_to(key: &[u8]) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Unbounded, Bound::Included(key))
}

fn entry_id((key, value): (&[u8], &[u8])) -> Result<EntryId, LogError> {
    codec::decode(codec::index(key)?, value).map(|entry| entry.id)
}

fn parse_format(value: &[u8]) -> Result<u32, LogError> {
    let damaged = LogError::DamagedParameter {
        name: "format",
        reason: "it is not four bytes long",
    };
    value
        .try_into()
        .map(u32::from_le_bytes)
        .map_err(|_| damaged)
}
