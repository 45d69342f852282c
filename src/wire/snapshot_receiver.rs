//! The receiving end of a snapshot: from the stream to the sink, one chunk after the other.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use quinn::{Connection, RecvStream, SendStream};
use rm_raft::MachineId;
use tokio::{
    sync::OwnedSemaphorePermit,
    task::spawn_blocking,
    time::{Duration, timeout},
};

use crate::{
    FrameError, IncomingSnapshot, RefusedBecause, SnapshotDigest, SnapshotFault, SnapshotHeader,
    SnapshotRefusal, SnapshotSink, SnapshotStart,
    heard::Heard,
    inbound::Shared,
    session::{STREAM_SNAPSHOT, read_frame},
    snapshot_frame::{
        Answer, SENDER_FRAME_BYTES_MAX, decode_chunk, decode_end, decode_offer, encode_answer,
    },
};

/// Receives what snapshots a connection brings until one breaks the protocol; `None` when the connection ends.
pub(crate) async fn receive_all(
    shared: &Shared,
    from: MachineId,
    heard: &Heard,
    connection: &Connection,
) -> Option<RefusedBecause> {
    let mut transfers = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = connection.accept_bi() => {
                let (say, hear) = accepted.ok()?;
                let transfer = Transfer { say, hear, idle: shared.options.snapshot_idle };
                transfers.push(transfer.run(shared, from, heard));
            }
            Some((ended, say)) = transfers.next() => match ended {
                Ok(()) | Err(Broken::Lost) => {}
                Err(Broken::Refused(because)) => {
                    tell_refusal(say, &because);
                    let reason = RefusedBecause::Snapshot { from, because };
                    shared.refused(connection.remote_address(), reason);
                }
                Err(Broken::Protocol(reason)) => return Some(reason),
            }
        }
    }
}

/// Why a transfer ended before its end.
enum Broken {
    /// The stream or its connection is gone.
    Lost,
    /// This machine does not want it, or cannot take it.
    Refused(SnapshotRefusal),
    /// The sender breaks the protocol.
    Protocol(RefusedBecause),
}

impl From<RefusedBecause> for Broken {
    fn from(reason: RefusedBecause) -> Broken {
        match reason {
            RefusedBecause::Transport(_) => Broken::Lost,
            reason => Broken::Protocol(reason),
        }
    }
}

impl From<FrameError> for Broken {
    fn from(error: FrameError) -> Broken {
        Broken::Protocol(error.into())
    }
}

impl From<SnapshotRefusal> for Broken {
    fn from(refusal: SnapshotRefusal) -> Broken {
        Broken::Refused(refusal)
    }
}

/// A stream on which a snapshot comes.
struct Transfer {
    say: SendStream,
    hear: RecvStream,
    idle: Duration,
}

/// What receives at present. The permit stays with it on whatever thread it is, so that no other snapshot begins while a
/// call of the sink goes on, even if nobody waits for that any more.
struct Receiving {
    incoming: Box<dyn IncomingSnapshot>,
    _permit: OwnedSemaphorePermit,
}

impl Transfer {
    async fn run(
        mut self,
        shared: &Shared,
        from: MachineId,
        heard: &Heard,
    ) -> (Result<(), Broken>, SendStream) {
        let ended = self.receive(shared, from, heard).await;
        (ended, self.say)
    }

    async fn receive(
        &mut self,
        shared: &Shared,
        from: MachineId,
        heard: &Heard,
    ) -> Result<(), Broken> {
        let header = self.hear_offer().await?;
        let permit = shared.snapshot_permit().ok_or(SnapshotRefusal::Busy)?;
        let sink = shared.snapshot_sink().ok_or(SnapshotRefusal::Closed)?;
        let length = header.length;
        let Some((mut offset, mut receiving)) = self.begin(sink, from, header, permit).await?
        else {
            return self.answer(&Answer::AlreadyHere).await;
        };
        let window = shared.options.snapshot_window_bytes;
        self.answer(&Answer::Wanted { offset, window }).await?;
        while offset < length {
            let frame = self.hear_frame().await?;
            let bytes = decode_chunk(frame, offset, length)?;
            heard.bytes(bytes.len());
            let taken = offset + bytes.len() as u64;
            receiving = self.take(receiving, offset, bytes).await?;
            offset = taken;
            self.answer(&Answer::Taken(offset)).await?;
        }
        let digest = decode_end(self.hear_frame().await?)?;
        self.finish(receiving, digest).await?;
        self.answer(&Answer::Durable).await
    }

    async fn hear_offer(&mut self) -> Result<SnapshotHeader, Broken> {
        let mut kind = [0];
        match timeout(self.idle, self.hear.read_exact(&mut kind)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Broken::Lost),
            Err(_) => return Err(SnapshotRefusal::Stalled.into()),
        }
        match kind {
            [STREAM_SNAPSHOT] => Ok(decode_offer(self.hear_frame().await?)?),
            [kind] => Err(RefusedBecause::Stream { kind }.into()),
        }
    }

    async fn hear_frame(&mut self) -> Result<Bytes, Broken> {
        match timeout(
            self.idle,
            read_frame(&mut self.hear, SENDER_FRAME_BYTES_MAX),
        )
        .await
        {
            Ok(frame) => Ok(frame?),
            Err(_) => Err(SnapshotRefusal::Stalled.into()),
        }
    }

    async fn answer(&mut self, answer: &Answer) -> Result<(), Broken> {
        let frame = encode_answer(answer);
        match timeout(self.idle, self.say.write_all(&frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Broken::Lost),
            Err(_) => Err(SnapshotRefusal::Stalled.into()),
        }
    }

    /// From where the sink wants the snapshot, and what takes it; `None` if it has it already.
    async fn begin(
        &self,
        sink: Arc<dyn SnapshotSink>,
        from: MachineId,
        header: SnapshotHeader,
        permit: OwnedSemaphorePermit,
    ) -> Result<Option<(u64, Receiving)>, SnapshotRefusal> {
        self.off_the_runtime(move || {
            let SnapshotStart::From { offset, incoming } = sink.begin(from, &header)? else {
                return Ok(None);
            };
            if offset > header.length {
                return Err("it wants more than there is".into());
            }
            let receiving = Receiving {
                incoming,
                _permit: permit,
            };
            Ok(Some((offset, receiving)))
        })
        .await
    }

    async fn take(
        &self,
        mut receiving: Receiving,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Receiving, SnapshotRefusal> {
        self.off_the_runtime(move || {
            receiving.incoming.chunk(offset, &bytes)?;
            Ok(receiving)
        })
        .await
    }

    async fn finish(
        &self,
        receiving: Receiving,
        digest: SnapshotDigest,
    ) -> Result<(), SnapshotRefusal> {
        self.off_the_runtime(move || {
            let Receiving { incoming, _permit } = receiving;
            incoming.finish(digest)
        })
        .await
    }

    /// Has the sink work on a thread that may block.
    async fn off_the_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, SnapshotFault> + Send + 'static,
    ) -> Result<T, SnapshotRefusal> {
        match timeout(self.idle, spawn_blocking(work)).await {
            Ok(Ok(Ok(done))) => Ok(done),
            Ok(Ok(Err(fault))) => Err(SnapshotRefusal::Sink(fault.to_string())),
            Ok(Err(_)) => Err(SnapshotRefusal::Sink("its sink panicked".to_owned())),
            Err(_) => Err(SnapshotRefusal::Stalled),
        }
    }
}

/// Tells the sender, in so far as there is room for it at once: nothing may wait for a peer that does not listen.
fn tell_refusal(mut say: SendStream, because: &SnapshotRefusal) {
    let frame = encode_answer(&Answer::Refused(because.clone()));
    // The window of a stream is larger by far than all that is answered to a sender that listens.
    let _ = say.write_all(&frame).now_or_never();
}
