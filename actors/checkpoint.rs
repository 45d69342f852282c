//! Checkpoints: when and how the Applier writes the state down.

use std::time::Instant;

use actix::Context;
use rm_kv::{Keyspace, KvError, StateMachine};
use slog::{debug, info, warn};

use crate::applier::{Applier, Trouble};
use crate::fault::Point;
use crate::message::{Answer, Checkpointed};
use crate::port::Refusal;

impl Applier {
    pub(crate) fn checkpoint_if_large(&mut self, context: &mut Context<Self>) {
        let most = self.machine.shared.config.config.storage.checkpoint_bytes;
        if self.dirty_bytes() >= most {
            self.checkpoint(context);
        }
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
        let dirty = self.dirty_bytes() as u64;
        let free = self.machine.shared.resources.free_bytes();
        if free < dirty.saturating_mul(2) {
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
                self.checkpoint_at = Instant::now();
                self.post_sizes();
                self.tell_checkpoint();
                if map_is_full {
                    self.report_full();
                } else if self.machine.shared.board.post_state_full(false) {
                    info!(self.machine.log, "there is space for the state again");
                }
            }
            Err(error) => self.recover(error.into(), context),
        }
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
