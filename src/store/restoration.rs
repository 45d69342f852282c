//! A data directory that is made of a snapshot. Its `identity.json` comes last: until then it is none, whatever a crash leaves.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use rm_raft::EntryId;

use crate::{
    DataDirectory, Environment, Identity, Log, LogError, OpenError, Options, SnapshotError,
    SnapshotId,
    directory::{LOCK_FILE, create_durably, take_lock},
    environment::DATA_FILE,
    identity::Record,
    sealed,
    snapshot::{Digest, PIECE_BYTES, remove_file},
    states,
    verify::verify_copy,
};

/// The folder in the directory to be that all of it is made in.
pub(crate) const MAKING: &str = "restoring";

/// The environment of the log.
const LOG: &str = "log";

/// After so many bytes of the state they are made durable, so that the last flush takes no long time.
const SYNC_BYTES: u64 = 16 << 20;

/// Why no data directory was made of a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is something in the folder.
    #[error(
        "{path} is not empty, {found} is in it: restore into an empty folder, or one that is not there; what a machine has promised on its data \
         would be forgotten"
    )]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// Something in it.
        found: String,
    },
    /// The content is not what it should be.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The directory or the state cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log cannot be made.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A data directory in the making. Dropped unfinished, it leaves what the next attempt removes, and what no machine starts on.
#[derive(Debug)]
pub struct Restoration {
    target: PathBuf,
    making: DataDirectory,
    options: Options,
    /// Keeps a machine, and another attempt, from the directory to be.
    _lock: File,
}

impl Restoration {
    /// Begins to make the data directory of `identity` in a folder that is empty, or is not there, or holds what an attempt before this
    /// one left.
    ///
    /// # Errors
    /// [`RestoreError::Occupied`] for a folder that holds anything else; what the system answers.
    pub fn begin(
        target: &Path,
        identity: &Identity,
        options: &Options,
    ) -> Result<Restoration, RestoreError> {
        let failed = |error| OpenError::io("create", target, error);
        create_durably(target).map_err(failed)?;
        require_free(target)?;
        let lock = take_lock(target)?;
        for name in [MAKING, LOG, &states::name(0)] {
            remove_folder(&target.join(name))?;
        }
        let making = DataDirectory::open(&target.join(MAKING), identity)?;
        sealed::sync_parent(&target.join(MAKING)).map_err(failed)?;
        Ok(Restoration {
            target: target.to_owned(),
            making,
            options: options.clone(),
            _lock: lock,
        })
    }

    /// Copies the state of a snapshot, so many bytes of which the name must be `id`, and opens it. `each` is told of the bytes so far.
    ///
    /// # Errors
    /// [`SnapshotError::Incomplete`], [`SnapshotError::Digest`] and [`SnapshotError::Damaged`] for content that is not what it should be; what
    /// the system answers.
    pub fn take_state(
        &self,
        mut content: impl Read,
        bytes: u64,
        id: SnapshotId,
        each: &dyn Fn(u64),
    ) -> Result<Environment, RestoreError> {
        let name = states::name(0);
        let folder = self.making.path().join(&name);
        let path = folder.join(DATA_FILE);
        let failed = |error| SnapshotError::io("write", &path, error);
        fs::create_dir(&folder).map_err(failed)?;
        let found = copy(&mut content, &path, bytes, each)?;
        if found != id {
            let expected = id;
            return Err(SnapshotError::Digest { expected, found }.into());
        }
        if let Err(damage) = verify_copy(&path) {
            return Err(SnapshotError::Damaged { path, damage }.into());
        }
        Environment::adopt(&folder, &self.making.data_id(), &name, &self.options)?;
        remove_file(&folder.join("lock.mdb"))?;
        sealed::sync_parent(&path).map_err(failed)?;
        sealed::sync_parent(&folder).map_err(failed)?;
        self.making.remember(&name)?;
        Ok(Environment::open(&self.making, &name, &self.options)?)
    }

    /// Makes the log, which goes on behind the last entry that the state has applied. Who takes part, the config says: no entry tells.
    ///
    /// # Errors
    /// What the log answers.
    pub fn begin_log(&self, applied: EntryId) -> Result<(), RestoreError> {
        let log = Log::open(&Environment::open(&self.making, LOG, &self.options)?)?;
        let mut append = log.begin()?;
        append.begin_behind(applied)?;
        append.commit()?;
        Ok(())
    }

    /// Puts all of it where it belongs. What was opened of it must be closed.
    ///
    /// # Errors
    /// What the system answers; it may be begun anew then.
    pub fn finish(self) -> Result<(), RestoreError> {
        let making = self.making.path().to_owned();
        let record = Record::path(Path::new(""));
        // The identity last: it says that the rest is there.
        for name in [Path::new(LOG), Path::new(&states::name(0)), &record] {
            let (from, to) = (making.join(name), self.target.join(name));
            fs::rename(&from, &to)
                .and_then(|()| sealed::sync_parent(&to))
                .map_err(|error| OpenError::io("rename", &from, error))?;
        }
        drop(self.making);
        remove_folder(&making)?;
        sealed::sync_parent(&making).map_err(|error| OpenError::io("remove", &making, error))?;
        Ok(())
    }
}

/// Refuses a folder in which anything lies that no attempt before this one left there.
fn require_free(target: &Path) -> Result<(), RestoreError> {
    let failed = |error| OpenError::io("list", target, error);
    let is_unfinished = target.join(MAKING).exists() && !Record::path(target).exists();
    let state = states::name(0);
    for entry in fs::read_dir(target).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let left = [MAKING, LOG, &state].iter().any(|left| name == *left);
        // A file system that has the folder for itself has a folder of its own in it.
        if name != LOCK_FILE && name != "lost+found" && !(left && is_unfinished) {
            return Err(RestoreError::Occupied {
                path: target.to_owned(),
                found: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}

/// Copies so many bytes into a new file, durably, and tells their digest.
fn copy(
    content: &mut impl Read,
    path: &Path,
    bytes: u64,
    each: &dyn Fn(u64),
) -> Result<SnapshotId, SnapshotError> {
    let failed = |error| SnapshotError::io("write", path, error);
    let mut file = File::create_new(path).map_err(failed)?;
    let mut digest = Digest::new();
    let mut piece = vec![0; PIECE_BYTES];
    let (mut received, mut synced) = (0, 0);
    while received < bytes {
        let room = piece.len().min((bytes - received) as usize);
        let count = match content.read(&mut piece[..room]) {
            Ok(0) => return Err(SnapshotError::Incomplete { received, bytes }),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(SnapshotError::io("read the content of", path, error)),
        };
        io::Write::write_all(&mut file, &piece[..count]).map_err(failed)?;
        digest.update(&piece[..count]);
        received += count as u64;
        if received - synced >= SYNC_BYTES {
            file.sync_data().map_err(failed)?;
            synced = received;
        }
        each(received);
    }
    file.sync_all().map_err(failed)?;
    Ok(digest.finish())
}

fn remove_folder(path: &Path) -> Result<(), OpenError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(OpenError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SnapshotOptions, Snapshots, testing::identity};
    use rm_raft::{Index, Term};

    const APPLIED: EntryId = EntryId {
        term: Term(4),
        index: Index(90),
    };

    /// A snapshot of an empty state.
    fn content(folder: &Path) -> (Vec<u8>, SnapshotId) {
        let directory = DataDirectory::open(&folder.join("source"), &identity()).unwrap();
        let state = Environment::open_state(&directory, 0, &Options::default()).unwrap();
        let snapshots = Snapshots::open(&directory, SnapshotOptions::default()).unwrap();
        let file = snapshots.make_passing(&state, |_| true).unwrap();
        let mut bytes = vec![0; file.description().bytes as usize];
        file.read(0, &mut bytes).unwrap();
        (bytes, file.description().id)
    }

    /// Does all but to put it where it belongs.
    fn prepared(target: &Path, content: &(Vec<u8>, SnapshotId)) -> Restoration {
        let begun = Restoration::begin(target, &identity(), &Options::default());
        let restoration = begun.unwrap();
        let (bytes, id) = content;
        let state = restoration.take_state(&bytes[..], bytes.len() as u64, *id, &|_| ());
        drop(state.unwrap());
        restoration.begin_log(APPLIED).unwrap();
        restoration
    }

    fn assert_restored(target: &Path) {
        let directory = DataDirectory::open(target, &identity()).unwrap();
        let environment = Environment::open(&directory, LOG, &Options::default());
        let log = Log::open(&environment.unwrap()).unwrap();
        let loaded = log.load().unwrap();
        assert_eq!((loaded.base, loaded.last), (APPLIED, APPLIED));
        assert_eq!(loaded.hard_state.commit, APPLIED.index);
        Environment::open_state(&directory, loaded.generation, &Options::default()).unwrap();
        assert!(!target.join(MAKING).exists(), "nothing else is left");
    }

    #[test]
    fn a_crash_at_any_step_leaves_no_data_or_all_of_it() {
        let folder = tempfile::TempDir::new().unwrap();
        let content = content(folder.path());
        let names = [LOG, "state", "identity.json"];
        for moved in 0..=names.len() {
            let target = folder.path().join(format!("crash {moved}"));
            drop(prepared(&target, &content));
            for name in &names[..moved] {
                fs::rename(target.join(MAKING).join(name), target.join(name)).unwrap();
            }
            if moved == names.len() {
                assert_restored(&target);
                continue;
            }
            let error = DataDirectory::open(&target, &identity()).expect_err("it is none yet");
            assert!(matches!(error, OpenError::Unfinished { .. }), "{error}");
            prepared(&target, &content)
                .finish()
                .expect("it is begun anew");
            assert_restored(&target);
        }
    }

    #[test]
    fn no_machine_and_no_other_restoration_gets_in_between() {
        let folder = tempfile::TempDir::new().unwrap();
        let content = content(folder.path());
        let target = folder.path().join("target");
        let restoration = prepared(&target, &content);
        let error = DataDirectory::open(&target, &identity()).expect_err("it is being made");
        assert!(matches!(error, OpenError::Locked { .. }), "{error}");
        let other = Restoration::begin(&target, &identity(), &Options::default());
        let error = other.expect_err("it is being made");
        assert!(
            matches!(error, RestoreError::Open(OpenError::Locked { .. })),
            "{error}"
        );
        restoration.finish().unwrap();
        assert_restored(&target);
    }

    #[test]
    fn content_that_ends_early_or_is_another_is_refused() {
        let folder = tempfile::TempDir::new().unwrap();
        let (bytes, id) = content(folder.path());
        let take = |bytes: &[u8], told: u64| {
            let target = folder.path().join("target");
            let begun = Restoration::begin(&target, &identity(), &Options::default());
            let taken = begun.unwrap().take_state(bytes, told, id, &|_| ());
            match taken.expect_err("it is refused") {
                RestoreError::Snapshot(error) => error,
                other => panic!("{other}"),
            }
        };
        let error = take(&bytes[..4096], bytes.len() as u64);
        assert!(matches!(error, SnapshotError::Incomplete { .. }), "{error}");
        let error = take(&bytes, 4096);
        assert!(matches!(error, SnapshotError::Digest { .. }), "{error}");
    }
}
