//! The body of a reply: pieces that are encoded as HTTP asks for them, each with its share of the memory that the reply holds. What is encoded
//! already is in memory as a whole until the last of it has gone, and so goes all of its memory with the last piece.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use http::HeaderMap;
use http_body::Frame;
use rm_actors::port::ReplyRoom;
use tonic::Status;

use super::message::{Message, PIECE_BYTES};
use super::pace::{PARTS, Pace, Ticket};
use crate::connection::Cutoff;

/// What follows on the bytes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// That the call went well, as gRPC says it.
    Status,
    /// Nothing.
    None,
}

/// A reply on its way.
pub(super) struct ReplyBody {
    rest: Arc<Mutex<Option<Rest>>>,
    /// None once all of it was handed over.
    ticket: Option<Arc<Ticket>>,
    ending: Ending,
}

/// What HTTP has not asked for yet.
pub(super) struct Rest {
    message: Message,
    room: ReplyRoom,
    /// How much is left when the client has taken the next part.
    part_ends: usize,
    part_bytes: usize,
}

/// A piece that was handed to HTTP. It is dropped when it has been sent, or when nobody is left to send it to.
struct Piece {
    bytes: Bytes,
    _room: ReplyRoom,
    _ticket: Arc<Ticket>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl ReplyBody {
    pub(super) fn new(
        message: Message,
        room: ReplyRoom,
        ending: Ending,
        pace: &Arc<Pace>,
        cut: Option<Cutoff>,
    ) -> ReplyBody {
        let part_bytes = message.bytes().div_ceil(PARTS);
        let rest = Arc::new(Mutex::new(Some(Rest {
            part_ends: message.bytes().saturating_sub(part_bytes),
            part_bytes,
            message,
            room,
        })));
        let ticket = pace.begin(rest.clone(), cut);
        ReplyBody {
            rest,
            ticket: Some(ticket),
            ending,
        }
    }
}

/// What is left. Nothing panics while it is locked.
pub(super) fn lock(rest: &Mutex<Option<Rest>>) -> MutexGuard<'_, Option<Rest>> {
    rest.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rest {
    /// The next piece with the memory that goes with it, and whether a part ends with it.
    fn next(&mut self) -> (Bytes, ReplyRoom, bool) {
        let before = self.message.bytes();
        let is_encoded = self.message.is_encoded();
        let piece = self.message.next(PIECE_BYTES);
        let left = self.message.bytes();
        let room = if !is_encoded {
            let held = self.room.bytes() as u128;
            // It cannot overflow, and is no more than is held.
            let share = held * piece.len() as u128 / before.max(1) as u128;
            self.room.split(share as usize)
        } else if left > 0 {
            ReplyRoom::default()
        } else {
            std::mem::take(&mut self.room)
        };
        let part_is_over = left <= self.part_ends;
        if part_is_over {
            self.part_ends = left.saturating_sub(self.part_bytes);
        }
        (piece, room, part_is_over)
    }
}

impl http_body::Body for ReplyBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(ticket) = self.ticket.clone() else {
            return Poll::Ready(None);
        };
        let next = lock(&self.rest).as_mut().map(Rest::next);
        let Some((bytes, room, part_is_over)) = next else {
            self.ticket = None;
            return Poll::Ready(Some(Err(too_slow())));
        };
        if bytes.is_empty() {
            self.ticket = None;
            lock(&self.rest).take();
            return Poll::Ready(match self.ending {
                Ending::Status => Some(Ok(Frame::trailers(went_well()))),
                Ending::None => None,
            });
        }
        if part_is_over {
            ticket.renew();
        }
        let piece = Piece {
            bytes,
            _room: room,
            _ticket: ticket,
        };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }
}

fn went_well() -> HeaderMap {
    let ok = i32::from(tonic::Code::Ok);
    HeaderMap::from_iter([(Status::GRPC_STATUS, http::HeaderValue::from(ok))])
}

/// How the stream of a client ends that took too long. Its message is not whole, so that no status can follow: the reset says it,
/// which clients of gRPC take for ResourceExhausted (gRPC over HTTP/2, "Errors").
fn too_slow() -> Status {
    Status::from_error(Box::new(h2::Error::from(Reason::ENHANCE_YOUR_CALM)))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use http_body_util::BodyExt;
    use prost::Message as _;
    use rm_proto::{etcdserverpb as pb, mvccpb};

    use super::super::pace::standing::{SECOND, STALL, pace, pass};
    use super::*;

    const VALUE_BYTES: usize = 10_000;

    fn response(keys: usize) -> pb::RangeResponse {
        let kv = |_| mvccpb::KeyValue {
            value: vec![7; VALUE_BYTES].into(),
            ..Default::default()
        };
        pb::RangeResponse {
            kvs: (0..keys).map(kv).collect(),
            ..Default::default()
        }
    }

    fn body(keys: usize, pace: &Arc<Pace>, cut: Option<Cutoff>) -> ReplyBody {
        let message = Message::key_values(2, response(keys).kvs).framed();
        ReplyBody::new(message, ReplyRoom::default(), Ending::Status, pace, cut)
    }

    /// The next frame, which is there at once.
    fn next(body: &mut ReplyBody) -> Option<Result<Frame<Bytes>, Status>> {
        body.frame().now_or_never().expect("it never waits")
    }

    fn piece(body: &mut ReplyBody) -> Bytes {
        let frame = next(body).expect("there is more").expect("it goes on");
        frame.into_data().expect("it is no end")
    }

    #[test]
    fn a_reply_is_sent_in_pieces_with_its_status_behind_them() {
        let pace = pace();
        let mut body = body(100, &pace, None);
        let mut sent = Vec::new();
        let trailers = loop {
            let frame = next(&mut body).expect("a status").expect("it goes well");
            match frame.into_data() {
                Ok(piece) => {
                    assert!(piece.len() <= PIECE_BYTES + VALUE_BYTES + 8);
                    sent.extend_from_slice(&piece);
                }
                Err(end) => break end.into_trailers().expect("what is no data is trailers"),
            }
        };
        assert_eq!(sent[5..], response(100).encode_to_vec());
        let status = Status::from_header_map(&trailers).expect("it is a status");
        assert_eq!(status.code(), tonic::Code::Ok);
        assert!(next(&mut body).is_none());
        assert_eq!(pace.under_way(), 0, "and then it is forgotten");
    }

    #[test]
    fn whoever_takes_no_sixteenth_in_time_gets_no_more_and_is_cut_off_after_the_same_time_again() {
        let (pace, cut) = (pace(), Cutoff::default());
        let mut body = body(100, &pace, Some(cut.clone()));
        let taken = piece(&mut body);
        pass(STALL - SECOND);
        assert_eq!(pace.look(), (0, 0));
        pass(SECOND);
        assert_eq!(pace.look(), (1, 0));
        let end = next(&mut body).expect("the end").expect_err("it goes ill");
        assert_eq!(end.code(), tonic::Code::ResourceExhausted);
        assert!(next(&mut body).is_none());
        pass(STALL - SECOND);
        assert_eq!(pace.look(), (0, 0));
        pass(SECOND);
        assert_eq!(pace.look(), (0, 1));
        assert!(!cut.cut(), "it was cut");
        drop((body, taken));
        assert_eq!(pace.under_way(), 0);
    }

    #[test]
    fn whoever_takes_a_sixteenth_in_time_may_take_long_for_the_whole() {
        let pace = pace();
        let mut body = body(1_000, &pace, None);
        let (mut pieces, mut parts) = (0, 0);
        let sixteenth = response(1_000).encoded_len().div_ceil(PARTS);
        let mut since = 0;
        while let Ok(piece) = next(&mut body).expect("more").expect("well").into_data() {
            pieces += 1;
            since += piece.len();
            if since > sixteenth {
                (since, parts) = (0, parts + 1);
                pass(STALL - SECOND);
            }
            assert_eq!(pace.look(), (0, 0));
        }
        assert!(pieces > 2 * PARTS && parts > PARTS / 2);
    }

    #[test]
    fn a_reply_of_one_piece_that_is_not_sent_ends_its_connection() {
        let (pace, cut) = (pace(), Cutoff::default());
        let mut body = body(1, &pace, Some(cut.clone()));
        let piece = piece(&mut body);
        assert!(next(&mut body).is_some_and(|end| end.is_ok()));
        drop(body);
        pass(STALL);
        // There is nothing that could be dropped.
        assert_eq!(pace.look(), (0, 1));
        assert!(!cut.cut(), "it was cut");
        drop(piece);
        assert_eq!(pace.under_way(), 0);
    }
}
