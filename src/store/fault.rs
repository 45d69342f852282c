//! Where a test, or an armed fault point, may make the store fail.

use std::{fmt, io, sync::Arc};

/// A moment at which the store asks its hook whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// Inside a write transaction, before a batch of entries is written.
    Write,
    /// Inside a write transaction, between the truncation of the log and the first entry appended.
    Append,
    /// Inside a write transaction, before compacted entries are removed.
    Trim,
    /// Inside a write transaction, before the log is put on the base of a snapshot.
    Install,
    /// Everything is written, nothing is durable.
    Commit,
    /// All is durable, and nobody has been told.
    Committed,
    /// A piece of a snapshot that is made has been read, and not written yet.
    Copy,
    /// A chunk of a snapshot has come, and is not written yet.
    Receive,
    /// Chunks of a snapshot are written, and not durable yet.
    Sync,
    /// A snapshot is complete and sound, and does not bear this data directory's mark yet.
    Mark,
    /// A snapshot bears the mark, and is not yet where the state of its generation lies.
    Rename,
}

/// Called at each [`Point`]: an error is taken for one of the disk, a panic unwinds as one of the store would.
///
/// An empty hook costs one comparison a point.
#[derive(Clone, Default)]
pub struct FaultHook(Option<Arc<Judge>>);

type Judge = dyn Fn(Point) -> io::Result<()> + Send + Sync;

impl FaultHook {
    /// A hook that asks `judge` at each point.
    pub fn new(judge: impl Fn(Point) -> io::Result<()> + Send + Sync + 'static) -> FaultHook {
        FaultHook(Some(Arc::new(judge)))
    }

    /// Asks the hook; without one, all goes on.
    pub(crate) fn at(&self, point: Point) -> io::Result<()> {
        match &self.0 {
            None => Ok(()),
            Some(judge) => judge(point),
        }
    }
}

impl fmt::Debug for FaultHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "FaultHook(armed)"
        } else {
            "FaultHook(idle)"
        })
    }
}
