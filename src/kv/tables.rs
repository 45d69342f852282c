//! The tables of the key space in its environment, and the few numbers that are not in any record.
//!
//! | table       | key                              | value                                                       |
//! |-------------|----------------------------------|-------------------------------------------------------------|
//! | `revision`  | revision, place in transaction   | the change: what etcd tells of the key, links, key, value   |
//! | `key`       | key, or chunk of a long key      | the newest change of the key, or the number of a branch     |
//! | `branch`    | branch number, rest of a key     | the same                                                    |
//! | `parameter` | name                             | `layout`; `alarms`; `lease_reign`; `state` and `configuration` as of the checkpoint |
//! | `lease`     | id of a lease                    | which entry granted it for how long, and what is left of it |
//! | `auth`      | kind, name                       | a user or a role; whether permissions are asked for         |
//! | `attached`  | id of a lease, revision, place   | nothing: that change, the newest of its key, hangs on it    |
//!
//! Numbers in keys are big-endian, so that they sort. Every value is sealed (see [`crate::frame`]). Values lie under their
//! revision, so that writes append; the index by key is small. A watch reads `revision` from its start on; the scrub after a
//! compaction reads it up to the compacted revision and removes what each change replaced, which the change names.

use bytes::Bytes;
use heed::types::Bytes as Raw;
use heed::{CommitOrAbort, Database, RoTxn, RwTxn};
use rm_raft::{EntryId, Index, Term};
use rm_store::Environment;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::alarm::Alarm;
use crate::error::KvError;
use crate::frame;
use crate::index::{BRANCH_TABLE, KEY_TABLE, KeyIndex};
use crate::revision::{self, Revision, Revisions};

/// The layout that this program writes, and the newest that it reads.
const LAYOUT: u32 = 3;
/// The layout without leases. As every earlier one it is read, and becomes [`LAYOUT`] with the next checkpoint.
const LAYOUT_WITHOUT_LEASES: u32 = 2;
/// The layout whose state knows of no scrub.
const LAYOUT_WITHOUT_SCRUB: u32 = 1;

const PARAMETER_TABLE: &str = "parameter";
const LAYOUT_NAME: &[u8] = b"layout";
const STATE_NAME: &[u8] = b"state";
const LEASE_REIGN_NAME: &[u8] = b"lease_reign";
const ALARMS_NAME: &[u8] = b"alarms";
const CONFIGURATION_NAME: &[u8] = b"configuration";

/// How many named tables the environment must have room for.
pub const TABLES: u32 = 7;

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
    /// The first change that the scrub has not looked at; beyond `compact_revision` when it has nothing left to do.
    pub(crate) scrub_from: Revision,
}

/// The state in [`LAYOUT_WITHOUT_SCRUB`].
#[derive(Deserialize)]
struct StateWithoutScrub {
    applied_term: u64,
    applied_index: u64,
    revision: i64,
    compact_revision: i64,
    next_branch: u64,
}

impl From<StateWithoutScrub> for State {
    /// Nothing was compacted in that layout, so that there is nothing to scrub.
    fn from(state: StateWithoutScrub) -> State {
        State {
            applied_term: state.applied_term,
            applied_index: state.applied_index,
            revision: state.revision,
            compact_revision: state.compact_revision,
            next_branch: state.next_branch,
            scrub_from: State::FIRST.scrub_from,
        }
    }
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
        scrub_from: Revision::NONE,
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
        tables.layout(&txn)?;
        Ok(Some(tables))
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

    /// The layout of the tables, which this program knows.
    fn layout(&self, txn: &RoTxn) -> Result<u32, KvError> {
        match self.parameter(txn, LAYOUT_NAME)? {
            Some(known @ (LAYOUT_WITHOUT_SCRUB | LAYOUT_WITHOUT_LEASES | LAYOUT)) => Ok(known),
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

    /// The state as of the last checkpoint.
    pub(crate) fn state(&self, txn: &RoTxn) -> Result<State, KvError> {
        let state = match self.layout(txn)? {
            LAYOUT_WITHOUT_SCRUB => self
                .parameter::<StateWithoutScrub>(txn, STATE_NAME)?
                .map(State::from),
            _ => self.parameter(txn, STATE_NAME)?,
        };
        Ok(state.unwrap_or(State::FIRST))
    }

    /// Writes the state for a checkpoint, and with it the tables have the newest layout.
    pub(crate) fn set_state(&self, txn: &mut RwTxn, state: &State) -> Result<(), KvError> {
        if self.layout(txn)? != LAYOUT {
            self.set_parameter(txn, LAYOUT_NAME, &LAYOUT)?;
        }
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

    /// Removes the configuration.
    pub(crate) fn forget_configuration(&self, txn: &mut RwTxn) -> Result<(), KvError> {
        self.parameters.delete(txn, CONFIGURATION_NAME)?;
        Ok(())
    }

    /// The entry by which somebody began last to count the time of leases.
    pub(crate) fn lease_reign(&self, txn: &RoTxn) -> Result<Option<u64>, KvError> {
        self.parameter(txn, LEASE_REIGN_NAME)
    }

    pub(crate) fn set_lease_reign(&self, txn: &mut RwTxn, entry: u64) -> Result<(), KvError> {
        self.set_parameter(txn, LEASE_REIGN_NAME, &entry)
    }

    /// The alarms that stand.
    pub(crate) fn alarms(&self, txn: &RoTxn) -> Result<Vec<Alarm>, KvError> {
        Ok(self.parameter(txn, ALARMS_NAME)?.unwrap_or_default())
    }

    /// Writes the alarms that stand.
    pub(crate) fn set_alarms(&self, txn: &mut RwTxn, alarms: &[Alarm]) -> Result<(), KvError> {
        self.set_parameter(txn, ALARMS_NAME, &alarms)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::Keyspace;
    use crate::state_machine::StateMachine;
    use crate::testing::Disk;

    /// The tables as an earlier program left them: its layout, and what it held of the state.
    fn lay_out(disk: &Disk, layout: u32, state: &impl Serialize) -> Tables {
        let tables = Tables::open(&disk.environment).unwrap();
        let mut txn = disk.environment.env().write_txn().unwrap();
        tables
            .set_parameter(&mut txn, LAYOUT_NAME, &layout)
            .unwrap();
        tables.set_parameter(&mut txn, STATE_NAME, state).unwrap();
        disk.environment.commit(txn).unwrap();
        tables
    }

    #[test]
    fn a_state_of_layout_1_is_read_and_gets_the_newest_layout_with_the_next_checkpoint() {
        let disk = Disk::new();
        let before = (3_u64, 8_u64, 5_i64, -1_i64, 2_u64);
        let tables = lay_out(&disk, 1, &before);
        let stored = || {
            let txn = disk.environment.env().read_txn().unwrap();
            (tables.layout(&txn).unwrap(), tables.state(&txn).unwrap())
        };
        let state = State {
            applied_term: 3,
            applied_index: 8,
            revision: 5,
            compact_revision: -1,
            next_branch: 2,
            scrub_from: Revision::NONE,
        };
        assert_eq!(stored(), (1, state));

        let mut keyspace = Keyspace::open(&disk.environment).unwrap();
        assert_eq!(
            (keyspace.applied(), keyspace.revision()),
            (state.applied(), 5)
        );
        assert_eq!(stored(), (1, state), "opening writes nothing");
        let next = EntryId {
            term: Term(3),
            index: Index(9),
        };
        keyspace.apply(next, None, false).unwrap();
        keyspace.checkpoint().unwrap();
        let after = State {
            applied_index: 9,
            ..state
        };
        assert_eq!(stored(), (LAYOUT, after));
        drop(keyspace);
        let keyspace = Keyspace::open(&disk.environment).unwrap();
        assert_eq!(keyspace.applied(), next);
    }

    #[test]
    fn a_state_of_layout_2_gets_its_tables_of_leases_when_it_is_opened() {
        let disk = Disk::new();
        lay_out(&disk, 2, &State::FIRST);
        crate::peek(&disk.environment).expect("a look needs no leases");
        let mut keyspace = Keyspace::open(&disk.environment).unwrap();
        let entry = EntryId {
            term: Term(1),
            index: Index(1),
        };
        let grant = crate::Command::GrantLease { id: 7, ttl: 60 };
        let granted = keyspace.apply(entry, Some(&grant.encode()), true);
        assert!(granted.unwrap().unwrap().is_ok());
        keyspace.checkpoint().unwrap();
        drop(keyspace);
        let keyspace = Keyspace::open(&disk.environment).unwrap();
        let query = crate::Query::KnownLeases(vec![7, 8]);
        let reply = keyspace.query(&query).unwrap().unwrap();
        let lease = crate::Lease {
            grant: crate::Grant { id: 7, entry: 1 },
            ttl: 60,
            remaining: None,
        };
        assert_eq!(reply.body, crate::ReplyBody::Leases(vec![lease]));
    }

    #[test]
    fn a_newer_layout_is_refused_by_name() {
        let disk = Disk::new();
        lay_out(&disk, LAYOUT + 1, &"what a newer program keeps");
        for refused in [
            Keyspace::open(&disk.environment).err(),
            crate::peek(&disk.environment).err(),
        ] {
            assert_eq!(
                refused.map(|error| error.to_string()).as_deref(),
                Some("the key space has layout 4, and this program knows 3; upgrade it")
            );
        }
    }
}
