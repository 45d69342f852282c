//! What clients asked of single keys, when, and what they were told: the matter of the [`checker`](crate::checker).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a key holds: a value that one writer wrote, or nothing.
pub type Value = Option<u64>;

/// What was asked of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Read it.
    Get,
    /// Write it.
    Put(u64),
    /// Delete it.
    Delete,
    /// Write the second if the first is there, else read it.
    CompareAndSwap(Value, u64),
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The key held this, and was not changed.
    Held(Value),
    /// It was written.
    Written,
    /// It was deleted; what it held before.
    Deleted(Value),
}

/// One operation of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What was asked.
    pub request: Request,
    /// What was answered; nothing when the outcome is unknown.
    pub answer: Option<Answer>,
    /// When it was asked, since the history's start.
    pub asked: Duration,
    /// When it was answered; of no meaning without an answer.
    pub answered: Duration,
}

/// The operations of all clients, by key.
#[derive(Debug)]
pub struct History {
    start: Instant,
    keys: Mutex<BTreeMap<String, Vec<Operation>>>,
    answered: AtomicUsize,
}

impl Default for History {
    fn default() -> Self {
        History {
            start: Instant::now(),
            keys: Mutex::default(),
            answered: AtomicUsize::new(0),
        }
    }
}

impl History {
    /// The time since its start, for [`Operation::asked`].
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Notes an operation whose answer has just come, or will never come.
    pub fn note(&self, key: &str, request: Request, asked: Duration, answer: Option<Answer>) {
        let answered = self.now();
        if answer.is_some() {
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        let operation = Operation {
            request,
            answer,
            asked,
            answered,
        };
        let mut keys = self.keys.lock().expect("nobody panics while noting");
        keys.entry(key.to_owned()).or_default().push(operation);
    }

    /// How many operations were answered so far.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// All operations, by key.
    pub fn into_keys(self) -> BTreeMap<String, Vec<Operation>> {
        self.keys.into_inner().expect("nobody panics while noting")
    }
}
