//! A snapshot that has come as a whole, and how it becomes the state of the next generation.
//!
//! The states of a machine are counted: generation 0 lies in the folder `state`, generation N in `state-N`. The log's base says
//! which one is in force. The next one is made ready beside it, down to this data directory's mark, and only then does one commit of
//! the log put it in force: a crash before leaves the old state, one after it the new one. Whatever is not in force is removed.

use std::{fs, path::PathBuf, sync::Arc};

use crate::{
    DataDirectory, Environment, Options, Point, SnapshotError, SnapshotOptions,
    incoming::{self, FOLDER},
    sealed,
    snapshot::{Description, remove_file},
    states,
};

/// A snapshot whose file is complete, is what was sent, and is sound.
#[derive(Debug)]
pub struct Received {
    folder: PathBuf,
    description: Description,
    options: SnapshotOptions,
    /// Keeps others from receiving.
    _turn: Arc<()>,
}

impl Received {
    pub(crate) fn new(
        folder: PathBuf,
        description: Description,
        options: SnapshotOptions,
        turn: Arc<()>,
    ) -> Received {
        Received {
            folder,
            description,
            options,
            _turn: turn,
        }
    }

    /// Which snapshot it is.
    pub fn description(&self) -> Description {
        self.description
    }

    /// Opens the snapshot to look into it, read-only: whether it holds what was promised. Close it before [`prepare`].
    ///
    /// [`prepare`]: Received::prepare
    ///
    /// # Errors
    /// As of an environment.
    pub fn inspect(&self, options: &Options) -> Result<Environment, SnapshotError> {
        Ok(Environment::inspect(
            &incoming::content(&self.folder),
            options,
        )?)
    }

    /// Removes the snapshot.
    ///
    /// # Errors
    /// What the system answers.
    pub fn discard(self) -> Result<(), SnapshotError> {
        incoming::discard(&self.folder)
    }

    /// Makes the state of a generation of it, durably, and opens it. It is in force once [`Append::install`](crate::Append::install) has
    /// named the generation; until then a restart removes it.
    ///
    /// The file bears the mark of the data directory that it was made in, which is replaced by this one's. That happens only
    /// here, to a file whose digest is the one that the sender named: a file that is put in a state's place by hand is refused
    /// as before.
    ///
    /// # Errors
    /// What the system or LMDB answers; the snapshot must be received again then.
    pub fn prepare(
        self,
        directory: &DataDirectory,
        generation: u64,
        options: &Options,
    ) -> Result<Environment, SnapshotError> {
        let received = self.folder.join(FOLDER);
        let failed = |error| SnapshotError::io("rename", &received, error);
        let name = states::name(generation);
        let target = directory.path().join(&name);
        states::remove(directory, &name)?;
        self.options.fault.at(Point::Mark).map_err(failed)?;
        // From here on the file is not what was sent, so nothing may be added to it.
        incoming::forget(&self.folder)?;
        Environment::adopt(&received, &directory.data_id(), &name, options)?;
        remove_file(&received.join("lock.mdb"))?;
        self.options.fault.at(Point::Rename).map_err(failed)?;
        fs::rename(&received, &target)
            .and_then(|()| sealed::sync_parent(&target))
            .and_then(|()| sealed::sync_parent(&received))
            .map_err(failed)?;
        directory.remember(&name)?;
        Ok(Environment::open(directory, &name, options)?)
    }
}
