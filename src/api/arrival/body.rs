//! The body of a request, and what of it must be held because it is not whole.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::Arrival;
use crate::calls::Received;
use crate::cut::Cut;

/// What a request is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One message, of which nothing is taken before the request has ended. It is done with as soon as it is whole.
    One,
    /// The same, and it is held as long as this body.
    OneHeld,
    /// Messages of gRPC, each taken and done with when it is whole.
    Messages,
    /// Something else. Whoever takes it says what is done with.
    Other,
}

/// The body of a request that is counted as it comes.
#[derive(Debug)]
pub(crate) struct Arriving {
    body: Body,
    shape: Shape,
    /// What has come of what is not whole.
    bytes: usize,
    cut: Cut,
    /// Where the messages are counted, if there may be many.
    received: Option<Received>,
    arrival: Arrival,
    refusal: Option<Status>,
}

impl Arriving {
    pub(super) fn new(body: Body, shape: Shape, arrival: Arrival) -> Arriving {
        Arriving {
            body,
            shape,
            bytes: 0,
            cut: Cut::default(),
            received: None,
            arrival,
            refusal: None,
        }
    }

    /// Has its messages counted.
    pub(crate) fn counted_by(self, received: Option<Received>) -> Arriving {
        Arriving { received, ..self }
    }

    /// Why the rest is waited for no longer, if so.
    pub(crate) fn refusal(&self) -> Option<Status> {
        self.refusal.clone()
    }

    /// Something is whole, and what has come counts until it is told what is held.
    pub(crate) fn whole(&mut self) {
        self.arrival.whole();
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
        self.refusal = held.clone().err();
        held
    }

    fn take(&mut self, data: &[u8]) -> Result<(), Status> {
        match self.shape {
            Shape::One if self.body.is_end_stream() => self.holds(0),
            Shape::One | Shape::OneHeld | Shape::Other => self.holds(self.bytes + data.len()),
            Shape::Messages => {
                let (ended, bytes) = self.cut.take(data);
                if ended > 0 {
                    self.arrival.done();
                }
                if let Some(received) = &self.received {
                    received.count(ended);
                }
                self.holds(bytes)
            }
        }
    }

    /// No more comes.
    fn end(&mut self) {
        match self.shape {
            Shape::One | Shape::Messages => self.arrival.done(),
            Shape::OneHeld | Shape::Other => self.arrival.whole(),
        }
    }

    /// Whether something is not whole, and more is to come.
    fn is_awaited(&self) -> bool {
        match self.shape {
            Shape::One | Shape::OneHeld => !self.body.is_end_stream(),
            Shape::Messages | Shape::Other => self.bytes > 0,
        }
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending() && self.is_awaited() {
            let over = ready!(self.arrival.poll_over(cx));
            self.refusal = Some(over.clone());
            return Poll::Ready(Some(Err(over)));
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
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc::{UnboundedSender, unbounded};
    use http_body_util::{BodyExt, StreamBody};
    use tonic::Code;

    use super::super::Arrivals;
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
        assert_eq!((arrivals.bytes(), arrivals.given_up()), (8, 0));
        // It hears of it though nothing comes for it.
        let waits = tokio::spawn(async move { next(&mut first).await });
        tokio::task::yield_now().await;
        send(&to_third, &[0; 4]);
        assert_eq!(next(&mut third).await, Ok(Some(4)));
        let gave_way = waits.await.expect("it never panics");
        assert_eq!(gave_way, Err(Code::ResourceExhausted));
        assert_eq!((arrivals.bytes(), arrivals.given_up()), (8, 1));
        // One that gave way before it heard of it.
        send(&to_third, &[0; 4]);
        assert_eq!(next(&mut third).await, Ok(Some(4)));
        send(&to_second, &[0; 1]);
        assert_eq!(next(&mut second).await, Err(Code::ResourceExhausted));
        assert_eq!((arrivals.bytes(), arrivals.given_up()), (8, 2));
        to_third.close_channel();
        assert_eq!(next(&mut third).await, Ok(None));
        assert_eq!(arrivals.bytes(), 0, "done with");
        drop((second, third));
        assert_eq!(arrivals.bytes(), 0);
    }

    #[tokio::test]
    async fn what_is_whole_is_held_and_gives_way_no_more() {
        let arrivals = Arrivals::within(10, LONG);
        let (mut whole, client) = request(&arrivals, Shape::OneHeld);
        send(&client, &[0; 8]);
        client.close_channel();
        assert_eq!(next(&mut whole).await, Ok(Some(8)));
        assert_eq!(next(&mut whole).await, Ok(None));
        let (mut other, client) = request(&arrivals, Shape::One);
        send(&client, &[0; 4]);
        assert_eq!(next(&mut other).await, Err(Code::ResourceExhausted));
        assert_eq!(arrivals.bytes(), 8);
        drop(whole);
        assert_eq!(arrivals.bytes(), 0);
    }

    #[tokio::test]
    async fn a_request_that_does_not_come_whole_in_time_is_waited_for_no_longer() {
        let arrivals = Arrivals::within(100, SHORT);
        for shape in [Shape::One, Shape::OneHeld] {
            let (mut silent, _client) = request(&arrivals, shape);
            assert_eq!(next(&mut silent).await, Err(Code::DeadlineExceeded));
        }
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
        for piece in [&messages[..20], &messages[20..]] {
            send(&client, piece);
            next(&mut body).await.expect("it has come");
        }
        assert_eq!(arrivals.bytes(), 0, "done with");
        let more = tokio::time::timeout(3 * SHORT, next(&mut body)).await;
        assert!(more.is_err(), "it still waits");
    }

    #[tokio::test]
    async fn the_time_of_a_message_begins_when_the_one_before_is_whole() {
        let arrivals = Arrivals::within(100, LONG);
        let (mut body, client) = request(&arrivals, Shape::Messages);
        let (mut other, to_other) = request(&arrivals, Shape::Messages);
        let messages = [message(9), message(75)].concat();
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
        assert_eq!(arrivals.bytes(), 70);
    }
}
