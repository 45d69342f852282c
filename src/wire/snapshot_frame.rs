//! What is said on the stream of a snapshot, as frames. The numbers are the format: they never change their meaning.

use bytes::{BufMut, Bytes, BytesMut};
use rm_raft::{EntryId, Index, Term};

use crate::{
    FrameError, SnapshotDigest, SnapshotHeader, SnapshotRefusal,
    frame::{self, Fields, HEADER_BYTES, put_text},
    snapshot::CONFIGURATION_BYTES_MAX,
};

/// The most bytes of content in a chunk.
pub(crate) const CHUNK_BYTES_MAX: usize = 128 << 10;
/// The longest frame that a sender may send: a chunk with its offset, or a header with its configuration.
pub(crate) const SENDER_FRAME_BYTES_MAX: usize = HEADER_BYTES + CHUNK_BYTES_MAX + FIXED_FIELDS;
/// The longest frame that a receiver may send.
pub(crate) const ANSWER_FRAME_BYTES_MAX: usize = HEADER_BYTES + REASON_BYTES_MAX + FIXED_FIELDS;

/// More than the fields of any frame that are not bounded by themselves.
const FIXED_FIELDS: usize = 64;
/// Longer reasons are cut.
const REASON_BYTES_MAX: usize = 1 << 10;

mod kind {
    pub(super) const OFFER: u8 = 64;
    pub(super) const CHUNK: u8 = 65;
    pub(super) const END: u8 = 66;
    pub(super) const WANTED: u8 = 67;
    pub(super) const ALREADY_HERE: u8 = 68;
    pub(super) const REFUSED: u8 = 69;
    pub(super) const TAKEN: u8 = 70;
    pub(super) const DURABLE: u8 = 71;
}

const REFUSED_BUSY: u8 = 0;
const REFUSED_CLOSED: u8 = 1;
const REFUSED_STALLED: u8 = 2;
const REFUSED_SINK: u8 = 3;

/// What a receiver says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It wants the content from this offset on, and has room for so many bytes that its sink has not taken.
    Wanted {
        offset: u64,
        window: u32,
    },
    AlreadyHere,
    Refused(SnapshotRefusal),
    /// Its sink has taken all up to this offset.
    Taken(u64),
    /// It holds the whole durably.
    Durable,
}

pub(crate) fn encode_offer(header: &SnapshotHeader) -> Result<Bytes, FrameError> {
    check_header(header)?;
    let mut frame = frame::begin(kind::OFFER, FIXED_FIELDS + header.configuration.len());
    frame.put_u64(header.term.0);
    frame.put_slice(&header.id);
    frame.put_u64(header.last.term.0);
    frame.put_u64(header.last.index.0);
    frame.put_u64(header.length);
    frame.put_u64(header.configured.0);
    frame.put_slice(&header.configuration);
    Ok(frame::seal(frame))
}

pub(crate) fn decode_offer(frame: Bytes) -> Result<SnapshotHeader, FrameError> {
    let mut fields = open(frame, kind::OFFER)?;
    let header = SnapshotHeader {
        term: Term(fields.u64("term")?),
        id: fields.array("id of the snapshot")?,
        last: EntryId {
            term: Term(fields.u64("term of the last entry")?),
            index: Index(fields.u64("index of the last entry")?),
        },
        length: fields.u64("length of the snapshot")?,
        configured: Index(fields.u64("index of the configuration")?),
        configuration: {
            let length = fields.rest_bytes();
            fields.slice("configuration", length)?
        },
    };
    check_header(&header)?;
    Ok(header)
}

/// What holds of every header.
fn check_header(header: &SnapshotHeader) -> Result<(), FrameError> {
    if header.configuration.len() > CONFIGURATION_BYTES_MAX {
        return Err(FrameError::TooLong {
            length: header.configuration.len() as u64,
            limit: CONFIGURATION_BYTES_MAX,
        });
    }
    if header.configured > header.last.index {
        return Err(FrameError::Value {
            what: "the index of the configuration of a snapshot that ends before it",
            found: header.configured.0,
        });
    }
    Ok(())
}

pub(crate) fn encode_chunk(offset: u64, bytes: &[u8]) -> Bytes {
    let mut frame = frame::begin(kind::CHUNK, FIXED_FIELDS + bytes.len());
    frame.put_u64(offset);
    frame.put_slice(bytes);
    frame::seal(frame)
}

/// The content of a chunk, which must begin at `offset`, not be empty and not reach beyond `length`.
pub(crate) fn decode_chunk(frame: Bytes, offset: u64, length: u64) -> Result<Bytes, FrameError> {
    let mut fields = open(frame, kind::CHUNK)?;
    let found = fields.u64("offset of the chunk")?;
    if found != offset {
        return Err(FrameError::Value {
            what: "the offset of the next chunk",
            found,
        });
    }
    let bytes = fields.rest_bytes();
    if bytes == 0 || bytes > CHUNK_BYTES_MAX || bytes as u64 > length - offset {
        return Err(FrameError::Value {
            what: "the length of the next chunk",
            found: bytes as u64,
        });
    }
    fields.slice("content", bytes)
}

pub(crate) fn encode_end(digest: &SnapshotDigest) -> Bytes {
    let mut frame = frame::begin(kind::END, FIXED_FIELDS);
    frame.put_slice(digest);
    frame::seal(frame)
}

pub(crate) fn decode_end(frame: Bytes) -> Result<SnapshotDigest, FrameError> {
    let mut fields = open(frame, kind::END)?;
    let digest = fields.array("digest")?;
    fields.end()?;
    Ok(digest)
}

pub(crate) fn encode_answer(answer: &Answer) -> Bytes {
    let begin = |kind| frame::begin(kind, FIXED_FIELDS);
    frame::seal(match answer {
        Answer::Wanted { offset, window } => {
            let mut frame = with_offset(begin(kind::WANTED), *offset);
            frame.put_u32(*window);
            frame
        }
        Answer::AlreadyHere => begin(kind::ALREADY_HERE),
        Answer::Refused(refusal) => with_refusal(begin(kind::REFUSED), refusal),
        Answer::Taken(offset) => with_offset(begin(kind::TAKEN), *offset),
        Answer::Durable => begin(kind::DURABLE),
    })
}

pub(crate) fn decode_answer(frame: Bytes) -> Result<Answer, FrameError> {
    let frame = frame::open(frame)?;
    let mut fields = Fields::of(frame.body);
    let answer = match frame.kind {
        kind::WANTED => Answer::Wanted {
            offset: fields.u64("offset that is wanted")?,
            window: fields.u32("window")?,
        },
        kind::ALREADY_HERE => Answer::AlreadyHere,
        kind::REFUSED => Answer::Refused(take_refusal(&mut fields)?),
        kind::TAKEN => Answer::Taken(fields.u64("offset that is taken")?),
        kind::DURABLE => Answer::Durable,
        found => return Err(FrameError::Kind { found }),
    };
    fields.end()?;
    Ok(answer)
}

fn open(frame: Bytes, kind: u8) -> Result<Fields, FrameError> {
    let frame = frame::open(frame)?;
    if frame.kind != kind {
        return Err(FrameError::Kind { found: frame.kind });
    }
    Ok(Fields::of(frame.body))
}

fn with_offset(mut frame: BytesMut, offset: u64) -> BytesMut {
    frame.put_u64(offset);
    frame
}

fn with_refusal(mut frame: BytesMut, refusal: &SnapshotRefusal) -> BytesMut {
    let (number, reason) = match refusal {
        SnapshotRefusal::Busy => (REFUSED_BUSY, ""),
        SnapshotRefusal::Closed => (REFUSED_CLOSED, ""),
        SnapshotRefusal::Stalled => (REFUSED_STALLED, ""),
        SnapshotRefusal::Sink(reason) => (REFUSED_SINK, reason.as_str()),
    };
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    frame.put_u8(number);
    put_text(&mut frame, &reason[..end]);
    frame
}

fn take_refusal(fields: &mut Fields) -> Result<SnapshotRefusal, FrameError> {
    let number = fields.u8("kind of the refusal")?;
    let reason = fields.text("reason of the refusal")?;
    match number {
        REFUSED_BUSY => Ok(SnapshotRefusal::Busy),
        REFUSED_CLOSED => Ok(SnapshotRefusal::Closed),
        REFUSED_STALLED => Ok(SnapshotRefusal::Stalled),
        REFUSED_SINK => Ok(SnapshotRefusal::Sink(reason)),
        found => Err(FrameError::Value {
            what: "the kind of a refusal",
            found: found.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SnapshotHeader {
        SnapshotHeader {
            term: Term(7),
            id: [9; 32],
            last: EntryId {
                term: Term(6),
                index: Index(5),
            },
            length: 1_000,
            configuration: Bytes::from_static(b"voters"),
            configured: Index(5),
        }
    }

    fn answers() -> Vec<Answer> {
        vec![
            Answer::Wanted {
                offset: 3,
                window: 4,
            },
            Answer::AlreadyHere,
            Answer::Refused(SnapshotRefusal::Busy),
            Answer::Refused(SnapshotRefusal::Closed),
            Answer::Refused(SnapshotRefusal::Stalled),
            Answer::Refused(SnapshotRefusal::Sink("no space".to_owned())),
            Answer::Taken(9),
            Answer::Durable,
        ]
    }

    #[test]
    fn what_is_written_is_read_again() {
        let offer = encode_offer(&header()).expect("the header is good");
        assert_eq!(decode_offer(offer), Ok(header()));
        let chunk = encode_chunk(10, b"content");
        assert_eq!(
            decode_chunk(chunk, 10, 17),
            Ok(Bytes::from_static(b"content"))
        );
        assert_eq!(decode_end(encode_end(&[3; 32])), Ok([3; 32]));
        for answer in answers() {
            assert_eq!(decode_answer(encode_answer(&answer)), Ok(answer));
        }
    }

    #[test]
    fn what_is_cut_or_damaged_anywhere_is_refused() {
        let offer = encode_offer(&header()).expect("the header is good");
        let mut frames = vec![offer, encode_chunk(10, b"content"), encode_end(&[3; 32])];
        frames.extend(answers().iter().map(encode_answer));
        let refused = |bytes: Bytes| {
            decode_offer(bytes.clone()).is_err()
                && decode_chunk(bytes.clone(), 10, 17).is_err()
                && decode_end(bytes.clone()).is_err()
                && decode_answer(bytes).is_err()
        };
        for frame in frames {
            for place in 0..frame.len() {
                assert!(refused(frame.slice(..place)), "cut at {place}");
                let mut flipped = frame.to_vec();
                flipped[place] ^= 1;
                assert!(refused(flipped.into()), "damaged at {place}");
            }
        }
    }

    #[test]
    fn a_header_is_held_to_its_bounds_at_both_ends() {
        let mut long = header();
        long.configuration = vec![0; CONFIGURATION_BYTES_MAX + 1].into();
        assert!(matches!(
            encode_offer(&long),
            Err(FrameError::TooLong { .. })
        ));
        let mut early = header();
        early.configured = Index(6);
        assert!(matches!(
            encode_offer(&early),
            Err(FrameError::Value { found: 6, .. })
        ));
    }

    #[test]
    fn a_chunk_follows_on_the_one_before_and_ends_within_the_snapshot() {
        let chunk = encode_chunk(10, b"content");
        for (offset, length) in [(9, 100), (11, 100), (10, 16)] {
            let refused = decode_chunk(chunk.clone(), offset, length);
            assert!(matches!(refused, Err(FrameError::Value { .. })));
        }
        assert!(decode_chunk(encode_chunk(10, b""), 10, 17).is_err());
        let long = encode_chunk(0, &[0; CHUNK_BYTES_MAX + 1]);
        assert!(decode_chunk(long, 0, u64::MAX).is_err());
    }

    #[test]
    fn a_long_reason_is_cut_between_letters() {
        let reason = "ä".repeat(REASON_BYTES_MAX);
        let answer = Answer::Refused(SnapshotRefusal::Sink(reason.clone()));
        let frame = encode_answer(&answer);
        assert!(frame.len() <= ANSWER_FRAME_BYTES_MAX);
        let Ok(Answer::Refused(SnapshotRefusal::Sink(cut))) = decode_answer(frame) else {
            panic!("it is a refusal by the sink");
        };
        assert!(reason.starts_with(&cut));
    }
}
