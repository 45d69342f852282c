//! The bytes of requests: how much of them a machine holds, how long it waits for the rest of one, and who gives way.
//!
//! HTTP/2's windows bound none of that. A client gets leave for more bytes as soon as a frame is handed on; whoever makes a message of the
//! frames holds them until the last has come, and then the message as long as it waits: for a leader, a place, a lock, a password's turn.
//! So what has come of all messages is counted here, over all connections, until they are answered. Where it becomes too much, the message
//! that began first and is not whole gives way: one that is sent without a pause is whole long before that, and whoever sends slowly, or
//! stops in the middle, holds up nobody. What is whole gives way no more: it may have been carried out. Where all that is held is whole,
//! whatever comes is refused.

mod body;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt;
use rm_actors::port::Refusal;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

pub(crate) use self::body::{Arriving, Shape};
use crate::error::refused;

/// How long a message may take to come. What comes more slowly holds memory for nothing.
const TIME: Duration = Duration::from_secs(30);

/// Up to so many bytes a message is small.
const SMALL_BYTES: usize = 64 << 10;

/// One of so many parts of the room there is once more, for small messages alone: large ones that wait, as for a leader, keep nobody from
/// asking how the machine is.
const SMALL_SHARE: usize = 8;

/// One of so many parts of the room may be held by what stays for as long as others like: in line, or to observe.
const STAYING_SHARE: usize = 4;

/// What is held of all messages.
#[derive(Debug)]
pub(crate) struct Arrivals {
    bytes_max: usize,
    time: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Those that may have to give way, the one that began first in front.
    begun: BTreeMap<u64, Part>,
    /// How much is held of these.
    arriving: usize,
    /// How much is held of those that are whole and not done with.
    whole: usize,
    /// How much of that stays for as long as others like.
    staying: usize,
    next: u64,
    given_up: u64,
}

/// What has come of one message.
#[derive(Debug)]
struct Part {
    bytes: usize,
    /// Whoever waits for the rest.
    waker: Option<Waker>,
}

impl Arrivals {
    /// Room for so many bytes, in which the largest message must fit.
    pub(crate) fn new(bytes_max: usize) -> Arc<Arrivals> {
        Arrivals::within(bytes_max, TIME)
    }

    fn within(bytes_max: usize, time: Duration) -> Arc<Arrivals> {
        Arc::new(Arrivals {
            bytes_max,
            time,
            state: Mutex::default(),
        })
    }

    /// Counts what comes of a request.
    pub(crate) fn count(self: &Arc<Arrivals>, body: Body, shape: Shape) -> Arriving {
        let arrival = Arrival {
            all: self.clone(),
            held: Held::Nothing,
            always: false,
            clock: None,
        };
        Arriving::new(body, shape, arrival)
    }

    /// For a message that will be held when it is whole.
    pub(crate) fn keep(self: &Arc<Arrivals>) -> Kept {
        let keeping = Keeping {
            all: self.clone(),
            bytes: AtomicUsize::new(0),
        };
        Kept {
            keeping: Arc::new(keeping),
        }
    }

    /// How much is held of messages that are not whole.
    pub(crate) fn arriving(&self) -> usize {
        self.state().arriving
    }

    /// How much is held of those that are.
    pub(crate) fn waiting(&self) -> usize {
        self.state().whole
    }

    /// How many messages had to give way, or found no room.
    pub(crate) fn given_up(&self) -> u64 {
        self.state().given_up
    }

    /// How much may be held with a message of so many bytes.
    fn bytes_max_with(&self, bytes: usize) -> usize {
        match bytes <= SMALL_BYTES {
            true => self.bytes_max.saturating_add(self.bytes_max / SMALL_SHARE),
            false => self.bytes_max,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Has those give way that began first, until no more is held than there may be.
    fn make_room(&mut self, bytes_max: usize) {
        while self.arriving + self.whole > bytes_max
            && let Some((_, part)) = self.begun.pop_first()
        {
            self.arriving -= part.bytes;
            self.given_up += 1;
            if let Some(waker) = part.waker {
                waker.wake();
            }
        }
    }
}

/// What of a request is held when that is whole, by whoever is to answer it and by whoever goes on for it. It counts until all of them are
/// done.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    keeping: Arc<Keeping>,
}

impl Kept {
    /// It stays for as long as others like.
    ///
    /// # Errors
    /// So much does that the rest would not find room.
    pub(crate) fn stay(&self) -> Result<Staying, Refusal> {
        let all = self.keeping.all.clone();
        let bytes = self.keeping.bytes.load(Ordering::Relaxed);
        let mut state = all.state();
        if state.staying > 0 && state.staying + bytes > all.bytes_max / STAYING_SHARE {
            return Err(Refusal::TooManyRequests);
        }
        state.staying += bytes;
        drop(state);
        Ok(Staying { all, bytes })
    }
}

/// What stays, until this is dropped.
#[derive(Debug)]
pub(crate) struct Staying {
    all: Arc<Arrivals>,
    bytes: usize,
}

impl Drop for Staying {
    fn drop(&mut self) {
        self.all.state().staying -= self.bytes;
    }
}

#[derive(Debug)]
struct Keeping {
    all: Arc<Arrivals>,
    bytes: AtomicUsize,
}

impl Drop for Keeping {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        if bytes > 0 {
            self.all.state().whole -= bytes;
        }
    }
}

/// What is held of one request.
#[derive(Debug)]
struct Arrival {
    all: Arc<Arrivals>,
    held: Held,
    /// Whether it finds room, if it is small, however much is held: whoever looks after the machine asks.
    always: bool,
    /// Runs while the rest of a message is waited for.
    clock: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Held {
    Nothing,
    /// Of a message that is not whole. It has this number until it gives way.
    Part(u64),
    /// Of one that is whole, and gives way no more.
    Whole(usize),
}

impl Arrival {
    /// Holds so many bytes of a message that is not whole.
    ///
    /// # Errors
    /// It had to give way.
    fn part(&mut self, bytes: usize) -> Result<(), Status> {
        self.done_with_whole();
        let all = self.all.clone();
        let mut state = all.state();
        let number = match self.held {
            Held::Part(number) => number,
            Held::Nothing | Held::Whole(_) => {
                let number = state.next;
                state.next += 1;
                let waker = None;
                state.begun.insert(number, Part { bytes: 0, waker });
                self.held = Held::Part(number);
                number
            }
        };
        if let Some(part) = state.begun.get_mut(&number) {
            let before = std::mem::replace(&mut part.bytes, bytes);
            state.arriving = state.arriving - before + bytes;
            state.make_room(self.bytes_max_with(bytes));
        }
        match state.begun.contains_key(&number) {
            true => Ok(()),
            false => Err(given_way()),
        }
    }

    /// Holds so many bytes of a message that is whole with them.
    ///
    /// # Errors
    /// It had to give way.
    fn whole_with(&mut self, bytes: usize) -> Result<(), Status> {
        if matches!(self.held, Held::Nothing) {
            let mut state = self.all.state();
            // Most messages come at once, and find room.
            if state.arriving + state.whole + bytes <= self.bytes_max_with(bytes) {
                state.whole += bytes;
                drop(state);
                self.held = Held::Whole(bytes);
                return Ok(());
            }
        }
        self.part(bytes)?;
        self.whole();
        Ok(())
    }

    /// How much may be held with a message of so many bytes.
    fn bytes_max_with(&self, bytes: usize) -> usize {
        match self.always && bytes <= SMALL_BYTES {
            true => usize::MAX,
            false => self.all.bytes_max_with(bytes),
        }
    }

    /// The message is whole, and held on to.
    fn whole(&mut self) {
        self.clock = None;
        if let Held::Part(number) = self.held {
            let mut state = self.all.state();
            self.held = match state.begun.remove(&number) {
                Some(part) => {
                    state.arriving -= part.bytes;
                    state.whole += part.bytes;
                    Held::Whole(part.bytes)
                }
                None => Held::Nothing,
            };
        }
    }

    /// The message is whole, and held on to by whoever keeps it.
    fn hand_to(&mut self, kept: &Kept) {
        self.whole();
        if let Held::Whole(bytes) = std::mem::replace(&mut self.held, Held::Nothing) {
            kept.keeping.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Whether what is held is whole.
    fn is_whole(&self) -> bool {
        matches!(self.held, Held::Whole(_))
    }

    /// What is whole is held no more.
    fn done_with_whole(&mut self) {
        if let Held::Whole(bytes) = self.held {
            self.held = Held::Nothing;
            self.all.state().whole -= bytes;
        }
    }

    /// Nothing is held any more.
    fn done(&mut self) {
        self.whole();
        self.done_with_whole();
    }

    /// Ready when the rest of a message is waited for no longer; with why.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if let Held::Part(number) = self.held {
            match self.all.state().begun.get_mut(&number) {
                Some(part) => part.waker = Some(cx.waker().clone()),
                None => return Poll::Ready(given_way()),
            }
        }
        let time = self.all.time;
        let clock = self
            .clock
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        clock.poll_unpin(cx).map(|()| out_of_time(time))
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.done();
    }
}

fn given_way() -> Status {
    refused(Refusal::TooManyRequests)
}

fn out_of_time(time: Duration) -> Status {
    let seconds = time.as_secs();
    Status::deadline_exceeded(format!(
        "raftmachine: the request did not come whole within {seconds} s"
    ))
}
