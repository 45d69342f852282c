//! The sending end of a snapshot: from the source to the stream, never more on the way than the peer's sink keeps up with.

use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    FrameError, Options, RefusedBecause, SnapshotDigest, SnapshotError, SnapshotFault,
    SnapshotHeader, SnapshotOutcome, SnapshotSource, close, farewell,
    session::{STREAM_SNAPSHOT, read_frame},
    snapshot_frame::{
        ANSWER_FRAME_BYTES_MAX, Answer, CHUNK_BYTES_MAX, decode_answer, encode_chunk, encode_end,
        encode_offer,
    },
};

/// Below that of the stream for messages, which is 0.
const PRIORITY: i32 = -1;
/// Where bytes per second are bounded, a chunk is at most this part of them: they should not come in bursts.
const CHUNKS_PER_SECOND: u64 = 16;

/// Sends one snapshot over a connection; `count` is told the bytes of content that leave.
pub(crate) async fn send(
    connection: &Connection,
    header: &SnapshotHeader,
    source: Box<dyn SnapshotSource>,
    options: &Options,
    count: impl Fn(usize),
) -> Result<SnapshotOutcome, SnapshotError> {
    let offer = encode_offer(header)?;
    let idle = options.snapshot_idle;
    let (say, hear) = match timeout(idle, connection.open_bi()).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(SnapshotError::Lost(error.to_string())),
        Err(_) => return Err(SnapshotError::Stalled(idle)),
    };
    let mut transfer = Transfer { say, hear, idle };
    let ended = transfer
        .run(offer, header.length, source, options, count)
        .await;
    if let Err(SnapshotError::Frame(error)) = &ended {
        farewell::close(connection, close::BAD_FRAME, error.to_string().as_bytes());
    }
    ended
}

/// A stream on which a snapshot leaves.
struct Transfer {
    say: SendStream,
    hear: RecvStream,
    idle: Duration,
}

impl Transfer {
    async fn run(
        &mut self,
        offer: Bytes,
        length: u64,
        source: Box<dyn SnapshotSource>,
        options: &Options,
        count: impl Fn(usize),
    ) -> Result<SnapshotOutcome, SnapshotError> {
        // Fails only where the stream is closed, which the next write tells.
        let _ = self.say.set_priority(PRIORITY);
        self.write(&[STREAM_SNAPSHOT]).await?;
        self.write(&offer).await?;
        let (resumed_at, window) = match self.answer().await? {
            Answer::AlreadyHere => return Ok(SnapshotOutcome::AlreadyThere),
            Answer::Wanted { offset, window } if offset <= length => (offset, window),
            answer => return Err(out_of_place(&answer)),
        };
        // What the peer has room for, too: its windows are shared with the messages.
        let window = u64::from(window.min(options.snapshot_window_bytes)).max(1);
        let pace = Pace::new(options.snapshot_bytes_per_second);
        let source = self
            .content(source, resumed_at, length, window, pace, count)
            .await?;
        let digest = self.digest(source).await?;
        self.write(&encode_end(&digest)).await?;
        match self.answer().await? {
            Answer::Durable => Ok(SnapshotOutcome::Delivered { resumed_at }),
            answer => Err(out_of_place(&answer)),
        }
    }

    /// Sends the content from an offset on, and returns once the peer's sink has taken it all.
    async fn content(
        &mut self,
        mut source: Box<dyn SnapshotSource>,
        resumed_at: u64,
        length: u64,
        window: u64,
        mut pace: Pace,
        count: impl Fn(usize),
    ) -> Result<Box<dyn SnapshotSource>, SnapshotError> {
        let chunk_max = window.min(pace.chunk_bytes_max());
        let (mut sent, mut taken) = (resumed_at, resumed_at);
        while taken < length {
            let bytes = chunk_max.min(length - sent);
            if bytes > 0 && sent + bytes - taken <= window {
                pace.wait(bytes).await;
                let chunk;
                (source, chunk) = self.read(source, sent, bytes as usize).await?;
                self.write(&chunk).await?;
                count(bytes as usize);
                sent += bytes;
            } else {
                match self.answer().await? {
                    Answer::Taken(offset) if offset > taken && offset <= sent => taken = offset,
                    answer => return Err(out_of_place(&answer)),
                }
            }
        }
        Ok(source)
    }

    /// The next chunk, read on a thread that may block.
    async fn read(
        &self,
        mut source: Box<dyn SnapshotSource>,
        offset: u64,
        bytes: usize,
    ) -> Result<(Box<dyn SnapshotSource>, Bytes), SnapshotError> {
        self.off_the_runtime(move || {
            let mut buffer = vec![0; bytes];
            source.read(offset, &mut buffer)?;
            Ok((source, encode_chunk(offset, &buffer)))
        })
        .await
    }

    async fn digest(
        &self,
        mut source: Box<dyn SnapshotSource>,
    ) -> Result<SnapshotDigest, SnapshotError> {
        self.off_the_runtime(move || source.digest()).await
    }

    async fn off_the_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, SnapshotFault> + Send + 'static,
    ) -> Result<T, SnapshotError> {
        match timeout(self.idle, spawn_blocking(work)).await {
            Ok(Ok(done)) => done.map_err(SnapshotError::Source),
            Ok(Err(_)) => Err(SnapshotError::Source("its source panicked".into())),
            Err(_) => Err(SnapshotError::Stalled(self.idle)),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        match timeout(self.idle, self.say.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.refusal_or(error.to_string()).await),
            Err(_) => Err(SnapshotError::Stalled(self.idle)),
        }
    }

    /// Why the peer stopped the stream: what it said last tells, if it said anything.
    async fn refusal_or(&mut self, error: String) -> SnapshotError {
        loop {
            match self.answer().await {
                Ok(_) => {}
                Err(refused @ SnapshotError::Refused(_)) => return refused,
                Err(_) => return SnapshotError::Lost(error),
            }
        }
    }

    /// What the peer says next; a refusal is an error.
    async fn answer(&mut self) -> Result<Answer, SnapshotError> {
        let frame = match timeout(
            self.idle,
            read_frame(&mut self.hear, ANSWER_FRAME_BYTES_MAX),
        )
        .await
        {
            Ok(Ok(frame)) => frame,
            Ok(Err(RefusedBecause::Frame(error))) => return Err(error.into()),
            Ok(Err(lost)) => return Err(SnapshotError::Lost(lost.to_string())),
            Err(_) => return Err(SnapshotError::Stalled(self.idle)),
        };
        match decode_answer(frame)? {
            Answer::Refused(refusal) => Err(refusal.into()),
            answer => Ok(answer),
        }
    }
}

fn out_of_place(answer: &Answer) -> SnapshotError {
    let (what, found) = match answer {
        Answer::Wanted { offset, .. } => ("the offset that a snapshot is wanted from", *offset),
        Answer::Taken(offset) => ("the offset up to which a snapshot is taken", *offset),
        Answer::AlreadyHere | Answer::Refused(_) | Answer::Durable => {
            ("an answer at this place", 0)
        }
    };
    FrameError::Value { what, found }.into()
}

/// Holds bytes back so that no more leave in a second than are allowed.
struct Pace {
    bytes_per_second: u64,
    next: Instant,
}

impl Pace {
    fn new(bytes_per_second: u64) -> Pace {
        Pace {
            bytes_per_second,
            next: Instant::now(),
        }
    }

    fn chunk_bytes_max(&self) -> u64 {
        match self.bytes_per_second {
            0 => CHUNK_BYTES_MAX as u64,
            bytes => (bytes / CHUNKS_PER_SECOND).clamp(1, CHUNK_BYTES_MAX as u64),
        }
    }

    /// Waits until so many bytes may leave.
    async fn wait(&mut self, bytes: u64) {
        if self.bytes_per_second == 0 {
            return;
        }
        let due = self.next;
        self.spend(bytes, Instant::now());
        sleep_until(due).await;
    }

    /// These bytes leave at `now`, or when it is their turn.
    fn spend(&mut self, bytes: u64, now: Instant) {
        // What was not used while the peer was slow is not made up for by a burst.
        self.next = self.next.max(now)
            + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time_and_time_that_was_not_used_is_not_made_up_for() {
        let start = Instant::now();
        let mut pace = Pace {
            bytes_per_second: 1_000,
            next: start,
        };
        pace.spend(100, start);
        pace.spend(100, start);
        assert_eq!(pace.next, start + Duration::from_millis(200));
        let later = start + Duration::from_secs(5);
        pace.spend(100, later);
        assert_eq!(pace.next, later + Duration::from_millis(100));
    }

    #[test]
    fn chunks_are_small_where_bytes_a_second_are_few() {
        let chunk_bytes_max = |bytes| Pace::new(bytes).chunk_bytes_max();
        assert_eq!(chunk_bytes_max(0), CHUNK_BYTES_MAX as u64);
        assert_eq!(chunk_bytes_max(16_000), 1_000);
        assert_eq!(chunk_bytes_max(1), 1);
        assert_eq!(chunk_bytes_max(u64::MAX), CHUNK_BYTES_MAX as u64);
    }
}
