//! Defragmentation: the state is written anew without its free pages while the machine goes on, and takes the place of the one before by
//! one commit of the log.
//!
//! The copy is of the last checkpoint. It catches up by itself, from the log, and only when it lacks little is it put in force: the Applier
//! opens it and applies the rest. Meanwhile the log is compacted no further, so that what the copy lacks is there. A snapshot that is to be
//! installed goes first: then the copy is given up.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use rm_kv::{Keyspace, KvError, StateMachine};
use rm_raft::{EntryId, Index};
use rm_store::{Environment, LogError, OpenError, SnapshotError, remove_others};
use slog::{Logger, info, warn};
use tokio::sync::oneshot;

use crate::ActorName;
use crate::entry::apply_entry;
use crate::fault::Point;
use crate::machine::Shared;
use crate::message::Replace;
use crate::port::{Consistency, Port, Refusal};
use crate::snapshot_maker::goes_on_at_pace;
use crate::states::{InForce, Turn};

/// A copy that lacks no more entries than these is put in force.
const NEAR_ENTRIES: u64 = 1_000;

/// How often the copy tries to come so near: where it does not get there, whatever it lacks is applied once it is in force.
const ROUNDS_MAX: usize = 20;

/// The most bytes of entries that are read from the log at a time.
const READ_BYTES: usize = 1 << 20;

/// Why the state stays as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DefragmentError {
    #[error(transparent)]
    Copy(#[from] SnapshotError),
    #[error("the copy cannot catch up: {0}")]
    Keyspace(#[from] KvError),
    #[error("the copy cannot catch up: {0}")]
    Log(#[from] LogError),
    #[error("the log does not hold the entry {0} any more, which the copy lacks")]
    Missing(Index),
    #[error("the disk failed: {0}")]
    Disk(#[from] std::io::Error),
    #[error("it is given up for a snapshot that is to be installed, or because the machine stops")]
    GivenUp,
}

impl Port {
    /// Writes the state anew without its free pages, while clients go on, and returns once it is in force and serves. It goes on though
    /// nobody waits for it.
    ///
    /// # Errors
    /// [`Refusal::Operator`] while another one is under way or a snapshot is installed, and where the copy fails; [`Refusal::NoSpace`] where the disk
    /// has no room for it beside its reserve. The state is as it was then.
    pub async fn defragment(&self) -> Result<(), Refusal> {
        if self.shared.board.stopping() {
            return Err(Refusal::Stopped);
        }
        let turn = self.shared.resources.states.turn();
        let turn = turn.ok_or_else(|| {
            let busy = "another state is being made ready at the moment, by a defragmentation or of a snapshot: try again";
            Refusal::Operator(busy.to_owned())
        })?;
        let port = self.clone();
        let work = tokio::spawn(async move {
            let _under_way = UnderWay::begin(&port.shared);
            let began = Instant::now();
            port.replace_state(turn).await?;
            port.meters().defragmentations.add_time(began.elapsed());
            Ok(())
        });
        work.await.map_err(|_| Refusal::Restarted)?
    }

    async fn replace_state(&self, turn: Turn) -> Result<(), Refusal> {
        let log = self.logger();
        let before = self.report();
        let held = Held::hold(&self.shared);
        // An Applier that was just restarted may hold less than its earlier life has shown.
        self.read(None, Consistency::Serializable).await?;
        self.write_down().await?;
        let (answer, answered) = oneshot::channel();
        let (shared, logger) = (self.shared.clone(), log.clone());
        let ticket = Ticket {
            shared,
            log: logger,
            answer: Some(answer),
            _held: held,
            turn,
        };
        let prepared = tokio::task::spawn_blocking(move || ticket.prepare()).await;
        let replacement = prepared.map_err(|_| Refusal::Restarted)?.map_err(refusal)?;
        self.shared.slots.storage.tell(Replace(replacement));
        answered.await.unwrap_or(Err(Refusal::Restarted))?;
        // Served by the new one.
        self.read(None, Consistency::Serializable).await?;
        let after = self.report();
        info!(log, "the state is defragmented"; "bytes_before" => before.file_bytes, "bytes" => after.file_bytes);
        Ok(())
    }
}

/// As long as it lives, monitors are shown that the state is defragmented.
struct UnderWay(Arc<Shared>);

impl UnderWay {
    fn begin(shared: &Arc<Shared>) -> UnderWay {
        shared.board.meters.defragmenting.set(1);
        UnderWay(shared.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.board.meters.defragmenting.set(0);
    }
}

/// As long as it lives, the log is compacted no further.
struct Held(Arc<Shared>);

impl Held {
    fn hold(shared: &Arc<Shared>) -> Held {
        shared.board.hold_checkpoints(true);
        Held(shared.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.board.hold_checkpoints(false);
    }
}

/// A state that is ready to take the place of the present one.
pub(crate) struct Replacement {
    /// Dropped before the ticket, which removes its files if it is not in force.
    next: InForce,
    /// What it has applied.
    pub(crate) applied: EntryId,
    ticket: Ticket,
}

/// The right to replace the state. However it ends, the states that the log does not name are removed.
struct Ticket {
    shared: Arc<Shared>,
    log: Logger,
    answer: Option<oneshot::Sender<Result<(), Refusal>>>,
    _held: Held,
    turn: Turn,
}

impl Replacement {
    /// The generation that Storage is to put in force.
    pub(crate) fn generation(&self) -> u64 {
        self.next.generation
    }

    /// Lets the new state be found, which the log has put in force, and tells whoever asked for it once all else is removed.
    pub(crate) fn let_be_found(self) {
        let Replacement {
            next, mut ticket, ..
        } = self;
        ticket.shared.resources.states.switch(next);
        let answer = ticket.answer.take();
        drop(ticket);
        // Whoever asked may have gone away.
        answer.map(|answer| answer.send(Ok(())));
    }

    /// The log has refused it.
    pub(crate) fn refuse(mut self, reason: &LogError) {
        let refused = Refusal::Operator(format!("the state stays as it is: {reason}"));
        if let Some(answer) = self.ticket.answer.take() {
            // Whoever asked may have gone away.
            let _ = answer.send(Err(refused));
        }
    }
}

impl Ticket {
    fn prepare(self) -> Result<Replacement, DefragmentError> {
        let resources = &self.shared.resources;
        let present = resources.states.present();
        let generation = present.generation + 1;
        info!(self.log, "the state is written anew"; "generation" => generation);
        let environment = self.copy(&present.environment, generation)?;
        drop(present);
        info!(self.log, "the copy of the state is made");
        let applied = self.catch_up(&environment)?;
        info!(self.log, "the copy of the state has caught up"; "applied" => %applied);
        self.shared
            .strike_disk_of(ActorName::LogicCenter, Point::Prepare)?;
        let next = InForce {
            generation,
            environment,
        };
        Ok(Replacement {
            next,
            applied,
            ticket: self,
        })
    }

    fn copy(&self, present: &Environment, generation: u64) -> Result<Environment, SnapshotError> {
        let resources = &self.shared.resources;
        let wanted = AtomicBool::new(true);
        let at_pace = goes_on_at_pace(&self.shared, &wanted);
        resources.snapshots.make_state(
            &resources.directory,
            present,
            generation,
            &resources.states.verified(),
            |bytes| self.goes_on() && at_pace(bytes),
        )
    }

    /// Applies to the copy what the machine has applied since, and makes it durable: the last entry.
    fn catch_up(&self, environment: &Environment) -> Result<EntryId, DefragmentError> {
        let mut keyspace = Keyspace::open(environment)?;
        let log = self.shared.resources.log.reader();
        let checkpoint_bytes = self.shared.config.config.storage.checkpoint_bytes;
        for _ in 0..ROUNDS_MAX {
            let began = keyspace.applied().index;
            let target = self.shared.board.applied();
            while keyspace.applied().index < target {
                if !self.goes_on() {
                    return Err(DefragmentError::GivenUp);
                }
                let next = keyspace.applied().index.next();
                let entries = log.entries(next, target, READ_BYTES)?;
                if entries.is_empty() {
                    return Err(DefragmentError::Missing(next));
                }
                for entry in &entries {
                    apply_entry(&mut keyspace, entry, None)?;
                }
                // The Applier tells of them.
                keyspace.take_lease_news();
                if keyspace.dirty_bytes() >= checkpoint_bytes {
                    keyspace.checkpoint()?;
                }
            }
            keyspace.checkpoint()?;
            if target.0.saturating_sub(began.0) <= NEAR_ENTRIES {
                break;
            }
        }
        Ok(keyspace.applied())
    }

    fn goes_on(&self) -> bool {
        !self.turn.is_wanted() && !self.shared.board.stopping()
    }

    fn tidy(&self) -> Result<(), OpenError> {
        let resources = &self.shared.resources;
        match resources.log.generation() {
            Ok(generation) => remove_others(&resources.directory, generation),
            // Without the log nobody knows; the next start does.
            Err(error) => {
                warn!(self.log, "the log does not tell which state is in force"; "error" => %error);
                Ok(())
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Err(error) = self.tidy() {
            warn!(self.log, "a state that is not in force could not be removed; the next start does it"; "error" => %error);
        }
    }
}

/// What whoever asked is told where the copy failed.
fn refusal(error: DefragmentError) -> Refusal {
    match error {
        DefragmentError::Copy(SnapshotError::NoSpace { .. })
        | DefragmentError::Keyspace(KvError::NoSpace) => Refusal::NoSpace,
        error => Refusal::Operator(format!("the state stays as it is: {error}")),
    }
}
