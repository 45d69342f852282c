//! What can be seen of one life of an actor from other threads: whether it is busy, and whether it gets anywhere.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::ActorName;

/// One life of an actor, from a start to the failure or the stop that ends it.
pub(crate) struct Life {
    pub(crate) actor: ActorName,
    /// Counts the actor's lives, from one.
    pub(crate) incarnation: u64,
    /// Microseconds of the machine's clock when the poll that is under way began; zero when none is.
    busy_since: AtomicU64,
    /// Messages that were put into its mailbox.
    pub(crate) queued: AtomicU64,
    /// Messages that it has begun to handle.
    handled: AtomicU64,
    /// Counts what shows that the actor gets on: messages, and steps of long work.
    progress: AtomicU64,
    /// A newer life has begun. What this one still does, should it wake, is to the others as a message that came late.
    fenced: AtomicBool,
    /// Why it ends, where the actor itself said so.
    verdict: Mutex<Option<String>>,
}

impl Life {
    pub(crate) fn new(actor: ActorName, incarnation: u64) -> Life {
        Life {
            actor,
            incarnation,
            busy_since: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            fenced: AtomicBool::new(false),
            verdict: Mutex::new(None),
        }
    }

    pub(crate) fn begin_poll(&self, now_us: u64) {
        self.busy_since.store(now_us.max(1), Ordering::Relaxed);
    }

    pub(crate) fn end_poll(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }

    /// When the poll that is under way began, if one is.
    pub(crate) fn busy_since(&self) -> Option<u64> {
        match self.busy_since.load(Ordering::Relaxed) {
            0 => None,
            since => Some(since),
        }
    }

    pub(crate) fn fence(&self) {
        self.fenced.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::SeqCst)
    }

    /// Notes why the actor gives up; the first reason stands.
    pub(crate) fn condemn(&self, reason: String) {
        let mut verdict = self.verdict.lock().unwrap_or_else(|e| e.into_inner());
        verdict.get_or_insert(reason);
    }

    pub(crate) fn verdict(&self) -> Option<String> {
        self.verdict
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .clone()
    }

    /// Shows that the actor gets on.
    pub(crate) fn progresses(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Counts a message that is about to be handled; tells whether it is the first.
    pub(crate) fn count_message(&self) -> bool {
        self.progresses();
        self.handled.fetch_add(1, Ordering::Relaxed) == 0
    }

    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// Messages that wait in the mailbox, about.
    pub(crate) fn mailbox(&self) -> u64 {
        let queued = self.queued.load(Ordering::Relaxed);
        queued.saturating_sub(self.handled())
    }
}
