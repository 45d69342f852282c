//! Makes snapshots of the state for machines that lack what the log no longer holds, or hands out the one that was made before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rm_raft::{EntryId, Index};
use rm_store::{SnapshotError, SnapshotFile};
use tokio::sync::{Mutex, oneshot};

use crate::ActorName;
use crate::fault::Point;
use crate::machine::Shared;
use crate::message::WriteDown;
use crate::participation;

/// The longest pause between two looks whether the copy is still wanted.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// A snapshot and what it says of itself.
pub(crate) struct Made {
    pub(crate) file: Arc<SnapshotFile>,
    pub(crate) last: EntryId,
    /// The newest configuration up to there, encoded, and the entry that holds it.
    pub(crate) configuration: (Index, Bytes),
}

/// The newest snapshot that was made here. Locked while one is made, so that all who want one get the same.
#[derive(Default)]
pub(crate) struct Maker(Mutex<Option<Arc<Made>>>);

/// Why there is no snapshot to send.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("the snapshot cannot be looked into: {0}")]
    State(#[from] rm_kv::KvError),
    #[error("the state has applied {found}, and the snapshot must have applied {wanted}")]
    Behind { found: Index, wanted: Index },
    #[error("its maker failed")]
    Panicked,
}

impl Maker {
    /// A snapshot that has applied this entry at least. Dropped on the way, it stops what it began.
    pub(crate) async fn obtain(
        &self,
        shared: &Arc<Shared>,
        at_least: Index,
    ) -> Result<Arc<Made>, MakeError> {
        let mut newest = self.0.lock().await;
        if newest.is_none() {
            *newest = blocking(shared, find).await?;
        }
        if let Some(made) = newest.as_ref().filter(|made| made.last.index >= at_least) {
            return Ok(made.clone());
        }
        write_down(shared).await;
        let goes_on = GoesOn::new();
        let wanted = goes_on.flag();
        let made = blocking(shared, move |shared| make(shared, &wanted)).await?;
        *newest = Some(made.clone());
        if made.last.index < at_least {
            return Err(MakeError::Behind {
                found: made.last.index,
                wanted: at_least,
            });
        }
        Ok(made)
    }

    /// Removes the snapshot that was made before, if the log no longer follows on it: it is of no use to anyone.
    pub(crate) async fn tidy(&self, shared: &Arc<Shared>, base: Index) -> Result<(), MakeError> {
        let Ok(mut newest) = self.0.try_lock() else {
            return Ok(());
        };
        if newest.is_none() && shared.resources.snapshots.newest().is_some() {
            *newest = blocking(shared, find).await?;
        }
        if newest.take_if(|made| made.last.index < base).is_some() {
            blocking(shared, |shared| {
                Ok(shared.resources.snapshots.remove_newest()?)
            })
            .await?;
        }
        Ok(())
    }
}

/// Ends the copying when nobody waits for it any more.
pub(crate) struct GoesOn(Arc<AtomicBool>);

impl GoesOn {
    pub(crate) fn new() -> GoesOn {
        GoesOn(Arc::new(AtomicBool::new(true)))
    }

    /// True for as long as somebody waits.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}

impl Drop for GoesOn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Has the state written down, so that the snapshot is fresh. Where that fails, the last checkpoint serves too: the log is
/// compacted up to no later one.
async fn write_down(shared: &Shared) {
    let (answer, answered) = oneshot::channel();
    shared.slots.applier.tell(WriteDown(answer));
    let _ = tokio::time::timeout(shared.request_timeout(), answered).await;
}

pub(crate) async fn blocking<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Shared) -> Result<T, MakeError> + Send + 'static,
) -> Result<T, MakeError> {
    let shared = shared.clone();
    let done = tokio::task::spawn_blocking(move || work(&shared)).await;
    done.map_err(|_| MakeError::Panicked)?
}

/// The snapshot that an earlier life or process made, if there is one.
fn find(shared: &Shared) -> Result<Option<Arc<Made>>, MakeError> {
    let newest = shared.resources.snapshots.newest();
    newest.map(|file| look_into(shared, file)).transpose()
}

fn make(shared: &Shared, wanted: &AtomicBool) -> Result<Arc<Made>, MakeError> {
    let state = shared.resources.states.present().environment;
    let began = Instant::now();
    let file = shared
        .resources
        .snapshots
        .make(&state, goes_on_at_pace(shared, wanted))?;
    shared.board.meters.copies.add_time(began.elapsed());
    look_into(shared, file)
}

/// Asked with the bytes so far, it lets a copy go on at the pace of the config, and only as long as somebody wants it.
pub(crate) fn goes_on_at_pace(shared: &Shared, wanted: &AtomicBool) -> impl Fn(u64) -> bool {
    let pace = Pace {
        bytes_per_second: shared.config.config.limits.snapshot_bytes_per_second,
        began: Instant::now(),
    };
    move |copied| {
        let strike = shared.strike_disk_of(ActorName::Sender, Point::Copy);
        let goes_on = || wanted.load(Ordering::Relaxed);
        pace.wait(copied, goes_on);
        goes_on() && strike.is_ok()
    }
}

fn look_into(shared: &Shared, file: Arc<SnapshotFile>) -> Result<Arc<Made>, MakeError> {
    let environment = file.inspect(&shared.resources.states.verified())?;
    let peek = rm_kv::peek(&environment)?;
    let configuration = peek.configuration.map(|found| (found.index, found.bytes));
    Ok(Arc::new(Made {
        file,
        last: peek.applied,
        configuration: configuration.unwrap_or_else(|| {
            let begun = participation::begun(shared);
            let bytes = rm_store::encode_configuration(&begun.configuration);
            (begun.index, bytes)
        }),
    }))
}

/// Slows a copy down: unbounded, it fills the disk's queue, and the appends of the log wait behind it.
struct Pace {
    bytes_per_second: u64,
    began: Instant,
}

impl Pace {
    /// Waits until so many bytes may have been written, or until nobody wants them any more.
    fn wait(&self, bytes: u64, goes_on: impl Fn() -> bool) {
        if self.bytes_per_second == 0 {
            return;
        }
        let span = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        while let Some(left) = span.checked_sub(self.began.elapsed())
            && !left.is_zero()
            && goes_on()
        {
            std::thread::sleep(left.min(PAUSE_MAX));
        }
    }
}
