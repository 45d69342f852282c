//! Every message between the actors of a machine, with who tells it to whom.

use std::sync::Arc;

use actix::Message;
use bytes::Bytes;
use rm_kv::{Event, LeaseNews, Query, RequestError};
use rm_raft::{
    Entries, EntryId, HardState, Index, MachineId, Machines, Proposal, ReadMode,
    Refusal as RaftRefusal, RequestId, Snapshot, Term, TransferOutcome,
};
use rm_store::Loaded;
use rm_wire::LessorMessage;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::defragment::Replacement;
use crate::lessor::Question;
use crate::port::Refusal;
use crate::replies::{Answered, Making, ReplyRoom};
use crate::snapshot_inbox::Installation;
use crate::watcher::{Sending, StreamId};
use crate::watching::NewWatcher;

/// Where the answer to a client's request goes. Dropped unused, it tells the client that it was lost.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Refusal>>;

/// Port -> Applier, Sender -> Applier: write a checkpoint, and say up to which revision.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WriteDown(pub(crate) Answer<i64>);

/// Port -> Gate: a client wants this command in the log.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Submit {
    pub(crate) command: Bytes,
    /// For the reply.
    pub(crate) room: ReplyRoom,
    /// How many bytes of memory each byte of the reply counts for.
    pub(crate) weight: usize,
    pub(crate) answer: Answer<Answered>,
}

/// Gate -> LogicCenter: clients want these commands in the log.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Propose(pub(crate) Vec<Proposal>);

/// Port -> Gate: an operator wants other members.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SubmitChange {
    pub(crate) change: rm_raft::Change,
    pub(crate) answer: Answer<()>,
}

/// Gate -> LogicCenter: an operator wants other members.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Change {
    pub(crate) request: RequestId,
    pub(crate) change: rm_raft::Change,
}

/// LogicCenter -> Gate: this change was not begun.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ChangeRefused {
    pub(crate) request: RequestId,
    pub(crate) reason: rm_raft::ChangeRefused,
}

/// Applier -> Gate: this change is complete.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Changed(pub(crate) RequestId);

/// LogicCenter -> Gate: these have not entered the log and will not.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Refused {
    pub(crate) requests: Vec<RequestId>,
    pub(crate) reason: RaftRefusal,
}

/// LogicCenter -> Gate: whatever is under way may have been lost just now.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Unsettled {
    pub(crate) reason: Refusal,
}

/// LogicCenter -> Gate, LogicCenter -> Compactor, LogicCenter -> Lessor: another leader than before is known.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LeaderKnown;

/// Applier -> Gate: what the commands of this machine's clients have yielded, by request number.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Answers(pub(crate) Vec<(u64, Result<Answered, RequestError>)>);

/// Applier -> Compactor: the key space is compacted or scrubbed further, as the board tells.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CompactionMoved;

/// Applier -> Lessor: this has become of leases.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LeasesChanged(pub(crate) LeaseNews);

/// Applier -> Lessor: the key space was opened, and some of what became of leases before may not have been told.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct KeyspaceOpened;

/// Port -> Lessor: a client renews a lease, or looks how much is left of it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AskLessor(pub(crate) Question);

/// Listener -> Lessor: another machine's lessor says this.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FromLessor {
    pub(crate) from: MachineId,
    pub(crate) message: LessorMessage,
}

/// Lessor -> Sender: say this to the lessor of another machine.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SendToLessor {
    pub(crate) to: MachineId,
    pub(crate) message: LessorMessage,
}

/// A client's read on its way: it carries its own answer, so that none can be lost in silence.
pub(crate) struct Read {
    /// None for a read of nothing, which only waits its turn.
    pub(crate) query: Option<Query>,
    /// Where the memory for its reply comes from.
    pub(crate) making: Making,
    /// How often a compaction had it begin anew.
    pub(crate) overtaken: u32,
    pub(crate) answer: Answer<Option<Answered>>,
}

/// Port -> LogicCenter: a linearizable read.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ReadLinearizable {
    pub(crate) read: Read,
    pub(crate) mode: ReadMode,
}

/// Port -> LogicCenter: hand leadership to this machine, or to whichever is fittest.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Transfer {
    pub(crate) to: Option<MachineId>,
    pub(crate) answer: oneshot::Sender<Transferred>,
}

/// How a transfer of leadership ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transferred {
    /// None if no target was named and none was found.
    pub(crate) to: Option<MachineId>,
    pub(crate) outcome: TransferOutcome,
}

/// Port -> Applier, LogicCenter -> Applier: answer these reads once this index is applied.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Serve {
    /// Zero for serializable reads.
    pub(crate) index: Index,
    pub(crate) reads: Vec<Read>,
}

/// Listener -> LogicCenter: messages from a peer.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Received {
    pub(crate) from: MachineId,
    pub(crate) messages: Vec<rm_raft::Message>,
}

/// Listener -> LogicCenter: the process of a peer has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PeerGone(pub(crate) MachineId);

/// The peer port -> Listener: something happened on it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Incoming(pub(crate) rm_wire::Event);

/// LogicCenter -> Sender, LogicCenter -> Listener: others are to be sent to and heard.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PeersChanged;

/// LogicCenter -> Sender, Storage -> Sender: send this to each of these.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Send {
    pub(crate) to: Machines,
    pub(crate) message: rm_raft::Message,
}

/// LogicCenter -> Storage: tell me what is durable. From now on nothing of an earlier LogicCenter is taken.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Load {
    pub(crate) incarnation: u64,
}

/// Storage -> LogicCenter: what is durable.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LoadedLog {
    pub(crate) incarnation: u64,
    pub(crate) loaded: Loaded,
}

/// LogicCenter -> Storage: make this durable, then send what rests on it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Persist {
    pub(crate) incarnation: u64,
    pub(crate) persist: rm_raft::Persist,
}

/// Storage -> LogicCenter: it is durable.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Persisted {
    pub(crate) incarnation: u64,
    pub(crate) hard_state: HardState,
    pub(crate) last: EntryId,
}

/// LogicCenter -> Storage: read these entries.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ReadEntries {
    pub(crate) incarnation: u64,
    pub(crate) from: Index,
    pub(crate) up_to: Index,
    pub(crate) bytes_max: usize,
}

/// Storage -> LogicCenter: the entries.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct EntriesRead {
    pub(crate) incarnation: u64,
    pub(crate) entries: Entries,
}

/// LogicCenter -> Applier: how far have you applied?
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Attach {
    pub(crate) incarnation: u64,
}

/// Applier -> LogicCenter: this far.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Attached {
    pub(crate) incarnation: u64,
    pub(crate) applied: Index,
}

/// LogicCenter -> Applier: apply up to this index; all of it is committed and durable here.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Apply {
    pub(crate) up_to: Index,
    pub(crate) entries: Entries,
}

/// Applier -> LogicCenter: the state is durable up to this entry.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Checkpointed {
    pub(crate) applied: EntryId,
}

/// LogicCenter -> Storage: remove the entries up to this one, which the durable state holds.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Compact {
    pub(crate) incarnation: u64,
    pub(crate) up_to: EntryId,
}

/// LogicCenter -> Sender: send a snapshot that has applied this entry at least. Answered by `SnapshotMoves` now and then, and by
/// `SnapshotEnded`.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub(crate) struct SendSnapshot {
    pub(crate) incarnation: u64,
    /// Tells it from what was asked before; it goes with every answer.
    pub(crate) number: u64,
    pub(crate) term: Term,
    pub(crate) to: MachineId,
    pub(crate) at_least: Index,
}

/// LogicCenter -> Sender: this machine leads no more, so its snapshots are of no use.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct StopSnapshots;

/// Sender -> LogicCenter: more of a snapshot has arrived.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SnapshotMoves {
    pub(crate) incarnation: u64,
    pub(crate) to: MachineId,
    pub(crate) number: u64,
}

/// Sender -> LogicCenter: nothing of it is on its way any more, whether it arrived or not.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SnapshotEnded {
    pub(crate) incarnation: u64,
    pub(crate) to: MachineId,
    pub(crate) number: u64,
}

/// The peer port's threads -> LogicCenter: a snapshot is in the inbox, or all of it was here before.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SnapshotReceived {
    pub(crate) from: MachineId,
    /// The sender's when it began to send.
    pub(crate) term: Term,
    pub(crate) snapshot: Snapshot,
}

/// LogicCenter's helper thread -> Storage: put this in force.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Install {
    pub(crate) incarnation: u64,
    pub(crate) installation: Installation,
}

/// Port -> Storage: put this state in force, whoever leads.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Replace(pub(crate) Replacement);

/// Storage -> Applier: another state is in force.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Switch;

/// Storage -> LogicCenter: the snapshot is in force.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Installed {
    pub(crate) incarnation: u64,
    pub(crate) snapshot: Snapshot,
}

/// Whoever held the snapshot last -> LogicCenter: it is not, and will not be.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct InstallFailed {
    pub(crate) incarnation: u64,
    pub(crate) snapshot: Snapshot,
}

/// A question of the Watcher's, by which later ones are told from earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ask {
    /// The life that asks.
    pub(crate) watcher: u64,
    /// Its number in that life.
    pub(crate) number: u64,
}

/// Watcher -> Applier: tell me what happened from this revision on, or since the last checkpoint, as soon as anything has. Takes
/// the place of an earlier question.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct Follow {
    pub(crate) ask: Ask,
    pub(crate) from: Option<i64>,
}

/// Applier -> Watcher: this happened.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Happened {
    pub(crate) ask: Ask,
    /// The first revision that is in it; later than the one asked for if what lies between is compacted.
    pub(crate) from: i64,
    /// The first revision after it.
    pub(crate) next: i64,
    pub(crate) events: Vec<Arc<Event>>,
    /// The revision up to which the last checkpoint reaches.
    pub(crate) checkpointed: i64,
}

/// Port -> Watcher: a client has opened a stream.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct OpenStream {
    pub(crate) id: StreamId,
    pub(crate) sending: Sending,
}

/// Port -> Watcher: a client's stream is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CloseStream(pub(crate) StreamId);

/// Port -> Watcher: a client asks for something on its stream.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FromStream {
    pub(crate) stream: StreamId,
    pub(crate) request: StreamRequest,
}

/// What is asked for on a stream, with the room that it takes until the answer has left.
pub(crate) enum StreamRequest {
    Create(NewWatcher, OwnedSemaphorePermit),
    Cancel(i64, OwnedSemaphorePermit),
    Progress(OwnedSemaphorePermit),
    /// There is room in the outbox again.
    Low,
}

/// Timer -> LogicCenter: time has passed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Elapsed;

/// An actor -> itself: what waited to be done at the end of a batch is to be done.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Flush;

/// An actor -> itself: it is time to look at what time brings.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Tick;

/// Port -> any actor: handle a message, so that a fault may strike.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Poke;

/// The machine's end -> Storage, Applier, Listener, Sender: finish what is worth finishing, and say when.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Retire(pub(crate) oneshot::Sender<()>);
