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

use rm_kv::Signed;

use crate::machine::Shared;
use crate::message::{Submit, SubmitChange, Transfer, WriteDown};
use crate::recognition::RoomForPasswords;

pub use crate::admission::Newcomer;
pub use crate::leasing::{LeaseLeft, LeaseReport};
pub use crate::meters::{Distribution, Histogram, KeyspaceMeters, Meter, Meters, Promotions};
pub use crate::operator::{Failure, Fault, Levels};
pub use crate::passwords::Origin;
pub use crate::peer_traffic::{HeardPeer, PeerCounts, PeerTraffic, Transfers};
pub use crate::reading::Consistency;
pub use crate::refusal::Refusal;
pub use crate::replies::{Answered, ReplyRoom};
pub use crate::report::{
    ActorReport, Identity, Member, PeerRefusal, Report, Standing, Transfer as SnapshotTransfer,
};
pub use crate::snapshot_stream::{SnapshotPiece, SnapshotStream};
pub use crate::watcher::Counted;
pub use crate::watching::{Delivery, Interest, Manner, NewWatcher, Notice, Room, WatchStream};

/// How much later than its deadline the port gives up what Gate has not answered: a write, or a change of members.
const GATE_GRACE: Duration = Duration::from_secs(1);

/// The door. Cheap to clone.
#[derive(Clone)]
pub struct Port {
    pub(crate) shared: Arc<Shared>,
    /// Bounds the requests that the machine holds at a time.
    pub(crate) room: Arc<Semaphore>,
    /// Bounds the questions whether somebody is anybody, or an administrator: as many requests as clients hold, those who look after the
    /// machine are judged.
    pub(crate) room_for_judging: Arc<Semaphore>,
    /// Bounds the bytes of their commands.
    pub(crate) room_bytes: Arc<Semaphore>,
    /// Bounds the questions about leases: one more waits.
    pub(crate) room_for_leases: Arc<Semaphore>,
    pub(crate) room_for_passwords: RoomForPasswords,
    /// On whose behalf everything is asked.
    pub(crate) by: Option<Signature>,
    /// How many bytes of memory each byte of a reply counts for.
    pub(crate) reply_weight: usize,
}

impl Port {
    pub(crate) fn new(shared: Arc<Shared>) -> Port {
        let limits = &shared.config.config.limits;
        let room_bytes = limits.requests_bytes_max.min(Semaphore::MAX_PERMITS);
        Port {
            room: Arc::new(Semaphore::new(limits.requests_max)),
            room_for_judging: Arc::new(Semaphore::new(limits.requests_max)),
            room_bytes: Arc::new(Semaphore::new(room_bytes)),
            room_for_leases: Arc::new(Semaphore::new(limits.requests_max)),
            room_for_passwords: RoomForPasswords::new(),
            by: None,
            reply_weight: 1,
            shared,
        }
    }

    /// Has a command put into the log and answers when this machine has applied it.
    ///
    /// # Errors
    /// Each [`Refusal`] says whether the command is known not to have been carried out.
    pub async fn propose(&self, command: Command) -> Result<Reply, Refusal> {
        let answered = self.propose_held(command).await?;
        Ok(answered.reply)
    }

    /// The same, with the memory of the reply, for who goes on holding it.
    ///
    /// # Errors
    /// As [`Port::propose`].
    pub async fn propose_held(&self, command: Command) -> Result<Answered, Refusal> {
        self.propose_by(command, self.deadline()).await
    }

    /// The same until then, the time included for which it waits before it is begun.
    async fn propose_by(&self, command: Command, deadline: Instant) -> Result<Answered, Refusal> {
        let outcome = match self.prepare(&command, deadline).await {
            Ok(room) => self.propose_with(command, room, deadline).await,
            Err(refusal) => Err(refusal),
        };
        if outcome.as_ref().is_err_and(|refusal| !refusal.is_clients()) {
            self.meters().writes_failed.add(1);
        }
        if let Err(Refusal::Request(RequestError::NoRoomForReplyAfterChange { .. })) = outcome {
            self.meters().replies_refused.add(1);
        }
        outcome
    }

    /// Refuses what could not be kept, and waits for room for the reply of what tells keys, before it is proposed.
    async fn prepare(&self, command: &Command, deadline: Instant) -> Result<ReplyRoom, Refusal> {
        self.require_quota(command).await?;
        if !command.tells_keys() {
            return Ok(ReplyRoom::default());
        }
        self.room_by(deadline, 0, self.shared.replies.wait_to_tell())
            .await
    }

    /// What is waited for until then, for a reply that lacked so many bytes.
    pub(crate) async fn room_by(
        &self,
        deadline: Instant,
        bytes: usize,
        wait: impl Future<Output = Option<ReplyRoom>>,
    ) -> Result<ReplyRoom, Refusal> {
        let room = tokio::time::timeout_at(deadline.into(), wait).await;
        room.ok().flatten().ok_or_else(|| {
            self.meters().replies_refused.add(1);
            Refusal::NoRoomForReply { bytes }
        })
    }

    /// The same port, for whoever needs so many bytes of memory for each byte of a reply.
    #[must_use]
    pub fn weighing_replies(self, weight: usize) -> Port {
        Port {
            reply_weight: weight,
            ..self
        }
    }

    pub(crate) async fn propose_once(&self, command: Command) -> Result<Answered, Refusal> {
        self.propose_with(command, ReplyRoom::default(), self.deadline())
            .await
    }

    /// With what is set aside for the reply.
    async fn propose_with(
        &self,
        command: Command,
        room: ReplyRoom,
        deadline: Instant,
    ) -> Result<Answered, Refusal> {
        let _place = self.admit()?;
        self.submit(command, room, deadline).await
    }

    /// The same, though the machine may stop: for what ends a request that was under way before, and only takes something away.
    ///
    /// # Errors
    /// As [`Port::propose`].
    pub async fn wind_up(&self, command: Command) -> Result<Reply, Refusal> {
        let place = self.room.try_acquire();
        let _place = place.map_err(|_| Refusal::TooManyRequests)?;
        let submitted = self.submit(command, ReplyRoom::default(), self.deadline());
        Ok(submitted.await?.reply)
    }

    async fn submit(
        &self,
        command: Command,
        room: ReplyRoom,
        deadline: Instant,
    ) -> Result<Answered, Refusal> {
        let by = self.by.clone();
        let command = Signed { by, command }.encode();
        // Whatever gets into the log, every machine must be able to take, and to apply.
        let fits = command.len() <= self.shared.resources.command_bytes_max;
        let bytes = u32::try_from(command.len()).ok().filter(|_| fits);
        let bytes = bytes.ok_or(Refusal::TooLarge)?;
        let room_bytes = self.room_bytes.try_acquire_many(bytes);
        let _room_bytes = room_bytes.map_err(|_| Refusal::TooManyRequests)?;
        let (answer, answered) = oneshot::channel();
        let mut losses = self.shared.slots.gate.losses();
        let submit = Submit {
            command,
            room,
            weight: self.reply_weight,
            answer,
        };
        self.shared.slots.gate.tell(submit);
        // Gate counts from when it gets the request. This is for one that has waited for room before, and for a Gate that hangs and
        // that the supervisor has not left behind yet.
        let patience = tokio::time::sleep_until((deadline + GATE_GRACE).into());
        tokio::select! {
            answered = answered => answered.unwrap_or(Err(Refusal::Restarted)),
            _ = losses.changed() => Err(Refusal::Restarted),
            () = patience => Err(Refusal::TimedOut),
        }
    }

    /// Until when a request that comes now is waited for.
    fn deadline(&self) -> Instant {
        Instant::now() + self.shared.request_timeout()
    }

    /// Forgets what the key space was before a revision. With `physical` it answers only once what that left without a reader is
    /// removed from this machine's data, durably; so it does when the revision was compacted before, as in etcd.
    ///
    /// # Errors
    /// As [`Port::propose`]; with `physical` also when the removal is not done in time, and goes on.
    pub async fn compact(&self, revision: i64, physical: bool) -> Result<Reply, Refusal> {
        let deadline = self.deadline();
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

    pub(crate) fn admit(&self) -> Result<SemaphorePermit<'_>, Refusal> {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rm_config::{Effective, Machine, Sink};
    use tempfile::TempDir;

    use super::*;
    use crate::launch::{Running, Start, start};

    /// How long any condition may take on a slow, busy host.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Longer than any test takes.
    const LONG_MS: u64 = 600_000;

    /// One of two machines: without the other no write is carried out.
    struct Alone {
        running: Running,
        _folder: TempDir,
    }

    impl Alone {
        fn start() -> Alone {
            let folder = tempfile::tempdir().expect("a folder");
            let machine = |number: u16| Machine {
                name: format!("RM.{number:02}"),
                // Any port that is free; nobody listens at the other machine's.
                peer: address(1, number - 1),
                client: address(2, number - 1),
                metrics: None,
                priority: 0,
            };
            let mut config = Config::new("test.domain", vec![machine(1), machine(2)]);
            config.data_dir = folder.path().join("data");
            config.timings.request_timeout_ms = LONG_MS;
            config.log.sinks = vec![Sink::File {
                path: folder.path().join("log"),
            }];
            let config = Effective::new(config, Path::new("test.json"), Some("RM.01"));
            let config = config.expect("a valid config");
            Alone {
                running: start(config, Start::GoOn).expect("starts"),
                _folder: folder,
            }
        }
    }

    fn address(host: u8, port: u16) -> Address {
        Address {
            host: format!("127.0.0.{host}"),
            port,
        }
    }

    #[tokio::test]
    async fn a_write_is_given_up_by_the_time_that_it_had_before_it_waited_for_room() {
        let alone = Alone::start();
        let telling = Command::Put(Put {
            key: "key".into(),
            prev_kv: true,
            ..Put::default()
        });
        // Its time is over once there is room, while Gate would wait for as long again.
        let write = alone.running.port();
        let write = write.propose_by(telling, Instant::now());
        let outcome = tokio::time::timeout(PATIENCE, write).await;
        let outcome = outcome.expect("it has no whole time from then on");
        assert_eq!(outcome.err(), Some(Refusal::TimedOut));
        alone.running.stop().await;
    }
}
