//! What a machine asks of its state machine: the contract that the key space keeps, and that another one would have to keep.
//!
//! How to write one is told in `docs/state-machine.md`, with a counter that is replicated.

use std::error::Error;
use std::fmt::Debug;

use bytes::Bytes;
use rm_raft::{EntryId, Index};
use rm_store::Environment;

use crate::peek::Peek;

/// What a request comes to: the reply, or why the request itself cannot have one.
pub type Answer<S> = Result<<S as StateMachine>::Reply, <S as StateMachine>::Refusal>;

/// A state machine that is fed from the log (§2 of the paper: replicated state machines) and keeps its state in LMDB.
///
/// # What every implementation holds
/// **Deterministic.** What [`apply`] changes and answers follows from the state and the entry alone: no clock, no randomness, no
/// address, no order of a hash map, nothing of the machine. The same entries give the same content on every machine. Two states
/// that once differ are never compared by Raft, and a client would see which machine it asked.
///
/// **Exactly once.** All durable state lies in the one environment, and a [`checkpoint`] commits it in one transaction, the
/// applied entry included. After a crash the log is applied again from [`applied`]. If that entry and the data it names could be
/// durable one without the other, a command would be applied twice or never.
///
/// **Snapshots for nothing.** A snapshot is a consistent copy of the environment as of its last commit, made while the next
/// transaction is open, and installing one is opening the state machine on it. No code of the state machine takes part, which is right
/// only as long as nothing of the state lies elsewhere: no other file, no other environment.
///
/// **Stamped.** A transaction is committed by [`Writer`], or by [`Environment::commit`], or carries an [`Environment::stamp`]: it is how a file
/// that a disk gave back damaged or stale is found when it is opened.
///
/// # What may block
/// All calls come from one thread, of which clients' reads wait too. [`checkpoint`] and the first [`open`] may wait for the disk;
/// nothing else should. No call may take long without the signs of life that [`on_progress`] asks for, since a thread that
/// gives none is taken for hung.
///
/// # What may fail
/// By a request's own fault: that is an [`Answer`]. It advances the applied entry as any other, and leaves the same content on every
/// machine. By the store's fault: that is an error, and this value must not be used any more. The transaction goes with it, and
/// the state machine is opened again as of its last checkpoint, to which the log is applied again.
///
/// [`applied`]: StateMachine::applied
/// [`apply`]: StateMachine::apply
/// [`checkpoint`]: StateMachine::checkpoint
/// [`on_progress`]: StateMachine::on_progress
/// [`open`]: StateMachine::open
/// [`Writer`]: rm_store::Writer
pub trait StateMachine: Sized {
    /// What can be asked without an entry in the log.
    type Query;
    /// What a command or a query is answered with.
    type Reply;
    /// Why a request cannot be carried out by its own fault.
    type Refusal: Error + Send + Sync + 'static;
    /// Why the state machine cannot go on.
    type Error: Error + Send + Sync + 'static;
    /// What a checkpoint tells of itself, for whoever reads the machine's log.
    type Report: Debug;

    /// Opens the state as of its last checkpoint, or an empty one in a new environment, and begins a transaction.
    ///
    /// It is called at every start, after every failure and after every installed snapshot, so it should read little.
    ///
    /// # Errors
    /// Of the store; also for a state of a format that this program does not know, which must be left as it is.
    fn open(environment: &Environment) -> Result<Self, Self::Error>;

    /// Reads where a state stands as of its last commit, and the configuration that was noted up to there, without opening it: so
    /// a machine learns what a snapshot holds before it sends it or puts it in force. The environment may be read-only.
    ///
    /// # Errors
    /// Of the store.
    fn peek(environment: &Environment) -> Result<Peek, Self::Error>;

    /// Takes what to call during long work, about every thousand steps. One whose every call is short need not take it.
    fn on_progress(&mut self, report: Box<dyn Fn() + Send>) {
        drop(report);
    }

    /// The entry that was applied last, in the open transaction.
    fn applied(&self) -> EntryId;

    /// The entry up to which the last checkpoint made the state durable. The log may be compacted up to it.
    fn checkpointed(&self) -> EntryId;

    /// Applies the next entry of the log: its command, or `None` for one that holds none, which still advances the applied entry.
    /// The result is `None` for such an entry.
    ///
    /// Entries come in order, each once in the life of a state. One that does not follow on the applied entry is an error:
    /// whoever calls has lost its place. So is a command that this program cannot decode: another machine may know it, and to
    /// pass it over here would make the two differ.
    ///
    /// `answer` tells that a client of this machine waits. It may spare work on the reply and must change nothing else.
    ///
    /// # Errors
    /// Of the store, and those above.
    fn apply(
        &mut self,
        entry: EntryId,
        command: Option<&[u8]>,
        answer: bool,
    ) -> Result<Option<Answer<Self>>, Self::Error>;

    /// Notes the configuration that an entry holds, in the open transaction: a snapshot must carry it (§7), since the entry may be
    /// compacted. The bytes are opaque; the latest replace those before. The entry itself is applied too, as one without a command.
    ///
    /// # Errors
    /// Of the store.
    fn set_configuration(&mut self, index: Index, bytes: Bytes) -> Result<(), Self::Error>;

    /// Answers a query from the open transaction: the state as of the last applied entry. When that is recent enough is the
    /// caller's to know (dissertation 6.4).
    ///
    /// # Errors
    /// Of the store.
    fn query(&self, query: &Self::Query) -> Result<Answer<Self>, Self::Error>;

    /// About how many bytes the open transaction holds in memory, rather too many than too few. It is asked after every batch; beyond a
    /// limit of the config a checkpoint is made.
    fn dirty_bytes(&self) -> usize;

    /// Commits the open transaction durably and begins the next.
    ///
    /// # Errors
    /// Of the store; the state is then as of the checkpoint before.
    fn checkpoint(&mut self) -> Result<Self::Report, Self::Error>;

    /// Whether the error is a want of space. Then the machine refuses writes and opens the state machine again until there is some; any
    /// other error ends the life of whoever called.
    fn is_no_space(error: &Self::Error) -> bool;
}
