//! The tables of the log, and what can be asked of them in any transaction.

use heed::{CommitOrAbort, Database, RoTxn, RwTxn, types::Bytes};
use rm_raft::{Configured, Entry, EntryId, HardState, Index, Payload, Term};

use crate::{Environment, LogError, codec};

/// The format of the tables that this program writes, and the newest that it reads.
const FORMAT: u32 = 2;
/// The format in which no entry holds a configuration. All else is as now.
const FORMAT_WITHOUT_CONFIGURATIONS: u32 = 1;

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
    /// The entries that hold a configuration, once more, by index: so that they are found without the rest of the log.
    configurations: Table,
}

/// What an append must know of the log that it appends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The transaction that left it so.
    pub(crate) transaction: usize,
    pub(crate) hard_state: HardState,
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
                Some(FORMAT) => {}
                Some(FORMAT_WITHOUT_CONFIGURATIONS) => {
                    parameter.put(txn, FORMAT_KEY, &FORMAT.to_le_bytes())?;
                }
                Some(found) => {
                    return Err(LogError::NewerFormat {
                        found,
                        known: FORMAT,
                    });
                }
                None => {
                    parameter.put(txn, FORMAT_KEY, &FORMAT.to_le_bytes())?;
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
        Ok(Tail {
            transaction: txn.id(),
            hard_state: self.hard_state(txn)?,
            last: self.last(txn)?,
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

    /// The first entry; none in an empty log.
    pub(crate) fn first(&self, txn: &RoTxn<'_>) -> Result<Option<EntryId>, LogError> {
        self.log.first(txn)?.map(entry_id).transpose()
    }

    /// The last entry; zeros in an empty log.
    pub(crate) fn last(&self, txn: &RoTxn<'_>) -> Result<EntryId, LogError> {
        let last = self.log.last(txn)?.map(entry_id).transpose()?;
        Ok(last.unwrap_or_default())
    }

    /// The entry at an index, if the log has one there.
    pub(crate) fn entry(&self, txn: &RoTxn<'_>, index: Index) -> Result<Option<Entry>, LogError> {
        let value = self.log.get(txn, &codec::key(index))?;
        value.map(|value| codec::decode(index, value)).transpose()
    }

    /// The first entry of each term, in order.
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

    /// The configurations that the log holds, in order.
    pub(crate) fn configurations(&self, txn: &RoTxn<'_>) -> Result<Vec<Configured>, LogError> {
        let mut configurations = Vec::new();
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
            configurations.push(Configured {
                index,
                configuration,
            });
        }
        Ok(configurations)
    }

    /// Checks that the log has as many entries as its ends say.
    pub(crate) fn check_count(
        &self,
        txn: &RoTxn<'_>,
        first: Option<EntryId>,
        last: EntryId,
    ) -> Result<(), LogError> {
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
        last: EntryId,
    ) -> Result<(), LogError> {
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

    /// Removes every entry from an index on.
    pub(crate) fn truncate(&self, txn: &mut RwTxn<'_>, from: Index) -> Result<(), LogError> {
        let from = codec::key(from);
        let range = (
            std::ops::Bound::Included(&from[..]),
            std::ops::Bound::Unbounded,
        );
        self.log.delete_range(txn, &range)?;
        self.terms.delete_range(txn, &range)?;
        self.configurations.delete_range(txn, &range)?;
        Ok(())
    }

    /// Writes entries behind all that the log has; `previous` is the term of its last.
    pub(crate) fn append(
        &self,
        txn: &mut RwTxn<'_>,
        mut previous: Term,
        entries: &[Entry],
    ) -> Result<(), LogError> {
        let mut value = Vec::new();
        for entry in entries {
            let key = codec::key(entry.id.index);
            codec::encode(entry, &mut value);
            self.log
                .put_with_flags(txn, heed::PutFlags::APPEND, &key, &value)?;
            if entry.id.term != previous {
                self.terms.put(txn, &key, &entry.id.term.0.to_le_bytes())?;
                previous = entry.id.term;
            }
            if let Payload::Configuration { .. } = entry.payload {
                self.configurations.put(txn, &key, &value)?;
            }
        }
        Ok(())
    }
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
