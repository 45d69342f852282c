//! Makes a snapshot: a compact copy of an environment as of its last commit, digested on its way to the file.
//!
//! LMDB writes the copy into a pipe, and what comes out is written here. So the copy can be stopped, a full disk is met by
//! the reserve and not by LMDB, and the file is not read again for its digest. LMDB's copy without compaction is no choice: it waits
//! for the writer, who keeps a transaction open for as long as a checkpoint lasts.

use std::{
    fs::File,
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::OwnedFd,
    panic,
    path::Path,
    thread,
};

use heed::CompactionOption;

use crate::{
    Environment, Point, SnapshotError, SnapshotFile, SnapshotOptions,
    snapshot::{Description, Digest, PIECE_BYTES, remove_file, require_space},
};

/// After so many bytes the copy looks at the space of the disk again and makes durable what it has.
const SYNC_BYTES: u64 = 16 << 20;

/// A new file for a copy, in the place of one that was left there.
pub(crate) fn create(path: &Path) -> Result<File, SnapshotError> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .map_err(|error| SnapshotError::io("write", path, error))
}

/// A new file that has no name any more: it goes with its last handle, even after a crash.
pub(crate) fn create_unnamed(path: &Path) -> Result<File, SnapshotError> {
    let file = create(path)?;
    remove_file(path)?;
    Ok(file)
}

/// Copies the last commit of an environment into a new file, durably. The path is what errors tell.
pub(crate) fn fill(
    environment: &Environment,
    path: &Path,
    mut file: File,
    options: &SnapshotOptions,
    goes_on: &dyn Fn(u64) -> bool,
) -> Result<SnapshotFile, SnapshotError> {
    let used_bytes = environment.space()?.used_bytes;
    require_space(path, &file, used_bytes, options)?;
    let (from, to) = io::pipe().map_err(|error| SnapshotError::io("write", path, error))?;
    let mut target = Target {
        path,
        file: &mut file,
        options,
        goes_on,
    };
    let description = thread::scope(|scope| {
        let copying = scope.spawn(|| pour(environment, to));
        // When it fails, the pipe is closed behind it, and LMDB's next write ends the copy.
        let written = target.take(from);
        let copied = copying
            .join()
            .unwrap_or_else(|payload| panic::resume_unwind(payload));
        let description = written?;
        copied?;
        Ok::<_, SnapshotError>(description)
    })?;
    Ok(SnapshotFile {
        description,
        path: path.to_owned(),
        file,
    })
}

fn pour(environment: &Environment, to: PipeWriter) -> heed::Result<()> {
    let mut to = File::from(OwnedFd::from(to));
    environment
        .env()
        .copy_to_file(&mut to, CompactionOption::Enabled)
}

/// The file that a copy goes to.
struct Target<'a> {
    path: &'a Path,
    file: &'a mut File,
    options: &'a SnapshotOptions,
    goes_on: &'a dyn Fn(u64) -> bool,
}

impl Target<'_> {
    /// Writes what comes out of the pipe to its end.
    fn take(&mut self, mut from: PipeReader) -> Result<Description, SnapshotError> {
        let mut digest = Digest::new();
        let mut piece = vec![0; PIECE_BYTES];
        let (mut bytes, mut synced) = (0_u64, 0);
        loop {
            if !(self.goes_on)(bytes) {
                return Err(SnapshotError::Stopped);
            }
            let count = match from.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed(error)),
            };
            self.write(&piece[..count])
                .map_err(|error| self.failed(error))?;
            digest.update(&piece[..count]);
            bytes += count as u64;
            if bytes - synced >= SYNC_BYTES {
                // A little at a time, so that the last flush does not hold up the log's for long.
                self.file.sync_data().map_err(|error| self.failed(error))?;
                require_space(self.path, self.file, 0, self.options)?;
                synced = bytes;
            }
        }
        self.file.sync_all().map_err(|error| self.failed(error))?;
        let id = digest.finish();
        Ok(Description { id, bytes })
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.options.fault.at(Point::Copy)?;
        self.file.write_all(piece)
    }

    fn failed(&self, error: io::Error) -> SnapshotError {
        SnapshotError::io("write", self.path, error)
    }
}
