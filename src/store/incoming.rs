//! Receives a snapshot in chunks: with bounded memory, resumed after a break, checked as a whole before anything opens it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    Point, Received, SnapshotError, SnapshotOptions,
    environment::DATA_FILE,
    sealed,
    snapshot::{Description, Digest, PIECE_BYTES, remove_file, require_space},
    verify::verify_copy,
};

/// Where the content is gathered. It becomes the folder of the state.
pub(crate) const FOLDER: &str = "incoming";

/// What is known of the content, beside its folder.
const RECORD: &str = "incoming.json";

/// After so many bytes they are made durable and noted: the most that a crash costs.
const SYNC_BYTES: u64 = 16 << 20;

/// What the record says.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Record {
    description: Description,
    /// How many bytes are durable.
    durable: u64,
}

/// A snapshot that is being received.
///
/// Invariant: the first `durable` bytes are those that were sent, on the disk; the record never says more.
#[derive(Debug)]
pub struct Incoming {
    folder: PathBuf,
    options: SnapshotOptions,
    description: Description,
    file: File,
    received: u64,
    durable: u64,
    /// Keeps others from receiving.
    turn: Arc<()>,
}

impl Incoming {
    /// Goes on with this snapshot, or begins it anew.
    pub(crate) fn begin(
        folder: &Path,
        description: Description,
        options: SnapshotOptions,
        turn: Arc<()>,
    ) -> Result<Incoming, SnapshotError> {
        if description.bytes > options.bytes_max {
            return Err(SnapshotError::TooLarge {
                bytes: description.bytes,
                bytes_max: options.bytes_max,
            });
        }
        let durable = match resume(folder, description) {
            Some(durable) => durable,
            None => {
                discard(folder)?;
                0
            }
        };
        let path = content(folder);
        let failed = |error| SnapshotError::io("open", &path, error);
        fs::create_dir_all(folder.join(FOLDER)).map_err(failed)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        require_space(&path, &file, description.bytes - durable, &options)?;
        // What came after the last note may be there in part: a power cut keeps no order.
        file.set_len(durable).map_err(failed)?;
        let incoming = Incoming {
            folder: folder.to_owned(),
            options,
            description,
            file,
            received: durable,
            durable,
            turn,
        };
        incoming.note()?;
        sealed::sync_parent(&path).map_err(failed)?;
        Ok(incoming)
    }

    /// Which snapshot it is.
    pub fn description(&self) -> Description {
        self.description
    }

    /// How many bytes are here: the offset of the next chunk.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Writes the next chunk.
    ///
    /// # Errors
    /// [`SnapshotError::Gap`] for one that does not follow on what is here, [`SnapshotError::TooLong`] for one that goes beyond the
    /// end; [`SnapshotError::NoSpace`] when the disk has no room: it may be given again when there is.
    pub fn append(&mut self, offset: u64, chunk: &[u8]) -> Result<(), SnapshotError> {
        if offset != self.received {
            return Err(SnapshotError::Gap {
                expected: self.received,
                found: offset,
            });
        }
        if chunk.len() as u64 > self.description.bytes - self.received {
            return Err(SnapshotError::TooLong {
                bytes: self.description.bytes,
            });
        }
        self.options
            .fault
            .at(Point::Receive)
            .and_then(|()| self.file.write_all_at(chunk, offset))
            .map_err(|error| self.failed("write", error))?;
        self.received += chunk.len() as u64;
        if self.received - self.durable >= SYNC_BYTES {
            self.sync()?;
            require_space(&content(&self.folder), &self.file, 0, &self.options)?;
        }
        Ok(())
    }

    /// Makes durable what is here, so that no crash costs more than what comes after.
    ///
    /// # Errors
    /// What the system answers.
    pub fn sync(&mut self) -> Result<(), SnapshotError> {
        self.options
            .fault
            .at(Point::Sync)
            .and_then(|()| self.file.sync_data())
            .map_err(|error| self.failed("flush", error))?;
        self.durable = self.received;
        self.note()
    }

    /// Checks that what is here is what was sent, and that it is a sound file. Reads it twice, with little memory; a
    /// snapshot that is neither is removed.
    ///
    /// # Errors
    /// [`SnapshotError::Incomplete`] while chunks are missing, [`SnapshotError::Digest`] and [`SnapshotError::Damaged`].
    pub fn finish(mut self) -> Result<Received, SnapshotError> {
        if self.received != self.description.bytes {
            return Err(SnapshotError::Incomplete {
                received: self.received,
                bytes: self.description.bytes,
            });
        }
        self.sync()?;
        match self.check() {
            Ok(()) => Ok(Received::new(
                self.folder.clone(),
                self.description,
                self.options.clone(),
                Arc::clone(&self.turn),
            )),
            Err(error) => {
                if !matches!(error, SnapshotError::Io { .. }) {
                    discard(&self.folder)?;
                }
                Err(error)
            }
        }
    }

    fn check(&self) -> Result<(), SnapshotError> {
        let found = self
            .digest()
            .map_err(|error| self.failed("read", error))?
            .finish();
        if found != self.description.id {
            return Err(SnapshotError::Digest {
                expected: self.description.id,
                found,
            });
        }
        let path = content(&self.folder);
        verify_copy(&path).map_err(|damage| SnapshotError::Damaged { path, damage })
    }

    fn digest(&self) -> io::Result<Digest> {
        let mut digest = Digest::new();
        let mut piece = vec![0; PIECE_BYTES];
        let mut offset = 0;
        loop {
            match self.file.read_at(&mut piece, offset) {
                Ok(0) => return Ok(digest),
                Ok(count) => {
                    digest.update(&piece[..count]);
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn note(&self) -> Result<(), SnapshotError> {
        let record = Record {
            description: self.description,
            durable: self.durable,
        };
        let path = self.folder.join(RECORD);
        sealed::replace(&path, &record).map_err(|error| SnapshotError::io("write", &path, error))
    }

    fn failed(&self, action: &'static str, error: io::Error) -> SnapshotError {
        SnapshotError::io(action, content(&self.folder), error)
    }
}

/// How much of this snapshot is durable here; none if another one is here, or none, or its record cannot be believed.
fn resume(folder: &Path, description: Description) -> Option<u64> {
    let text = fs::read(folder.join(RECORD)).ok()?;
    let record: Record = serde_json::from_str(sealed::unseal(&text).ok()?).ok()?;
    let bytes = fs::metadata(content(folder)).ok()?.len();
    let fits = record.durable <= bytes.min(description.bytes);
    (record.description == description && fits).then_some(record.durable)
}

/// Whether anything was received and not installed.
pub(crate) fn is_there(folder: &Path) -> bool {
    folder.join(FOLDER).exists()
}

/// Removes what was received. The record first: without it nobody believes the rest.
pub(crate) fn discard(folder: &Path) -> Result<(), SnapshotError> {
    forget(folder)?;
    let path = folder.join(FOLDER);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SnapshotError::io("remove", &path, error))
        }
        _ => Ok(()),
    }
}

/// Removes the record, durably.
pub(crate) fn forget(folder: &Path) -> Result<(), SnapshotError> {
    let record = folder.join(RECORD);
    remove_file(&record)?;
    sealed::sync_parent(&record).map_err(|error| SnapshotError::io("remove", &record, error))
}

/// Where the content lies.
pub(crate) fn content(folder: &Path) -> PathBuf {
    folder.join(FOLDER).join(DATA_FILE)
}
