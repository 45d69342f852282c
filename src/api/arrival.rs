//! The bytes of requests: how much of them a machine holds, how long it waits for the rest of one, and who gives way.
//!
//! HTTP/2's windows bound none of that. A client gets leave for more bytes as soon as a frame is handed on; whoever makes a message of the
//! frames holds them until the last has come, and then the message as long as it waits: for a leader, a place, a lock, a password's turn.
//! So what has come of all messages is counted here, over all connections, until they are answered. Where it becomes too much, the message
//! that began first and is not whole gives way: one that is sent without a pause is whole long before that, and whoever sends slowly, or
//! stops in the middle, holds up nobody. What is whole gives way no more: it may have been carried out. Where all that is held is whole,
//! whatever comes is refused.

mod begun;
mod body;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use rm_actors::port::Refusal;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

use self::begun::{Begun, GaveWay};
pub(crate) use self::body::{Arriving, Shape};
use crate::connection::Cutoff;
use crate::error::refused;

const TIMES: Times = Times {
    message: Duration::from_secs(30),
    leaving: Duration::from_secs(1),
};

/// Up to so many bytes a message is small.
const SMALL_BYTES: usize = 64 << 10;

/// One of so many parts of the room there is once more, for small messages alone: large ones that wait, as for a leader, or that come
/// without end, keep nobody from asking how the machine is.
const SMALL_SHARE: usize = 8;

/// One of so many parts of the room may be held by what stays for as long as others like: in line, or to observe. Small ones have their
/// share beside it.
const STAYING_SHARE: usize = 4;

/// Beyond one of so many parts of the room, what has given way and is still held is cut off with its connection; so is what is whole of
/// streams and has been held for as long as a message may take, where others find no room.
const STUCK_SHARE: usize = 4;

/// What is held of all messages.
#[derive(Debug)]
pub(crate) struct Arrivals {
    bytes_max: usize,
    times: Times,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct Times {
    /// How long a message may take to come. What comes more slowly holds memory for nothing.
    message: Duration,
    /// How long it takes at most until what has given way is let go, unless its client takes nothing on its connection.
    leaving: Duration,
}

#[derive(Debug, Default)]
struct State {
    /// What has come of those that may have to give way.
    begun: Begun,
    /// How much is held of those that are whole and not done with.
    whole_bytes: usize,
    /// How much of that stays for as long as others like.
    staying_bytes: usize,
    given_up: u64,
}

/// What a message may take: the room, and of the shares beside it its own and those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// No share.
    Large,
    /// That of small messages.
    Small,
    /// Those and that of small messages from whoever looks after the machine.
    Operators,
}

impl Arrivals {
    /// Room for so many bytes, in which the largest message must fit.
    pub(crate) fn new(bytes_max: usize) -> Arc<Arrivals> {
        Arrivals::within(bytes_max, TIMES)
    }

    fn within(bytes_max: usize, times: Times) -> Arc<Arrivals> {
        Arc::new(Arrivals {
            bytes_max,
            times,
            state: Mutex::default(),
        })
    }

    /// Counts what comes of a request.
    pub(crate) fn count(self: &Arc<Arrivals>, body: Body, shape: Shape) -> Arriving {
        let arrival = Arrival {
            all: self.clone(),
            held: Held::Nothing,
            is_of_stream: shape == Shape::Messages,
            for_operators: false,
            connection: None,
            resting: None,
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
        let state = self.state();
        state.begun.bytes() + state.begun.leaving_bytes()
    }

    /// How much is held of those that are.
    pub(crate) fn waiting(&self) -> usize {
        self.state().whole_bytes
    }

    /// How many messages had to give way, or found no room.
    pub(crate) fn given_up(&self) -> u64 {
        self.state().given_up
    }

    /// How much may be held with a message of that claim.
    fn bytes_max_with(&self, claim: Claim) -> usize {
        self.bytes_max.saturating_add(claim as usize * self.share())
    }

    /// Whether so many more bytes find room, beside what others have of their shares.
    fn fits(&self, state: &State, claim: Claim, more: usize) -> bool {
        let held = state.begun.bytes() + state.whole_bytes + more;
        held - state.begun.spared(claim, self.share()) <= self.bytes_max_with(claim)
    }

    /// Has those give way that began first, until no more is held than there may be with a message of which so much has come; or the
    /// message itself, where what is whole leaves it no room, or what gave way is not let go.
    fn make_room(&self, state: &mut State, number: u64, bytes: usize, claim: Claim) {
        // Whoever takes nothing on its connection does not hear that it has to let go.
        let stuck_max = self.bytes_max / STUCK_SHARE;
        state.begun.cut_leaving(stuck_max, self.times.leaving);
        let is_stuck = state.begun.leaving_bytes() > self.bytes_max;
        if is_stuck || state.whole_bytes + bytes > self.bytes_max_with(claim) {
            state.begun.cut_resting(stuck_max, self.times.message);
            state.begun.has_to_leave(number);
            state.given_up += 1;
            return;
        }
        while !self.fits(state, claim, 0) && state.begun.give_way(claim, self.share()) {
            state.given_up += 1;
        }
    }

    fn share(&self) -> usize {
        self.bytes_max / SMALL_SHARE
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let small_share = match bytes <= SMALL_BYTES {
            true => all.share(),
            false => 0,
        };
        let bytes_max = all.bytes_max / STAYING_SHARE + small_share;
        if state.staying_bytes > 0 && state.staying_bytes + bytes > bytes_max {
            return Err(Refusal::TooManyRequests);
        }
        state.staying_bytes += bytes;
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
        self.all.state().staying_bytes -= self.bytes;
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
            self.all.state().whole_bytes -= bytes;
        }
    }
}

/// What is held of one request.
#[derive(Debug)]
struct Arrival {
    all: Arc<Arrivals>,
    held: Held,
    /// Whether it is one of many.
    is_of_stream: bool,
    /// Whether whoever looks after the machine asks.
    for_operators: bool,
    /// What closes the connection that it comes on.
    connection: Option<Cutoff>,
    /// The number of what is whole of a stream.
    resting: Option<u64>,
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
    fn hold_part(&mut self, bytes: usize) -> Result<(), GaveWay> {
        self.release_whole();
        let all = self.all.clone();
        self.hold(&mut all.state(), bytes)
    }

    /// Holds so many bytes of a message that is whole with them.
    ///
    /// # Errors
    /// It had to give way.
    fn hold_whole(&mut self, bytes: usize) -> Result<(), GaveWay> {
        self.release_whole();
        let all = self.all.clone();
        let mut state = all.state();
        // Most messages come at once, and find room.
        if matches!(self.held, Held::Nothing) && all.fits(&state, self.claim(bytes), bytes) {
            self.rest(&mut state, bytes);
            return Ok(());
        }
        self.hold(&mut state, bytes)?;
        self.end(&mut state)
    }

    fn hold(&mut self, state: &mut State, bytes: usize) -> Result<(), GaveWay> {
        let number = match self.held {
            Held::Part(number) => number,
            Held::Nothing | Held::Whole(_) => state.begun.begin(self.connection.clone()),
        };
        self.held = Held::Part(number);
        let claim = self.claim(bytes);
        let held = state.begun.has_come(number, bytes, claim);
        if held.is_ok() {
            self.all.make_room(state, number, bytes, claim);
        }
        match state.begun.contains(number) {
            true => Ok(()),
            false => self.end(state),
        }
    }

    /// What a message may take of which so many bytes have come.
    fn claim(&self, bytes: usize) -> Claim {
        match (bytes <= SMALL_BYTES, self.for_operators) {
            (false, _) => Claim::Large,
            (true, false) => Claim::Small,
            (true, true) => Claim::Operators,
        }
    }

    /// The message is whole, and held on to.
    ///
    /// # Errors
    /// It had to give way.
    fn become_whole(&mut self) -> Result<(), GaveWay> {
        self.clock = None;
        let all = self.all.clone();
        self.end(&mut all.state())
    }

    fn end(&mut self, state: &mut State) -> Result<(), GaveWay> {
        if let Held::Part(number) = self.held {
            self.held = Held::Nothing;
            let bytes = state.begun.end(number)?;
            self.rest(state, bytes);
        }
        Ok(())
    }

    /// So much is whole, and gives way no more.
    fn rest(&mut self, state: &mut State, bytes: usize) {
        state.whole_bytes += bytes;
        self.held = Held::Whole(bytes);
        if self.is_of_stream {
            self.resting = Some(state.begun.rest(bytes, self.connection.clone()));
        }
    }

    /// The message is whole, and held on to by whoever keeps it.
    ///
    /// # Errors
    /// It had to give way.
    fn hand_to(&mut self, kept: &Kept) -> Result<(), GaveWay> {
        self.become_whole()?;
        if let Held::Whole(bytes) = std::mem::replace(&mut self.held, Held::Nothing) {
            kept.keeping.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether what is held is whole.
    fn holds_whole(&self) -> bool {
        matches!(self.held, Held::Whole(_))
    }

    /// What is whole is held no more.
    fn release_whole(&mut self) {
        if let Held::Whole(bytes) = self.held {
            self.held = Held::Nothing;
            let mut state = self.all.state();
            state.whole_bytes -= bytes;
            if let Some(number) = self.resting.take() {
                state.begun.done(number);
            }
        }
    }

    /// Nothing is held any more.
    ///
    /// # Errors
    /// It had to give way before.
    fn release(&mut self) -> Result<(), GaveWay> {
        self.become_whole()?;
        self.release_whole();
        Ok(())
    }

    /// Ready when the rest of a message is waited for no longer; with why.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if let Held::Part(number) = self.held {
            let mut state = self.all.state();
            if let Err(GaveWay) = state.begun.wait(number, cx.waker()) {
                drop(state);
                let _ = self.release();
                return Poll::Ready(GaveWay.into());
            }
        }
        let time = self.all.times.message;
        let clock = self
            .clock
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        clock.poll_unpin(cx).map(|()| out_of_time(time))
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let _ = self.release();
    }
}

impl From<GaveWay> for Status {
    fn from(_: GaveWay) -> Status {
        refused(Refusal::TooManyRequests)
    }
}

fn out_of_time(time: Duration) -> Status {
    let seconds = time.as_secs();
    Status::deadline_exceeded(format!(
        "raftmachine: the request did not come whole within {seconds} s"
    ))
}
