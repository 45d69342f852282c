//! What the Applier lets others know of the key space: on the board, and by messages.

use rm_kv::{Keyspace, Signed, StateMachine};
use rm_raft::{Entry, Index, Payload};
use rm_store::LogError;
use slog::debug;

use crate::applier::Applier;
use crate::message::{CompactionMoved, LeasesChanged};

/// How many bytes of the log are looked at before the actor shows that it gets on.
const LOOK_BYTES: usize = 4 << 20;

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
                board.meters.keyspace.keys.set(keys);
            }
            if !is_behind && board.post_compaction(keyspace.compaction()) {
                slots.compactor.tell(CompactionMoved);
            }
        }
    }

    /// An earlier process on this data may have known whether permissions are asked for. If no entry that the log holds beyond this state
    /// changes anything of that, then this state judges by no less than that process did, and there is no need to ask a leader first.
    pub(crate) fn know_auth_again(&mut self) {
        let board = &self.machine.shared.board;
        let has_caught_up = self.machine.shared.resources.directory.has_caught_up();
        if board.auth_is_known() || !has_caught_up {
            return;
        }
        match self.users_may_change_in_log() {
            Ok(false) => board.know_auth(),
            Ok(true) => {
                debug!(
                    self.machine.log,
                    "users may have changed beyond this state: a leader must tell"
                );
            }
            // Whoever has the entries applied tells of damage.
            Err(error) => {
                debug!(self.machine.log, "whether users have changed cannot be told"; "error" => %error);
            }
        }
    }

    fn users_may_change_in_log(&self) -> Result<bool, LogError> {
        let reader = self.machine.shared.resources.log.reader();
        let mut next = self.applied().next();
        loop {
            let entries = reader.entries(next, Index(u64::MAX), LOOK_BYTES)?;
            let Some(last) = entries.last() else {
                return Ok(false);
            };
            let may_change = |entry: &Entry| match &entry.payload {
                Payload::Command(proposal) => Signed::may_change_users(&proposal.command),
                Payload::Empty | Payload::Configuration { .. } => false,
            };
            if entries.iter().any(may_change) {
                return Ok(true);
            }
            next = last.id.index.next();
            self.machine.life.progresses();
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
