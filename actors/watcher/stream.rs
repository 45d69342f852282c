//! A client's stream, as the Watcher has it.

use std::collections::BTreeMap;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

use super::{Sending, WatcherId};

/// One stream.
pub(super) struct Stream {
    pub(super) sending: Sending,
    /// Its watchers, by the numbers that the client knows them by.
    pub(super) watchers: BTreeMap<i64, WatcherId>,
    /// Where to look for the next number.
    pub(super) next_id: i64,
    /// The room of the request, while the client waits to be told of progress.
    pub(super) asks_progress: Option<OwnedSemaphorePermit>,
    /// When its watchers are told of progress that want to be.
    pub(super) progress_at: Instant,
}

impl Stream {
    /// The number of a new watcher: the one that was asked for, or the next that is free, as etcd gives them.
    pub(super) fn number(&mut self, asked: i64) -> i64 {
        if asked != 0 {
            return asked;
        }
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }
}
