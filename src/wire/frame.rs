//! The frame: the unit that peers exchange, checked and bounded before anything in it is believed.
//!
//! Twelve bytes of header, then the body; all numbers big-endian. The header's layout never changes, so that any
//! version can name what it refuses:
//!
//! | offset | bytes | what |
//! |-------:|------:|------|
//! | 0 | 2 | the letters `RM` |
//! | 2 | 1 | version of the frames, [`VERSION`] |
//! | 3 | 1 | kind of the body |
//! | 4 | 4 | length of the body in bytes |
//! | 8 | 4 | CRC-32C of the eight bytes before and of the body |

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

/// The version of the frames that this crate writes, and the newest that it reads.
pub(crate) const VERSION: u8 = 1;

/// The bytes before a frame's body.
pub(crate) const HEADER_BYTES: usize = 12;

const MAGIC: [u8; 2] = *b"RM";
const CHECKED_HEADER_BYTES: usize = 8;

/// Why bytes are not a frame, or not one that this version understands. All of these are the sender's fault, or the
/// network's; the connection that brought them is closed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The bytes end before the frame does.
    #[error("the frame ends too early: {have} bytes where {need} are needed for {what}")]
    Short {
        /// What was being read.
        what: &'static str,
        /// The bytes that are there.
        have: usize,
        /// The bytes that are needed.
        need: usize,
    },
    /// The first two bytes are not `RM`.
    #[error("these bytes are no frame: they begin with {found:02x?} instead of \"RM\"")]
    Magic {
        /// The first two bytes.
        found: [u8; 2],
    },
    /// The sender speaks a newer version.
    #[error(
        "the frame has version {found}, newer than {VERSION}, the newest that this machine reads: upgrade this machine first"
    )]
    NewerVersion {
        /// The frame's version.
        found: u8,
    },
    /// There never was such a version.
    #[error("the frame has version {found}, which does not exist")]
    UnknownVersion {
        /// The frame's version.
        found: u8,
    },
    /// The frame is longer than the receiver allows.
    #[error("the frame has {length} bytes, more than the {limit} that are allowed")]
    TooLong {
        /// The whole frame's length in bytes.
        length: u64,
        /// The greatest length allowed, in bytes.
        limit: usize,
    },
    /// The frame was damaged on the way.
    #[error("the frame is damaged: its checksum is {computed:08x} and should be {stated:08x}")]
    Checksum {
        /// What the header says.
        stated: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// The frame's kind is not one that is expected here.
    #[error("a frame of kind {found} is not known here")]
    Kind {
        /// The frame's kind.
        found: u8,
    },
    /// A field has a value that does not exist.
    #[error("{found} is no value for {what}")]
    Value {
        /// The field.
        what: &'static str,
        /// Its value.
        found: u64,
    },
    /// The body goes on after its last field.
    #[error("the frame has {extra} bytes after its last field")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// A text is not UTF-8.
    #[error("{what} is not UTF-8 text")]
    Text {
        /// The field.
        what: &'static str,
    },
}

/// A frame whose checksum was right.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) body: Bytes,
}

/// Starts a frame of this kind with room for the body; the body is appended, then [`seal`] completes it.
pub(crate) fn begin(kind: u8, body_bytes: usize) -> BytesMut {
    let mut frame = BytesMut::with_capacity(HEADER_BYTES + body_bytes);
    frame.put_slice(&MAGIC);
    frame.put_u8(VERSION);
    frame.put_u8(kind);
    frame.put_u64(0); // Length and checksum, filled in by `seal`.
    frame
}

/// Completes a frame that [`begin`] started: fills in its length and checksum.
pub(crate) fn seal(mut frame: BytesMut) -> Bytes {
    let length = u32::try_from(frame.len() - HEADER_BYTES)
        .expect("a message is bounded by the limits of the Raft core, far below 4 GiB");
    frame[4..8].copy_from_slice(&length.to_be_bytes());
    let checksum = checksum(&frame);
    frame[8..12].copy_from_slice(&checksum.to_be_bytes());
    frame.freeze()
}

/// The checksum that belongs to the whole frame `frame`.
fn checksum(frame: &[u8]) -> u32 {
    let header = crc32c::crc32c(&frame[..CHECKED_HEADER_BYTES]);
    crc32c::crc32c_append(header, &frame[HEADER_BYTES..])
}

/// The length of the frame that starts with these bytes, header included; `None` while the header is not complete.
///
/// # Errors
/// When the bytes cannot be a frame, or it is longer than `limit` bytes: then nothing more needs to be read of it.
pub(crate) fn length(start: &[u8], limit: usize) -> Result<Option<usize>, FrameError> {
    let Some(mut header) = start.get(..HEADER_BYTES) else {
        return Ok(None);
    };
    let mut found = [0; 2];
    header.copy_to_slice(&mut found);
    if found != MAGIC {
        return Err(FrameError::Magic { found });
    }
    match header.get_u8() {
        VERSION => {}
        found if found > VERSION => return Err(FrameError::NewerVersion { found }),
        found => return Err(FrameError::UnknownVersion { found }),
    }
    header.advance(1);
    let length = u64::from(header.get_u32()) + HEADER_BYTES as u64;
    match usize::try_from(length) {
        Ok(length) if length <= limit => Ok(Some(length)),
        _ => Err(FrameError::TooLong { length, limit }),
    }
}

/// Takes exactly one frame from `bytes`.
///
/// # Errors
/// When the bytes are anything but one whole, undamaged frame of a version that is known.
pub(crate) fn open(bytes: Bytes) -> Result<Frame, FrameError> {
    let short = |need| FrameError::Short {
        what: "the frame",
        have: bytes.len(),
        need,
    };
    let length = length(&bytes, usize::MAX)?.ok_or_else(|| short(HEADER_BYTES))?;
    if bytes.len() < length {
        return Err(short(length));
    }
    if bytes.len() > length {
        return Err(FrameError::Trailing {
            extra: bytes.len() - length,
        });
    }
    let stated = (&bytes[CHECKED_HEADER_BYTES..]).get_u32();
    let computed = checksum(&bytes);
    if stated != computed {
        return Err(FrameError::Checksum { stated, computed });
    }
    Ok(Frame {
        kind: bytes[3],
        body: bytes.slice(HEADER_BYTES..),
    })
}

/// Takes the next whole frame off the front of what a stream has brought so far, still unopened; `None` while it is
/// not complete. Then room is made for the rest of it, never for more than `limit` bytes.
///
/// # Errors
/// As [`length`].
pub(crate) fn split(received: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, FrameError> {
    match length(received, limit)? {
        Some(length) if received.len() >= length => Ok(Some(received.split_to(length).freeze())),
        Some(length) => {
            received.reserve(length - received.len());
            Ok(None)
        }
        None => Ok(None),
    }
}

/// Appends a text behind its length.
///
/// # Panics
/// On a text of 64 KiB or more, which no caller has.
pub(crate) fn put_text(out: &mut BytesMut, text: &str) {
    let length = u16::try_from(text.len()).expect("names, domains and reasons are bounded");
    out.put_u16(length);
    out.put_slice(text.as_bytes());
}

/// Reads fields off the front of a body, in order.
pub(crate) struct Fields {
    rest: Bytes,
}

impl Fields {
    pub(crate) fn of(body: Bytes) -> Fields {
        Fields { rest: body }
    }

    /// The bytes that are not yet read.
    pub(crate) fn rest_bytes(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, FrameError> {
        Ok(self.slice(what, 1)?.get_u8())
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, FrameError> {
        Ok(self.slice(what, 2)?.get_u16())
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, FrameError> {
        self.need(what, 4)?;
        Ok(self.rest.get_u32())
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, FrameError> {
        self.need(what, 8)?;
        Ok(self.rest.get_u64())
    }

    pub(crate) fn bool(&mut self, what: &'static str) -> Result<bool, FrameError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(FrameError::Value {
                what,
                found: found.into(),
            }),
        }
    }

    /// The next `length` bytes, as a slice of what was received.
    pub(crate) fn slice(&mut self, what: &'static str, length: usize) -> Result<Bytes, FrameError> {
        self.need(what, length)?;
        Ok(self.rest.split_to(length))
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], FrameError> {
        let mut array = [0; N];
        array.copy_from_slice(&self.slice(what, N)?);
        Ok(array)
    }

    /// A text behind its length.
    pub(crate) fn text(&mut self, what: &'static str) -> Result<String, FrameError> {
        let length = self.u16(what)?;
        let bytes = self.slice(what, length.into())?;
        String::from_utf8(bytes.into()).map_err(|_| FrameError::Text { what })
    }

    /// A count of items that take at least `item_bytes` bytes each: more than the body can hold is refused before
    /// anything is allocated for them.
    pub(crate) fn count(
        &mut self,
        what: &'static str,
        item_bytes: usize,
    ) -> Result<usize, FrameError> {
        let count = self.u32(what)? as usize;
        self.need(what, count.saturating_mul(item_bytes))?;
        Ok(count)
    }

    /// That nothing follows the last field.
    pub(crate) fn end(self) -> Result<(), FrameError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(FrameError::Trailing { extra }),
        }
    }

    fn need(&self, what: &'static str, need: usize) -> Result<(), FrameError> {
        let have = self.rest_bytes();
        if have < need {
            return Err(FrameError::Short { what, have, need });
        }
        Ok(())
    }
}
