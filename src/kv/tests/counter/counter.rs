//! A state machine of one number.

use bytes::Bytes;
use heed::{CommitOrAbort, Database, RoTxn, types};
use rm_kv::{Answer, Configuration, Peek, StateMachine};
use rm_raft::{EntryId, Index, Term};
use rm_store::{Environment, Writer};

/// What an entry of the log asks: a number to add, as eight bytes.
pub(crate) struct Add(pub(crate) i64);

impl Add {
    pub(crate) fn encode(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0.to_be_bytes())
    }
}

/// What can be asked without an entry of the log.
pub(crate) struct Get;

/// The request's own fault: the sum has no room in an `i64`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sum would be too large")]
pub(crate) struct TooLarge;

/// The machine's fault, or its disk's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CounterError {
    #[error("entry {0} does not follow on the applied one")]
    OutOfOrder(EntryId),
    #[error("entry {0} holds no command that this program knows")]
    UnknownCommand(EntryId),
    #[error("a stored value is damaged")]
    Damaged,
    #[error("an earlier failure gave up the transaction")]
    GivenUp,
    #[error("LMDB failed: {0}")]
    Lmdb(#[from] heed::Error),
}

type Table = Database<'static, types::Str, types::Bytes>;

const TABLE: &str = "counter";
const STATE: &str = "state";
const CONFIGURATION: &str = "configuration";

/// The number, and the entry that made it what it is: one value in one table, so that neither is ever written without the other.
#[derive(Clone, Copy, Default)]
struct State {
    applied: EntryId,
    count: i64,
}

impl State {
    fn read(table: Table, txn: &RoTxn) -> Result<State, CounterError> {
        let Some(value) = table.get(txn, STATE)? else {
            return Ok(State::default());
        };
        let number = |place: usize| {
            let bytes = value.get(8 * place..8 * place + 8)?;
            Some(u64::from_be_bytes(bytes.try_into().ok()?))
        };
        match (number(0), number(1), number(2)) {
            (Some(term), Some(index), Some(count)) => Ok(State {
                applied: EntryId {
                    term: Term(term),
                    index: Index(index),
                },
                count: count as i64,
            }),
            _ => Err(CounterError::Damaged),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let State { applied, count } = self;
        [applied.term.0, applied.index.0, *count as u64]
            .map(u64::to_be_bytes)
            .concat()
    }
}

/// The counter. Reads are answered from the transaction that is open between checkpoints.
pub(crate) struct Counter {
    table: Table,
    writer: Writer,
    state: State,
    checkpointed: EntryId,
}

impl Counter {
    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), CounterError> {
        let table = self.table;
        let put = self.writer.with_txn(|txn| {
            let txn = txn.ok_or(CounterError::GivenUp)?;
            Ok(table.put(txn, key, value)?)
        });
        if put.is_err() {
            // Half a change must not be committed.
            self.writer.abandon();
        }
        put
    }
}

impl StateMachine for Counter {
    type Query = Get;
    type Reply = i64;
    type Refusal = TooLarge;
    type Error = CounterError;
    type Report = ();

    fn open(environment: &Environment) -> Result<Counter, CounterError> {
        let table = match find(environment)? {
            Some(table) => table,
            None => create(environment)?,
        };
        let writer = Writer::begin(environment.clone())?;
        let state = State::read(table, writer.txn().ok_or(CounterError::GivenUp)?)?;
        Ok(Counter {
            table,
            writer,
            state,
            checkpointed: state.applied,
        })
    }

    fn peek(environment: &Environment) -> Result<Peek, CounterError> {
        let mut peek = Peek::default();
        if let Some(table) = find(environment)? {
            let txn = environment.env().read_txn()?;
            peek.applied = State::read(table, &txn)?.applied;
            if let Some(value) = table.get(&txn, CONFIGURATION)? {
                let (index, bytes) = value.split_first_chunk().ok_or(CounterError::Damaged)?;
                peek.configuration = Some(Configuration {
                    index: Index(u64::from_be_bytes(*index)),
                    bytes: Bytes::copy_from_slice(bytes),
                });
            }
        }
        Ok(peek)
    }

    fn applied(&self) -> EntryId {
        self.state.applied
    }

    fn checkpointed(&self) -> EntryId {
        self.checkpointed
    }

    fn apply(
        &mut self,
        entry: EntryId,
        command: Option<&[u8]>,
        _answer: bool,
    ) -> Result<Option<Answer<Self>>, CounterError> {
        let State { applied, count } = self.state;
        if entry.index != applied.index.next() || entry.term < applied.term {
            return Err(CounterError::OutOfOrder(entry));
        }
        let sum = match command {
            None => None,
            Some(bytes) => {
                let bytes = bytes.try_into();
                let bytes = bytes.map_err(|_| CounterError::UnknownCommand(entry))?;
                let sum = count.checked_add(i64::from_be_bytes(bytes));
                Some(sum.ok_or(TooLarge))
            }
        };
        // A command that is refused changes nothing, and is applied all the same.
        let next = State {
            applied: entry,
            count: match sum {
                Some(Ok(sum)) => sum,
                _ => count,
            },
        };
        self.put(STATE, &next.encode())?;
        self.state = next;
        Ok(sum)
    }

    fn set_configuration(&mut self, index: Index, bytes: Bytes) -> Result<(), CounterError> {
        let value = [&index.0.to_be_bytes()[..], &bytes].concat();
        self.put(CONFIGURATION, &value)
    }

    fn query(&self, _: &Get) -> Result<Answer<Self>, CounterError> {
        match self.writer.txn() {
            Some(_) => Ok(Ok(self.state.count)),
            None => Err(CounterError::GivenUp),
        }
    }

    fn dirty_bytes(&self) -> usize {
        // Whatever is written, it is on one page.
        4096
    }

    fn checkpoint(&mut self) -> Result<(), CounterError> {
        if self.writer.txn().is_none() {
            return Err(CounterError::GivenUp);
        }
        self.writer.commit()?;
        self.writer.renew()?;
        self.checkpointed = self.state.applied;
        Ok(())
    }

    fn is_no_space(error: &CounterError) -> bool {
        match error {
            CounterError::GivenUp
            | CounterError::Lmdb(heed::Error::Mdb(heed::MdbError::MapFull)) => true,
            CounterError::Lmdb(heed::Error::Io(error)) => {
                error.kind() == std::io::ErrorKind::StorageFull
            }
            _ => false,
        }
    }
}

/// The table, if it is there. Writes nothing, so that it does for a snapshot that is opened read-only.
fn find(environment: &Environment) -> Result<Option<Table>, CounterError> {
    let env = environment.env();
    let opened = env.open_databases_and_commit(env.read_txn()?, |opener, txn| {
        let table = opener.open_database(txn, Some(TABLE))?;
        Ok::<_, heed::Error>(table.map_or(CommitOrAbort::Abort(()), CommitOrAbort::Commit))
    })?;
    Ok(opened.commit())
}

fn create(environment: &Environment) -> Result<Table, CounterError> {
    let env = environment.env();
    let created = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
        let table = opener.create_database(txn, Some(TABLE))?;
        environment.stamp(txn)?;
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(table))
    })?;
    Ok(created.commit().expect("the closure commits or fails"))
}
