//! What a machine shows of itself: numbers that its actors post and that anyone may read without asking them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rm_kv::{Alarm, Compaction, KeyspaceHash};
use rm_raft::{FollowerStatus, Index, MachineId, Role, Status, Term};
use tokio::sync::watch;

use crate::ActorName;
use crate::life::Life;
use crate::meters::Meters;
use crate::peer_traffic::Traffic;
use crate::report::PeerRefusal;
use crate::silence::Silence;

/// The numbers of one machine.
pub(crate) struct Board {
    raft: Mutex<RaftNumbers>,
    followers: Mutex<Vec<FollowerStatus>>,
    silence: Mutex<Option<Silence>>,
    applied: AtomicU64,
    revision: AtomicI64,
    compaction: watch::Sender<Compaction>,
    /// Whether the two below hold what was committed at some moment since the process began, or what an earlier process on this data
    /// judged by, or more.
    auth_known: AtomicBool,
    /// The moment, by the machine's clock and one microsecond later, as of which it has applied all that was committed; zero for none.
    caught_up: AtomicU64,
    auth_enabled: AtomicBool,
    auth_revision: AtomicU64,
    used_bytes: AtomicU64,
    file_bytes: AtomicU64,
    log_bytes: AtomicU64,
    snapshots: Mutex<Snapshots>,
    log_full: AtomicBool,
    state_full: AtomicBool,
    refused: AtomicU64,
    refusals: Mutex<Refusals>,
    alarms: Mutex<Vec<Alarm>>,
    hash_claim: watch::Sender<Option<KeyspaceHash>>,
    stopping: AtomicBool,
    /// Whether LogicCenter is to hear of no checkpoint, so that the log is compacted no further.
    checkpoints_held: AtomicBool,
    pub(crate) meters: Meters,
    pub(crate) traffic: Traffic,
    actors: [ActorBoard; ActorName::ALL.len()],
}

/// What the core last told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RaftNumbers {
    pub(crate) role: Role,
    pub(crate) term: Term,
    pub(crate) leader: Option<MachineId>,
    /// Up to where the log is compacted.
    pub(crate) base: Index,
    pub(crate) last: Index,
    pub(crate) commit: Index,
}

/// The snapshots on their way: the other machine, the bytes that have gone or come, and all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshots {
    pub(crate) sending: BTreeMap<MachineId, (u64, u64)>,
    pub(crate) receiving: Option<(MachineId, u64, u64)>,
}

/// The peers that refuse the machine, or that it refuses.
pub(crate) type Refusals = BTreeMap<MachineId, PeerRefusal>;

impl Board {
    pub(crate) fn new() -> Board {
        Board {
            raft: Mutex::new(RaftNumbers {
                role: Role::Follower,
                term: Term(0),
                leader: None,
                base: Index(0),
                last: Index(0),
                commit: Index(0),
            }),
            followers: Mutex::default(),
            silence: Mutex::default(),
            applied: AtomicU64::new(0),
            revision: AtomicI64::new(1),
            compaction: watch::Sender::new(Compaction::NONE),
            auth_known: AtomicBool::new(false),
            caught_up: AtomicU64::new(0),
            auth_enabled: AtomicBool::new(false),
            auth_revision: AtomicU64::new(1),
            used_bytes: AtomicU64::new(0),
            file_bytes: AtomicU64::new(0),
            log_bytes: AtomicU64::new(0),
            snapshots: Mutex::default(),
            log_full: AtomicBool::new(false),
            state_full: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            refusals: Mutex::default(),
            alarms: Mutex::default(),
            hash_claim: watch::Sender::new(None),
            stopping: AtomicBool::new(false),
            checkpoints_held: AtomicBool::new(false),
            meters: Meters::default(),
            traffic: Traffic::default(),
            actors: Default::default(),
        }
    }

    /// Posts the alarms that stand.
    pub(crate) fn post_alarms(&self, alarms: Vec<Alarm>) {
        *self.alarms.lock().unwrap_or_else(|e| e.into_inner()) = alarms;
    }

    pub(crate) fn alarms(&self) -> Vec<Alarm> {
        let alarms = self.alarms.lock().unwrap_or_else(|e| e.into_inner());
        alarms.clone()
    }

    /// Posts a hash that this machine's is to be compared with.
    pub(crate) fn post_hash_claim(&self, claim: KeyspaceHash) {
        self.hash_claim.send_replace(Some(claim));
    }

    pub(crate) fn hash_claims(&self) -> watch::Receiver<Option<KeyspaceHash>> {
        self.hash_claim.subscribe()
    }

    /// Has LogicCenter hear of no checkpoint, or of those that follow again.
    pub(crate) fn hold_checkpoints(&self, held: bool) {
        self.checkpoints_held.store(held, Ordering::Release);
    }

    pub(crate) fn checkpoints_held(&self) -> bool {
        self.checkpoints_held.load(Ordering::Acquire)
    }

    pub(crate) fn post_raft(&self, status: &Status) {
        let now = RaftNumbers {
            role: status.role,
            term: status.term,
            leader: status.leader,
            base: status.base.index,
            last: status.last.index,
            commit: status.commit,
        };
        let mut raft = self.raft.lock().unwrap_or_else(|e| e.into_inner());
        let before = std::mem::replace(&mut *raft, now);
        drop(raft);
        if now.leader.is_some() && now.leader != before.leader {
            self.meters.leader_changes.add(1);
        }
    }

    pub(crate) fn raft(&self) -> RaftNumbers {
        *self.raft.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Posts how far the machine has got with each that it sends the log to; none when it leads no more.
    pub(crate) fn post_followers(&self, now: impl Iterator<Item = FollowerStatus>) {
        let mut followers = self.followers_slot();
        followers.clear();
        followers.extend(now);
    }

    pub(crate) fn followers(&self) -> Vec<FollowerStatus> {
        self.followers_slot().clone()
    }

    fn followers_slot(&self) -> MutexGuard<'_, Vec<FollowerStatus>> {
        self.followers.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Posts the silences of the machine's leader; none when it knows of none, or leads itself.
    pub(crate) fn post_silence(&self, now: Option<Silence>) {
        *self.silence.lock().unwrap_or_else(|e| e.into_inner()) = now;
    }

    pub(crate) fn silence(&self) -> Option<Silence> {
        *self.silence.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Posts what a key space holds. Never goes back: a restarted Applier that has yet to catch up posts nothing new,
    /// and serves nobody until it has.
    pub(crate) fn post_applied(&self, applied: Index, revision: i64) {
        self.revision.fetch_max(revision, Ordering::AcqRel);
        self.applied.fetch_max(applied.0, Ordering::AcqRel);
    }

    /// The highest index whose effects anyone may have seen.
    pub(crate) fn applied(&self) -> Index {
        Index(self.applied.load(Ordering::Acquire))
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Posts how far the key space is compacted; true if that is news.
    pub(crate) fn post_compaction(&self, compaction: Compaction) -> bool {
        self.compaction.send_if_modified(|posted| {
            let is_news = *posted != compaction;
            *posted = compaction;
            is_news
        })
    }

    /// How far the key space is compacted, and whatever is posted of that from now on.
    pub(crate) fn compaction(&self) -> watch::Receiver<Compaction> {
        self.compaction.subscribe()
    }

    /// Posts whether permissions are asked for, and the revision of users, roles and permissions.
    pub(crate) fn post_auth(&self, (enabled, revision): (bool, u64)) {
        self.auth_revision.store(revision, Ordering::Release);
        self.auth_enabled.store(enabled, Ordering::Release);
    }

    /// Notes that all is applied that was committed at a moment of the machine's clock, in microseconds.
    pub(crate) fn note_caught_up(&self, at: u64) {
        self.caught_up.fetch_max(at + 1, Ordering::Release);
    }

    /// The last such moment, if there was one.
    pub(crate) fn caught_up(&self) -> Option<u64> {
        self.caught_up.load(Ordering::Acquire).checked_sub(1)
    }

    /// Notes that what is posted of users may be judged by.
    pub(crate) fn know_auth(&self) {
        self.auth_known.store(true, Ordering::Release);
    }

    pub(crate) fn auth_is_known(&self) -> bool {
        self.auth_known.load(Ordering::Acquire)
    }

    pub(crate) fn auth(&self) -> (bool, u64) {
        (
            self.auth_enabled.load(Ordering::Acquire),
            self.auth_revision.load(Ordering::Acquire),
        )
    }

    pub(crate) fn post_sizes(&self, file_bytes: u64, used_bytes: u64) {
        self.file_bytes.store(file_bytes, Ordering::Relaxed);
        self.used_bytes.store(used_bytes, Ordering::Relaxed);
    }

    /// The bytes of the state's file, and those in use.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        (
            self.file_bytes.load(Ordering::Relaxed),
            self.used_bytes.load(Ordering::Relaxed),
        )
    }

    /// Posts the bytes of the log that are in use.
    pub(crate) fn post_log_bytes(&self, bytes: u64) {
        self.log_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }

    /// Posts how far a snapshot to a machine has got; none when it goes no further.
    pub(crate) fn post_sending(&self, to: MachineId, progress: Option<(u64, u64)>) {
        let mut snapshots = self.snapshots_slot();
        match progress {
            Some(progress) => snapshots.sending.insert(to, progress),
            None => snapshots.sending.remove(&to),
        };
    }

    /// Posts how far a snapshot from a machine has come; none when it comes no further.
    pub(crate) fn post_receiving(&self, progress: Option<(MachineId, u64, u64)>) {
        self.snapshots_slot().receiving = progress;
    }

    pub(crate) fn snapshots(&self) -> Snapshots {
        self.snapshots_slot().clone()
    }

    fn snapshots_slot(&self) -> MutexGuard<'_, Snapshots> {
        self.snapshots.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Posts whether the log finds room on its disk; true if that is news.
    pub(crate) fn post_log_full(&self, full: bool) -> bool {
        self.log_full.swap(full, Ordering::AcqRel) != full
    }

    /// Posts whether the state finds room on its disk; true if that is news.
    pub(crate) fn post_state_full(&self, full: bool) -> bool {
        self.state_full.swap(full, Ordering::AcqRel) != full
    }

    /// Whether the state found no room on its disk when it was last looked for.
    pub(crate) fn state_full(&self) -> bool {
        self.state_full.load(Ordering::Acquire)
    }

    /// Whether writes are to be refused for want of space.
    pub(crate) fn no_space(&self) -> bool {
        self.log_full.load(Ordering::Acquire) || self.state_full()
    }

    /// Adds what was refused on the peer port.
    pub(crate) fn post_refused(&self, more: u64) {
        self.refused.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Posts the peers that refuse the machine, or that it refuses; those that did not before, or for another reason.
    pub(crate) fn post_refusals(&self, now: Refusals) -> Vec<MachineId> {
        let mut posted = self.refusals.lock().unwrap_or_else(|e| e.into_inner());
        let is_news =
            |&(peer, refusal): &(&MachineId, &PeerRefusal)| posted.get(peer) != Some(refusal);
        let news = now.iter().filter(is_news).map(|(&peer, _)| peer).collect();
        *posted = now;
        news
    }

    pub(crate) fn refusals(&self) -> Refusals {
        self.refusals
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .clone()
    }

    pub(crate) fn post_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn actor(&self, name: ActorName) -> &ActorBoard {
        &self.actors[name as usize]
    }
}

/// What the supervisor and the actor itself post about one actor.
#[derive(Default)]
pub(crate) struct ActorBoard {
    lives: Mutex<Lives>,
}

/// The lives of one actor so far.
#[derive(Clone, Default)]
pub(crate) struct Lives {
    pub(crate) state: ActorState,
    pub(crate) incarnation: u64,
    pub(crate) failures: u64,
    pub(crate) last_failure: Option<String>,
    pub(crate) recovery_us: Option<u64>,
    /// Messages handled in the lives that are over.
    pub(crate) handled_before: u64,
    /// The life that it has now.
    pub(crate) present: Option<Arc<Life>>,
    failed_at_us: Option<u64>,
}

/// Where an actor stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ActorState {
    #[default]
    Stopped,
    Starting,
    Running,
    Hung,
}

impl ActorState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ActorState::Stopped => "stopped",
            ActorState::Starting => "starting",
            ActorState::Running => "running",
            ActorState::Hung => "hung",
        }
    }
}

impl ActorBoard {
    fn with<T>(&self, change: impl FnOnce(&mut Lives) -> T) -> T {
        change(&mut self.lives.lock().unwrap_or_else(|e| e.into_inner()))
    }

    pub(crate) fn lives(&self) -> Lives {
        self.with(|lives| lives.clone())
    }

    pub(crate) fn post_state(&self, state: ActorState) {
        self.with(|lives| lives.state = state);
    }

    pub(crate) fn begin(&self, life: &Arc<Life>) {
        self.with(|lives| {
            lives.state = ActorState::Starting;
            lives.incarnation = life.incarnation;
            lives.present = Some(life.clone());
        });
    }

    /// Notes that the present life is over.
    pub(crate) fn end(&self) {
        self.with(|lives| {
            lives.state = ActorState::Stopped;
            lives.handled_before += lives.present.take().map_or(0, |life| life.handled());
        });
    }

    /// Notes a failure of the actor's own, and when it began.
    pub(crate) fn failed(&self, reason: String, at_us: u64) {
        self.with(|lives| {
            lives.failures += 1;
            lives.last_failure = Some(reason);
            lives.recovery_us = None;
            lives.failed_at_us = Some(at_us);
        });
    }

    /// Notes that a life handles its first message.
    pub(crate) fn works_again(&self, now_us: u64) {
        self.with(|lives| {
            if let Some(failed_at) = lives.failed_at_us.take() {
                lives.recovery_us = Some(now_us.saturating_sub(failed_at));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusals(of: &[(u64, &str)]) -> Refusals {
        let refusal = |&(peer, reason): &(u64, &str)| {
            let name = format!("RM.{peer:02}");
            let reason = reason.to_owned();
            (MachineId(peer), PeerRefusal { name, reason })
        };
        of.iter().map(refusal).collect()
    }

    #[test]
    fn a_refusal_is_news_once_for_each_reason_and_again_after_it_was_taken_back() {
        let board = Board::new();
        let post = |of: &[(u64, &str)]| board.post_refusals(refusals(of));
        assert_eq!(post(&[(1, "domain")]), [MachineId(1)]);
        assert_eq!(post(&[(1, "domain"), (2, "domain")]), [MachineId(2)]);
        assert_eq!(post(&[(1, "version"), (2, "domain")]), [MachineId(1)]);
        assert_eq!(board.refusals(), refusals(&[(1, "version"), (2, "domain")]));
        assert_eq!(post(&[(2, "domain")]), []);
        assert_eq!(post(&[(1, "version"), (2, "domain")]), [MachineId(1)]);
    }
}
