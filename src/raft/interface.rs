//! What goes into the core and what comes out of it: inputs, effects, and its status.

use std::collections::BTreeMap;

use crate::{
    Change, ChangeRefused, Entries, EntryId, HardState, Index, MachineId, Machines, Message,
    Proposal, ReadId, ReadMode, Refusal, RequestId, Snapshot, Term, TransferOutcome,
};

/// What happens to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Clients of this machine want these in the log.
    Propose(Vec<Proposal>),
    /// A client of this machine wants other members.
    Change {
        /// Whose request it is.
        request: RequestId,
        /// What is to change.
        change: Change,
    },
    /// A batch of linearizable reads came to this machine.
    Read {
        /// Its number.
        read: ReadId,
        /// What may confirm it.
        mode: ReadMode,
    },
    /// A message came.
    Received {
        /// From whom.
        from: MachineId,
        /// What it says.
        message: Message,
    },
    /// Storage has made durable what one `Persist` asked.
    Persisted {
        /// The hard state that is durable.
        hard_state: HardState,
        /// The last entry of the log at that moment.
        last: EntryId,
    },
    /// The answer to `Effect::ReadEntries`.
    EntriesRead {
        /// Entries that follow on each other, from the index that was asked for.
        entries: Entries,
    },
    /// This machine's disk became full, or has space again.
    Space {
        /// Whether it is full.
        full: bool,
    },
    /// The state machine's state is durable up to this entry, so that the log need not hold what is before.
    Checkpointed {
        /// The last entry that it has applied.
        applied: EntryId,
    },
    /// Of the snapshot that `Effect::SendSnapshot` asked for more has arrived: it may take as long again.
    SnapshotMoves {
        /// Where.
        to: MachineId,
        /// The number from the effect.
        number: u64,
    },
    /// What `Effect::SendSnapshot` asked for has ended, well or not: what became of it the other machine tells.
    SnapshotEnded {
        /// Where.
        to: MachineId,
        /// The number from the effect.
        number: u64,
    },
    /// A snapshot came; its whole content is durable beside the present state. Answered by `Effect::Install` or
    /// `Effect::Discard`, or by neither if this very snapshot is being installed.
    SnapshotReceived {
        /// From whom.
        from: MachineId,
        /// The sender's term when it began to send.
        term: Term,
        /// What it is.
        snapshot: Snapshot,
    },
    /// The answer to `Effect::Install`.
    Installed(Snapshot),
    /// The other answer to it: the content could not be made ready and is thrown away. State and log are as they were.
    InstallFailed(Snapshot),
    /// Time has passed.
    Elapsed,
    /// The process of another machine is known to have ended.
    PeerGone(MachineId),
    /// Stand for election at once, without a pre-vote: this machine led until a moment ago and no other can hold a
    /// lease that this breaks.
    Campaign,
    /// Hand leadership to this voter, or to the one that is fittest. Answered by `Effect::Transferred`.
    Transfer {
        /// To whom.
        to: Option<MachineId>,
    },
    /// From now on these voters are preferred as leaders, in place of those of the config: numbers change as members are
    /// replaced.
    Prefer(BTreeMap<MachineId, u8>),
}

/// What a machine is to do. Effects are performed in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Make durable.
    Persist(Persist),
    /// Send one message to each of these machines.
    Send {
        /// To whom; sorted, without this machine.
        to: Machines,
        /// What.
        message: Message,
    },
    /// Read entries from Storage: `from` and on, at most `bytes_max` unless the first is larger. Answered by
    /// `Input::EntriesRead`.
    ReadEntries {
        /// The first.
        from: Index,
        /// The last that is wanted.
        up_to: Index,
        /// The most bytes of them.
        bytes_max: usize,
    },
    /// Apply the log up to this index: all of it is committed, and durable on this machine.
    Apply {
        /// The last index to apply.
        up_to: Index,
        /// Those of the entries since the last `Apply` that are in memory: a run that ends at `up_to`, possibly empty.
        entries: Entries,
    },
    /// Remove the entries up to this one from the durable log, in order with `Persist`.
    Compact {
        /// The last to remove.
        up_to: EntryId,
    },
    /// Send a snapshot to this machine: one that exists, or a new one. Answered by `Input::SnapshotMoves` now and then, and
    /// `Input::SnapshotEnded`. If one is already on its way there, this one takes its place.
    SendSnapshot {
        /// To whom.
        to: MachineId,
        /// Tells this sending from earlier ones; never repeated by a core.
        number: u64,
        /// The term in which this machine leads, which goes with the snapshot. It may lead no more when that leaves.
        term: Term,
        /// The least that it must have applied.
        at_least: Index,
    },
    /// Put the content of this snapshot in the place of the state, in order with `Apply`, and remove the log up to its last entry,
    /// or all of the log if it does not hold that entry, in order with `Persist`: both at the same instant, as far as a crash can
    /// tell. Answered by `Input::Installed` or `Input::InstallFailed`.
    Install(Snapshot),
    /// Throw away the content of this snapshot.
    Discard(Snapshot),
    /// Answer these reads once the state machine has applied this index.
    Readable {
        /// Which.
        read: ReadId,
        /// The read index (dissertation 6.4).
        index: Index,
    },
    /// These reads cannot be confirmed now.
    ReadRefused {
        /// Which.
        read: ReadId,
        /// Why.
        reason: Refusal,
    },
    /// A change that a client of this machine wants was not begun. One that is begun is complete when the first configuration
    /// that is not joint is applied, from the entry with the client's request on.
    ChangeRefused {
        /// Whose request it was.
        request: RequestId,
        /// Why.
        reason: ChangeRefused,
    },
    /// These proposals of this machine's clients have not entered the log and will not.
    Refused {
        /// Which.
        requests: Vec<RequestId>,
        /// Why.
        reason: Refusal,
    },
    /// A transfer of leadership ended.
    Transferred {
        /// To whom; none if no target was named and none was found.
        to: Option<MachineId>,
        /// How.
        outcome: TransferOutcome,
    },
}

/// What Storage is to make durable, in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Persist {
    /// Term, vote and commit index, as they are after this.
    pub hard_state: HardState,
    /// Entries to append. Whatever the log holds from the first one's index on is removed before.
    pub entries: Entries,
    /// Messages that promise what this makes durable: to be sent after, never before (figure 2). Each with its receiver.
    pub then: Vec<(MachineId, Message)>,
}

/// What a machine is at the moment (§5.1, dissertation 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it could win.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// How a machine takes part, by the configuration in force in its log (§6, dissertation 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Member {
    /// It has a vote.
    Voter,
    /// It receives the log and has no vote.
    Learner,
    /// It has a vote, or had one, until the change that is under way is committed.
    Outgoing,
    /// It took part once, and does no more: by its own log, or because others told it so.
    Removed,
    /// It takes no part, as far as its log tells: it is to join.
    #[default]
    None,
}

/// What can be told about a core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This machine's role.
    pub role: Role,
    /// How it takes part.
    pub member: Member,
    /// Its term.
    pub term: Term,
    /// Whom it takes for the leader of that term.
    pub leader: Option<MachineId>,
    /// The entry up to which its log is compacted.
    pub base: EntryId,
    /// The last entry of its log, in memory or durable.
    pub last: EntryId,
    /// Up to where it knows the log to be durable here.
    pub durable: Index,
    /// Up to where it knows the log to be committed.
    pub commit: Index,
}

/// How far a leader has got with one machine that it sends the log to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerStatus {
    /// Which.
    pub machine: MachineId,
    /// Up to where its durable log is known to match.
    pub matched: Index,
    /// How many appends are on their way to it and not answered: at most `Config::inflight_requests_max`. Of one that looks for where
    /// the logs meet, what it carries is not counted below, since it is alone.
    pub requests: usize,
    /// The entries in them: at most `Config::inflight_entries_max`.
    pub entries: usize,
    /// Their bytes: at most `Config::inflight_bytes_max` before the last append.
    pub bytes: usize,
}
