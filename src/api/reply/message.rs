//! A message of protocol buffers in parts, most of which are encoded when their turn comes: a list of keys takes no more memory for that it
//! is sent, and no long time at once.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes};
use prost::Message as _;
use rm_proto::mvccpb;

/// The most that is encoded at once, in bytes, but for a larger value of one key.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

/// The type of a field that begins with its length (protocol buffers, "Message Structure").
const LENGTH_DELIMITED: u32 = 2;

/// The highest number of a field whose tag is one byte.
const FIELD_MAX: u32 = 15;

/// How many bytes stand before a message in gRPC: a flag and the length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX_BYTES: usize = 5;

/// A message. On the wire it is byte for byte what prost makes of the whole.
pub(crate) struct Message {
    parts: VecDeque<Part>,
    /// How long it is on the wire.
    bytes: usize,
}

enum Part {
    Encoded(Bytes),
    KeyValues {
        tag: u8,
        kvs: std::vec::IntoIter<mvccpb::KeyValue>,
    },
}

impl Message {
    /// A small one, or the small fields of one.
    pub(crate) fn of(message: &impl prost::Message) -> Message {
        Message::encoded(message.encode_to_vec().into())
    }

    /// One that is encoded already.
    pub(crate) fn encoded(bytes: Bytes) -> Message {
        Message {
            bytes: bytes.len(),
            parts: VecDeque::from([Part::Encoded(bytes)]),
        }
    }

    /// The keys of a repeated field.
    pub(crate) fn key_values(field: u32, kvs: Vec<mvccpb::KeyValue>) -> Message {
        let length = |kv: &mvccpb::KeyValue| {
            let bytes = kv.encoded_len();
            1 + prost::length_delimiter_len(bytes) + bytes
        };
        Message {
            bytes: kvs.iter().map(length).sum(),
            parts: VecDeque::from([Part::KeyValues {
                tag: tag(field),
                kvs: kvs.into_iter(),
            }]),
        }
    }

    /// The same with more fields behind it.
    pub(crate) fn and(mut self, fields: Message) -> Message {
        self.bytes += fields.bytes;
        self.parts.extend(fields.parts);
        self
    }

    /// The message whose field it is.
    pub(crate) fn within(mut self, field: u32) -> Message {
        let mut head = vec![tag(field)];
        // It cannot fail: a vector grows.
        let _ = prost::encode_length_delimiter(self.bytes, &mut head);
        self.bytes += head.len();
        self.parts.push_front(Part::Encoded(head.into()));
        self
    }

    /// The message in the frame of gRPC.
    pub(crate) fn framed(mut self) -> Message {
        let mut head = Vec::with_capacity(PREFIX_BYTES);
        head.put_u8(0);
        let bytes = u32::try_from(self.bytes);
        head.put_u32(bytes.expect("a reply has 512 MiB at most (MAX_REPLY_BYTES)"));
        self.bytes += head.len();
        self.parts.push_front(Part::Encoded(head.into()));
        self
    }

    /// How long it is on the wire, or what is left of it.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing of it is left to be encoded: then all of it is in memory until the last of it has gone.
    pub(crate) fn is_encoded(&self) -> bool {
        let mut parts = self.parts.iter();
        parts.all(|part| matches!(part, Part::Encoded(_)))
    }

    /// The next of it, no more than about so many bytes; empty when nothing is left.
    pub(crate) fn next(&mut self, bytes_max: usize) -> Bytes {
        let mut piece = Vec::with_capacity(self.bytes.min(bytes_max));
        while piece.len() < bytes_max
            && let Some(part) = self.parts.front_mut()
        {
            match part {
                // It is copied, so that a piece that nobody takes holds no more than itself.
                Part::Encoded(bytes) => {
                    let fits = bytes.len().min(bytes_max - piece.len());
                    piece.extend_from_slice(&bytes.split_to(fits));
                    if bytes.is_empty() {
                        self.parts.pop_front();
                    }
                }
                Part::KeyValues { tag, kvs } => match kvs.next() {
                    Some(kv) => {
                        piece.push(*tag);
                        // It cannot fail: a vector grows.
                        let _ = kv.encode_length_delimited(&mut piece);
                    }
                    None => {
                        self.parts.pop_front();
                    }
                },
            }
        }
        self.bytes -= piece.len();
        piece.into()
    }

    /// All of it.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        match self.parts.make_contiguous() {
            [Part::Encoded(bytes)] => std::mem::take(bytes),
            _ => self.next(self.bytes.max(1)),
        }
    }
}

fn tag(field: u32) -> u8 {
    assert!(
        field <= FIELD_MAX,
        "the tag of field {field} has more bytes"
    );
    (field << 3 | LENGTH_DELIMITED) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use rm_proto::etcdserverpb as pb;

    fn kvs(count: usize, value: usize) -> Vec<mvccpb::KeyValue> {
        let kv = |number: usize| mvccpb::KeyValue {
            key: format!("{number:05}").into(),
            mod_revision: number as i64,
            value: vec![b'v'; value].into(),
            ..Default::default()
        };
        (0..count).map(kv).collect()
    }

    fn whole(count: usize, value: usize) -> pb::RangeResponse {
        pb::RangeResponse {
            header: Some(pb::ResponseHeader {
                revision: 7,
                ..Default::default()
            }),
            kvs: kvs(count, value),
            more: true,
            count: 9,
        }
    }

    /// The same in parts.
    fn in_parts(count: usize, value: usize) -> Message {
        let pb::RangeResponse {
            header,
            kvs,
            more,
            count,
        } = whole(count, value);
        let head = pb::RangeResponse {
            header,
            ..Default::default()
        };
        let rest = pb::RangeResponse {
            more,
            count,
            ..Default::default()
        };
        Message::of(&head)
            .and(Message::key_values(2, kvs))
            .and(Message::of(&rest))
    }

    #[test]
    fn whatever_its_pieces_it_is_what_prost_encodes() {
        for (count, value) in [(0, 0), (1, 0), (1, 300_000), (3_000, 100)] {
            let expected = whole(count, value).encode_to_vec();
            for bytes_max in [1, 7, 1_000, PIECE_BYTES, usize::MAX] {
                let mut message = in_parts(count, value);
                assert_eq!(message.bytes(), expected.len());
                let mut sent = Vec::new();
                loop {
                    let piece = message.next(bytes_max);
                    if piece.is_empty() {
                        break;
                    }
                    sent.extend_from_slice(&piece);
                    assert_eq!(message.bytes(), expected.len() - sent.len());
                }
                assert_eq!(sent, expected, "{count} keys, {bytes_max} bytes at once");
            }
            assert_eq!(in_parts(count, value).into_bytes(), expected);
        }
    }

    #[test]
    fn a_message_within_another_and_in_its_frame_is_what_prost_and_grpc_make_of_it() {
        let operation = pb::ResponseOp {
            response: Some(pb::response_op::Response::ResponseRange(whole(200, 10))),
        };
        let expected = pb::TxnResponse {
            responses: vec![operation.clone(), operation],
            ..Default::default()
        };
        let operation = || in_parts(200, 10).within(1).within(3);
        let message = operation().and(operation());
        let mut framed = vec![0];
        framed.put_u32(expected.encoded_len() as u32);
        framed.extend(expected.encode_to_vec());
        assert_eq!(message.framed().into_bytes(), framed);
    }

    #[test]
    fn a_piece_has_no_more_than_is_wanted_but_for_a_large_value() {
        let mut message = in_parts(3_000, 100);
        let most = 1_000 + kvs(1, 100)[0].encoded_len() + 2;
        while message.bytes() > 0 {
            assert!(message.next(1_000).len() <= most);
        }
    }
}
