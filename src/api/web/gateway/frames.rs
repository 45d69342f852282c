//! Messages in the frames of gRPC: a byte that says whether it is compressed, four of its length, and the message (gRPC over HTTP/2,
//! "Length-Prefixed-Message").

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use tonic::body::Body;
use tonic::{Code, Status};

/// How many bytes stand before a message.
const PREFIX_BYTES: usize = 5;

/// A message in its frame.
///
/// # Errors
/// It is longer than any frame.
pub(crate) fn framed(message: &[u8]) -> Result<Bytes, Status> {
    let length = u32::try_from(message.len());
    let length = length
        .map_err(|_| Status::resource_exhausted("raftmachine: the message is too long for gRPC"))?;
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    frame.put_u8(0);
    frame.put_u32(length);
    frame.put_slice(message);
    Ok(frame.freeze())
}

/// The messages of an answer.
#[derive(Debug)]
pub(crate) struct Messages {
    body: Body,
    buffer: BytesMut,
}

impl Messages {
    pub(crate) fn new(body: Body) -> Messages {
        Messages {
            body,
            buffer: BytesMut::new(),
        }
    }

    /// The next message; none after the last one of a call that went well.
    ///
    /// # Errors
    /// How the call ended otherwise.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await else {
                return Err(Status::unknown(
                    "raftmachine: a call ended without a status; please report this",
                ));
            };
            match frame?.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    return ended(&trailers).map(|()| None);
                }
            }
        }
    }

    /// A message that is there as a whole.
    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(prefix) = self.buffer.get(..PREFIX_BYTES) else {
            return Ok(None);
        };
        if prefix[0] != 0 {
            return Err(Status::internal(
                "raftmachine: an answer is compressed that must not be; please report this",
            ));
        }
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if self.buffer.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

fn ended(trailers: &HeaderMap) -> Result<(), Status> {
    match Status::from_header_map(trailers) {
        Some(status) if status.code() == Code::Ok => Ok(()),
        Some(status) => Err(status),
        None => Err(Status::unknown(
            "raftmachine: a call ended without a status; please report this",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;

    fn messages(bytes: &[u8], piece: usize, end: Status) -> Messages {
        let mut trailers = HeaderMap::new();
        end.add_header(&mut trailers)
            .expect("a status makes headers");
        let pieces = bytes.chunks(piece).map(Bytes::copy_from_slice);
        let frames: Vec<_> = pieces
            .map(Frame::data)
            .chain([Frame::trailers(trailers)])
            .map(Ok::<_, Status>)
            .collect();
        Messages::new(Body::new(StreamBody::new(stream::iter(frames))))
    }

    #[tokio::test]
    async fn messages_are_told_apart_however_their_bytes_come() {
        let long = [7; 300];
        let parts = [&b"one"[..], b"", &long].map(|part| framed(part).expect("it is short"));
        let bytes = parts.concat();
        for piece in [1, 2, 7, bytes.len()] {
            let mut messages = messages(&bytes, piece, Status::ok(""));
            for part in [&b"one"[..], b"", &long] {
                let next = messages.next().await.expect("it goes well");
                assert_eq!(next.as_deref(), Some(part), "{piece}");
            }
            assert_eq!(messages.next().await.expect("it went well"), None);
        }
    }

    #[tokio::test]
    async fn a_call_that_ends_ill_says_how() {
        let bytes = framed(b"one").expect("it is short");
        let mut messages = messages(&bytes, 3, Status::data_loss("corrupt"));
        assert!(messages.next().await.is_ok_and(|message| message.is_some()));
        let end = messages.next().await.expect_err("it went ill");
        assert_eq!((end.code(), end.message()), (Code::DataLoss, "corrupt"));
    }
}
