//! What happened last, in memory: at least all since the last checkpoint, which can be read nowhere else.

use std::collections::VecDeque;
use std::sync::Arc;

use rm_kv::Event;

use crate::message::Happened;

/// The newest part of the history.
#[derive(Debug)]
pub(super) struct Recent {
    /// The first revision that is in it.
    start: i64,
    /// The first revision after it.
    next: i64,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// How many bytes of it may stay that can be read elsewhere.
    bytes_max: usize,
}

impl Recent {
    /// As the Applier told it first.
    pub(super) fn new(told: &Happened, bytes_max: usize) -> Recent {
        Recent {
            start: told.from,
            next: told.from,
            events: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// The first revision after it.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// The first revision that is in it.
    pub(super) fn start(&self) -> i64 {
        self.start
    }

    /// Adds what the Applier told, which follows on it.
    pub(super) fn extend(&mut self, told: &Happened) {
        self.bytes += told.events.iter().map(|event| event.bytes()).sum::<usize>();
        self.events.extend(told.events.iter().cloned());
        self.next = told.next;
        let is_kept = |event: &Event| event.revision() <= told.checkpointed;
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.events.front().filter(|event| is_kept(event))
        {
            let revision = oldest.revision();
            let after = self
                .events
                .partition_point(|event| event.revision() == revision);
            let gone = self.events.drain(..after);
            self.bytes -= gone.map(|event| event.bytes()).sum::<usize>();
            self.start = revision + 1;
        }
    }

    /// The events from a revision on, oldest first.
    pub(super) fn from(&self, revision: i64) -> impl Iterator<Item = &Arc<Event>> {
        let first = self
            .events
            .partition_point(|event| event.revision() < revision);
        self.events.range(first..)
    }
}
