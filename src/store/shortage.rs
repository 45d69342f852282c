//! Whether a write that failed did so for want of space.
//!
//! LMDB reports a write that was cut short as an I/O error, the very one of a failing disk. A full file system shows in its
//! numbers; a user's or a project's quota only to whoever writes.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use rustix::io::Errno;

use crate::error::{heed_is_no_space, io_is_no_space};

/// Where less is free, in bytes, it was the space.
const HARDLY_ANYTHING_BYTES: u64 = 1 << 20;

/// What a probe writes, in bytes: more than a quota has left that has just cut a write short.
const PROBE_BYTES: usize = 64 << 10;

/// The file that a probe writes. One that a crash left behind is replaced by the next probe, and removed.
const PROBE_FILE: &str = "space.probe";

/// Names the want of space where that is why a commit failed, and leaves every other error as it is.
///
/// `free_bytes` tells what the file system says is free, if it says so, and `probe` is what became of a small write beside
/// the file.
pub(crate) fn explain(
    error: heed::Error,
    free_bytes: impl FnOnce() -> Option<u64>,
    probe: impl FnOnce() -> io::Result<()>,
) -> heed::Error {
    let is_input_output =
        matches!(&error, heed::Error::Io(error) if Errno::from_io_error(error) == Some(Errno::IO));
    if heed_is_no_space(&error) || !is_input_output {
        return error;
    }
    if free_bytes().is_some_and(|bytes| bytes < HARDLY_ANYTHING_BYTES) {
        return heed::Error::Io(io::Error::from(Errno::NOSPC));
    }
    match probe() {
        Err(shortage) if io_is_no_space(&shortage) => heed::Error::Io(shortage),
        // A probe that fails in another way says no more than the commit did.
        Ok(()) | Err(_) => error,
    }
}

/// Writes a small file into a folder, durably, and removes it again.
pub(crate) fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join(PROBE_FILE);
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&[1; PROBE_BYTES])?;
        file.sync_all()
    });
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => written.and(Err(error)),
        _ => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUCH: Option<u64> = Some(1 << 40);

    fn cut_short() -> heed::Error {
        heed::Error::Io(Errno::IO.into())
    }

    fn fails(errno: Errno) -> impl FnOnce() -> io::Result<()> {
        move || Err(errno.into())
    }

    #[test]
    fn a_write_cut_short_by_a_quota_is_a_want_of_space_though_much_is_free() {
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            for free in [MUCH, None] {
                let error = explain(cut_short(), || free, fails(errno));
                assert!(heed_is_no_space(&error), "{errno}: {error}");
            }
        }
    }

    #[test]
    fn a_full_file_system_needs_no_probe() {
        let error = explain(
            cut_short(),
            || Some(HARDLY_ANYTHING_BYTES - 1),
            || panic!("its numbers say enough"),
        );
        assert!(heed_is_no_space(&error), "{error}");
    }

    #[test]
    fn a_disk_that_fails_is_not_taken_for_a_full_one() {
        for probe in [Ok(()), Err(Errno::IO.into()), Err(Errno::ROFS.into())] {
            let error = explain(cut_short(), || MUCH, || probe);
            assert!(
                matches!(&error, heed::Error::Io(error) if Errno::from_io_error(error) == Some(Errno::IO)),
                "{error}"
            );
        }
    }

    #[test]
    fn an_error_that_explains_itself_is_not_looked_into() {
        let untouched = |error| explain(error, || panic!("no"), || panic!("no"));
        let full = untouched(heed::Error::Mdb(heed::MdbError::MapFull));
        assert!(heed_is_no_space(&full), "{full}");
        let refused = untouched(heed::Error::Io(Errno::ACCESS.into()));
        assert!(!heed_is_no_space(&refused), "{refused}");
    }

    #[test]
    fn a_probe_leaves_nothing_behind_and_says_what_the_system_said() {
        let folder = tempfile::TempDir::new().unwrap();
        fs::write(folder.path().join(PROBE_FILE), "of a crash").unwrap();
        for _ in 0..2 {
            probe(folder.path()).expect("there is space");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
        let error = probe(&folder.path().join("gone")).expect_err("there is no folder");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
