//! The door between the machine and whoever serves its clients: requests in, replies out, and what an operator may
//! see and do. The only part of this crate that the gRPC services know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use rm_config::{Config, Level};
pub use rm_kv::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, DeleteReply, KeyValue, Operation,
    Put, Query, Range, RangeReply, Reply, ReplyBody, RequestError, SortOrder, SortTarget, Txn,
    TxnReply,
};
pub use rm_raft::{Index, MachineId, Role, Term};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::ActorName;
use crate::fault::{Action, Point};
use crate::machine::Shared;
use crate::message::{Read, ReadLinearizable, Serve, Submit};

/// The pause before a read that was lost with an actor is asked again.
const READ_AGAIN_PAUSE: Duration = Duration::from_millis(2);

/// The door. Cheap to clone.
#[derive(Clone)]
pub struct Port {
    shared: Arc<Shared>,
    /// Bounds the requests that the machine holds at a time.
    room: Arc<Semaphore>,
}

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

impl Port {
    pub(crate) fn new(shared: Arc<Shared>) -> Port {
        let room = Semaphore::new(shared.config.config.limits.requests_max);
        Port {
            shared,
            room: Arc::new(room),
        }
    }

    /// Has a command put into the log and answers when this machine has applied it.
    ///
    /// # Errors
    /// Each [`Refusal`] says whether the command is known not to have been carried out.
    pub async fn propose(&self, command: Command) -> Result<Reply, Refusal> {
        let permit = self.admit()?;
        let command = command.encode();
        let (answer, answered) = oneshot::channel();
        self.shared.slots.gate.tell(Submit {
            command,
            answer,
            permit,
        });
        answered.await.unwrap_or(Err(Refusal::Restarted))
    }

    /// Answers a query: as of a moment after it was asked if it is to be linearizable, else as of whatever this machine
    /// has applied.
    ///
    /// # Errors
    /// As [`Port::propose`]; a query that fails has changed nothing.
    pub async fn query(&self, query: Query, linearizable: bool) -> Result<Reply, Refusal> {
        let reply = self.read(Some(query), linearizable).await?;
        reply.ok_or(Refusal::Restarted)
    }

    /// Returns once this machine has applied all that was committed when it was called.
    ///
    /// # Errors
    /// As [`Port::query`].
    pub async fn barrier(&self) -> Result<(), Refusal> {
        self.read(None, true).await.map(|_| ())
    }

    /// A read carries its own answer: if an actor dies with it, that is known at once, and since reads change nothing
    /// it is asked again.
    async fn read(
        &self,
        query: Option<Query>,
        linearizable: bool,
    ) -> Result<Option<Reply>, Refusal> {
        let deadline = Instant::now() + self.shared.request_timeout();
        loop {
            let (answer, answered) = oneshot::channel();
            let read = Read {
                query: query.clone(),
                answer,
                _permit: self.admit()?,
            };
            if linearizable {
                self.shared.slots.logic_center.tell(ReadLinearizable(read));
            } else {
                let serve = Serve {
                    index: Index(0),
                    reads: vec![read],
                };
                self.shared.slots.applier.tell(serve);
            }
            let outcome = tokio::time::timeout_at(deadline.into(), answered).await;
            match outcome {
                Err(_) => return Err(Refusal::TimedOut),
                Ok(Ok(Err(Refusal::NoLeader))) | Ok(Err(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(READ_AGAIN_PAUSE).await;
                }
                Ok(Ok(outcome)) => return outcome,
                Ok(Err(_)) => return Err(Refusal::Restarted),
            }
        }
    }

    fn admit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if self.shared.board.stopping() {
            return Err(Refusal::Stopped);
        }
        let permit = self.room.clone().try_acquire_owned();
        permit.map_err(|_| Refusal::TooManyRequests)
    }

    /// Who the machine is.
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// The config that is in force.
    pub fn config(&self) -> &Config {
        &self.shared.config.config
    }

    /// A logger for the services' own records.
    pub fn logger(&self) -> slog::Logger {
        self.shared.logs.logger("api")
    }

    /// What the machine knows of itself at the moment.
    pub fn report(&self) -> Report {
        let board = &self.shared.board;
        let raft = board.raft();
        let (file_bytes, used_bytes) = board.sizes();
        Report {
            role: raft.role,
            term: raft.term,
            leader: raft.leader,
            last: raft.last,
            commit: raft.commit,
            applied: board.applied(),
            revision: board.revision(),
            file_bytes,
            used_bytes,
            no_space: board.no_space(),
            boot: self.shared.resources.boot,
            process: std::process::id(),
            uptime_ms: self.shared.clock.micros() / 1_000,
        }
    }

    /// What the supervisor knows of each actor.
    pub fn actors(&self) -> Vec<ActorReport> {
        ActorName::ALL
            .into_iter()
            .map(|name| self.actor(name))
            .collect()
    }

    fn actor(&self, name: ActorName) -> ActorReport {
        let lives = self.shared.board.actor(name).lives();
        let present = lives.present.as_ref();
        let handled = present.map_or(0, |life| life.handled());
        ActorReport {
            name: name.to_string(),
            group: name.group().as_str().to_owned(),
            state: lives.state.as_str().to_owned(),
            incarnation: lives.incarnation,
            restarts: lives.incarnation.saturating_sub(1),
            failures: lives.failures,
            last_failure: lives.last_failure,
            recovery_us: lives.recovery_us,
            mailbox: present.map_or(0, |life| life.mailbox()),
            handled: lives.handled_before + handled,
            level: self.shared.logs.level(name.as_str()),
        }
    }

    /// Makes an actor fail.
    ///
    /// # Errors
    /// Fault injection is off, or there is no such actor, or it is just being restarted.
    pub fn kill_actor(&self, name: &str, how: Failure) -> Result<(), Refusal> {
        let action = match how {
            Failure::Panic => Action::Panic,
            Failure::Stop => Action::Stop,
            Failure::Hang => Action::Hang,
        };
        let actor = self.fault_target(name)?;
        self.shared.faults.arm(actor, Point::Handler, action, 1);
        if !self.shared.slots.poke(actor) {
            self.shared.faults.arm(actor, Point::Handler, action, 0);
            let text = format!("{actor} is being restarted at the moment: try again");
            return Err(Refusal::Operator(text));
        }
        Ok(())
    }

    /// Arms a fault point, or disarms it.
    ///
    /// # Errors
    /// Fault injection is off, or there is no such actor, point or action.
    pub fn arm_fault(&self, fault: Fault) -> Result<(), Refusal> {
        let actor = self.fault_target(&fault.actor)?;
        let point: Point = fault.point.parse().map_err(Refusal::Operator)?;
        let action = fault.action.parse().map_err(Refusal::Operator)?;
        self.shared.faults.arm(actor, point, action, fault.times);
        if point == Point::Future && fault.times > 0 {
            self.shared.slots.poke(actor);
        }
        Ok(())
    }

    fn fault_target(&self, name: &str) -> Result<ActorName, Refusal> {
        if !self.shared.config.config.fault_injection {
            let text = "fault injection is off: set fault_injection to true in the config and start the machine again";
            return Err(Refusal::Operator(text.into()));
        }
        name.parse().map_err(Refusal::Operator)
    }

    /// The level of each log.
    pub fn levels(&self) -> Levels {
        self.shared.logs.levels()
    }

    /// Sets the level of one log, or of all.
    ///
    /// # Errors
    /// There is no such log.
    pub fn set_level(&self, actor: Option<&str>, level: Level) -> Result<(), Refusal> {
        let set = self.shared.logs.set_level(actor, level);
        set.map_err(Refusal::Operator)
    }
}
