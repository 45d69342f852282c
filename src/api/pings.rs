//! Clients that ask too often whether the machine is still there are sent away, as etcd sends them away (its `--grpc-keepalive-min-time`).
//!
//! The rule is that of Go's gRPC: of the pings that follow each other without an answer between them, two may come too soon, and the
//! third ends the connection. hyper answers pings and tells nobody of them, so the frames are followed on their way.

use std::time::{Duration, Instant};

use bytes::Bytes;

/// So many pings may come too soon (Go's gRPC: maxPingStrikes).
const STRIKES_MAX: u8 = 2;

/// What a client sends before its frames (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long the header of a frame is (RFC 9113, section 4.1).
const HEADER_BYTES: usize = 9;

/// Kinds of frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// The flag of a ping that answers one of ours.
const ACK: u8 = 1;

/// Why a client is sent away (RFC 9113, section 7), and in which words. Clients of gRPC then ask half as often.
const ENHANCE_YOUR_CALM: u32 = 11;
const REASON: &[u8] = b"too_many_pings";

/// The pings of one connection.
#[derive(Debug)]
pub(crate) struct Pings {
    pause_min: Duration,
    incoming: Incoming,
    outgoing: Frames,
    newest_stream: u32,
    last_at: Option<Instant>,
    /// Whether the client was told something since its last ping.
    was_told: bool,
    strikes: u8,
}

/// What comes from the client.
#[derive(Debug)]
enum Incoming {
    /// So many bytes of the preface were there.
    Preface(usize),
    Frames(Frames),
    /// No HTTP/2.
    Other,
}

impl Pings {
    /// Which are to come with at least such a pause between them.
    pub(crate) fn new(pause_min: Duration) -> Pings {
        Pings {
            pause_min,
            incoming: Incoming::Preface(0),
            outgoing: Frames::default(),
            newest_stream: 0,
            last_at: None,
            was_told: false,
            strikes: 0,
        }
    }

    /// Takes note of what has come from the client. If a ping was one too many: how many of the bytes there are up to its end.
    pub(crate) fn received(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> Option<usize> {
        let mut rest = bytes;
        if let Incoming::Preface(there) = &mut self.incoming {
            let missing = &PREFACE[*there..];
            let (come, behind) = rest.split_at(missing.len().min(rest.len()));
            *there += come.len();
            rest = behind;
            if !missing.starts_with(come) {
                self.incoming = Incoming::Other;
            } else if *there == PREFACE.len() {
                self.incoming = Incoming::Frames(Frames::default());
            }
        }
        while let Incoming::Frames(frames) = &mut self.incoming {
            let frame = frames.next(&mut rest)?;
            match frame.kind {
                HEADERS => self.newest_stream = self.newest_stream.max(frame.stream),
                PING if frame.flags & ACK == 0 => self.pinged(now()),
                _ => {}
            }
            if self.is_over() {
                return Some(bytes.len() - rest.len());
            }
        }
        None
    }

    /// Takes note of what goes to the client.
    pub(crate) fn sent(&mut self, mut bytes: &[u8]) {
        while let Some(frame) = self.outgoing.next(&mut bytes) {
            self.was_told |= [DATA, HEADERS].contains(&frame.kind);
        }
    }

    fn pinged(&mut self, now: Instant) {
        let last_at = self.last_at.replace(now);
        if std::mem::take(&mut self.was_told) {
            self.strikes = 0;
        } else if last_at.is_some_and(|last_at| now - last_at < self.pause_min) {
            self.strikes += 1;
        }
    }

    /// Whether nothing more is heard of the client.
    pub(crate) fn is_over(&self) -> bool {
        self.strikes > STRIKES_MAX
    }

    /// What the client is told last, behind a whole frame.
    pub(crate) fn farewell(&self) -> Bytes {
        let payload_bytes = 2 * size_of::<u32>() + REASON.len();
        let mut frame = Vec::with_capacity(HEADER_BYTES + payload_bytes);
        // Three bytes of length, and no flag, of the whole connection.
        frame.extend([0, 0, payload_bytes as u8, GOAWAY, 0]);
        frame.extend(0_u32.to_be_bytes());
        frame.extend(self.newest_stream.to_be_bytes());
        frame.extend(ENHANCE_YOUR_CALM.to_be_bytes());
        frame.extend(REASON);
        frame.into()
    }
}

/// Follows the frames of one direction, in whichever pieces they come. Their payloads are passed over.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    payload_bytes_missing: usize,
}

/// A frame that has passed.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frames {
    /// The next frame that ends within these bytes, which are taken up to its end.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        let header_missing = HEADER_BYTES - self.header_bytes;
        if header_missing > 0 {
            let (come, rest) = bytes.split_at(header_missing.min(bytes.len()));
            self.header[self.header_bytes..][..come.len()].copy_from_slice(come);
            self.header_bytes += come.len();
            *bytes = rest;
            if self.header_bytes < HEADER_BYTES {
                return None;
            }
            let [a, b, c, ..] = self.header;
            self.payload_bytes_missing = u32::from_be_bytes([0, a, b, c]) as usize;
        }
        let passed = self.payload_bytes_missing.min(bytes.len());
        self.payload_bytes_missing -= passed;
        *bytes = &bytes[passed..];
        if self.payload_bytes_missing > 0 {
            return None;
        }
        self.header_bytes = 0;
        let [_, _, _, kind, flags, stream @ ..] = self.header;
        Some(Frame {
            kind,
            flags,
            // The first bit is reserved.
            stream: u32::from_be_bytes(stream) & (u32::MAX >> 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE_MIN: Duration = Duration::from_secs(5);

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("it is short");
        let head = [&length.to_be_bytes()[1..], &[kind, flags]];
        [&head.concat(), &stream.to_be_bytes()[..], payload].concat()
    }

    fn ping() -> Vec<u8> {
        frame(PING, 0, 0, &[7; 8])
    }

    /// The pings of a client that has begun.
    fn begun() -> Pings {
        let mut pings = Pings::new(PAUSE_MIN);
        assert_eq!(pings.received(PREFACE, Instant::now), None);
        pings
    }

    /// Which of a hundred pings with this pause between them is one too many.
    fn one_too_many(pause: Duration, told: &[u8]) -> Option<u32> {
        let mut pings = begun();
        let began = Instant::now();
        (1..=100).find(|number| {
            pings.sent(told);
            let now = began + pause * *number;
            pings.received(&ping(), || now).is_some()
        })
    }

    #[test]
    fn the_third_ping_that_comes_too_soon_is_one_too_many() {
        assert_eq!(one_too_many(Duration::ZERO, &[]), Some(4));
        assert_eq!(
            one_too_many(PAUSE_MIN - Duration::from_millis(1), &[]),
            Some(4)
        );
        assert_eq!(one_too_many(PAUSE_MIN, &[]), None);
        // As etcd's clients are told to.
        assert_eq!(one_too_many(Duration::from_secs(10), &[]), None);
    }

    #[test]
    fn whoever_is_told_something_between_may_ping_at_any_time() {
        for told in [DATA, HEADERS] {
            let told = frame(told, 0, 1, b"message");
            assert_eq!(one_too_many(Duration::ZERO, &told), None);
        }
        let answer = frame(PING, ACK, 0, &[7; 8]);
        assert_eq!(one_too_many(Duration::ZERO, &answer), Some(4));
    }

    #[test]
    fn answers_to_our_pings_are_no_pings() {
        let mut pings = begun();
        let answers = frame(PING, ACK, 0, &[7; 8]).repeat(100);
        assert_eq!(pings.received(&answers, Instant::now), None);
    }

    #[test]
    fn frames_are_found_in_whichever_pieces_they_come() {
        let frames = [
            PREFACE.to_vec(),
            frame(4, 0, 0, &[]),
            ping(),
            frame(HEADERS, 4, 3, b"headers"),
            // What a message holds is no frame.
            frame(DATA, 1, 3, &ping().repeat(9)),
            ping(),
            ping(),
            ping(),
        ];
        let (bytes, at) = (frames.concat(), Instant::now());
        for piece_bytes in 1..=bytes.len() {
            let mut pings = Pings::new(PAUSE_MIN);
            let behind = [&bytes[..], b"not heard any more"].concat();
            let mut heard = 0;
            for piece in behind.chunks(piece_bytes) {
                if let Some(end) = pings.received(piece, || at) {
                    heard += end;
                    break;
                }
                heard += piece.len();
            }
            assert_eq!(heard, bytes.len(), "in pieces of {piece_bytes}");
            assert_eq!(pings.newest_stream, 3);
        }
    }

    #[test]
    fn what_is_no_http_2_has_no_pings() {
        let mut pings = Pings::new(PAUSE_MIN);
        let request = [&b"PRI * HTTP/1.1\r\n\r\n"[..], &ping().repeat(9)].concat();
        assert_eq!(pings.received(&request, Instant::now), None);
    }

    #[test]
    fn the_last_words_name_the_newest_call_and_the_reason() {
        let mut pings = begun();
        pings.received(&frame(HEADERS, 4, 5, b"headers"), Instant::now);
        let payload = [&[0, 0, 0, 5, 0, 0, 0, 11][..], b"too_many_pings"].concat();
        assert_eq!(pings.farewell(), frame(GOAWAY, 0, 0, &payload));
    }
}
