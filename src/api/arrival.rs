//! Requests that come in parts: how much of them a machine holds until they are whole, and how long it waits for the rest.
//!
//! HTTP/2's windows bound neither. A client gets leave for more bytes as soon as a frame is handed on, and whoever makes a message of the
//! frames holds them until the last has come. So what has come of a message that is not whole is counted here, over all connections. Where
//! it becomes too much, the message that began first gives way: one that is sent without a pause is whole long before that, and whoever
//! sends slowly, or stops in the middle, holds up nobody.

mod body;

use std::collections::BTreeMap;
use std::pin::Pin;
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

/// What has come of all messages that are not whole.
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
    /// How much is held, of those that are whole and not done with, too.
    bytes: usize,
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
            clock: None,
        };
        Arriving::new(body, shape, arrival)
    }

    /// How much is held.
    pub(crate) fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// How many messages had to give way.
    pub(crate) fn given_up(&self) -> u64 {
        self.state().given_up
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Has those give way that began first, until no more is held than there may be.
    fn make_room(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max
            && let Some((_, part)) = self.begun.pop_first()
        {
            self.bytes -= part.bytes;
            self.given_up += 1;
            if let Some(waker) = part.waker {
                waker.wake();
            }
        }
    }
}

/// What is held of one request.
#[derive(Debug)]
struct Arrival {
    all: Arc<Arrivals>,
    held: Held,
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
        if matches!(self.held, Held::Whole(_)) {
            self.done();
        }
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
            state.bytes = state.bytes - before + bytes;
            state.make_room(all.bytes_max);
        }
        match state.begun.contains_key(&number) {
            true => Ok(()),
            false => Err(given_way()),
        }
    }

    /// The message is whole, and held on to.
    fn whole(&mut self) {
        self.clock = None;
        if let Held::Part(number) = self.held {
            let part = self.all.state().begun.remove(&number);
            self.held = part.map_or(Held::Nothing, |part| Held::Whole(part.bytes));
        }
    }

    /// Nothing is held any more.
    fn done(&mut self) {
        self.whole();
        if let Held::Whole(bytes) = std::mem::replace(&mut self.held, Held::Nothing) {
            self.all.state().bytes -= bytes;
        }
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
