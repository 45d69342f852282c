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
    Environment, Point, SnapshotError, SnapshotOptions,
    snapshot::{Description, Digest, PIECE_BYTES, require_space},
};

/// After so many bytes the copy looks at the space of the disk again and makes durable what it has.
const SYNC_BYTES: u64 = 16 << 20;

/// Copies the last commit of an environment into a new file, durably.
pub(crate) fn copy(
    environment: &Environment,
    path: &Path,
    options: &SnapshotOptions,
    goes_on: &dyn Fn(u64) -> bool,
) -> Result<Description, SnapshotError> {
    let failed = |error| SnapshotError::io("write", path, error);
    let mut file = File::create(path).map_err(failed)?;
    let used_bytes = environment.space()?.used_bytes;
    require_space(path, &file, used_bytes, options)?;
    let (from, to) = io::pipe().map_err(failed)?;
    let mut target = Target {
        path,
        file: &mut file,
        options,
        goes_on,
    };
    thread::scope(|scope| {
        let copying = scope.spawn(|| fill(environment, to));
        // When it fails, the pipe is closed behind it, and LMDB's next write ends the copy.
        let written = target.take(from);
        let copied = copying
            .join()
            .unwrap_or_else(|payload| panic::resume_unwind(payload));
        let description = written?;
        copied?;
        Ok(description)
    })
}

fn fill(environment: &Environment, to: PipeWriter) -> heed::Result<()> {
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
