//! The tables of the key space in its environment, and the few numbers that are not in any record.
//!
//! | table       | key                              | value                                                       |
//! |-------------|----------------------------------|-------------------------------------------------------------|
//! | `revision`  | revision, place in transaction   | the change: what etcd tells of the key, links, key, value   |
//! | `key`       | key, or chunk of a long key      | the newest change of the key, or the number of a branch     |
//! | `branch`    | branch number, rest of a key     | the same                                                    |
//! | `parameter` | name                             | `layout`; `state` and `configuration` as of the checkpoint  |
//!
//! Numbers in keys are big-endian, so that they sort. Every value is sealed (see [`crate::frame`]). Values lie under their
//! revision, so that writes append; the index by key is small. A watch reads `revision` from its start on; compaction reads
//! it up to the compacted revision and removes what each change replaced, which the change names.

use bytes::Bytes;
use heed::types::Bytes as Raw;
use heed::{CommitOrAbort, Database, RoTxn, RwTxn};
use rm_raft::{EntryId, Index, Term};
use rm_store::Environment;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::KvError;
use crate::frame;
use crate::index::{BRANCH_TABLE, KEY_TABLE, KeyIndex};
use crate::revision::{self, Revisions};

/// The layout that this program writes, and the only one that it knows.
const LAYOUT: u32 = 1;

const PARAMETER_TABLE: &str = "parameter";
const LAYOUT_NAME: &[u8] = b"layout";
const STATE_NAME: &[u8] = b"state";
const CONFIGURATION_NAME: &[u8] = b"configuration";

/// How many named tables the environment must have room for.
pub const TABLES: u32 = 4;

type Table = Database<'static, Raw, Raw>;

/// The tables.
#[derive(Clone, Copy)]
pub(crate) struct Tables {
    pub(crate) revisions: Revisions,
    pub(crate) index: KeyIndex,
    parameters: Table,
}

/// Where the key space stands. Held in memory while the transaction is open, and written by the checkpoint into the same
/// transaction as the data (etcd #13766).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    applied_term: u64,
    applied_index: u64,
    /// The revision of the newest change; one when there is none, as in etcd.
    pub(crate) revision: i64,
    /// The revision that was compacted last; -1 when none was, as in etcd.
    pub(crate) compact_revision: i64,
    /// The number of the next branch of the index.
    pub(crate) next_branch: u64,
}

/// The newest configuration of the domain among the applied entries, as bytes that mean nothing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// The entry that holds it; zero for the one with which the domain was begun.
    pub index: Index,
    /// What the driver made of it.
    pub bytes: Bytes,
}

impl State {
    /// Of a key space that was never written to.
    pub(crate) const FIRST: State = State {
        applied_term: 0,
        applied_index: 0,
        revision: 1,
        compact_revision: -1,
        next_branch: 1,
    };

    /// The entry that was applied last.
    pub(crate) fn applied(&self) -> EntryId {
        EntryId {
            term: Term(self.applied_term),
            index: Index(self.applied_index),
        }
    }

    /// Notes the entry that was applied last.
    pub(crate) fn set_applied(&mut self, entry: EntryId) {
        self.applied_term = entry.term.0;
        self.applied_index = entry.index.0;
    }
}

impl Tables {
    /// Opens the tables, and makes them in a new environment. Writes nothing if they are there, so that opening waits for
    /// no disk.
    pub(crate) fn open(environment: &Environment) -> Result<Tables, KvError> {
        match Tables::find(environment)? {
            Some(tables) => Ok(tables),
            None => Tables::create(environment),
        }
    }

    /// Opens the tables if they are there, and checks their layout. Takes no writer's lock.
    pub(crate) fn find(environment: &Environment) -> Result<Option<Tables>, KvError> {
        let env = environment.env();
        let opened = env.open_databases_and_commit(env.read_txn()?, |opener, txn| {
            let table = |name| opener.open_database::<Raw, Raw>(txn, Some(name));
            let tables = [
                table(PARAMETER_TABLE)?,
                table(revision::TABLE)?,
                table(KEY_TABLE)?,
                table(BRANCH_TABLE)?,
            ];
            Ok::<_, KvError>(CommitOrAbort::<_, ()>::Commit(tables))
        })?;
        let tables = match opened.commit() {
            Some(
                [
                    Some(parameters),
                    Some(revisions),
                    Some(keys),
                    Some(branches),
                ],
            ) => Tables::new([parameters, revisions, keys, branches]),
            _ => return Ok(None),
        };
        let txn = env.read_txn()?;
        match tables.parameter(&txn, LAYOUT_NAME)? {
            Some(LAYOUT) => Ok(Some(tables)),
            Some(found) => Err(KvError::NewerLayout {
                found,
                known: LAYOUT,
            }),
            None => Err(KvError::damaged(
                PARAMETER_TABLE,
                LAYOUT_NAME,
                "the layout is missing",
            )),
        }
    }

    /// Makes the tables, all in one transaction with their layout.
    fn create(environment: &Environment) -> Result<Tables, KvError> {
        let env = environment.env();
        let created = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
            let mut table = |name| opener.create_database::<Raw, Raw>(txn, Some(name));
            let tables = [
                table(PARAMETER_TABLE)?,
                table(revision::TABLE)?,
                table(KEY_TABLE)?,
                table(BRANCH_TABLE)?,
            ];
            let mut layout = Vec::new();
            frame::seal(&mut layout, LAYOUT_NAME, &LAYOUT, [&[], &[]]);
            tables[0].put(txn, LAYOUT_NAME, &layout)?;
            environment.stamp(txn)?;
            Ok::<_, KvError>(CommitOrAbort::<_, ()>::Commit(tables))
        })?;
        let tables = created
            .commit()
            .expect("the closure returns an error or commits");
        Ok(Tables::new(tables))
    }

    fn new([parameters, revisions, keys, branches]: [Table; 4]) -> Tables {
        Tables {
            revisions: Revisions { table: revisions },
            index: KeyIndex { keys, branches },
            parameters,
        }
    }

    /// The state as of the last checkpoint.
    pub(crate) fn state(&self, txn: &RoTxn) -> Result<State, KvError> {
        Ok(self.parameter(txn, STATE_NAME)?.unwrap_or(State::FIRST))
    }

    /// Writes the state for a checkpoint.
    pub(crate) fn set_state(&self, txn: &mut RwTxn, state: &State) -> Result<(), KvError> {
        self.set_parameter(txn, STATE_NAME, state)
    }

    /// The configuration as of the checkpoint, or the one that was set since in the open transaction.
    pub(crate) fn configuration(&self, txn: &RoTxn) -> Result<Option<Configuration>, KvError> {
        let Some(value) = self.parameters.get(txn, CONFIGURATION_NAME)? else {
            return Ok(None);
        };
        let (index, bytes) = frame::open(PARAMETER_TABLE, CONFIGURATION_NAME, value)?;
        Ok(Some(Configuration {
            index: Index(index),
            bytes: Bytes::copy_from_slice(bytes),
        }))
    }

    /// Writes the configuration for a checkpoint.
    pub(crate) fn set_configuration(
        &self,
        txn: &mut RwTxn,
        configuration: &Configuration,
    ) -> Result<(), KvError> {
        let Configuration { index, bytes } = configuration;
        let mut sealed = Vec::new();
        frame::seal(&mut sealed, CONFIGURATION_NAME, &index.0, [bytes, &[]]);
        Ok(self.parameters.put(txn, CONFIGURATION_NAME, &sealed)?)
    }

    fn parameter<P: DeserializeOwned>(
        &self,
        txn: &RoTxn,
        name: &[u8],
    ) -> Result<Option<P>, KvError> {
        match self.parameters.get(txn, name)? {
            Some(value) => Ok(Some(frame::open(PARAMETER_TABLE, name, value)?.0)),
            None => Ok(None),
        }
    }

    fn set_parameter(
        &self,
        txn: &mut RwTxn,
        name: &[u8],
        value: &impl Serialize,
    ) -> Result<(), KvError> {
        let mut sealed = Vec::new();
        frame::seal(&mut sealed, name, value, [&[], &[]]);
        Ok(self.parameters.put(txn, name, &sealed)?)
    }
}
