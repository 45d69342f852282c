//! Checkpoints: when and how the Applier writes the state down.

use std::io;
use std::time::{Duration, Instant};

use actix::Context;
use rm_kv::{Keyspace, KvError, StateMachine};
use slog::{debug, info, warn};

use crate::applier::{Applier, Trouble};
use crate::fault::Point;
use crate::message::{Answer, Checkpointed};
use crate::port::Refusal;

/// How long after a checkpoint that found no space to look whether there is some.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

impl Applier {
    /// Writes the state down now and then, and looks whether there is space again.
    pub(crate) fn checkpoint_if_due(&mut self, context: &mut Context<Self>) {
        let interval_ms = self.storage().checkpoint_interval_ms;
        let due = match self.look_at {
            Some(at) => Instant::now() >= at,
            None => self.checkpoint_at.elapsed() >= Duration::from_millis(interval_ms),
        };
        if !due {
            return;
        }
        if self.is_dirty() {
            self.checkpoint(context);
        } else if self.machine.shared.board.state_full()
            && !self.map_is_nearly_full()
            && self.may_have_space()
        {
            self.report_space();
        }
    }

    pub(crate) fn checkpoint_if_large(&mut self, context: &mut Context<Self>) {
        if self.dirty_bytes() >= self.storage().checkpoint_bytes {
            self.checkpoint(context);
        }
    }

    fn storage(&self) -> &rm_config::Storage {
        &self.machine.shared.config.config.storage
    }

    fn dirty_bytes(&self) -> usize {
        self.keyspace.as_ref().map_or(0, Keyspace::dirty_bytes)
    }

    /// Whether anything was applied since the last checkpoint.
    pub(crate) fn is_dirty(&self) -> bool {
        let keyspace = self.keyspace.as_ref();
        keyspace.is_some_and(|keyspace| keyspace.applied() != keyspace.checkpointed())
    }

    /// Writes the state down durably. Put off while the disk has no room for it.
    pub(crate) fn checkpoint(&mut self, context: &mut Context<Self>) {
        if !self.may_have_space() {
            return self.report_full();
        }
        // The disk may have room and the map none; then this checkpoint still fits, and nothing more is taken.
        let map_is_full = self.map_is_nearly_full();
        if let Err(error) = self.machine.strike_disk(Point::Checkpoint) {
            // As if LMDB had met the error itself: the open transaction is lost.
            self.keyspace = None;
            let trouble = match error.kind() {
                std::io::ErrorKind::StorageFull => Trouble::Keyspace(KvError::NoSpace),
                _ => Trouble::Disk(error),
            };
            return self.recover(trouble, context);
        }
        let Some(keyspace) = &mut self.keyspace else {
            return;
        };
        match keyspace.checkpoint() {
            Ok(report) => {
                debug!(self.machine.log, "checkpoint"; "report" => ?report);
                let checkpoints = &self.machine.shared.board.meters.checkpoints;
                checkpoints.add_time(report.commit);
                self.checkpoint_at = Instant::now();
                self.post_sizes();
                self.tell_checkpoint();
                if map_is_full {
                    self.look_at = None;
                    self.report_full();
                } else {
                    self.report_space();
                }
            }
            Err(error) => self.recover(error.into(), context),
        }
    }

    /// Whether a checkpoint may be tried. One that finds no space costs all that was applied since the last one, so after that a small
    /// write must succeed before the next, and the state must be again what was shown before: meanwhile it is read.
    fn may_have_space(&mut self) -> bool {
        let was_short = self.look_at.is_some();
        if self.look_at.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        let free = self.machine.shared.resources.free_bytes();
        let roomy = free >= (self.dirty_bytes() as u64).saturating_mul(2);
        let may = roomy && (!was_short || self.applied() >= self.floor && self.probe());
        if !may {
            self.look_later();
        }
        may
    }

    pub(crate) fn look_later(&mut self) {
        self.look_at = Some(Instant::now() + LOOK_PAUSE);
    }

    /// Whether a small write finds space. An injected fault strikes it as it would strike the checkpoint.
    fn probe(&self) -> bool {
        let state = self.machine.shared.resources.states.present();
        let struck = self.machine.strike_disk(Point::Checkpoint);
        let written: io::Result<()> = struck.and_then(|()| state.environment.probe());
        if let Err(error) = &written {
            debug!(self.machine.log, "no space for a checkpoint yet"; "error" => %error);
        }
        written.is_ok()
    }

    /// Whether what may still be committed might not fit into the map. Later is too late: what is committed must be
    /// applied.
    fn map_is_nearly_full(&self) -> bool {
        let state = self.machine.shared.resources.states.present();
        let Ok(space) = state.environment.space() else {
            return false;
        };
        let config = &self.machine.shared.config.config;
        let under_way = config.limits.uncommitted_bytes_max + config.storage.checkpoint_bytes;
        let reserve = (2 * under_way as u64).min(space.map_bytes / 4);
        space.used_bytes + reserve > space.map_bytes
    }

    /// There is space, and nothing that waits for it.
    fn report_space(&mut self) {
        self.look_at = None;
        if self.machine.shared.board.post_state_full(false) {
            info!(self.machine.log, "there is space for the state again");
        }
    }

    pub(crate) fn report_full(&mut self) {
        if self.machine.shared.board.post_state_full(true) {
            warn!(
                self.machine.log,
                "no space for a checkpoint: writes are refused until there is"
            );
        }
    }

    /// Tells up to where the log need not be kept for this state.
    pub(crate) fn tell_checkpoint(&self) {
        if self.machine.shared.board.checkpoints_held() {
            return;
        }
        if let Some(keyspace) = &self.keyspace {
            let applied = keyspace.checkpointed();
            let slots = &self.machine.shared.slots;
            slots.logic_center.tell(Checkpointed { applied });
        }
    }

    /// Writes the state down for somebody who reads it from another thread.
    pub(crate) fn write_down(&mut self, answer: Answer<i64>, context: &mut Context<Self>) {
        if self.is_dirty() {
            self.checkpoint(context);
        }
        let written = match &self.keyspace {
            Some(keyspace) if keyspace.applied() == keyspace.checkpointed() => {
                Ok(keyspace.revision())
            }
            _ => Err(Refusal::NoSpace),
        };
        // Whoever asked may have gone away.
        let _ = answer.send(written);
    }

    pub(crate) fn retire(&mut self, context: &mut Context<Self>) {
        if self.is_dirty() {
            self.checkpoint(context);
        }
    }
}
