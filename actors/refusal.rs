//! Why a request has no answer, and whether it may have been carried out all the same.

use rm_raft::Refusal as RaftRefusal;

/// Why a request was not carried out, or is not known to have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No leader is known. The request has not been carried out.
    #[error("no leader")]
    NoLeader,
    /// Too many requests are under way. The request has not been carried out.
    #[error("too many requests")]
    TooManyRequests,
    /// The replies that clients have yet to take leave no memory for one more. The request has not been carried out.
    #[error(
        "no memory is left for the reply: raise limits.replies_bytes_max, or ask for less at a time"
    )]
    NoRoomForReply {
        /// How much was not to be had, in bytes.
        bytes: usize,
    },
    /// The request is larger than the limit. It has not been carried out.
    #[error("the request is too large")]
    TooLarge,
    /// The disk is full. The request has not been carried out.
    #[error("no space is left on the disk")]
    NoSpace,
    /// The disk of this machine is full, and what the read must see did not fit on it.
    #[error("the disk of this machine is full and it lags behind: ask another machine")]
    Behind,
    /// The client took nothing of what it asked for, for too long.
    #[error(
        "nothing of the snapshot was taken for longer than timings.snapshot_stall_ms: ask for it again"
    )]
    Stalled,
    /// The machine stops. The request has not been carried out.
    #[error("the machine stops")]
    Stopped,
    /// No answer came in time. Whether the request is carried out is unknown.
    #[error("no answer came in time")]
    TimedOut,
    /// The leader was lost meanwhile. Whether the request is carried out is unknown.
    #[error("the leader was lost while the request was under way")]
    LeaderLost,
    /// The part of the machine that held the request failed and was restarted. Whether it is carried out is unknown.
    #[error("a part of the machine was restarted while the request was under way")]
    Restarted,
    /// The request itself is at fault.
    #[error(transparent)]
    Request(#[from] rm_kv::RequestError),
    /// The machine's own data is damaged.
    #[error("damaged data: {0}")]
    Damaged(String),
    /// A change of the members was not begun; the reason says why.
    #[error("{0}")]
    Change(rm_raft::ChangeRefused),
    /// A machine cannot have a peer address that a member has; the text says which.
    #[error("{0}")]
    AddressTaken(String),
    /// What an operator asked for is not possible; the text says why.
    #[error("{0}")]
    Operator(String),
}

impl Refusal {
    /// Whether users, roles or permissions have changed since it was found out who asks. Asked again the request may go through.
    pub fn is_outdated(&self) -> bool {
        *self == Refusal::Request(rm_kv::AuthError::OldRevision.into())
    }

    /// Whether the request itself is at fault, so that the machine has not failed.
    pub(crate) fn is_clients(&self) -> bool {
        match self {
            Refusal::Stalled
            | Refusal::Request(_)
            | Refusal::TooLarge
            | Refusal::Change(_)
            | Refusal::AddressTaken(_)
            | Refusal::Operator(_) => true,
            Refusal::NoLeader
            | Refusal::TooManyRequests
            | Refusal::NoRoomForReply { .. }
            | Refusal::NoSpace
            | Refusal::Behind
            | Refusal::Stopped
            | Refusal::TimedOut
            | Refusal::LeaderLost
            | Refusal::Restarted
            | Refusal::Damaged(_) => false,
        }
    }
}

/// What a client is told when the core refuses.
pub(crate) fn refusal(reason: RaftRefusal) -> Refusal {
    match reason {
        RaftRefusal::NoLeader | RaftRefusal::NotLeader | RaftRefusal::Transferring => {
            Refusal::NoLeader
        }
        RaftRefusal::Overloaded => Refusal::TooManyRequests,
        RaftRefusal::NoSpace => Refusal::NoSpace,
    }
}
