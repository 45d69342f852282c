//! Why a snapshot file is refused, or cannot be restored.

use std::io;
use std::path::PathBuf;

use rm_kv::KvError;
use rm_store::{Damage, LogError, OpenError, RestoreError, SnapshotError, SnapshotId};

/// What to do about a file that is not what was saved.
const ANOTHER: &str = "take another copy of it, or another snapshot";

/// Why a snapshot file is refused, or cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Something is missing at its end.
    #[error(
        "{path} is cut short: {bytes} bytes are neither pages nor pages and a digest; {ANOTHER}"
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Nothing tells whether it is whole.
    #[error(
        "{path} has no digest behind its pages: it was cut short there, or it is a data file that was copied out of a data directory, which is no \
         snapshot. Save one with `rmctl snapshot save` or `etcdctl snapshot save`"
    )]
    NoDigest {
        /// The file.
        path: PathBuf,
    },
    /// It is etcd's.
    #[error(
        "{path} is a file of etcd (bbolt), which is not read here: bring its keys over with `etcdctl make-mirror` from an etcd that was restored from it"
    )]
    Etcd {
        /// The file.
        path: PathBuf,
    },
    /// It is something else.
    #[error("{path} is no snapshot of Raft Machine: {reason}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What tells.
        reason: &'static str,
    },
    /// Its content is not what was saved.
    #[error(
        "{path} is damaged: its SHA-256 is {found}, and the one behind it is {told}; {ANOTHER}"
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// What it says.
        told: SnapshotId,
        /// What it is.
        found: SnapshotId,
    },
    /// It was saved from damaged data.
    #[error(
        "{path} is what was saved, and holds damage, {damage}: it was made of damaged data; {ANOTHER}"
    )]
    Unsound {
        /// The file.
        path: PathBuf,
        /// Where and how.
        damage: Damage,
    },
    /// A record in it is damaged.
    #[error(
        "{path} is what was saved, and holds a damaged record, {reason} (key 0x{key} of the table {table}): it was made of damaged data; {ANOTHER}"
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// In which table.
        table: &'static str,
        /// At which key.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A newer program wrote it.
    #[error(
        "{path} was saved from a newer Raft Machine: its layout is {found}, and this program knows {known}; use the rmctl and the raft-machine of that release"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// The key space in it cannot be used otherwise.
    #[error("{path}: {source}")]
    Keyspace {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KvError,
    },
    /// No data directory can be made.
    #[error(transparent)]
    Restore(RestoreError),
}

impl BackupError {
    /// Tells what the key space in a file says of itself in the file's own words.
    pub(crate) fn keyspace(path: PathBuf) -> impl FnOnce(KvError) -> BackupError {
        move |error| match error {
            KvError::NewerLayout { found, known } => BackupError::Newer { path, found, known },
            KvError::NoKeyspace => BackupError::Foreign {
                path,
                reason: "it is an LMDB file without a key space",
            },
            KvError::Damaged { table, key, reason } => BackupError::Record {
                path,
                table,
                key,
                reason,
            },
            source => BackupError::Keyspace { path, source },
        }
    }

    /// Tells what is wrong with the content of a file by the file, not by the copy that was made of it.
    pub(crate) fn restore(path: PathBuf) -> impl FnOnce(RestoreError) -> BackupError {
        move |error| match error {
            RestoreError::Snapshot(SnapshotError::Digest { expected, found }) => {
                BackupError::Digest {
                    path,
                    told: expected,
                    found,
                }
            }
            RestoreError::Snapshot(SnapshotError::Damaged { damage, .. }) => {
                BackupError::Unsound { path, damage }
            }
            error => BackupError::Restore(error),
        }
    }
}

impl From<OpenError> for BackupError {
    fn from(error: OpenError) -> BackupError {
        BackupError::Restore(error.into())
    }
}

impl From<LogError> for BackupError {
    fn from(error: LogError) -> BackupError {
        BackupError::Restore(error.into())
    }
}
