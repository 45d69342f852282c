//! The body of a request, and what of it must be held because it is not whole.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::{Arrival, Kept};
use crate::calls::Received;
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

    /// Lets it find room, if it is small, however much is held.
    pub(crate) fn always(mut self, always: bool) -> Arriving {
        self.arrival.always = always;
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
            Poll::Pending
        })
        .await
    }

    /// Why the rest is waited for no longer, if so.
    pub(crate) fn refusal(&self) -> Option<Status> {
        self.refusal.clone()
    }

    /// Something is whole, and what has come counts for as long as that is kept.
    pub(crate) fn whole(&mut self) -> Kept {
        let kept = self.arrival.all.keep();
        self.arrival.hand_to(&kept);
        kept
    }

    /// So many bytes are held, of what is not whole.
    ///
    /// # Errors
    /// The rest is waited for no longer.
    pub(crate) fn holds(&mut self, bytes: usize) -> Result<(), Status> {
        self.bytes = bytes;
        if bytes == 0 {
            self.arrival.done();
            return Ok(());
        }
        let held = self.arrival.part(bytes);
        self.noting(held)
    }

    /// So many bytes are held, and with them something is whole.
    fn holds_whole(&mut self, bytes: usize) -> Result<(), Status> {
        let held = self.arrival.whole_with(bytes);
        self.noting(held)
    }

    fn noting(&mut self, held: Result<(), Status>) -> Result<(), Status> {
        self.refusal = held.clone().err();
        held
    }

    fn take(&mut self, data: &[u8]) -> Result<(), Status> {
        let bytes = self.bytes + data.len();
        match self.shape {
            Shape::One if self.body.is_end_stream() => {
                self.holds_whole(bytes)?;
                self.end();
                Ok(())
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
        if self.shape == Shape::Messages && self.arrival.is_whole() {
            return self.holds(self.bytes);
        }
        Ok(())
    }

    /// No more comes.
    fn end(&mut self) {
        match (self.shape, &self.kept) {
            (Shape::One, Some(kept)) => self.arrival.hand_to(kept),
            (Shape::One | Shape::Messages, _) => self.arrival.done(),
            (Shape::Other, _) => self.arrival.whole(),
        }
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
            let over = ready!(self.arrival.poll_over(cx));
            self.refusal = Some(over.clone());
            return Poll::Ready(Err(over));
        }
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.take(data)?;
                }
            }
            Poll::Ready(_) => self.end(),
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

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::channel::mpsc::{UnboundedSender, unbounded};
    use http_body_util::{BodyExt, Full, StreamBody};
    use tokio::sync::oneshot;
    use tonic::Code;

    use super::super::{Arrivals, SMALL_BYTES};
    use super::*;

    const SHORT: std::time::Duration = std::time::Duration::from_millis(20);
    const LONG: std::time::Duration = std::time::Duration::from_secs(600);

    type Client = UnboundedSender<Result<Frame<Bytes>, Status>>;

    /// A request, and the client that sends it.
    fn request(arrivals: &std::sync::Arc<Arrivals>, shape: Shape) -> (Arriving, Client) {
        let (client, frames) = unbounded();
        let body = Body::new(StreamBody::new(frames));
        (arrivals.count(body, shape), client)
    }

    fn send(client: &Client, bytes: &[u8]) {
        let frame = Frame::data(Bytes::copy_from_slice(bytes));
        client.unbounded_send(Ok(frame)).expect("it is taken");
    }

    /// How many bytes the next frame has, or why there is none.
    async fn next(body: &mut Arriving) -> Result<Option<usize>, Code> {
        let frame = body.frame().await.transpose();
        let frame = frame.map_err(|status| status.code())?;
        Ok(frame.and_then(|frame| Some(frame.into_data().ok()?.len())))
    }

    fn message(bytes: usize) -> Vec<u8> {
        let length = u32::try_from(bytes).expect("it is short").to_be_bytes();
        [&[0], &length[..], &vec![7; bytes]].concat()
    }

    #[tokio::test]
    async fn where_too_much_has_come_the_request_that_began_first_gives_way() {
        let arrivals = Arrivals::within(10, LONG);
        let (mut first, to_first) = request(&arrivals, Shape::One);
        let (mut second, to_second) = request(&arrivals, Shape::One);
        let (mut third, to_third) = request(&arrivals, Shape::One);
        for (body, client) in [(&mut first, &to_first), (&mut second, &to_second)] {
            send(client, &[0; 4]);
            assert_eq!(next(body).await, Ok(Some(4)));
        }
        assert_eq!((arrivals.arriving(), arrivals.given_up()), (8, 0));
        // It hears of it though nothing comes for it.
        let waits = tokio::spawn(async move { next(&mut first).await });
        tokio::task::yield_now().await;
        send(&to_third, &[0; 4]);
        assert_eq!(next(&mut third).await, Ok(Some(4)));
        let gave_way = waits.await.expect("it never panics");
        assert_eq!(gave_way, Err(Code::ResourceExhausted));
        assert_eq!((arrivals.arriving(), arrivals.given_up()), (8, 1));
        // One that gave way before it heard of it.
        send(&to_third, &[0; 4]);
        assert_eq!(next(&mut third).await, Ok(Some(4)));
        send(&to_second, &[0; 1]);
        assert_eq!(next(&mut second).await, Err(Code::ResourceExhausted));
        assert_eq!((arrivals.arriving(), arrivals.given_up()), (8, 2));
        to_third.close_channel();
        assert_eq!(next(&mut third).await, Ok(None));
        assert_eq!(arrivals.arriving(), 0, "done with");
        drop((second, third));
        assert_eq!((arrivals.arriving(), arrivals.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn what_is_whole_counts_until_nobody_keeps_it_and_gives_way_no_more() {
        let arrivals = Arrivals::within(10, LONG);
        for in_one_frame in [true, false] {
            let kept = arrivals.keep();
            let (whole, client) = request(&arrivals, Shape::One);
            let mut whole = whole.kept_by(Some(kept.clone()));
            if in_one_frame {
                whole.body = Body::new(Full::new(Bytes::from_static(&[0; 8])));
            } else {
                send(&client, &[0; 8]);
                client.close_channel();
            }
            assert_eq!(next(&mut whole).await, Ok(Some(8)));
            assert_eq!(next(&mut whole).await, Ok(None));
            drop(whole);
            assert_eq!((arrivals.arriving(), arrivals.waiting()), (0, 8));
            let (mut other, client) = request(&arrivals, Shape::One);
            send(&client, &[0; 4]);
            assert_eq!(next(&mut other).await, Err(Code::ResourceExhausted));
            let goes_on = kept.clone();
            drop(kept);
            assert_eq!((arrivals.arriving(), arrivals.waiting()), (0, 8));
            drop(goes_on);
            assert_eq!((arrivals.arriving(), arrivals.waiting()), (0, 0));
        }
    }

    #[tokio::test]
    async fn small_requests_find_room_where_large_ones_wait() {
        let bytes_max = 8 * SMALL_BYTES;
        let arrivals = Arrivals::within(bytes_max, LONG);
        let kept = arrivals.keep();
        let one = |bytes: usize| {
            let body = Body::new(Full::new(Bytes::from(vec![0; bytes])));
            let arriving = arrivals.count(body, Shape::One);
            arriving.kept_by(Some(kept.clone()))
        };
        assert_eq!(next(&mut one(bytes_max)).await, Ok(Some(bytes_max)));
        for (bytes, expected) in [
            (SMALL_BYTES + 1, Err(Code::ResourceExhausted)),
            (SMALL_BYTES - 1, Ok(Some(SMALL_BYTES - 1))),
            (2, Err(Code::ResourceExhausted)),
            (1, Ok(Some(1))),
            (1, Err(Code::ResourceExhausted)),
        ] {
            assert_eq!(next(&mut one(bytes)).await, expected, "{bytes}");
        }
        assert_eq!(arrivals.waiting(), bytes_max + SMALL_BYTES);
        let mut operators = one(SMALL_BYTES).always(true);
        assert_eq!(next(&mut operators).await, Ok(Some(SMALL_BYTES)));
        let mut large = one(SMALL_BYTES + 1).always(true);
        assert_eq!(next(&mut large).await, Err(Code::ResourceExhausted));
        let (in_parts, client) = request(&arrivals, Shape::One);
        let mut in_parts = in_parts.always(true);
        send(&client, &[0; 8]);
        assert_eq!(next(&mut in_parts).await, Ok(Some(8)));
        client.close_channel();
        assert_eq!(next(&mut in_parts).await, Ok(None));
    }

    #[tokio::test]
    async fn what_stays_leaves_room_for_what_does_not() {
        let arrivals = Arrivals::within(8 * SMALL_BYTES, LONG);
        let stay = async |bytes: usize| {
            let kept = arrivals.keep();
            let body = Body::new(Full::new(Bytes::from(vec![0; bytes])));
            let mut one = arrivals.count(body, Shape::One).kept_by(Some(kept.clone()));
            next(&mut one).await.expect("there is room");
            kept.stay()
        };
        let first = stay(2 * SMALL_BYTES).await.expect("there is room");
        assert!(stay(1).await.is_err());
        drop(first);
        let one_that_is_larger = stay(3 * SMALL_BYTES).await;
        assert!(one_that_is_larger.is_ok(), "while nobody else stays");
        assert!(stay(1).await.is_err());
        drop(one_that_is_larger);
        let many = [stay(SMALL_BYTES).await, stay(SMALL_BYTES).await];
        assert!(many.iter().all(Result::is_ok));
        assert_eq!(arrivals.waiting(), 0);
    }

    #[tokio::test]
    async fn a_single_message_is_taken_while_something_else_is_waited_for() {
        let arrivals = Arrivals::within(100, LONG);
        let (body, client) = request(&arrivals, Shape::One);
        let kept = arrivals.keep();
        let mut body = body.kept_by(Some(kept.clone()));
        let (done, waits) = oneshot::channel();
        let waits = body.while_waiting_for(100, waits);
        let mut waits = Box::pin(waits);
        for sent in [40, 30] {
            send(&client, &vec![0; sent]);
            assert!(waits.as_mut().now_or_never().is_none());
        }
        assert_eq!((arrivals.arriving(), arrivals.waiting()), (70, 0));
        client.close_channel();
        assert!(waits.as_mut().now_or_never().is_none());
        assert_eq!((arrivals.arriving(), arrivals.waiting()), (0, 70));
        done.send(7).expect("it is waited for");
        assert_eq!(waits.await.expect("it has room"), Ok(7));
        assert!(!body.is_end_stream());
        for expected in [Some(40), Some(30), None] {
            assert_eq!(next(&mut body).await, Ok(expected));
        }
        drop((body, kept));
        assert_eq!(arrivals.waiting(), 0);
    }

    #[tokio::test]
    async fn of_a_message_that_is_too_large_no_more_is_taken_than_shows_that() {
        let arrivals = Arrivals::within(100, LONG);
        let (mut body, client) = request(&arrivals, Shape::One);
        for sent in [40, 30, 20] {
            send(&client, &vec![0; sent]);
        }
        let waits = body.while_waiting_for(50, std::future::pending::<()>());
        assert!(waits.now_or_never().is_none());
        assert_eq!(arrivals.arriving(), 70);
        for expected in [40, 30, 20] {
            assert_eq!(next(&mut body).await, Ok(Some(expected)));
        }
    }

    #[tokio::test]
    async fn a_message_that_gives_way_ends_the_wait_for_something_else() {
        let arrivals = Arrivals::within(10, LONG);
        let (mut body, client) = request(&arrivals, Shape::One);
        send(&client, &[0; 12]);
        let waits = body
            .while_waiting_for(100, std::future::pending::<()>())
            .await;
        let code = waits.map_err(|status| status.code());
        assert_eq!(code, Err(Code::ResourceExhausted));
    }

    #[tokio::test]
    async fn a_request_that_does_not_come_whole_in_time_is_waited_for_no_longer() {
        let arrivals = Arrivals::within(100, SHORT);
        let (mut silent, _client) = request(&arrivals, Shape::One);
        assert_eq!(next(&mut silent).await, Err(Code::DeadlineExceeded));
        for shape in [Shape::One, Shape::Messages, Shape::Other] {
            let (mut broken, client) = request(&arrivals, shape);
            send(&client, &message(9)[..7]);
            assert_eq!(next(&mut broken).await, Ok(Some(7)));
            assert_eq!(next(&mut broken).await, Err(Code::DeadlineExceeded));
            let refusal = broken.refusal().map(|status| status.code());
            assert_eq!(refusal, Some(Code::DeadlineExceeded), "{shape:?}");
        }
    }

    #[tokio::test]
    async fn a_stream_whose_messages_are_whole_may_be_silent() {
        let arrivals = Arrivals::within(100, SHORT);
        let (mut body, client) = request(&arrivals, Shape::Messages);
        let messages = [message(9), message(9)].concat();
        for (piece, held) in [(&messages[..20], 20), (&messages[20..], 14)] {
            send(&client, piece);
            next(&mut body).await.expect("it has come");
            assert_eq!((arrivals.arriving(), arrivals.waiting()), (0, held));
        }
        let more = tokio::time::timeout(3 * SHORT, next(&mut body)).await;
        assert!(more.is_err(), "it still waits");
        assert_eq!(arrivals.waiting(), 0, "more is asked for");
    }

    #[tokio::test]
    async fn the_time_of_a_message_begins_when_the_one_before_is_whole() {
        let arrivals = Arrivals::within(98, LONG);
        let (mut body, client) = request(&arrivals, Shape::Messages);
        let (mut other, to_other) = request(&arrivals, Shape::Messages);
        let messages = [message(9), message(15)].concat();
        send(&client, &messages[..10]);
        next(&mut body).await.expect("it has come");
        send(&to_other, &message(50)[..40]);
        next(&mut other).await.expect("it has come");
        // Its second message has begun after the other's.
        send(&client, &messages[10..]);
        next(&mut body).await.expect("it has come");
        send(&client, &message(75)[..70]);
        assert_eq!(next(&mut body).await, Ok(Some(70)));
        send(&to_other, &[0]);
        assert_eq!(next(&mut other).await, Err(Code::ResourceExhausted));
        assert_eq!(arrivals.arriving(), 70);
    }
}
