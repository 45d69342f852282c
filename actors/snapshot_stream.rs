//! Snapshots for clients: a copy of the state that is made for whoever asks, and its pieces as they are taken.
//!
//! The copy is a file without a name, shared by all who asked before it was begun. So a client reads at its own pace and holds back no
//! page of the state, and the space comes back with the last of them.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rm_raft::Index;
use rm_store::{SnapshotError, SnapshotFile};
use slog::{Logger, info, warn};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use crate::machine::Shared;
use crate::port::{Consistency, Port, Refusal};
use crate::snapshot_maker::{GoesOn, MakeError, blocking, goes_on_at_pace};

/// How much of the file goes in one piece.
const PIECE_BYTES: usize = 256 << 10;

/// How many pieces wait for a client that is slow to take them.
const PIECES_WAITING_MAX: usize = 1;

/// The snapshots that clients take at the moment.
pub(crate) struct ClientSnapshots {
    /// Bounds how many clients take one at a time.
    room: Arc<Semaphore>,
    /// The newest copy, while anyone reads it. Locked while one is made, so that all who wait get the same.
    newest: Mutex<Option<Copied>>,
}

/// A copy, and up to where everything that was shown is in it.
struct Copied {
    holds: Index,
    file: Weak<SnapshotFile>,
}

impl ClientSnapshots {
    /// For so many clients at a time.
    pub(crate) fn new(clients_max: usize) -> ClientSnapshots {
        ClientSnapshots {
            room: Arc::new(Semaphore::new(clients_max)),
            newest: Mutex::default(),
        }
    }
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPiece {
    /// What is in it.
    pub bytes: Bytes,
    /// How many bytes of the state are still to come after it.
    pub remaining_bytes: u64,
}

/// A snapshot on its way to a client: the copy of the state in pieces, and then one piece with the SHA-256 of all before.
pub struct SnapshotStream {
    shared: Arc<Shared>,
    pieces: Receiver<Step>,
    ended: bool,
}

/// What is told of a snapshot on its way.
enum Step {
    Piece(SnapshotPiece),
    Last(SnapshotPiece),
    Failed(Refusal),
}

impl SnapshotStream {
    /// The next piece; none after the last.
    ///
    /// # Errors
    /// The copy cannot be made or read, the client took nothing for too long, or the machine stops. Nothing comes after that.
    pub async fn next(&mut self) -> Result<Option<SnapshotPiece>, Refusal> {
        if self.ended {
            return Ok(None);
        }
        let step = self.pieces.recv().await;
        self.ended = !matches!(step, Some(Step::Piece(_)));
        match step {
            Some(Step::Piece(piece) | Step::Last(piece)) => Ok(Some(piece)),
            Some(Step::Failed(refusal)) => Err(refusal),
            // Whoever fills it had no room to say why it gave up.
            None if self.shared.board.stopping() => Err(Refusal::Stopped),
            None => Err(Refusal::Stalled),
        }
    }
}

impl Port {
    /// A snapshot of this machine's state, with all that anyone was shown of it before. The copy is made when the first piece is asked
    /// for, at the pace of `limits.snapshot_bytes_per_second`; dropped, the stream stops what it began.
    ///
    /// # Errors
    /// As many clients take one as `limits.snapshot_clients_max` allows, or the machine stops.
    pub fn snapshot(&self) -> Result<SnapshotStream, Refusal> {
        if self.shared.board.stopping() {
            return Err(Refusal::Stopped);
        }
        let room = self.shared.resources.client_snapshots.room.clone();
        let room = room.try_acquire_owned();
        let room = room.map_err(|_| Refusal::TooManyRequests)?;
        let (to, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let courier = Courier {
            port: self.clone(),
            to,
            log: self.logger(),
            _room: room,
        };
        tokio::spawn(courier.run());
        Ok(SnapshotStream {
            shared: self.shared.clone(),
            pieces,
            ended: false,
        })
    }
}

/// Carries a snapshot to one client.
struct Courier {
    port: Port,
    to: Sender<Step>,
    log: Logger,
    _room: OwnedSemaphorePermit,
}

impl Courier {
    async fn run(self) {
        let obtained = tokio::select! {
            obtained = obtain(&self.port) => obtained,
            () = self.to.closed() => return,
        };
        let carried = match obtained {
            Ok(file) => {
                info!(self.log, "a client takes a snapshot"; "bytes" => file.description().bytes);
                self.carry(&file).await
            }
            Err(refusal) => Err(refusal),
        };
        if self.to.is_closed() {
            info!(
                self.log,
                "a client went away before it had the whole snapshot"
            );
        } else if let Err(refusal) = carried {
            warn!(self.log, "a client got no whole snapshot"; "reason" => %refusal);
            // One that takes nothing, or is gone, learns it by the end of the stream.
            let _ = self.to.try_send(Step::Failed(refusal));
        }
    }

    async fn carry(&self, file: &Arc<SnapshotFile>) -> Result<(), Refusal> {
        let all = file.description();
        let mut sent = 0;
        while sent < all.bytes {
            let bytes = read(file.clone(), sent).await?;
            sent += bytes.len() as u64;
            let remaining_bytes = all.bytes - sent;
            self.give(Step::Piece(SnapshotPiece {
                bytes,
                remaining_bytes,
            }))
            .await?;
        }
        let bytes = Bytes::copy_from_slice(&all.id.0);
        self.give(Step::Last(SnapshotPiece {
            bytes,
            remaining_bytes: 0,
        }))
        .await
    }

    /// Waits until the client takes what it was given before.
    async fn give(&self, step: Step) -> Result<(), Refusal> {
        let shared = &self.port.shared;
        if shared.board.stopping() {
            return Err(Refusal::Stopped);
        }
        let patience = Duration::from_millis(shared.config.config.timings.snapshot_stall_ms);
        match tokio::time::timeout(patience, self.to.send(step)).await {
            Ok(Ok(())) => Ok(()),
            // It takes nothing, or it is gone and nobody hears this.
            _ => Err(Refusal::Stalled),
        }
    }
}

/// A copy that holds all that anyone was shown before this was called.
async fn obtain(port: &Port) -> Result<Arc<SnapshotFile>, Refusal> {
    let shared = &port.shared;
    let wanted = shared.board.applied();
    let mut newest = shared.resources.client_snapshots.newest.lock().await;
    if let Some(copied) = newest.as_ref().filter(|copied| copied.holds >= wanted)
        && let Some(file) = copied.file.upgrade()
    {
        return Ok(file);
    }
    let holds = shared.board.applied();
    // An Applier that was just restarted may hold less than its earlier life has shown.
    port.read(None, Consistency::Serializable).await?;
    port.write_down().await?;
    let goes_on = GoesOn::new();
    let wanted = goes_on.flag();
    let copied = blocking(shared, move |shared| {
        let state = shared.resources.states.present().environment;
        let goes_on = goes_on_at_pace(shared, &wanted);
        let began = Instant::now();
        let file = shared.resources.snapshots.make_passing(&state, goes_on)?;
        shared.board.meters.copies.add_time(began.elapsed());
        Ok(file)
    });
    let file = Arc::new(copied.await.map_err(refusal)?);
    *newest = Some(Copied {
        holds,
        file: Arc::downgrade(&file),
    });
    Ok(file)
}

/// The piece of the file that begins at an offset.
async fn read(file: Arc<SnapshotFile>, offset: u64) -> Result<Bytes, Refusal> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; PIECE_BYTES];
        let count = file.read(offset, &mut piece)?;
        piece.truncate(count);
        Ok::<_, SnapshotError>(Bytes::from(piece))
    });
    let read = reading.await.map_err(|_| MakeError::Panicked);
    let piece = read.and_then(|read| Ok(read?)).map_err(refusal)?;
    if piece.is_empty() {
        return Err(Refusal::Damaged("the snapshot was cut short".to_owned()));
    }
    Ok(piece)
}

/// What a client is told when there is no snapshot for it.
fn refusal(error: MakeError) -> Refusal {
    match error {
        MakeError::Snapshot(SnapshotError::NoSpace { .. }) => Refusal::NoSpace,
        error => Refusal::Operator(format!("the snapshot cannot be made: {error}")),
    }
}
