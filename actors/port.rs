//! The door between the machine and whoever serves its clients: requests in, replies out, and what an operator may
//! see and do. The only part of this crate that the gRPC services know.

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use rm_config::{Address, ClientTls, Config, Level, QUOTA_BYTES_DEFAULT, TlsVersion};
pub use rm_kv::{
    Alarm, AlarmKind, AuthCommand, AuthError, AuthQuery, AuthReply, Command, Compaction, Compare,
    CompareResult, CompareTarget, Deed, DeleteRange, DeleteReply, Event, KeyValue, KeyspaceHash,
    Kind, Lease, Operation, Permission, PermissionKind, Put, Query, Range, RangeReply, Reply,
    ReplyBody, RequestError, Signature, SortOrder, SortTarget, Txn, TxnReply,
};
pub use rm_raft::{
    Change, ChangeRefused, FollowerStatus, Index, MachineId, Role, Step, Term, TransferOutcome,
};
pub use rm_store::Era;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use rm_raft::ReadMode;

use rm_kv::Signed;

use crate::machine::Shared;
use crate::message::{Read, ReadLinearizable, Serve, Submit, SubmitChange, Transfer, WriteDown};
use crate::recognition::RoomForPasswords;

pub use crate::admission::Newcomer;
pub use crate::leasing::{LeaseLeft, LeaseReport};
pub use crate::meters::{Distribution, Histogram, KeyspaceMeters, Meter, Meters, Promotions};
pub use crate::operator::{Failure, Fault, Levels};
pub use crate::passwords::Origin;
pub use crate::peer_traffic::{HeardPeer, PeerCounts, PeerTraffic, Transfers};
pub use crate::refusal::Refusal;
pub use crate::report::{
    ActorReport, Identity, Member, PeerRefusal, Report, Standing, Transfer as SnapshotTransfer,
};
pub use crate::snapshot_stream::{SnapshotPiece, SnapshotStream};
pub use crate::watching::{Delivery, Interest, Manner, NewWatcher, Notice, Room, WatchStream};

/// The pause before a read that was lost with an actor is asked again.
const READ_AGAIN_PAUSE: Duration = Duration::from_millis(2);
/// How much later than Gate the port gives a write up.
const GATE_GRACE: Duration = Duration::from_secs(1);

/// What a read must have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Whatever this machine has applied.
    Serializable,
    /// All that was committed when it came, as a quorum confirms.
    Quorum,
    /// The same, as the leader's lease confirms, where there is one.
    Lease,
}

/// The door. Cheap to clone.
#[derive(Clone)]
pub struct Port {
    pub(crate) shared: Arc<Shared>,
    /// Bounds the requests that the machine holds at a time.
    pub(crate) room: Arc<Semaphore>,
    /// Bounds the bytes of their commands.
    pub(crate) room_bytes: Arc<Semaphore>,
    /// Bounds the questions about leases: one more waits.
    pub(crate) room_for_leases: Arc<Semaphore>,
    pub(crate) room_for_passwords: RoomForPasswords,
    /// On whose behalf everything is asked.
    pub(crate) by: Option<Signature>,
}

impl Port {
    pub(crate) fn new(shared: Arc<Shared>) -> Port {
        let limits = &shared.config.config.limits;
        let room_bytes = limits.requests_bytes_max.min(Semaphore::MAX_PERMITS);
        Port {
            room: Arc::new(Semaphore::new(limits.requests_max)),
            room_bytes: Arc::new(Semaphore::new(room_bytes)),
            room_for_leases: Arc::new(Semaphore::new(limits.requests_max)),
            room_for_passwords: RoomForPasswords::new(),
            by: None,
            shared,
        }
    }

    /// Has a command put into the log and answers when this machine has applied it.
    ///
    /// # Errors
    /// Each [`Refusal`] says whether the command is known not to have been carried out.
    pub async fn propose(&self, command: Command) -> Result<Reply, Refusal> {
        let outcome = match self.require_quota(&command).await {
            Ok(()) => self.propose_once(command).await,
            Err(refusal) => Err(refusal),
        };
        if outcome.as_ref().is_err_and(|refusal| !refusal.is_clients()) {
            self.meters().writes_failed.add(1);
        }
        outcome
    }

    pub(crate) async fn propose_once(&self, command: Command) -> Result<Reply, Refusal> {
        let _room = self.admit()?;
        self.submit(command).await
    }

    /// The same, though the machine may stop: for what ends a request that was under way before, and only takes something away.
    ///
    /// # Errors
    /// As [`Port::propose`].
    pub async fn wind_up(&self, command: Command) -> Result<Reply, Refusal> {
        let room = self.room.try_acquire();
        let _room = room.map_err(|_| Refusal::TooManyRequests)?;
        self.submit(command).await
    }

    async fn submit(&self, command: Command) -> Result<Reply, Refusal> {
        let by = self.by.clone();
        let command = Signed { by, command }.encode();
        // Whatever gets into the log, every machine must be able to apply.
        let fits = command.len() <= rm_kv::MAX_COMMAND_BYTES;
        let bytes = u32::try_from(command.len()).ok().filter(|_| fits);
        let bytes = bytes.ok_or(Refusal::TooLarge)?;
        let room_bytes = self.room_bytes.try_acquire_many(bytes);
        let _room_bytes = room_bytes.map_err(|_| Refusal::TooManyRequests)?;
        let (answer, answered) = oneshot::channel();
        let mut losses = self.shared.slots.gate.losses();
        self.shared.slots.gate.tell(Submit { command, answer });
        // Gate keeps the deadline; this one is for a Gate that hangs and that the supervisor has not left behind yet.
        let patience = self.shared.request_timeout() + GATE_GRACE;
        tokio::select! {
            answered = answered => answered.unwrap_or(Err(Refusal::Restarted)),
            _ = losses.changed() => Err(Refusal::Restarted),
            () = tokio::time::sleep(patience) => Err(Refusal::TimedOut),
        }
    }

    /// Forgets what the key space was before a revision. With `physical` it answers only once what that left without a reader is
    /// removed from this machine's data, durably; so it does when the revision was compacted before, as in etcd.
    ///
    /// # Errors
    /// As [`Port::propose`]; with `physical` also when the removal is not done in time, and goes on.
    pub async fn compact(&self, revision: i64, physical: bool) -> Result<Reply, Refusal> {
        let deadline = Instant::now() + self.shared.request_timeout();
        let outcome = self.propose(Command::Compact { revision }).await;
        let compacted = Err(Refusal::Request(RequestError::Compacted));
        if physical && (outcome.is_ok() || outcome == compacted) {
            let removed = tokio::time::timeout_at(deadline.into(), self.removed(revision)).await;
            removed.map_err(|_| Refusal::TimedOut)??;
        }
        outcome
    }

    /// Returns once what a compaction left without a reader is removed from this machine's data, durably.
    async fn removed(&self, revision: i64) -> Result<(), Refusal> {
        let _room = self.admit()?;
        let mut compaction = self.shared.board.compaction();
        let scrubbed = compaction.wait_for(|compaction| compaction.scrubbed >= revision);
        let _ = scrubbed.await.map_err(|_| Refusal::Stopped)?;
        self.write_down().await.map(|_| ())
    }

    /// Changes who takes part, and answers when that is complete and this machine has applied it.
    ///
    /// # Errors
    /// [`Refusal::Change`] says why the change was not begun; [`Refusal::TooManyRequests`] and [`Refusal::Stopped`] that
    /// nothing was done. After any other it may be carried out: look at the members before it is asked for again.
    pub async fn change_members(&self, change: Change) -> Result<(), Refusal> {
        let _room = self.admit()?;
        let (answer, answered) = oneshot::channel();
        let mut losses = self.shared.slots.gate.losses();
        let submitted = SubmitChange { change, answer };
        self.shared.slots.gate.tell(submitted);
        let patience = self.shared.request_timeout() + GATE_GRACE;
        tokio::select! {
            answered = answered => answered.unwrap_or(Err(Refusal::Restarted)),
            _ = losses.changed() => Err(Refusal::Restarted),
            () = tokio::time::sleep(patience) => Err(Refusal::TimedOut),
        }
    }

    /// Answers a query.
    ///
    /// # Errors
    /// As [`Port::propose`]; a query that fails has changed nothing.
    pub async fn query(&self, query: Query, consistency: Consistency) -> Result<Reply, Refusal> {
        let query = match self.by.clone() {
            Some(by) => Query::Signed {
                by,
                query: Box::new(query),
            },
            None => query,
        };
        let reply = self.read(Some(query), consistency).await?;
        reply.ok_or(Refusal::Restarted)
    }

    /// Returns once this machine has applied all that was committed when it was called.
    ///
    /// # Errors
    /// As [`Port::query`].
    pub async fn barrier(&self) -> Result<(), Refusal> {
        self.read(None, Consistency::Quorum).await.map(|_| ())
    }

    /// A read carries its own answer: if an actor dies with it, that is known at once, and since reads change nothing
    /// it is asked again.
    pub(crate) async fn read(
        &self,
        query: Option<Query>,
        consistency: Consistency,
    ) -> Result<Option<Reply>, Refusal> {
        let outcome = self.read_until_answered(query, consistency).await;
        let failed = outcome.as_ref().is_err_and(|refusal| !refusal.is_clients());
        if failed && consistency != Consistency::Serializable {
            let meters = self.meters();
            meters.reads_failed.add(1);
            if outcome == Err(Refusal::TimedOut) {
                meters.reads_timed_out.add(1);
            }
        }
        outcome
    }

    async fn read_until_answered(
        &self,
        query: Option<Query>,
        consistency: Consistency,
    ) -> Result<Option<Reply>, Refusal> {
        let began = Instant::now();
        let deadline = began + self.shared.request_timeout();
        loop {
            let (answer, answered) = oneshot::channel();
            let _room = self.admit()?;
            let read = Read {
                query: query.clone(),
                answer,
            };
            let mut losses = self.shared.slots.logic_center.losses();
            let mode = match consistency {
                Consistency::Serializable => None,
                Consistency::Quorum => Some(ReadMode::Quorum),
                Consistency::Lease => Some(ReadMode::Lease),
            };
            match mode {
                Some(mode) => {
                    let read = ReadLinearizable { read, mode };
                    self.shared.slots.logic_center.tell(read);
                }
                None => self.shared.slots.applier.tell(Serve {
                    index: Index(0),
                    reads: vec![read],
                }),
            }
            let answered = async {
                tokio::select! {
                    answered = answered => answered.ok(),
                    _ = losses.changed() => None,
                }
            };
            let outcome = tokio::time::timeout_at(deadline.into(), answered).await;
            match outcome {
                Err(_) => return Err(Refusal::TimedOut),
                Ok(Some(Err(Refusal::NoLeader)) | None) if Instant::now() < deadline => {
                    tokio::time::sleep(READ_AGAIN_PAUSE).await;
                }
                // What is on its way to the disk may still find room there, or another machine take the lead.
                Ok(Some(Err(Refusal::NoSpace))) if began.elapsed() < self.patience_with_disk() => {
                    tokio::time::sleep(READ_AGAIN_PAUSE).await;
                }
                Ok(Some(Err(Refusal::NoSpace))) => return Err(Refusal::Behind),
                Ok(Some(outcome)) => return outcome,
                Ok(None) => return Err(Refusal::Restarted),
            }
        }
    }

    /// How long a read waits for a machine whose disk is full.
    fn patience_with_disk(&self) -> Duration {
        let election = self.shared.config.config.timings.election_timeout_ms;
        let half = self.shared.request_timeout() / 2;
        half.min(Duration::from_millis(2 * election))
    }

    /// What a linearizable read rests on that does not say it.
    pub fn default_consistency(&self) -> Consistency {
        match self.shared.config.config.reads.default {
            rm_config::ReadMode::Quorum => Consistency::Quorum,
            rm_config::ReadMode::Lease => Consistency::Lease,
        }
    }

    /// Hands leadership from this machine to another, or to whichever is fittest. Answers with the target, if there was one,
    /// once it is decided whether it leads, at most about an election timeout later.
    ///
    /// # Errors
    /// LogicCenter was restarted meanwhile, or too many ask; what became of the transfer is unknown.
    pub async fn transfer(
        &self,
        to: Option<MachineId>,
    ) -> Result<(Option<MachineId>, TransferOutcome), Refusal> {
        let (answer, answered) = oneshot::channel();
        let mut losses = self.shared.slots.logic_center.losses();
        self.shared.slots.logic_center.tell(Transfer { to, answer });
        tokio::select! {
            answered = answered => {
                let transferred = answered.map_err(|_| Refusal::Restarted)?;
                Ok((transferred.to, transferred.outcome))
            }
            _ = losses.changed() => Err(Refusal::Restarted),
            () = tokio::time::sleep(self.shared.request_timeout()) => Err(Refusal::TimedOut),
        }
    }

    /// Hashes the key space at a revision, zero for the newest: equal on all machines that have applied it. Writes a
    /// checkpoint first and reads that, so that nobody waits for the hash.
    ///
    /// # Errors
    /// As [`Port::query`].
    pub async fn hash(&self, revision: i64) -> Result<KeyspaceHash, Refusal> {
        let _room = self.admit()?;
        let newest = self.write_down().await?;
        let revision = if revision == 0 { newest } else { revision };
        let state = self.shared.resources.states.present().environment;
        let began = Instant::now();
        let hash = tokio::task::spawn_blocking(move || rm_kv::hash(&state, revision)).await;
        self.meters().revision_hashes.add_time(began.elapsed());
        match hash.map_err(|_| Refusal::Restarted)? {
            Ok(hash) => Ok(hash),
            Err(rm_kv::Failure::Request(error)) => Err(Refusal::Request(error)),
            Err(rm_kv::Failure::Store(error)) => Err(Refusal::Damaged(error.to_string())),
        }
    }

    /// Hashes all that this machine's state holds, leases and users too: equal on all machines that have applied the same. Writes a
    /// checkpoint first and reads that, so that nobody waits for the hash.
    ///
    /// # Errors
    /// As [`Port::query`].
    pub async fn hash_whole(&self) -> Result<u32, Refusal> {
        let _room = self.admit()?;
        self.write_down().await?;
        let state = self.shared.resources.states.present().environment;
        let began = Instant::now();
        let hash = tokio::task::spawn_blocking(move || rm_kv::hash_whole(&state)).await;
        self.meters().hashes.add_time(began.elapsed());
        let hash = hash.map_err(|_| Refusal::Restarted)?;
        hash.map_err(|error| Refusal::Damaged(error.to_string()))
    }

    /// Has a checkpoint written; the revision that it holds.
    pub(crate) async fn write_down(&self) -> Result<i64, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.shared.slots.applier.tell(WriteDown(answer));
        let newest = tokio::time::timeout(self.shared.request_timeout(), answered).await;
        let newest = newest.map_err(|_| Refusal::TimedOut)?;
        newest.unwrap_or(Err(Refusal::Restarted))
    }

    fn admit(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        if self.shared.board.stopping() {
            return Err(Refusal::Stopped);
        }
        let permit = self.room.try_acquire();
        permit.map_err(|_| Refusal::TooManyRequests)
    }

    /// How far this machine's key space is compacted.
    pub fn compaction(&self) -> Compaction {
        *self.shared.board.compaction().borrow()
    }

    /// The revision of users, roles and permissions that this machine has applied.
    pub fn auth_revision(&self) -> u64 {
        self.shared.board.auth().1
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
}
