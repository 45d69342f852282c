//! A snapshot in a file: told from other files, and checked.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use rm_kv::Summary;
use rm_store::{Environment, Options, SnapshotId, verify_copy};

use crate::error::BackupError;

/// How many bytes of digest lie behind the state.
pub const DIGEST_BYTES: usize = SHA256_OUTPUT_LEN;

/// Every size of a page is a multiple of this, and no digest is: so the length of a file tells whether one is in it.
const PAGE_UNIT: u64 = 4096;

/// Where both LMDB and bbolt have a number of their own, behind the header of the first page.
const MAGIC_AT: usize = 16;
const LMDB_MAGIC: u32 = 0xBEEF_C0DE;
const BBOLT_MAGIC: u32 = 0xED0C_DAED;

/// How much of a file is held in memory at once.
const PIECE_BYTES: usize = 256 << 10;

/// A file that looks like a snapshot: its pages, and a digest that is not checked yet.
#[derive(Debug)]
pub struct Saved {
    path: PathBuf,
    file: File,
    state_bytes: u64,
    told: SnapshotId,
}

impl Saved {
    /// Opens a file and looks at its beginning, its end and its length.
    ///
    /// # Errors
    /// [`BackupError::Truncated`], [`BackupError::NoDigest`], [`BackupError::Etcd`], [`BackupError::Foreign`], or what the system answers.
    pub fn open(path: &Path) -> Result<Saved, BackupError> {
        let failed = |source| BackupError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        };
        let path = path.to_owned();
        let file = File::open(&path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let mut head = [0; MAGIC_AT + 4];
        if bytes < head.len() as u64 {
            return Err(BackupError::Truncated { path, bytes });
        }
        file.read_exact_at(&mut head, 0).map_err(failed)?;
        let magic = head.last_chunk().copied().map(u32::from_ne_bytes);
        match magic {
            Some(LMDB_MAGIC) => {}
            Some(BBOLT_MAGIC) => return Err(BackupError::Etcd { path }),
            _ => {
                let reason = "it does not begin as one does";
                return Err(BackupError::Foreign { path, reason });
            }
        }
        let state_bytes = match bytes % PAGE_UNIT {
            0 => return Err(BackupError::NoDigest { path }),
            rest if rest == DIGEST_BYTES as u64 && bytes > PAGE_UNIT => bytes - rest,
            _ => return Err(BackupError::Truncated { path, bytes }),
        };
        let mut told = SnapshotId([0; DIGEST_BYTES]);
        file.read_exact_at(&mut told.0, state_bytes)
            .map_err(failed)?;
        Ok(Saved {
            path,
            file,
            state_bytes,
            told,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes the state in it has.
    pub fn state_bytes(&self) -> u64 {
        self.state_bytes
    }

    /// The SHA-256 that lies behind the state.
    pub fn digest(&self) -> SnapshotId {
        self.told
    }

    /// The bytes of the state, from the first on.
    pub(crate) fn content(&self) -> impl Read {
        Content {
            saved: self,
            offset: 0,
        }
    }

    /// Compares the state with its digest, and checks every page of it. `each` is told of the bytes so far.
    ///
    /// # Errors
    /// [`BackupError::Digest`] and [`BackupError::Unsound`], or what the system answers.
    pub fn check(&self, each: &dyn Fn(u64)) -> Result<(), BackupError> {
        let failed = |source| BackupError::Io {
            action: "read",
            path: self.path.clone(),
            source,
        };
        let mut digest = Context::new(&SHA256);
        let mut piece = vec![0; PIECE_BYTES];
        let (mut content, mut read) = (self.content(), 0);
        loop {
            match content.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => {
                    digest.update(&piece[..count]);
                    read += count as u64;
                    each(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let mut found = SnapshotId([0; DIGEST_BYTES]);
        found.0.copy_from_slice(digest.finish().as_ref());
        let path = self.path.clone();
        if found != self.told {
            let told = self.told;
            return Err(BackupError::Digest { path, told, found });
        }
        verify_copy(&self.path).map_err(|damage| BackupError::Unsound { path, damage })
    }

    /// What is in it. All of it is read, and every record compared with its checksum; it must have been [checked](Saved::check) before. `each`
    /// is told of the changes so far.
    ///
    /// # Errors
    /// [`BackupError::Foreign`], [`BackupError::Newer`], [`BackupError::Record`], or what the system answers.
    pub fn summary(&self, each: &dyn Fn(u64)) -> Result<Summary, BackupError> {
        let environment = Environment::inspect(&self.path, &Options::default())?;
        rm_kv::summary(&environment, each).map_err(BackupError::keyspace(self.path.clone()))
    }
}

/// The state in a file, read from its beginning.
struct Content<'a> {
    saved: &'a Saved,
    offset: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.saved.state_bytes - self.offset;
        let room = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.saved.file.read_at(&mut buffer[..room], self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
