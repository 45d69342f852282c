//! The key space of one machine: commands applied in the order of the log, queries answered, checkpoints made.

mod reading;

use std::cell::Cell;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rm_raft::{EntryId, Index};
use rm_store::{Environment, Writer};

use crate::alarm::{Alarm, AlarmCommand, Alarms};
use crate::auth::Auth;
use crate::auth_command::{AuthCommand, AuthNews};
use crate::carry_out::carry_out;
use crate::change::Change;
use crate::codec::Signed;
use crate::command::{Command, Query, Reply, ReplyBody};
use crate::dirty::Written;
use crate::error::{Failure, KvError, RequestError};
use crate::hash::KeyspaceHash;
use crate::history::{History, Past};
use crate::kind::Kind;
use crate::lease::{LeaseNews, Leases};
use crate::peek::{Peek, peek};
use crate::permit::Judge;
use crate::progress::Progress;
use crate::room::{MAX_REPLY_BYTES, ReplyMemory, ReplyRoom, Unbounded};
use crate::scrub::Compaction;
use crate::state_machine::StateMachine;
use crate::tables::{Configuration, State, Tables};
use crate::tally::Tally;
use crate::vetted::Vetted;

/// The most operations of a transaction that any machine applies; a machine's own limit must not exceed it.
pub const MAX_TXN_OPERATIONS: usize = 10_000;

/// What an entry comes to: nothing for an empty entry, else the reply or the client's error.
pub type Outcome = Option<Result<Reply, RequestError>>;

/// The key space, with the write transaction that stays open between checkpoints and is the truth for reads.
///
/// Invariants: the applied entry, the revision and the data are of the same moment, in memory and on disk. After a failure
/// inside a change the transaction is gone, and every call fails until the key space is opened again.
pub struct Keyspace {
    tables: Tables,
    leases: Leases,
    auth: Auth,
    vetted: Vetted,
    alarms: Alarms,
    writer: Writer,
    state: State,
    checkpointed: State,
    /// Whether a configuration was set since the last checkpoint.
    configured: bool,
    scratch: Vec<u8>,
    /// What was written since the last checkpoint.
    written: Written,
    /// What happened to leases and was not taken yet.
    news: LeaseNews,
    /// What became of those who were admitted, and was not taken yet, with its entry.
    auth_news: Vec<(EntryId, AuthNews)>,
    /// What the command that was applied last was about.
    kind: Option<Kind>,
    /// What was done and was not taken yet. Reads count, too.
    tally: Cell<Tally>,
    progress: Progress,
    reply_bytes_max: usize,
}

/// What a checkpoint wrote, and how long it kept the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointReport {
    /// The entry up to which the key space is durable now.
    pub applied: EntryId,
    /// How many bytes it wrote, by estimate.
    pub bytes: usize,
    /// How long the commit took, flushes included.
    pub commit: Duration,
    /// How long it took to begin the next transaction.
    pub begin: Duration,
}

/// How large the key space is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of the file's pages that hold data.
    pub used_bytes: u64,
    /// How many changes there are.
    pub changes: u64,
}

impl StateMachine for Keyspace {
    type Query = Query;
    type Reply = Reply;
    type Refusal = RequestError;
    type Error = KvError;
    type Report = CheckpointReport;

    /// Opens the key space as of its last checkpoint, or makes an empty one, and begins the transaction. Reads three
    /// values, however large the key space is. The environment stays open for as long as the key space is there.
    ///
    /// # Errors
    /// [`KvError::NewerLayout`], [`KvError::Damaged`], or LMDB's own.
    fn open(environment: &Environment) -> Result<Keyspace, KvError> {
        let tables = Tables::open(environment)?;
        let leases = Leases::open(environment)?;
        let auth = Auth::open(environment)?;
        let writer = Writer::begin(environment.clone())?;
        let txn = writer.txn().ok_or(KvError::GivenUp)?;
        let (state, alarms) = (tables.state(txn)?, Alarms::load(&tables, txn)?);
        Ok(Keyspace {
            tables,
            leases,
            auth,
            vetted: Vetted::default(),
            alarms,
            writer,
            state,
            checkpointed: state,
            configured: false,
            scratch: Vec::new(),
            written: Written::default(),
            news: LeaseNews::default(),
            auth_news: Vec::new(),
            kind: None,
            tally: Cell::default(),
            progress: Progress::default(),
            reply_bytes_max: MAX_REPLY_BYTES,
        })
    }

    fn peek(environment: &Environment) -> Result<Peek, KvError> {
        peek(environment)
    }

    /// Has `report` called about every 1,024 keys that a request or a query looks at or changes, and more often where
    /// values are large: a request may take long, and whoever watches this thread shall see that it is at work.
    fn on_progress(&mut self, report: Box<dyn Fn() + Send>) {
        self.progress = Progress::new(report);
    }

    /// The entry that was applied last.
    fn applied(&self) -> EntryId {
        self.state.applied()
    }

    /// The entry up to which the last checkpoint made the key space durable.
    fn checkpointed(&self) -> EntryId {
        self.checkpointed.applied()
    }

    /// Applies the next entry of the log: `None` is an empty entry. Without `answer` the reply lacks what only a
    /// waiting client needs: the results of ranges, and previous keys. A reply that is too large is replaced by an error
    /// that says so; what the request changes is changed all the same, as on the machines where nobody waits.
    ///
    /// The client's errors are part of the result: they too advance the applied entry, on every machine alike. An entry
    /// that this program cannot decode is not passed over: another machine may know it, and the two would differ ever after.
    ///
    /// # Errors
    /// [`KvError::OutOfOrder`], [`KvError::NewerCommand`] and [`KvError::MalformedCommand`] without any effect; after any
    /// other the key space must be opened again.
    fn apply(
        &mut self,
        entry: EntryId,
        command: Option<&[u8]>,
        answer: bool,
    ) -> Result<Outcome, KvError> {
        let memory: &dyn ReplyMemory = &Unbounded;
        self.apply_within(entry, command, answer.then_some(memory))
    }

    /// Notes the configuration that the entry at an index holds: durable, as the applied entry is, with the next checkpoint.
    /// Its bytes are the driver's; here they are opaque.
    ///
    /// # Errors
    /// LMDB's own; the key space must then be opened again.
    fn set_configuration(&mut self, index: Index, bytes: Bytes) -> Result<(), KvError> {
        let configuration = Configuration { index, bytes };
        let set = self.writer.with_txn(|txn| {
            let txn = txn.ok_or(KvError::GivenUp)?;
            self.tables.set_configuration(txn, &configuration)
        });
        if set.is_err() {
            self.writer.abandon();
        }
        set?;
        self.configured = true;
        Ok(())
    }

    fn query(&self, query: &Query) -> Result<Result<Reply, RequestError>, KvError> {
        self.query_within(query, &Unbounded)
    }

    /// How many bytes of changed pages the open transaction holds in memory, by estimate: an upper bound but for long
    /// keys, and close to the truth for keys in random order.
    fn dirty_bytes(&self) -> usize {
        self.writer.txn().map_or(0, |txn| {
            self.written.dirty_bytes(&self.tables, &self.leases, txn)
        })
    }

    /// Makes all that was applied durable, and begins the next transaction. Does nothing when nothing was applied since.
    ///
    /// # Errors
    /// [`KvError::NoSpace`] or LMDB's own; the key space must then be opened again, and is as of the checkpoint before.
    fn checkpoint(&mut self) -> Result<CheckpointReport, KvError> {
        let bytes = self.dirty_bytes();
        if self.writer.txn().is_none() {
            return Err(KvError::GivenUp);
        }
        let mut report = CheckpointReport {
            applied: self.state.applied(),
            bytes: 0,
            commit: Duration::ZERO,
            begin: Duration::ZERO,
        };
        if self.state == self.checkpointed && !self.configured {
            return Ok(report);
        }
        let started = Instant::now();
        let set = self.writer.with_txn(|txn| {
            let txn = txn.ok_or(KvError::GivenUp)?;
            self.tables.set_state(txn, &self.state)
        });
        if set.is_err() {
            self.writer.abandon();
        }
        set?;
        self.writer.commit()?;
        let committed = Instant::now();
        self.writer.renew()?;
        report.bytes = bytes;
        report.commit = committed - started;
        report.begin = committed.elapsed();
        self.checkpointed = self.state;
        self.configured = false;
        self.written = Written::default();
        Ok(report)
    }

    fn is_no_space(error: &KvError) -> bool {
        matches!(
            error,
            KvError::NoSpace | KvError::MapFull | KvError::GivenUp
        )
    }
}

impl Keyspace {
    /// As [`apply`](StateMachine::apply), for a client that waits where there is memory for a reply, which then asks for what it takes. Where
    /// there is none left, the reply is an error that says so, and the request is carried out all the same.
    ///
    /// # Errors
    /// As there.
    pub fn apply_within(
        &mut self,
        entry: EntryId,
        command: Option<&[u8]>,
        answer: Option<&dyn ReplyMemory>,
    ) -> Result<Outcome, KvError> {
        if self.writer.txn().is_none() {
            return Err(KvError::GivenUp);
        }
        let applied = self.state.applied();
        if entry.index != applied.index.next() || entry.term < applied.term {
            return Err(KvError::OutOfOrder { entry, applied });
        }
        let command = command
            .map(|bytes| Signed::decode(bytes).map_err(|error| KvError::undecodable(entry, error)))
            .transpose()?;
        let outcome = match command.map(|signed| self.apply_command(entry, &signed, answer)) {
            None => None,
            Some(Ok(reply)) => Some(Ok(reply)),
            Some(Err(Failure::Request(error))) => Some(Err(error)),
            Some(Err(Failure::Store(error))) => {
                self.writer.abandon();
                return Err(error);
            }
        };
        self.state.set_applied(entry);
        Ok(outcome)
    }

    /// Bounds the bytes of one reply, its keys and values above all; [`MAX_REPLY_BYTES`] when it is never called.
    pub fn bound_replies(&mut self, bytes: usize) {
        self.reply_bytes_max = bytes;
    }

    /// The revision of the key space; one when nothing was ever written.
    pub fn revision(&self) -> i64 {
        self.state.revision
    }

    /// The revision up to which the last checkpoint made the key space durable.
    pub fn checkpointed_revision(&self) -> i64 {
        self.checkpointed.revision
    }

    /// The changes from the revision `from` on, those of the open transaction included: about so many bytes of them, and all of one
    /// revision at least.
    ///
    /// # Errors
    /// Damage, or LMDB's own.
    pub fn history(&self, from: i64, bytes_max: usize) -> Result<History, KvError> {
        Past {
            tables: &self.tables,
            txn: self.writer.txn().ok_or(KvError::GivenUp)?,
            state: &self.state,
            progress: &self.progress,
        }
        .read(from, bytes_max)
    }

    /// How far the key space is compacted, and how far what that left without a reader is removed.
    pub fn compaction(&self) -> Compaction {
        self.state.compaction()
    }

    /// What happened to leases since it was last asked, or since the key space was opened. Whoever opens the key space again hears
    /// again of what is applied again.
    pub fn take_lease_news(&mut self) -> LeaseNews {
        std::mem::take(&mut self.news)
    }

    /// What the command was about that was applied last since the key space was opened.
    pub fn last_kind(&self) -> Option<Kind> {
        self.kind
    }

    /// What was done since it was last asked, as [`Keyspace::take_lease_news`].
    pub fn take_tally(&self) -> Tally {
        self.tally.take()
    }

    fn count(&self, done: Tally) {
        let mut tally = self.tally.get();
        tally += done;
        self.tally.set(tally);
    }

    fn apply_command(
        &mut self,
        entry: EntryId,
        signed: &Signed,
        answer: Option<&dyn ReplyMemory>,
    ) -> Result<Reply, Failure> {
        let Signed { by, command } = signed;
        self.kind = Some(Kind::of(command));
        command.check(MAX_TXN_OPERATIONS)?;
        let room = ReplyRoom::new(self.reply_bytes_max, answer.unwrap_or(&Unbounded));
        Judge {
            auth: &self.auth,
            view: &self.view(&room)?,
            vetted: &self.vetted,
            by: by.as_ref(),
        }
        .command(command)?;
        match command {
            Command::Auth(command) => return self.apply_auth(entry, command),
            Command::Alarm(command) => return self.apply_alarm(command),
            _ => {}
        }
        if let Some(error) = self.alarms.refusal(command) {
            return Err(error.into());
        }
        let (made, unanswered, tally, reply) = self.writer.with_txn(|txn| {
            let mut change = Change {
                tables: &self.tables,
                leases: &self.leases,
                news: &mut self.news,
                txn: txn.ok_or(KvError::GivenUp)?,
                state: &mut self.state,
                scratch: &mut self.scratch,
                answer: answer.is_some(),
                unanswered: None,
                progress: &self.progress,
                room: &room,
                made: 0,
                written: Written::default(),
                tally: Tally::default(),
            };
            let reply = carry_out(&mut change, entry, command)?;
            change.end_revision();
            self.written += change.written;
            let made = change.written.changes;
            Ok::<_, Failure>((made, change.unanswered, change.tally, reply))
        })?;
        self.count(tally);
        match (unanswered, made) {
            (None, _) => Ok(reply),
            (Some(error), 0) => Err(error.into()),
            (Some(error), _) => Err(error.after_change(self.state.revision).into()),
        }
    }

    fn apply_auth(&mut self, entry: EntryId, command: &AuthCommand) -> Result<Reply, Failure> {
        let mut news = Vec::new();
        let reply = self.writer.with_txn(|txn| {
            let txn = txn.ok_or(KvError::GivenUp)?;
            self.auth.apply(txn, entry.index.0, command, &mut news)
        })?;
        let news = news.into_iter().map(|news| (entry, news));
        self.auth_news.extend(news);
        Ok(Reply {
            revision: self.state.revision,
            body: ReplyBody::Auth(reply),
        })
    }

    fn apply_alarm(&mut self, command: &AlarmCommand) -> Result<Reply, Failure> {
        let alarms = self.writer.with_txn(|txn| {
            let txn = txn.ok_or(KvError::GivenUp)?;
            self.alarms.apply(&self.tables, txn, command)
        })?;
        Ok(Reply {
            revision: self.state.revision,
            body: ReplyBody::Alarms(alarms),
        })
    }

    /// The alarms that stand, in the order of the machines' numbers.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.alarms.all()
    }

    /// The hash that every machine was to compare its own with last, if nobody has taken it since.
    pub fn take_hash_claim(&mut self) -> Option<KeyspaceHash> {
        self.alarms.take_claim()
    }

    /// Whether permissions are asked for, and the revision of users, roles and permissions.
    pub fn auth_status(&self) -> (bool, u64) {
        (self.auth.enabled(), self.auth.revision())
    }

    /// What became of those who were admitted since it was last asked, as [`Keyspace::take_lease_news`], with the entry.
    pub fn take_auth_news(&mut self) -> Vec<(EntryId, AuthNews)> {
        std::mem::take(&mut self.auth_news)
    }

    /// The configuration that was noted last.
    ///
    /// # Errors
    /// [`KvError::Damaged`], or LMDB's own.
    pub fn configuration(&self) -> Result<Option<Configuration>, KvError> {
        let txn = self.writer.txn().ok_or(KvError::GivenUp)?;
        self.tables.configuration(txn)
    }

    /// How large the key space is, the open transaction included.
    ///
    /// # Errors
    /// LMDB's own.
    pub fn size(&self) -> Result<Size, KvError> {
        let space = self.writer.environment().space()?;
        let txn = self.writer.txn().ok_or(KvError::GivenUp)?;
        Ok(Size {
            file_bytes: space.file_bytes,
            used_bytes: space.used_bytes,
            changes: self.tables.revisions.table.len(txn)?,
        })
    }

    /// How many keys there are, with those that are deleted and not compacted yet; one of more than 500 bytes counts more than once.
    /// It costs the same however many there are.
    ///
    /// # Errors
    /// LMDB's own.
    pub fn keys(&self) -> Result<usize, KvError> {
        let txn = self.writer.txn().ok_or(KvError::GivenUp)?;
        let entries = self.tables.index.entries(txn)?;
        Ok(usize::try_from(entries).unwrap_or(usize::MAX))
    }
}
