//! What the Applier lets others know of the key space: on the board, and by messages.

use rm_kv::{Keyspace, StateMachine};
use slog::debug;

use crate::applier::Applier;
use crate::message::{CompactionMoved, LeasesChanged};

impl Applier {
    pub(crate) fn post(&mut self) {
        if let Some(keyspace) = &self.keyspace {
            let (board, slots) = (&self.machine.shared.board, &self.machine.shared.slots);
            let (applied, revision) = (keyspace.applied().index, keyspace.revision());
            // One that has yet to catch up with what was shown tells of how it was before.
            let is_behind = applied < board.applied();
            if !is_behind {
                // Before the entry counts as applied: whoever knows that it does must be judged by it.
                board.post_auth(keyspace.auth_status());
                board.post_alarms(keyspace.alarms());
            }
            board.post_applied(applied, revision);
            if let Ok(keys) = keyspace.keys() {
                board.meters.keys.set(keys);
            }
            if !is_behind && board.post_compaction(keyspace.compaction()) {
                slots.compactor.tell(CompactionMoved);
            }
        }
    }

    pub(crate) fn post_sizes(&mut self) {
        let state = self.machine.shared.resources.states.present();
        match state.environment.space() {
            Ok(space) => {
                let board = &self.machine.shared.board;
                board.post_sizes(space.file_bytes, space.used_bytes);
            }
            Err(error) => {
                debug!(self.machine.log, "the size of the state cannot be told"; "error" => %error);
            }
        }
    }

    /// Leases are told of as soon as they are granted: their time begins. So is a hash that this machine is to compare its own with.
    pub(crate) fn tell_news(&mut self) {
        let news = self.keyspace.as_mut().map(Keyspace::take_lease_news);
        if let Some(news) = news.filter(|news| !news.changes.is_empty()) {
            self.machine.shared.slots.lessor.tell(LeasesChanged(news));
        }
        if let Some(claim) = self.keyspace.as_mut().and_then(Keyspace::take_hash_claim) {
            self.machine.shared.board.post_hash_claim(claim);
        }
    }
}
