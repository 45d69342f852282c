//! The folder that holds all durable data of one machine: locked, identified, its boots counted.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    Damage, Extent, OpenError,
    environment::DATA_FILE,
    identity::{Identity, Record},
    origin,
    restoration::MAKING,
    verify::verify,
};

pub(crate) const LOCK_FILE: &str = "lock";

/// The data directory of one machine. While the value lives, no other process opens it.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    record: Mutex<Record>,
    /// Holds the lock until it is closed.
    _lock: File,
}

impl DataDirectory {
    /// Creates or opens the directory, locks it, checks that its data is of `identity`'s domain and machine, and counts a boot,
    /// durably. What else it says is only for a directory without data; [`identity`](DataDirectory::identity) tells what
    /// holds.
    ///
    /// # Errors
    /// [`OpenError::Locked`] while another process has it, [`OpenError::Removed`] for a machine that left its domain,
    /// [`OpenError::Foreign`] and [`OpenError::NewerFormat`] for data
    /// that is not this machine's or not this program's, [`OpenError::Identity`] and [`OpenError::Missing`] for a damaged one.
    pub fn open(path: &Path, identity: &Identity) -> Result<DataDirectory, OpenError> {
        create_durably(path).map_err(|error| OpenError::io("create", path, error))?;
        let lock = take_lock(path)?;
        settle_restoration(path)?;
        let mut record = own_record(path, identity)?;
        if record.removed {
            return Err(OpenError::Removed {
                path: path.to_owned(),
                machine: record.machine,
            });
        }
        record.boot += 1;
        record.write(path)?;
        Ok(DataDirectory {
            path: path.to_owned(),
            record: Mutex::new(record),
            _lock: lock,
        })
    }

    /// Checks every page of every file in a directory, however large, and returns what it found, a result for each file.
    ///
    /// Nothing is changed and no boot is counted, so a folder that may not be written does too. Meanwhile no machine opens
    /// the directory. Whether a file was made in this directory is not looked at: opening it does that.
    ///
    /// # Errors
    /// Those of [`open`](DataDirectory::open); of a file [`OpenError::Damaged`] and [`OpenError::Missing`].
    pub fn verify(
        path: &Path,
        identity: &Identity,
    ) -> Result<Vec<Result<SoundFile, OpenError>>, OpenError> {
        let _lock = share_lock(path)?;
        let record = own_record(path, identity)?;
        let files = record.environments.iter();
        Ok(files
            .map(|name| verify_file(path.join(name).join(DATA_FILE)))
            .collect())
    }

    /// Whether nothing is in this directory yet, or it is not there.
    ///
    /// # Errors
    /// What is there cannot be read.
    pub fn is_new(path: &Path) -> Result<bool, OpenError> {
        Ok(Record::read(path)?.is_none())
    }

    /// Whose data it is.
    pub fn identity(&self) -> Identity {
        self.with_record(|record| record.identity())
    }

    /// Notes, durably, that the machine takes part no more: it does not open this directory again.
    ///
    /// # Errors
    /// What the system answers.
    pub fn note_removed(&self) -> Result<(), OpenError> {
        self.with_record(|record| {
            let mut next = record.clone();
            next.removed = true;
            next.write(&self.path)?;
            *record = next;
            Ok(())
        })
    }

    /// Whether the machine once had, with this data, all that was committed at some moment.
    pub fn has_caught_up(&self) -> bool {
        self.with_record(|record| record.caught_up)
    }

    /// Notes, durably, that it has.
    ///
    /// # Errors
    /// What the system answers.
    pub fn note_caught_up(&self) -> Result<(), OpenError> {
        self.with_record(|record| {
            if !record.caught_up {
                let mut next = record.clone();
                next.caught_up = true;
                next.write(&self.path)?;
                *record = next;
            }
            Ok(())
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of this opening: one at the first, and never the same again, not even after a crash.
    pub fn boot(&self) -> u64 {
        self.with_record(|record| record.boot)
    }

    /// What every environment in it bears, and no file of another data directory.
    pub(crate) fn data_id(&self) -> String {
        self.with_record(|record| record.data_id.clone())
    }

    /// A number, drawn at random when the directory was made, that tells it from all others.
    pub fn data_number(&self) -> u128 {
        origin::data_number(&self.data_id()).expect("the record was checked when it was read")
    }

    /// Whether an environment of this name was here at an earlier moment.
    pub(crate) fn knows(&self, environment: &str) -> bool {
        self.with_record(|record| record.environments.contains(environment))
    }

    /// Remembers, durably, that the environment is here: from now on it may not be missing.
    pub(crate) fn remember(&self, environment: &str) -> Result<(), OpenError> {
        self.with_record(|record| {
            let mut next = record.clone();
            next.environments.insert(environment.to_owned());
            next.write(&self.path)?;
            *record = next;
            Ok(())
        })
    }

    /// Forgets an environment, durably: from now on it may be missing.
    pub(crate) fn forget(&self, environment: &str) -> Result<(), OpenError> {
        self.with_record(|record| {
            let mut next = record.clone();
            if next.environments.remove(environment) {
                next.write(&self.path)?;
                *record = next;
            }
            Ok(())
        })
    }

    /// The environments that are known to exist.
    pub(crate) fn environments(&self) -> BTreeSet<String> {
        self.with_record(|record| record.environments.clone())
    }

    fn with_record<T>(&self, f: impl FnOnce(&mut Record) -> T) -> T {
        // The record changes only as a whole, so a panic elsewhere cannot have left it half-changed.
        f(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A data file whose every page was found to be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoundFile {
    /// Where it is.
    pub path: PathBuf,
    /// How many pages it has; most often 4,096 bytes each.
    pub pages: u64,
}

fn verify_file(path: PathBuf) -> Result<SoundFile, OpenError> {
    match verify(&path, Extent::Everything) {
        Ok(pages) => Ok(SoundFile { path, pages }),
        Err(Damage::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            Err(OpenError::Missing { path })
        }
        Err(damage) => Err(OpenError::Damaged { path, damage }),
    }
}

/// Removes what a restoration left that came to its end, and refuses the directory of one that did not.
fn settle_restoration(path: &Path) -> Result<(), OpenError> {
    let making = path.join(MAKING);
    if !making.exists() {
        return Ok(());
    }
    if Record::read(path)?.is_none() {
        return Err(OpenError::Unfinished {
            path: path.to_owned(),
        });
    }
    fs::remove_dir_all(&making).map_err(|error| OpenError::io("remove", &making, error))
}

/// Creates a folder and whatever is missing above it. When this returns, a power cut takes none of their names away.
pub(crate) fn create_durably(path: &Path) -> io::Result<()> {
    let changed = folders_that_creating_changes(path);
    fs::create_dir_all(path)?;
    for folder in changed {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// The folders that gain a name when this one is created, the innermost first.
fn folders_that_creating_changes(path: &Path) -> Vec<&Path> {
    let missing = path
        .ancestors()
        .take_while(|each| !each.as_os_str().is_empty() && !each.exists());
    let parents = missing.filter_map(Path::parent);
    parents
        .map(|parent| {
            if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            }
        })
        .collect()
}

/// Takes the lock and leaves this process's id in the file, for the one that is refused.
pub(crate) fn take_lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(LOCK_FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| OpenError::io("open", &path, error))?;
    lock(
        directory,
        &mut file,
        FlockOperation::NonBlockingLockExclusive,
    )?;
    let sign = |file: &mut File| -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    sign(&mut file).map_err(|error| OpenError::io("write", &path, error))?;
    Ok(file)
}

/// Keeps others from taking the lock, and leaves the file as it is.
fn share_lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(LOCK_FILE);
    let mut file = File::open(&path).map_err(|error| OpenError::io("open", &path, error))?;
    lock(directory, &mut file, FlockOperation::NonBlockingLockShared)?;
    Ok(file)
}

fn lock(directory: &Path, file: &mut File, operation: FlockOperation) -> Result<(), OpenError> {
    match flock(&*file, operation) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            // Only for the message: whatever cannot be read is left out.
            let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            Err(OpenError::Locked {
                path: directory.to_owned(),
                holder: if known {
                    holder.trim().to_owned()
                } else {
                    "(unknown)".to_owned()
                },
            })
        }
        Err(error) => Err(OpenError::io(
            "lock",
            directory.join(LOCK_FILE),
            io::Error::from(error),
        )),
    }
}

/// The record of a directory, which must be this identity's.
fn own_record(path: &Path, identity: &Identity) -> Result<Record, OpenError> {
    let record = match Record::read(path)? {
        Some(record) => record,
        None => first_record(path, identity)?,
    };
    if (&record.domain, &record.machine) != (&identity.domain, &identity.machine) {
        return Err(OpenError::Foreign {
            path: path.to_owned(),
            found: record.identity().to_string(),
            expected: identity.to_string(),
        });
    }
    Ok(record)
}

/// The record of a directory that has none: right only where no data is.
fn first_record(path: &Path, identity: &Identity) -> Result<Record, OpenError> {
    let failed = |error| OpenError::io("list", path, error);
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().join(DATA_FILE).exists() {
            return Err(OpenError::Missing {
                path: Record::path(path),
            });
        }
    }
    Record::new(identity).map_err(|error| OpenError::io("draw a data id for", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_that_gains_a_name_is_made_durable() {
        let folder = tempfile::TempDir::new().unwrap();
        let there = folder.path();
        let path = there.join("domain/machine/data");
        assert_eq!(
            folders_that_creating_changes(&path),
            [
                &there.join("domain/machine"),
                &there.join("domain"),
                &there.to_path_buf()
            ]
        );
        create_durably(&path).unwrap();
        assert!(path.is_dir());
        assert!(folders_that_creating_changes(&path).is_empty());
        create_durably(&path).expect("what is there is taken as it is");
    }

    #[test]
    fn a_relative_name_ends_at_the_working_folder() {
        assert_eq!(
            folders_that_creating_changes(Path::new("no such folder/data")),
            [Path::new("no such folder"), Path::new(".")]
        );
    }
}
