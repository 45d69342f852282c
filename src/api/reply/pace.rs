//! How fast clients must take their replies: a sixteenth of each in `timings.reply_stall_ms`, so that nobody holds memory for ever which
//! others wait for.
//!
//! Whoever is too slow gets no more of the reply: what is not handed to HTTP yet is dropped at once. What is there already cannot be taken
//! back from it; if the client has not taken that either after the same time again, its connection is closed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rm_actors::port::Port;
use slog::info;

use super::body::Rest;
use crate::connection::Cutoff;

/// In so many parts a client may take a reply, each in its time.
pub(crate) const PARTS: usize = 16;

/// How often to look who is late, at least, and at most.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_secs(1);

/// The replies that are being sent.
pub(crate) struct Pace {
    stall: Duration,
    now: fn() -> Instant,
    sent: Mutex<Sent>,
}

#[derive(Default)]
struct Sent {
    /// By when the next part of each is to be taken, and its number.
    by_time: BTreeMap<(Instant, u64), Weak<Ticket>>,
    next: u64,
}

/// A reply that is being sent. Dropped, it has been taken.
pub(crate) struct Ticket {
    pace: Arc<Pace>,
    number: u64,
    due: Mutex<Instant>,
    /// What HTTP has not asked for yet.
    rest: Arc<Mutex<Option<Rest>>>,
    /// Closes the connection.
    cut: Option<Cutoff>,
}

impl Pace {
    /// One that takes the time from this clock.
    pub(crate) fn new(stall: Duration, now: fn() -> Instant) -> Arc<Pace> {
        Arc::new(Pace {
            stall,
            now,
            sent: Mutex::default(),
        })
    }

    /// A reply begins to be sent.
    pub(super) fn begin(
        self: &Arc<Self>,
        rest: Arc<Mutex<Option<Rest>>>,
        cut: Option<Cutoff>,
    ) -> Arc<Ticket> {
        let due = (self.now)() + self.stall;
        let mut sent = self.sent();
        let number = sent.next;
        sent.next += 1;
        let ticket = Arc::new(Ticket {
            pace: self.clone(),
            number,
            due: Mutex::new(due),
            rest,
            cut,
        });
        sent.by_time.insert((due, number), Arc::downgrade(&ticket));
        ticket
    }

    /// Something is told of which nothing can be taken back.
    pub(super) fn begin_told(self: &Arc<Self>, cut: Option<Cutoff>) -> Arc<Ticket> {
        self.begin(Arc::default(), cut)
    }

    /// Looks now and then who is late. It never ends.
    pub(crate) async fn look_after(&self, port: &Port) {
        let log = port.logger();
        let pause = (self.stall / PARTS as u32).clamp(LOOK_MIN, LOOK_MAX);
        loop {
            tokio::time::sleep(pause).await;
            let (replies, connections) = self.look();
            if (replies, connections) != (0, 0) {
                port.note_replies_given_up(replies);
                info!(log, "clients did not take their replies in time (timings.reply_stall_ms)";
                    "replies given up" => replies, "connections closed" => connections);
            }
        }
    }

    /// Ends what is late; how many replies it gave up, and how many connections it closed.
    pub(super) fn look(&self) -> (u64, u64) {
        let now = (self.now)();
        let (mut replies, mut connections) = (0, 0);
        while let Some(ticket) = self.next_late(now) {
            let rest = super::body::lock(&ticket.rest).take();
            match rest {
                Some(_) => replies += 1,
                None => connections += u64::from(ticket.cut.as_ref().is_some_and(Cutoff::cut)),
            }
            ticket.renew();
        }
        (replies, connections)
    }

    /// How many replies are being sent.
    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.sent().by_time.len()
    }

    /// One whose time is over.
    fn next_late(&self, now: Instant) -> Option<Arc<Ticket>> {
        let mut sent = self.sent();
        loop {
            let first = sent
                .by_time
                .first_entry()
                .filter(|first| first.key().0 <= now)?;
            // One that is not there any more is just being taken out.
            if let Some(ticket) = first.remove().upgrade() {
                return Some(ticket);
            }
        }
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// A part was taken, and the time for the next one begins.
    pub(super) fn renew(self: &Arc<Self>) {
        let now = (self.pace.now)();
        let mut sent = self.pace.sent();
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        sent.by_time.remove(&(*due, self.number));
        *due = now + self.pace.stall;
        sent.by_time
            .insert((*due, self.number), Arc::downgrade(self));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let due = *self.due.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.pace.sent().by_time.remove(&(due, self.number));
    }
}

/// For tests: a clock that stands until it is moved.
#[cfg(test)]
pub(super) mod standing {
    use std::cell::Cell;

    use super::*;

    pub(crate) const STALL: Duration = Duration::from_secs(60);
    pub(crate) const SECOND: Duration = Duration::from_secs(1);

    thread_local! {
        static NOW: Cell<Instant> = Cell::new(Instant::now());
    }

    pub(crate) fn pace() -> Arc<Pace> {
        Pace::new(STALL, || NOW.get())
    }

    pub(crate) fn pass(time: Duration) {
        NOW.set(NOW.get() + time);
    }
}
