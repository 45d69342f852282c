//! The body of a request, and what of it must be held because it is not whole.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::begun::GaveWay;
use super::{Arrival, Kept};
use crate::calls::Received;
use crate::connection::Cutoff;
use crate::cut::Cut;

/// What a request is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One message, of which nothing is taken before the request has ended. When it is whole it is held by whoever keeps it, or done with.
    One,
    /// Messages of gRPC, each taken when it is whole, and done with when the next is asked for.
    Messages,
    /// Something else. Whoever takes it says what is done with.
    Other,
}

/// The body of a request that is counted as it comes.
#[derive(Debug)]
pub(crate) struct Arriving {
    body: Body,
    shape: Shape,
    /// What has come before anybody asked for it.
    early: VecDeque<Frame<Bytes>>,
    /// What has come of what is not whole.
    bytes: usize,
    cut: Cut,
    /// Where the messages are counted, if there may be many.
    received: Option<Received>,
    arrival: Arrival,
    /// Who keeps a message that is whole.
    kept: Option<Kept>,
    refusal: Option<Status>,
}

impl Arriving {
    pub(super) fn new(body: Body, shape: Shape, arrival: Arrival) -> Arriving {
        Arriving {
            body,
            shape,
            early: VecDeque::new(),
            bytes: 0,
            cut: Cut::default(),
            received: None,
            arrival,
            kept: None,
            refusal: None,
        }
    }

    /// Has its messages counted.
    pub(crate) fn counted_by(self, received: Option<Received>) -> Arriving {
        Arriving { received, ..self }
    }

    /// Has its only message counted for as long as it is kept.
    pub(crate) fn kept_by(self, kept: Option<Kept>) -> Arriving {
        Arriving { kept, ..self }
    }

    /// Has the connection cut that it comes on, where what has given way is not let go.
    pub(crate) fn on(mut self, connection: Option<Cutoff>) -> Arriving {
        self.arrival.connection = connection;
        self
    }

    /// Lets it find room in a share of their own, if it is small.
    pub(crate) fn for_operators(mut self, for_operators: bool) -> Arriving {
        self.arrival.for_operators = for_operators;
        self
    }

    /// Waits for something, and takes meanwhile what comes of a single message: what nobody takes waits below, where only the windows of
    /// each connection bound it. No more is taken of one that is larger than a message may be, which is refused when it is read.
    ///
    /// # Errors
    /// The rest of the message is waited for no longer.
    pub(crate) async fn while_waiting_for<T>(
        &mut self,
        message_bytes_max: usize,
        other: impl Future<Output = T>,
    ) -> Result<T, Status> {
        let mut other = pin!(other);
        let mut is_open = self.shape == Shape::One;
        poll_fn(|cx| {
            if let Poll::Ready(done) = other.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            while is_open && self.bytes <= message_bytes_max {
                match ready!(self.poll_next(cx)?) {
                    Some(frame) => self.early.push_back(frame),
                    None => is_open = false,
                }
            }
            match is_open {
                true => self.poll_over(cx).map(Err),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// Why the rest is waited for no longer, if so.
    pub(crate) fn refusal(&self) -> Option<Status> {
        self.refusal.clone()
    }

    /// Something is whole, and what has come counts for as long as that is kept.
    ///
    /// # Errors
    /// It had to give way before.
    pub(crate) fn whole(&mut self) -> Result<Kept, Status> {
        let kept = self.arrival.all.keep();
        let held = self.arrival.hand_to(&kept);
        self.noting(held)?;
        Ok(kept)
    }

    /// So many bytes are held, of what is not whole.
    ///
    /// # Errors
    /// The rest is waited for no longer.
    pub(crate) fn holds(&mut self, bytes: usize) -> Result<(), Status> {
        self.bytes = bytes;
        let held = match bytes {
            0 => self.arrival.release(),
            bytes => self.arrival.hold_part(bytes),
        };
        self.noting(held)
    }

    /// So many bytes are held, and with them something is whole.
    fn holds_whole(&mut self, bytes: usize) -> Result<(), Status> {
        let held = self.arrival.hold_whole(bytes);
        self.noting(held)
    }

    fn noting(&mut self, held: Result<(), GaveWay>) -> Result<(), Status> {
        let held = held.map_err(Status::from);
        self.refusal = held.clone().err();
        held
    }

    /// Ready when the rest is waited for no longer; with why.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let over = ready!(self.arrival.poll_over(cx));
        self.refusal = Some(over.clone());
        Poll::Ready(over)
    }

    fn take(&mut self, data: &[u8]) -> Result<(), Status> {
        let bytes = self.bytes + data.len();
        match self.shape {
            Shape::One if self.body.is_end_stream() => {
                self.holds_whole(bytes)?;
                self.end()
            }
            Shape::One | Shape::Other => self.holds(bytes),
            Shape::Messages => {
                let (ended, begun) = self.cut.take(data);
                if let Some(received) = &self.received {
                    received.count(ended);
                }
                if ended == 0 {
                    return self.holds(begun);
                }
                self.bytes = begun;
                self.holds_whole(bytes)
            }
        }
    }

    /// More is asked for, so that all messages that were whole are done with.
    fn is_asked_for_more(&mut self) -> Result<(), Status> {
        if self.shape == Shape::Messages && self.arrival.holds_whole() {
            return self.holds(self.bytes);
        }
        Ok(())
    }

    /// No more comes.
    ///
    /// # Errors
    /// What has come had to give way before.
    fn end(&mut self) -> Result<(), Status> {
        let held = match (self.shape, &self.kept) {
            (Shape::One, Some(kept)) => self.arrival.hand_to(kept),
            (Shape::Other, _) => self.arrival.become_whole(),
            (Shape::One | Shape::Messages, _) => self.arrival.release(),
        };
        self.noting(held)
    }

    /// Whether something is not whole, and more is to come.
    fn is_awaited(&self) -> bool {
        match self.shape {
            Shape::One => !self.body.is_end_stream(),
            Shape::Messages | Shape::Other => self.bytes > 0,
        }
    }

    /// What comes next, or that nothing does.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Status>> {
        self.is_asked_for_more()?;
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending() && self.is_awaited() {
            return self.poll_over(cx).map(Err);
        }
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.take(data)?;
                }
            }
            Poll::Ready(_) => self.end()?,
            Poll::Pending => {}
        }
        polled.map(Option::transpose)
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(frame) = self.early.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        self.poll_next(cx).map(Result::transpose)
    }

    fn is_end_stream(&self) -> bool {
        self.early.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.early.is_empty() {
            true => self.body.size_hint(),
            false => SizeHint::default(),
        }
    }
}
