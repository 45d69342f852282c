//! Snapshots in a data directory: what names one, the file that is sent, and the folder where they lie.
//!
//! A snapshot is a compact copy of the state's LMDB file as of one commit. The SHA-256 of the file is its name, so that a
//! transfer that is resumed never mixes two of them and a receiver knows that it has what was sent.

use std::{
    fmt,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use serde::{Deserialize, Serialize};

use crate::{
    DataDirectory, Environment, FaultHook, Incoming, Options, SnapshotError, incoming, outgoing,
    sealed,
};

/// The folder in a data directory that snapshots are made and received in.
const FOLDER: &str = "snapshot";

/// What the name of a file that is sent begins with; its id follows.
const OUTGOING: &str = "outgoing-";

/// The name that a passing copy has while it is begun. What begins like a file that is sent and is none is removed at the next opening.
const PASSING: &str = "outgoing.passing";

/// How much of a file is held in memory at once.
pub(crate) const PIECE_BYTES: usize = 256 << 10;

/// The name of a snapshot: the SHA-256 of its file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SnapshotId(pub [u8; SHA256_OUTPUT_LEN]);

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotId({self})")
    }
}

impl From<SnapshotId> for String {
    fn from(id: SnapshotId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for SnapshotId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<SnapshotId, &'static str> {
        let wrong = "the name of a snapshot is 64 hexadecimal digits";
        let mut id = SnapshotId([0; SHA256_OUTPUT_LEN]);
        if text.len() != 2 * SHA256_OUTPUT_LEN || !text.is_ascii() {
            return Err(wrong);
        }
        for (place, byte) in id.0.iter_mut().enumerate() {
            let digits = &text[2 * place..2 * place + 2];
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong)?;
        }
        // `from_str_radix` takes a sign, and capitals, which this program never writes.
        if id.to_string() == text {
            Ok(id)
        } else {
            Err(wrong)
        }
    }
}

/// What a sender tells a receiver before the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The snapshot's name.
    pub id: SnapshotId,
    /// The size of its file, in bytes.
    pub bytes: u64,
}

/// What bounds the making and receiving of snapshots.
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// Bytes of the disk that no snapshot may take.
    pub reserve_bytes: u64,
    /// The largest snapshot that is received, in bytes; as much as the map of the state may hold.
    pub bytes_max: u64,
    /// Makes each step fail, for tests.
    pub fault: FaultHook,
}

impl Default for SnapshotOptions {
    fn default() -> SnapshotOptions {
        SnapshotOptions {
            reserve_bytes: 0,
            bytes_max: 1 << 40,
            fault: FaultHook::default(),
        }
    }
}

/// The snapshots of a data directory: the newest that was made here, and the one that is being received.
#[derive(Debug)]
pub struct Snapshots {
    folder: PathBuf,
    pub(crate) options: SnapshotOptions,
    newest: Mutex<Option<Arc<SnapshotFile>>>,
    /// Held while a snapshot is made: two at once would take twice the space.
    making: Mutex<()>,
    /// Shared by whoever receives a snapshot: two would write into the same file.
    receiving: Arc<()>,
}

impl Snapshots {
    /// Opens the folder of snapshots. The newest that was made before is there again, so that a transfer may go on after a
    /// restart of its sender.
    ///
    /// # Errors
    /// What the system answers.
    pub fn open(
        directory: &DataDirectory,
        options: SnapshotOptions,
    ) -> Result<Snapshots, SnapshotError> {
        let folder = directory.path().join(FOLDER);
        let newest = fs::create_dir_all(&folder)
            .and_then(|()| sealed::sync_parent(&folder))
            .and_then(|()| find_outgoing(&folder))
            .map_err(|error| SnapshotError::io("open", &folder, error))?;
        Ok(Snapshots {
            folder,
            options,
            newest: Mutex::new(newest.map(Arc::new)),
            making: Mutex::new(()),
            receiving: Arc::new(()),
        })
    }

    /// The newest snapshot that was made here.
    pub fn newest(&self) -> Option<Arc<SnapshotFile>> {
        self.newest_slot().clone()
    }

    /// Removes the newest snapshot that was made here; its space is given back when nobody reads it any more.
    ///
    /// # Errors
    /// What the system answers.
    pub fn remove_newest(&self) -> Result<(), SnapshotError> {
        match self.newest_slot().take() {
            Some(newest) => remove_file(&newest.path),
            None => Ok(()),
        }
    }

    /// Makes a snapshot of the last commit, on any thread, while the writer goes on. It replaces the one before, whose file
    /// takes space for as long as a transfer reads it.
    ///
    /// Until the copy is complete, pages that the writer frees are not used again, so the state's file may grow.
    ///
    /// # Errors
    /// [`SnapshotError::NoSpace`] when the disk would have less left than its reserve, [`SnapshotError::Stopped`] soon after `goes_on`,
    /// which is told the bytes so far, says no.
    pub fn make(
        &self,
        environment: &Environment,
        goes_on: impl Fn(u64) -> bool,
    ) -> Result<Arc<SnapshotFile>, SnapshotError> {
        let _turn = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let partial = self.folder.join("outgoing.partial");
        let created = outgoing::create(&partial);
        let made = created
            .and_then(|file| outgoing::fill(environment, &partial, file, &self.options, &goes_on));
        if made.is_err() {
            // Nothing is lost with it; should it stay, the next opening removes it.
            let _ = fs::remove_file(&partial);
        }
        let SnapshotFile {
            description, file, ..
        } = made?;
        let path = self.folder.join(format!("{OUTGOING}{}", description.id));
        fs::rename(&partial, &path)
            .and_then(|()| sealed::sync_parent(&path))
            .map_err(|error| SnapshotError::io("rename", &path, error))?;
        let file = Arc::new(SnapshotFile {
            description,
            path,
            file,
        });
        let older = self.newest_slot().replace(Arc::clone(&file));
        // Whoever reads it has it open.
        if let Some(older) = older.filter(|older| older.path != file.path) {
            remove_file(&older.path)?;
        }
        Ok(file)
    }

    /// Makes a snapshot as [`make`](Snapshots::make) does, for whoever takes it away: it replaces none, and its file has no name, so that
    /// its space comes back with the last reader, however that ends. One at a time is the caller's to see to.
    ///
    /// # Errors
    /// Those of [`make`](Snapshots::make).
    pub fn make_passing(
        &self,
        environment: &Environment,
        goes_on: impl Fn(u64) -> bool,
    ) -> Result<SnapshotFile, SnapshotError> {
        let path = self.folder.join(PASSING);
        let file = outgoing::create_unnamed(&path)?;
        outgoing::fill(environment, &path, file, &self.options, &goes_on)
    }

    /// Begins to receive a snapshot, or goes on with the same one after a break: [`Incoming::received`] tells from where. Another
    /// one that was not complete is removed. One is received at a time, until it is dropped or prepared.
    ///
    /// # Errors
    /// [`SnapshotError::Busy`] while another is received; [`SnapshotError::NoSpace`] when there is no room for all of it beside the reserve, [`SnapshotError::TooLarge`].
    pub fn receive(&self, description: Description) -> Result<Incoming, SnapshotError> {
        let turn = Arc::clone(&self.receiving);
        if Arc::strong_count(&turn) > 2 {
            return Err(SnapshotError::Busy);
        }
        Incoming::begin(&self.folder, description, self.options.clone(), turn)
    }

    /// Removes what was received of a snapshot that is not complete, and tells whether there was any.
    ///
    /// # Errors
    /// [`SnapshotError::Busy`] while one is received; else what the system answers.
    pub fn discard_received(&self) -> Result<bool, SnapshotError> {
        if Arc::strong_count(&self.receiving) > 1 {
            return Err(SnapshotError::Busy);
        }
        let was_there = incoming::is_there(&self.folder);
        incoming::discard(&self.folder)?;
        Ok(was_there)
    }

    fn newest_slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<SnapshotFile>>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A snapshot that was made here, to be read piece by piece.
#[derive(Debug)]
pub struct SnapshotFile {
    pub(crate) description: Description,
    pub(crate) path: PathBuf,
    pub(crate) file: File,
}

impl SnapshotFile {
    /// What to tell the receiver.
    pub fn description(&self) -> Description {
        self.description
    }

    /// Reads at most a buffer full from an offset, and returns how many bytes it was: zero at the end.
    ///
    /// # Errors
    /// What the system answers.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, SnapshotError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + filled as u64;
            match self.file.read_at(&mut buffer[filled..], at) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SnapshotError::io("read", &self.path, error)),
            }
        }
        Ok(filled)
    }

    /// Opens the snapshot to look into it, read-only.
    ///
    /// # Errors
    /// As of an environment; also when a newer snapshot has replaced this one, and of one whose file has no name.
    pub fn inspect(&self, options: &Options) -> Result<Environment, SnapshotError> {
        Ok(Environment::inspect(&self.path, options)?)
    }
}

/// The snapshot that an earlier process made, whose name proves that it was complete. What else begins so is removed.
fn find_outgoing(folder: &Path) -> io::Result<Option<SnapshotFile>> {
    let mut found = None;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| name.starts_with("outgoing")) else {
            continue;
        };
        let id = name
            .strip_prefix(OUTGOING)
            .and_then(|id| SnapshotId::try_from(id.to_owned()).ok());
        match id.filter(|_| found.is_none()) {
            Some(id) => {
                let file = File::open(&path)?;
                let bytes = file.metadata()?.len();
                let description = Description { id, bytes };
                found = Some(SnapshotFile {
                    description,
                    path,
                    file,
                });
            }
            None => fs::remove_file(&path)?,
        }
    }
    Ok(found)
}

/// Removes a file that need not be there.
pub(crate) fn remove_file(path: &Path) -> Result<(), SnapshotError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SnapshotError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// The digest of all bytes so far.
#[derive(Clone)]
pub(crate) struct Digest(Context);

impl Digest {
    pub(crate) fn new() -> Digest {
        Digest(Context::new(&SHA256))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> SnapshotId {
        let mut id = SnapshotId([0; SHA256_OUTPUT_LEN]);
        id.0.copy_from_slice(self.0.finish().as_ref());
        id
    }
}

/// Refuses to write where the disk would have less left than its reserve.
pub(crate) fn require_space(
    path: &Path,
    file: &File,
    bytes: u64,
    options: &SnapshotOptions,
) -> Result<(), SnapshotError> {
    let system = rustix::fs::fstatvfs(file)
        .map_err(|error| SnapshotError::io("ask for the space of", path, error.into()))?;
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    if free < bytes.saturating_add(options.reserve_bytes) {
        return Err(SnapshotError::NoSpace {
            path: path.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_nothing_else_is() {
        let mut digest = Digest::new();
        digest.update(b"content");
        let id = digest.finish();
        let text = id.to_string();
        assert_eq!(SnapshotId::try_from(text.clone()), Ok(id));
        let wrong = [
            text.to_uppercase(),
            text[1..].to_owned(),
            format!("+{}", &text[1..]),
            format!("{text}0"),
            "é".repeat(32),
        ];
        for text in wrong {
            SnapshotId::try_from(text).expect_err("it is no id");
        }
    }
}
