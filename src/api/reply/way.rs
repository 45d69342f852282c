//! What the messages of a stream hold until they have left the machine.
//!
//! That a stream is asked for its next message does not say that the last one has left: tonic gathers small ones, and HTTP takes a whole
//! piece as soon as the client lets one byte of it come. So the bytes themselves own what their messages hold.
//!
//! That is not enough for HTTP/1, where hyper copies bytes before it sends them. It asks for no more while it has 408 KiB of copies, so there
//! the last message is held until the next one is asked for, too. What then is left of it counts no more.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::Response;
use http_body::Frame;
use rm_actors::port::{Counted, ReplyRoom};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxStream;

use super::message::PIECE_BYTES;
use super::pace::{PARTS, Ticket};

/// What a message holds.
#[derive(Default)]
pub(crate) struct Held {
    _room: ReplyRoom,
    ticket: Option<Arc<Ticket>>,
    _events: Option<Counted>,
}

impl Held {
    /// It counts as a reply, and is to be taken in time.
    pub(super) fn as_reply(room: ReplyRoom, ticket: Arc<Ticket>) -> Held {
        Held {
            _room: room,
            ticket: Some(ticket),
            _events: None,
        }
    }

    /// It counts as events that wait for a stream of watchers.
    pub(crate) fn as_events(counted: Counted) -> Held {
        Held {
            _events: Some(counted),
            ..Held::default()
        }
    }
}

/// What those messages of one stream hold that were asked for and are not among the bytes of its body yet, in their order.
#[derive(Clone, Default)]
pub(crate) struct OnTheWay(Arc<Mutex<VecDeque<Held>>>);

/// Bytes with what the messages in them hold. They are dropped when they have been sent, or when nobody is left to send them to.
struct Carried<H> {
    bytes: Bytes,
    _held: H,
}

impl<H> AsRef<[u8]> for Carried<H> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes in the parts in which a client may take them. The last one owns what the messages in them hold.
#[derive(Default)]
pub(crate) struct Pieces {
    bytes: Bytes,
    part_bytes: usize,
    /// None once the last part was handed over.
    held: Option<Arc<Vec<Held>>>,
}

/// A part that others follow. With it the time for the next one begins, when it has been sent.
struct Piece {
    bytes: Bytes,
    held: Arc<Vec<Held>>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        for ticket in self.held.iter().filter_map(|held| held.ticket.as_ref()) {
            ticket.renew();
        }
    }
}

impl Pieces {
    fn new(bytes: Bytes, held: Vec<Held>) -> Pieces {
        Pieces {
            part_bytes: bytes.len().div_ceil(PARTS).max(PIECE_BYTES),
            bytes,
            held: Some(Arc::new(held)),
        }
    }

    /// Of a message that holds nothing.
    pub(crate) fn free(bytes: Bytes) -> Pieces {
        Pieces::new(bytes, Vec::new())
    }

    /// What they hold, for whoever holds it, too.
    pub(crate) fn held(&self) -> Option<Arc<Vec<Held>>> {
        self.held.clone()
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let held = self.held.take()?;
        let fits = self.bytes.len().min(self.part_bytes);
        let bytes = self.bytes.split_to(fits);
        if self.bytes.is_empty() {
            return Some(carry(bytes, held));
        }
        self.held = Some(held.clone());
        Some(Bytes::from_owner(Piece { bytes, held }))
    }
}

/// A body whose bytes own what their messages hold.
struct Along {
    body: Body,
    way: OnTheWay,
    /// Those of the last frame that HTTP has not asked for yet.
    parts: Pieces,
}

impl http_body::Body for Along {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let along = &mut *self;
        if let Some(part) = along.parts.next() {
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        let frame = ready!(Pin::new(&mut along.body).poll_frame(cx));
        let Some(Ok(frame)) = frame else {
            return Poll::Ready(frame);
        };
        Poll::Ready(Some(Ok(frame.map_data(|bytes| {
            // tonic keeps nothing back when it hands bytes over: all that was asked for is in them.
            let held = along.way.held().drain(..).collect();
            along.parts = Pieces::new(bytes, held);
            along.parts.next().unwrap_or_default()
        }))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.held.is_none() && self.body.is_end_stream()
    }
}

impl OnTheWay {
    /// What a service answers with these messages. It goes beside them until [`OnTheWay::take`].
    pub(crate) fn response<M: 'static>(
        messages: impl Stream<Item = Result<(M, Held), Status>> + Send + 'static,
    ) -> tonic::Response<BoxStream<M>> {
        let way = OnTheWay::default();
        let asked_for = way.clone();
        let messages = messages.map(move |told| {
            told.map(|(message, held)| {
                asked_for.held().push_back(held);
                message
            })
        });
        let mut response = tonic::Response::new(Box::pin(messages) as BoxStream<M>);
        response.extensions_mut().insert(way);
        response
    }

    /// Takes it out of a response, if that is one of a stream whose messages hold something.
    pub(crate) fn take(response: &mut Response<Body>) -> Option<OnTheWay> {
        response.extensions_mut().remove()
    }

    /// The same body, whose bytes own what their messages hold.
    pub(super) fn along(self, body: Body) -> Body {
        Body::new(Along {
            body,
            way: self,
            parts: Pieces::default(),
        })
    }

    /// Has these bytes own what the next message holds, where they are made of that one alone.
    pub(crate) fn carry_next(&self, bytes: Bytes) -> Pieces {
        let held = self.held().pop_front();
        Pieces::new(bytes, held.into_iter().collect())
    }

    /// Nothing panics while it is locked.
    fn held(&self) -> MutexGuard<'_, VecDeque<Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn carry<H: Send + 'static>(bytes: Bytes, held: H) -> Bytes {
    Bytes::from_owner(Carried { bytes, _held: held })
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::super::pace::standing::{SECOND, STALL, pace, pass};
    use super::super::{Pace, send};
    use super::*;
    use crate::connection::Cutoff;

    /// Three messages, each of which is under way once it was asked for.
    fn response(pace: &Arc<Pace>) -> tonic::Response<BoxStream<u8>> {
        let pace = pace.clone();
        OnTheWay::response(stream::iter(0..3).map(move |message| {
            let ticket = pace.begin_told(None);
            Ok((message, Held::as_reply(ReplyRoom::default(), ticket)))
        }))
    }

    #[tokio::test]
    async fn messages_are_under_way_until_their_bytes_are_dropped() {
        let pace = pace();
        let (_, messages, extensions) = response(&pace).into_parts();
        // Two go together, as tonic gathers small ones.
        let frames = messages.chunks(2).map(|messages| {
            let bytes: Vec<u8> = messages.into_iter().map_while(Result::ok).collect();
            Ok::<_, Status>(Frame::data(Bytes::from(bytes)))
        });
        let mut response = Response::new(Body::new(StreamBody::new(frames)));
        *response.extensions_mut() = extensions;
        let mut body = send(response, &pace, None).into_body();
        let mut sent = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.expect("it goes well");
            sent.push(frame.into_data().expect("they are bytes"));
        }
        assert_eq!(sent, [&[0, 1][..], &[2]]);
        assert_eq!(pace.under_way(), 3, "nobody has taken any");
        sent.remove(0);
        assert_eq!(pace.under_way(), 1);
        drop(sent);
        assert_eq!(pace.under_way(), 0);
    }

    #[tokio::test]
    async fn of_messages_that_are_sent_one_by_one_each_is_under_way_for_itself() {
        let pace = pace();
        let (_, messages, mut extensions) = response(&pace).into_parts();
        let way: OnTheWay = extensions.remove().expect("it goes beside them");
        assert_eq!(messages.count().await, 3);
        let mut lines: Vec<Bytes> = (0..3)
            .map(|_| way.carry_next(Bytes::new()).next())
            .map(|line| line.expect("it has one part"))
            .collect();
        for left in [2, 1, 0] {
            lines.remove(0);
            assert_eq!(pace.under_way(), left);
        }
    }
    #[tokio::test]
    async fn whoever_takes_a_sixteenth_in_time_may_take_long_for_the_whole() {
        let (pace, cut) = (pace(), Cutoff::default());
        let ticket = pace.begin_told(Some(cut.clone()));
        let held = Held::as_reply(ReplyRoom::default(), ticket);
        let way = OnTheWay::default();
        way.held().push_back(held);
        let bytes = Bytes::from(vec![7; 2 * PARTS * PIECE_BYTES]);
        let frames = stream::iter([Ok::<_, Status>(Frame::data(bytes.clone()))]);
        let mut body = way.along(Body::new(StreamBody::new(frames)));
        let mut taken = Vec::new();
        for _ in 1..PARTS {
            let frame = body.frame().await.expect("more").expect("it goes well");
            let part = frame.into_data().expect("they are bytes");
            taken.extend_from_slice(&part);
            pass(STALL - SECOND);
            assert_eq!(pace.look(), (0, 0));
        }
        let frame = body.frame().await.expect("more").expect("it goes well");
        let last = frame.into_data().expect("they are bytes");
        taken.extend_from_slice(&last);
        assert_eq!(taken, bytes);
        assert!(body.frame().await.is_none());
        pass(STALL);
        assert_eq!(pace.look(), (0, 1), "nobody takes the last");
        drop(last);
        assert_eq!(pace.under_way(), 0);
    }
}
