//! The way to one peer: a queue, a connection, and the task that keeps it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn::{Connection, ConnectionError, Endpoint, SendStream, VarInt};
use tokio::sync::Notify;

use crate::{
    Credentials, DataId, DataIds, Identity, Options, Peer, PeerStatus, RefusedBecause, close,
    farewell,
    hello::Hello,
    queue::Queue,
    refusal::Refusal,
    session::{STREAM_MESSAGES, read_hello},
};

/// The most bytes that are handed to QUIC in one write.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// Beyond so many failures in a row the wait grows no more.
const DOUBLINGS_MAX: u32 = 16;

/// The way to one peer.
#[derive(Debug)]
pub(crate) struct Link {
    local: Identity,
    peer: Peer,
    credentials: Credentials,
    options: Options,
    data_ids: DataIds,
    state: Mutex<State>,
    waiting: Notify,
}

/// A connection on which both ends have proved themselves.
struct Made {
    connection: Connection,
    /// The data that the peer lives on.
    data_id: DataId,
    /// The stream for messages.
    stream: SendStream,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    connection: Option<Connection>,
    /// The data that the peer was found on last.
    data_id: Option<DataId>,
    /// Set once this way is given up; no connection outlives that.
    farewell: Option<(VarInt, Bytes)>,
    snapshot_bytes_sent: u64,
    frames_sent: u64,
    bytes_sent: u64,
    frames_dropped: u64,
    connections: u64,
    last_error: Option<String>,
    /// Kept until there is a connection.
    refusal: Option<Refusal>,
}

/// Why no connection came to be.
struct Failed {
    error: String,
    refusal: Option<Refusal>,
}

impl Failed {
    /// Without anybody's refusal.
    fn by(error: impl ToString) -> Failed {
        Failed {
            error: error.to_string(),
            refusal: None,
        }
    }

    fn by_end(ended: &ConnectionError) -> Failed {
        Failed {
            error: ended.to_string(),
            refusal: Refusal::of_end(ended),
        }
    }
}

impl Link {
    pub(crate) fn new(
        local: &Identity,
        peer: &Peer,
        data_ids: &DataIds,
        credentials: &Credentials,
        options: &Options,
    ) -> Link {
        Link {
            local: local.clone(),
            peer: peer.clone(),
            credentials: credentials.clone(),
            options: options.clone(),
            data_ids: data_ids.clone(),
            state: Mutex::new(State {
                queue: Queue::new(options.queue_frames_max, options.queue_bytes_max),
                connection: None,
                data_id: None,
                farewell: None,
                snapshot_bytes_sent: 0,
                frames_sent: 0,
                bytes_sent: 0,
                frames_dropped: 0,
                connections: 0,
                last_error: None,
                refusal: None,
            }),
            waiting: Notify::new(),
        }
    }

    /// Sends the frame as a datagram if it may go so and fits, else puts it into the queue.
    pub(crate) fn send(&self, frame: Bytes, unreliable: bool) {
        let mut state = self.state();
        let length = frame.len();
        if length > self.options.frame_bytes_max {
            state.frames_dropped += 1;
            state.last_error = Some(format!(
                "a frame of {length} bytes was not sent: {} are allowed",
                self.options.frame_bytes_max
            ));
            return;
        }
        if unreliable && state.send_datagram(&frame) {
            state.count_sent(1, length);
            return;
        }
        if !state.queue.push(frame) {
            state.frames_dropped += 1;
            return;
        }
        drop(state);
        self.waiting.notify_one();
    }

    /// Gives this way up, also the connection that is only just being made.
    pub(crate) fn close(&self, code: VarInt, reason: &'static [u8]) {
        let mut state = self.state();
        if let Some(connection) = &state.connection {
            farewell::close(connection, code, reason);
        }
        state.farewell = Some((code, Bytes::from_static(reason)));
    }

    /// Whether this way is the one to `peer` as it is listed now.
    pub(crate) fn serves(&self, peer: &Peer) -> bool {
        peer.address == self.peer.address && peer.is_still(&self.peer, self.state().data_id)
    }

    /// The present connection.
    pub(crate) fn connection(&self) -> Option<Connection> {
        self.state().connection.clone()
    }

    pub(crate) fn count_snapshot(&self, bytes: usize) {
        self.state().snapshot_bytes_sent += bytes as u64;
    }

    pub(crate) fn status(&self) -> PeerStatus {
        let state = self.state();
        PeerStatus {
            id: self.peer.id,
            name: self.peer.name.clone(),
            connected: state.connection.is_some(),
            round_trip: state.connection.as_ref().map(Connection::rtt),
            frames_sent: state.frames_sent,
            bytes_sent: state.bytes_sent,
            snapshot_bytes_sent: state.snapshot_bytes_sent,
            frames_dropped: state.frames_dropped,
            frames_queued: state.queue.frames(),
            bytes_queued: state.queue.bytes(),
            connections: state.connections,
            last_error: state.last_error.clone(),
            refusal: state.refusal.as_ref().map(|it| it.reason.clone()),
            other_era: state.refusal.as_ref().is_some_and(|it| it.other_era),
        }
    }

    /// Dials the peer, sends what is queued, and dials again, for ever.
    ///
    /// A connection that is lost is dialled again at once: the peer was built anew. Where that fails, or the peer sends
    /// this machine away, the wait doubles.
    pub(crate) async fn keep_connected(self: Arc<Self>, endpoint: Endpoint) {
        let mut failures = 0;
        loop {
            match self.connect(&endpoint).await {
                Ok(made) => {
                    let since = Instant::now();
                    let ended = self.carry(made).await;
                    self.state().lost(&ended);
                    let lived = since.elapsed();
                    if lived >= self.options.backoff_max || !sent_away(&ended) {
                        failures = 0;
                    }
                    if lived >= self.options.backoff_min && !sent_away(&ended) {
                        continue;
                    }
                }
                Err(failed) => self.state().not_connected(failed),
            }
            failures += 1;
            tokio::time::sleep(self.backoff(failures)).await;
        }
    }

    /// How long to wait after so many failures in a row: doubled each time, shortened by up to half at random.
    fn backoff(&self, failures: u32) -> Duration {
        let doubled = self.options.backoff_min * (1 << (failures - 1).min(DOUBLINGS_MAX));
        doubled
            .min(self.options.backoff_max)
            .mul_f64(1.0 - fastrand::f64() / 2.0)
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Made, Failed> {
        let limit = self.options.handshake_timeout;
        match tokio::time::timeout(limit, self.dial(endpoint)).await {
            Ok(result) => result,
            Err(_) => Err(Failed::by(format!(
                "{} at {} did not answer within {limit:?}",
                self.peer.name, self.peer.address
            ))),
        }
    }

    async fn dial(&self, endpoint: &Endpoint) -> Result<Made, Failed> {
        let host = self.credentials.host_of(&self.peer);
        let connection = endpoint
            .connect(self.peer.address, host)
            .map_err(Failed::by)?
            .await
            .map_err(|ended| Failed::by_end(&ended))?;
        let proved = self.prove(&connection).await;
        // Where the peer has refused us, its reason says more than the error that it led to here.
        proved.map_err(|because| match connection.close_reason() {
            Some(ended) => Failed::by_end(&ended),
            None => {
                let error = because.to_string();
                farewell::close(&connection, close::REFUSED, error.as_bytes());
                Failed {
                    error,
                    refusal: Refusal::of_answer(&because),
                }
            }
        })
    }

    /// Says who this machine is, hears who the peer is, and opens the stream for messages.
    async fn prove(&self, connection: &Connection) -> Result<Made, RefusedBecause> {
        let lost = |error: &dyn std::fmt::Display| RefusedBecause::Transport(error.to_string());
        let (mut say, mut hear) = connection.open_bi().await.map_err(|e| lost(&e))?;
        let hello = Hello::new(&self.local, &self.peer).encode();
        say.write_all(&hello).await.map_err(|e| lost(&e))?;
        let answer = read_hello(&mut hear).await?;
        answer.check(&self.local)?;
        let peer = std::slice::from_ref(&self.peer);
        answer.find(peer).ok_or_else(|| answer.unknown())?;
        let data_id = answer.sender.data_id;
        self.data_ids.admit(&self.peer, data_id)?;
        let mut stream = connection.open_uni().await.map_err(|e| lost(&e))?;
        stream
            .write_all(&[STREAM_MESSAGES])
            .await
            .map_err(|e| lost(&e))?;
        Ok(Made {
            connection: connection.clone(),
            data_id,
            stream,
        })
    }

    /// Writes what is queued until the connection ends.
    async fn carry(&self, made: Made) -> ConnectionError {
        let Made {
            connection,
            data_id,
            mut stream,
        } = made;
        self.state().connected(connection.clone(), data_id);
        self.waiting.notify_one();
        tokio::select! {
            ended = connection.closed() => ended,
            () = self.write(&mut stream) => {
                // The stream ended before its connection, which only a peer that breaks the protocol brings about.
                farewell::close(&connection, close::BAD_FRAME, b"the stream for messages was stopped");
                connection.closed().await
            }
        }
    }

    async fn write(&self, stream: &mut SendStream) {
        loop {
            self.waiting.notified().await;
            loop {
                let mut batch = self.state().queue.take(BATCH_BYTES_MAX);
                if batch.frames == 0 {
                    break;
                }
                if stream.write_all_chunks(&mut batch.chunks).await.is_err() {
                    return;
                }
                self.state().count_sent(batch.frames, batch.bytes);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock; should it, the counters are still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the frame left as a datagram. quinn drops the oldest datagram when too many wait.
    fn send_datagram(&self, frame: &Bytes) -> bool {
        let Some(connection) = &self.connection else {
            return false;
        };
        connection
            .max_datagram_size()
            .is_some_and(|limit| frame.len() <= limit)
            && connection.send_datagram(frame.clone()).is_ok()
    }

    fn count_sent(&mut self, frames: usize, bytes: usize) {
        self.frames_sent += frames as u64;
        self.bytes_sent += bytes as u64;
    }

    fn connected(&mut self, connection: Connection, data_id: DataId) {
        if let Some((code, reason)) = &self.farewell {
            farewell::close(&connection, *code, reason);
        }
        self.connections += 1;
        self.refusal = None;
        self.data_id = Some(data_id);
        self.connection = Some(connection);
    }

    fn lost(&mut self, ended: &ConnectionError) {
        self.connection = None;
        self.failed(Failed::by_end(ended));
    }

    /// What waited for a connection that could not be made is old by the time of the next one.
    fn not_connected(&mut self, failed: Failed) {
        self.frames_dropped += self.queue.clear() as u64;
        self.failed(failed);
    }

    fn failed(&mut self, failed: Failed) {
        self.last_error = Some(failed.error);
        // A peer that does not answer takes nothing back.
        self.refusal = failed.refusal.or(self.refusal.take());
    }
}

/// Whether the peer closed the connection for a reason that a new dial does not remove.
fn sent_away(ended: &ConnectionError) -> bool {
    matches!(ended, ConnectionError::ApplicationClosed(closed)
        if ![close::ACTOR_RESTART, close::PROCESS_EXIT, close::PEER_CHANGED].contains(&closed.error_code))
}
