//! What the messages of a stream hold until they have left the machine.
//!
//! That a stream is asked for its next message does not say that the last one has left: tonic gathers small ones, and HTTP takes a whole
//! piece as soon as the client lets one byte of it come. So the bytes themselves own what their messages hold.
//!
//! That is not enough for HTTP/1, where hyper copies bytes before it sends them. It asks for no more while it has 408 KiB of copies, so there
//! the last message is held until the next one is asked for, too. What then is left of it counts no more.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::Response;
use http_body_util::BodyExt;
use rm_actors::port::{Counted, ReplyRoom};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxStream;

use super::pace::Ticket;

/// What a message holds.
#[derive(Default)]
pub(crate) struct Held {
    _room: ReplyRoom,
    _ticket: Option<Arc<Ticket>>,
    _events: Option<Counted>,
}

impl Held {
    /// It counts as a reply, and is to be taken in time.
    pub(super) fn as_reply(room: ReplyRoom, ticket: Arc<Ticket>) -> Held {
        Held {
            _room: room,
            _ticket: Some(ticket),
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
        Body::new(body.map_frame(move |frame| {
            // tonic keeps nothing back when it hands bytes over: all that was asked for is in them.
            let held: Vec<Held> = self.held().drain(..).collect();
            frame.map_data(|bytes| carry(bytes, held))
        }))
    }

    /// Has these bytes own what the next message holds, where they are made of that one alone. Others may hold it, too.
    pub(crate) fn carry_next(&self, bytes: Bytes) -> (Bytes, Option<Arc<Held>>) {
        let held = self.held().pop_front().map(Arc::new);
        (carry(bytes, held.clone()), held)
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
    use std::time::{Duration, Instant};

    use futures::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::super::{Pace, send};
    use super::*;

    fn pace() -> Arc<Pace> {
        Pace::new(Duration::from_secs(60), Instant::now)
    }

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
        let mut lines: Vec<Bytes> = (0..3).map(|_| way.carry_next(Bytes::new()).0).collect();
        for left in [2, 1, 0] {
            lines.remove(0);
            assert_eq!(pace.under_way(), left);
        }
    }
}
