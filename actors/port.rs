//! The door between the machine and whoever serves its clients: requests in, replies out, and what an operator may
//! see and do. The only part of this crate that the gRPC services know.

use std::collections::BTreeMap;

pub use rm_config::{Config, Level};
pub use rm_kv::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, DeleteReply, KeyValue, Operation,
    Put, Query, Range, RangeReply, Reply, ReplyBody, SortOrder, SortTarget, Txn, TxnReply,
};
pub use rm_raft::{Index, MachineId, Role, Term};

/// Who a machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The domain's name.
    pub domain: String,
    /// A number made of the domain's name: etcd's cluster id.
    pub cluster_id: u64,
    /// The machine's name.
    pub name: String,
    /// Its number: etcd's member id.
    pub machine: MachineId,
    /// All machines of the domain, in the order of the config.
    pub members: Vec<Member>,
}

/// One machine of the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub machine: MachineId,
    /// Its name.
    pub name: String,
    /// Where peers reach it, `host:port`.
    pub peer: String,
    /// Where clients reach it, `host:port`.
    pub client: String,
}

/// What a machine knows of itself at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Whom it takes for the leader.
    pub leader: Option<MachineId>,
    /// The last index of its log.
    pub last: Index,
    /// Up to where it knows the log to be committed.
    pub commit: Index,
    /// Up to where it has applied the log.
    pub applied: Index,
    /// The revision of its key space.
    pub revision: i64,
    /// The bytes of its data files.
    pub file_bytes: u64,
    /// The bytes in them that are in use.
    pub used_bytes: u64,
    /// Whether the disk is full and writes are refused.
    pub no_space: bool,
    /// How often the machine was started on this data.
    pub boot: u64,
    /// The process.
    pub process: u32,
    /// Milliseconds since the process started.
    pub uptime_ms: u64,
}

/// What the supervisor knows of one actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorReport {
    /// Its name: `logic_center`, `storage` and so on.
    pub name: String,
    /// The group that it is restarted in: `brain`, `net` or `front`.
    pub group: String,
    /// `running`, `starting`, `stopped` or `hung`.
    pub state: String,
    /// The number of its present life, from one.
    pub incarnation: u64,
    /// How often it was started again.
    pub restarts: u64,
    /// How often it failed itself; the other restarts were for a neighbour's failure.
    pub failures: u64,
    /// What its last failure was.
    pub last_failure: Option<String>,
    /// From its last failure to the first message that it handled again, in microseconds.
    pub recovery_us: Option<u64>,
    /// Messages that wait for it.
    pub mailbox: u64,
    /// Messages that it has handled in all its lives.
    pub handled: u64,
    /// The level of its log.
    pub level: Level,
}

/// How an actor is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It panics in a handler.
    Panic,
    /// It stops.
    Stop,
    /// It never comes back from a handler.
    Hang,
}

/// A fault to arm: at which point of which actor, what happens, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The actor's name.
    pub actor: String,
    /// The point's name: `handler`, `started`, `future`, `transaction`, `commit`, `checkpoint` or `send`.
    pub point: String,
    /// `panic`, `stop`, `hang`, `delay:MS`, `io_error`, `no_space` or `lose`.
    pub action: String,
    /// How many times it strikes; zero disarms it.
    pub times: u64,
}

/// Why a request was not carried out, or is not known to have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No leader is known. The request has not been carried out.
    #[error("no leader")]
    NoLeader,
    /// Too many requests are under way. The request has not been carried out.
    #[error("too many requests")]
    TooManyRequests,
    /// The request is larger than the limit. It has not been carried out.
    #[error("the request is too large")]
    TooLarge,
    /// The disk is full. The request has not been carried out.
    #[error("no space is left on the disk")]
    NoSpace,
    /// The machine stops. Whether the request is carried out is unknown.
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
    /// What an operator asked for is not possible; the text says why.
    #[error("{0}")]
    Operator(String),
}

/// The levels of the actors' logs, by actor.
pub type Levels = BTreeMap<String, Level>;
