//! Replies of no small size on their way to clients. They hold their share of `limits.replies_bytes_max` until they have left the machine,
//! or their client is gone, or has not taken them in time.
//!
//! tonic encodes a message at once, hands all of it over, and forgets about it. So a service answers with an [`Outgoing`] beside an empty
//! message, and [`send`] puts that in its place: encoded bit by bit, as the client takes it. The messages of a stream, [`OnTheWay`], are
//! encoded by tonic, and their bytes own what they hold.

mod body;
mod message;
mod pace;
mod told;
mod way;

use std::sync::{Arc, Mutex, PoisonError};

use http::Response;
use rm_actors::port::ReplyRoom;
use tonic::body::Body;

use crate::connection::Cutoff;

use self::body::{Ending, ReplyBody};
pub(crate) use self::message::Message;
pub(crate) use self::pace::Pace;
pub(crate) use self::told::Told;
pub(crate) use self::way::{Held, OnTheWay, Pieces};

/// How many times the memory of a reply is needed for what is to be made of it. It travels with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyWeight(pub(crate) usize);

/// A message that is to be sent, and the memory that it takes.
#[derive(Clone)]
pub(crate) struct Outgoing(Arc<Mutex<Option<(Message, ReplyRoom)>>>);

impl Outgoing {
    /// What a service answers with this message.
    pub(crate) fn response<T: Default>(message: Message, room: ReplyRoom) -> tonic::Response<T> {
        let mut response = tonic::Response::new(T::default());
        let outgoing = Outgoing(Arc::new(Mutex::new(Some((message, room)))));
        response.extensions_mut().insert(outgoing);
        response
    }

    /// Takes the message out of a response, if there is one.
    pub(crate) fn take(response: &mut Response<Body>) -> Option<(Message, ReplyRoom)> {
        let outgoing = response.extensions_mut().remove::<Outgoing>()?;
        outgoing
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// The response with the message that goes out with it, in the frame of gRPC and with its status behind it, or with what its messages hold.
pub(crate) fn send(
    mut response: Response<Body>,
    pace: &Arc<Pace>,
    cut: Option<Cutoff>,
) -> Response<Body> {
    if let Some((message, room)) = Outgoing::take(&mut response) {
        let body = ReplyBody::new(message.framed(), room, Ending::Status, pace, cut);
        return response.map(|_| Body::new(body));
    }
    match OnTheWay::take(&mut response) {
        Some(way) => response.map(|body| way.along(body)),
        None => response,
    }
}

/// A body of bytes that are there already.
pub(crate) fn plain(
    bytes: Vec<u8>,
    room: ReplyRoom,
    pace: &Arc<Pace>,
    cut: Option<Cutoff>,
) -> Body {
    let message = Message::encoded(bytes.into());
    Body::new(ReplyBody::new(message, room, Ending::None, pace, cut))
}
