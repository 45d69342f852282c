//! What machines tell each other. The sender's identity is proved by the connection and stands beside the message.

use std::time::Duration;

use crate::{
    Change, ChangeRefused, Entries, EntryId, Index, Payload, Proposal, RequestId, STEPS_MAX, Term,
};

/// One message between two machines.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The sender's term. In a pre-vote request, and in the answer that grants it, the term that the sender would
    /// campaign in (dissertation 9.6).
    pub term: Term,
    /// What it says.
    pub body: Body,
}

impl Message {
    /// Whether the message could come from a machine that follows the protocol: no number is beyond all limits, and entries follow
    /// on each other.
    pub(crate) fn is_sound(&self) -> bool {
        let Message { term, body } = self;
        if *term >= Term::LIMIT {
            return false;
        }
        // Term zero is before the first election: nobody leads it or stands in it.
        let rules = matches!(
            body,
            Body::VoteRequest { .. }
                | Body::AppendRequest { .. }
                | Body::Heartbeat { .. }
                | Body::CampaignNow
        );
        if rules && *term == Term(0) {
            return false;
        }
        let (previous, entries) = match body {
            Body::AppendRequest {
                previous, entries, ..
            } => (previous, entries),
            Body::ProposeChange { change, .. } => return change.steps.len() <= STEPS_MAX,
            _ => return true,
        };
        let mut before = *previous;
        let follows = entries.iter().all(|entry| {
            let follows = entry.id.index == before.index.next() && entry.id.term >= before.term;
            before = entry.id;
            follows && entry.id.term > Term(0) && is_sound_payload(&entry.payload)
        });
        follows && before.index < Index::LIMIT && before.term <= *term
    }
}

/// Whether a configuration keeps its invariants and has voters.
fn is_sound_payload(payload: &Payload) -> bool {
    match payload {
        Payload::Configuration { configuration, .. } => {
            !configuration.voters.is_empty() && configuration.check().is_ok()
        }
        Payload::Empty | Payload::Command(_) => true,
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Would you vote for me? (dissertation 9.6)
    PreVoteRequest {
        /// The last entry of the sender's log.
        last: EntryId,
    },
    /// The answer to a pre-vote request.
    PreVoteResponse {
        /// Whether the sender would vote.
        granted: bool,
    },
    /// Vote for me (§5.2).
    VoteRequest {
        /// The last entry of the sender's log.
        last: EntryId,
        /// The receiver is to vote even if it hears a live leader: that leader itself gave way (dissertation 3.10).
        leader_gave_way: bool,
    },
    /// The answer to a vote request.
    VoteResponse {
        /// Whether the sender voted for the receiver.
        granted: bool,
    },
    /// Append these entries (§5.3).
    AppendRequest {
        /// The entry just before them, which must stand in the receiver's log.
        previous: EntryId,
        /// Entries that follow on each other; possibly none.
        entries: Entries,
        /// The leader's commit index.
        commit: Index,
        /// The leader's latest round of leadership confirmation; see `Heartbeat`.
        round: u64,
    },
    /// The entries are durable in the sender's log.
    Appended {
        /// Up to where the request proved the logs to match, and no further.
        matched: Index,
        /// The round of the request.
        round: u64,
    },
    /// The entry before the request's entries does not stand in the sender's log.
    AppendRejected {
        /// The index of that entry.
        previous: Index,
        /// From where the leader should try: no entry after `hint.index` can match, and at that index the
        /// sender's log has the term `hint.term` (§5.3, the accelerated backtracking).
        hint: EntryId,
        /// The round of the request.
        round: u64,
    },
    /// I lead.
    Heartbeat {
        /// The last entry that the leader knows to be committed; a receiver whose log holds this very entry may
        /// take all up to it as committed.
        commit: EntryId,
        /// Counts the leader's rounds of confirmation. An answer that carries a round proves that its sender
        /// still followed the leader after that round began (dissertation 6.4).
        round: u64,
    },
    /// I follow.
    HeartbeatResponse {
        /// The round of the heartbeat.
        round: u64,
        /// The last index of the sender's durable log, by which a leader sees that appends were lost.
        last: Index,
        /// Whether the sender's disk is full.
        full: bool,
        /// For how long after it heard the heartbeat the sender votes for no other machine, by its own clock: what a lease may
        /// count on (dissertation 6.4.1). Zero if it promises nothing.
        loyal: Duration,
    },
    /// Put these into the log; sent to the leader by the machines whose clients ask for it.
    Propose {
        /// The proposals, in order.
        proposals: Vec<Proposal>,
    },
    /// These proposals have not entered the log and will not.
    ProposeRefused {
        /// Whose they were.
        requests: Vec<RequestId>,
        /// Why.
        reason: Refusal,
    },
    /// Change who takes part; sent to the leader by the machine whose client asks for it.
    ProposeChange {
        /// Whose request it is.
        request: RequestId,
        /// What is to change.
        change: Change,
    },
    /// The change was not begun.
    ChangeRefused {
        /// Whose request it was.
        request: RequestId,
        /// Why.
        reason: ChangeRefused,
    },
    /// You asked for a vote, and take part no more. This changes no log: it only has the receiver take the entry as committed
    /// if its log holds it, or else stand no more until a leader sends to it.
    Removed {
        /// The last entry that the sender knows to be committed: by the log up to it the receiver is not listed.
        committed: EntryId,
    },
    /// Up to where must the sender have applied before it answers a read that it holds? (dissertation 6.4)
    ReadIndexRequest {
        /// The sender's number for the batch of reads that waits.
        read: ReadId,
        /// What confirms it.
        mode: ReadMode,
    },
    /// The answer.
    ReadIndexResponse {
        /// The number from the request.
        read: ReadId,
        /// The index; none if the sender does not lead or cannot confirm that it does.
        index: Option<Index>,
    },
    /// I give way to you: stand for election at once (dissertation 3.10).
    CampaignNow,
}

/// Numbers a batch of linearizable reads that a machine holds.
///
/// Never repeated by a machine, not even across restarts: an answer to a forgotten read that came late would otherwise
/// be taken for the answer to a new one, and its index would be too old (dissertation 6.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// What makes sure that a linearizable read sees all that was committed when it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReadMode {
    /// A quorum, asked after the read came (dissertation 6.4): whatever the clocks do.
    #[default]
    Quorum,
    /// The leader's lease, if it holds one (dissertation 6.4.1): as long as the clocks keep to their bound. Else a quorum.
    Lease,
}

/// Why a proposal or a read was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No leader is known.
    NoLeader,
    /// The machine that was asked to lead does not.
    NotLeader,
    /// Too much is on its way already.
    Overloaded,
    /// The disk of the leader is full, or those of so many machines that nothing could be committed; of a read: this machine's
    /// own, and what the read must see is not in its log.
    NoSpace,
    /// The leader is handing leadership over.
    Transferring,
}
