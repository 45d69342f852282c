//! What may go wrong in the store: one enum for opening, one for snapshots, one for the log.

use std::{io, path::PathBuf};

use rm_raft::{EntryId, Index, MachineId, Term};
use rustix::io::Errno;

use crate::{SnapshotId, verify::Damage};

/// What to do about data that cannot be believed. An older copy is no remedy: it is sound, and has forgotten votes and
/// entries that others count on.
const WHEN_DAMAGED: &str = "leave this machine down and keep its folder for examination, the others go on without it; do \
                            not start it with an older copy or an empty folder, it would forget what it promised";

/// Why a data directory or an environment in it could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error(
        "cannot {action} {path}: {source}; check that the path exists and that this user may write it"
    )]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The disk is full, or the user's quota of it.
    #[error("no space left for {path}: free some on its file system, then start again")]
    NoSpace {
        /// What could not be written.
        path: PathBuf,
    },
    /// Another process has the directory.
    #[error(
        "the data directory {path} is in use by process {holder}: stop that process, or choose another data_dir"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other's process id, as far as it is known.
        holder: String,
    },
    /// The directory holds the data of another domain or machine.
    #[error(
        "the data in {path} belongs to {found}, this is {expected}: correct the config, or choose another data_dir"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Whose data it is.
        found: String,
        /// Who asked.
        expected: String,
    },
    /// The machine was removed from its domain.
    #[error(
        "{machine} was removed from its domain, and its data in {path} is of no more use to it: to have it take part again, empty \
         that folder, run `rmctl member add` for it, and start it with --join"
    )]
    Removed {
        /// The directory.
        path: PathBuf,
        /// The machine's name.
        machine: String,
    },
    /// A restoration of the directory did not come to its end.
    #[error(
        "a restoration into {path} did not come to its end: run `rmctl snapshot restore` again, which begins it anew"
    )]
    Unfinished {
        /// The directory.
        path: PathBuf,
    },
    /// The file of an environment was made in another data directory.
    #[error(
        "{path} was made in another data directory than this: put back the one that this machine wrote last. {}",
        WHEN_DAMAGED
    )]
    ForeignFile {
        /// The file.
        path: PathBuf,
    },
    /// A later version of Raft Machine wrote the directory.
    #[error(
        "the data in {path} has format {found} and this program knows up to {known}: start a newer raft-machine"
    )]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this program reads.
        known: u32,
    },
    /// The file that says whose data it is cannot be understood.
    #[error("{path} is damaged ({reason}): {}", WHEN_DAMAGED)]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that was there at an earlier start is gone.
    #[error(
        "{path} is missing though the data directory was used before: {}",
        WHEN_DAMAGED
    )]
    Missing {
        /// What is gone.
        path: PathBuf,
    },
    /// The file of an environment is damaged.
    #[error("{path} is damaged, {damage}: {}", WHEN_DAMAGED)]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and how.
        damage: Damage,
    },
    /// This process has the environment open already.
    #[error("{path} is open already in this process: use the environment that is open")]
    AlreadyOpen {
        /// The environment's folder.
        path: PathBuf,
    },
    /// LMDB refused.
    #[error("LMDB cannot open {path}: {source}")]
    Lmdb {
        /// The environment's folder.
        path: PathBuf,
        /// What LMDB answered.
        source: heed::Error,
    },
}

impl OpenError {
    /// An error of the operating system; a full disk is told apart.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: io::Error,
    ) -> OpenError {
        let path = path.into();
        if io_is_no_space(&source) {
            OpenError::NoSpace { path }
        } else {
            OpenError::Io {
                action,
                path,
                source,
            }
        }
    }

    /// An error of LMDB; a full disk is told apart.
    pub(crate) fn lmdb(path: impl Into<PathBuf>, source: heed::Error) -> OpenError {
        let path = path.into();
        match source {
            heed::Error::EnvAlreadyOpened => OpenError::AlreadyOpen { path },
            source if heed_is_no_space(&source) => OpenError::NoSpace { path },
            source => OpenError::Lmdb { path, source },
        }
    }
}

/// Why a snapshot was not made, received or prepared.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
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
    /// The disk would have less left than its reserve, or is full.
    #[error("no space left for the snapshot {path}: free some on its file system")]
    NoSpace {
        /// What could not be written.
        path: PathBuf,
    },
    /// Whoever asked for it wants it no more.
    #[error("the making of the snapshot was stopped")]
    Stopped,
    /// Another snapshot is being received.
    #[error("another snapshot is being received: one is at a time")]
    Busy,
    /// A chunk does not follow on what is here.
    #[error("a chunk of the snapshot begins at byte {found}, the next is at {expected}")]
    Gap {
        /// Where the next one begins.
        expected: u64,
        /// Where the one that came begins.
        found: u64,
    },
    /// A chunk goes beyond the end.
    #[error("a chunk goes beyond the {bytes} bytes of its snapshot")]
    TooLong {
        /// The size that the sender told.
        bytes: u64,
    },
    /// The snapshot is larger than one may be.
    #[error("a snapshot of {bytes} bytes is more than the {bytes_max} that fit the state's map")]
    TooLarge {
        /// The size that the sender told.
        bytes: u64,
        /// The most that is taken.
        bytes_max: u64,
    },
    /// Chunks are missing.
    #[error("only {received} of {bytes} bytes of the snapshot have come")]
    Incomplete {
        /// How many are here.
        received: u64,
        /// How many there are.
        bytes: u64,
    },
    /// What came is not what was sent.
    #[error("the snapshot {expected} came as {found}: it was damaged on the way or on a disk")]
    Digest {
        /// What the sender named.
        expected: SnapshotId,
        /// What is here.
        found: SnapshotId,
    },
    /// What was sent is no sound file.
    #[error("the snapshot {path} is damaged, {damage}: its sender made it of damaged data")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and how.
        damage: Damage,
    },
    /// The state that was made of it cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// LMDB failed while it copied.
    #[error("LMDB cannot copy the state: {0}")]
    Lmdb(#[from] heed::Error),
}

impl SnapshotError {
    /// An error of the operating system; a full disk is told apart.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: io::Error,
    ) -> SnapshotError {
        let path = path.into();
        if io_is_no_space(&source) {
            SnapshotError::NoSpace { path }
        } else {
            SnapshotError::Io {
                action,
                path,
                source,
            }
        }
    }

    /// Whether there was no space: it may be tried again when there is.
    pub fn is_no_space(&self) -> bool {
        matches!(
            self,
            SnapshotError::NoSpace { .. } | SnapshotError::Open(OpenError::NoSpace { .. })
        )
    }
}

/// Why the log refused or failed.
///
/// The refusals (up to [`LogError::Compacted`]) are faults of the caller and leave the [`Append`](crate::Append)
/// as it was; after any other error it can only be dropped. A caller that is refused drops it too: what it was about to ask
/// next rests on what was refused.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The entries do not follow on the log: something before them was lost.
    #[error(
        "entry {found} does not follow on the log, {expected} would: persist what is missing first"
    )]
    Gap {
        /// The index that would follow.
        expected: Index,
        /// The index that came.
        found: Index,
    },
    /// Terms never go down (§5.1), and no entry is of a later term than its machine.
    #[error(
        "entry {found} cannot follow {previous} in term {term}: terms in a log only go up, to the machine's own"
    )]
    EntryTerm {
        /// The entry before.
        previous: EntryId,
        /// The entry that came.
        found: EntryId,
        /// The term of the hard state that came with it.
        term: Term,
    },
    /// A machine's term never goes back (§5.1).
    #[error("term {found} is before the durable term {durable}: a term never goes back")]
    TermRegressed {
        /// What is durable, or was persisted before.
        durable: Term,
        /// What came.
        found: Term,
    },
    /// A machine votes once a term (§5.2).
    #[error(
        "the vote of term {term} was {durable} and would become {found:?}: a machine votes once a term"
    )]
    VoteChanged {
        /// The term.
        term: Term,
        /// The vote that is given.
        durable: MachineId,
        /// What came.
        found: Option<MachineId>,
    },
    /// A commit index never goes back.
    #[error("commit index {found} is before the durable {durable}: a commit index never goes back")]
    CommitRegressed {
        /// What is durable, or was persisted before.
        durable: Index,
        /// What came.
        found: Index,
    },
    /// A committed entry would change (§5.4, state-machine safety).
    #[error(
        "entry {found} differs from the one that is committed there (the log is committed up to {commit})"
    )]
    Committed {
        /// The entry that came.
        found: EntryId,
        /// Up to where the log is committed.
        commit: Index,
    },
    /// The commit index would lie behind the log's end: entries are missing.
    #[error("commit index {commit} is beyond the last entry {last}: persist the entries first")]
    CommitBeyondLog {
        /// The commit index that came.
        commit: Index,
        /// The last entry as it would be.
        last: EntryId,
    },
    /// Only what is committed may be compacted.
    #[error("the log is committed up to {commit} and cannot be compacted up to {found}")]
    CompactBeyondCommit {
        /// Up to where it was to be compacted.
        found: EntryId,
        /// Up to where it is committed.
        commit: Index,
    },
    /// A snapshot is older than what the log is compacted to, of a later term than the machine, or of a generation that
    /// was there before.
    #[error("the snapshot up to {found}, generation {generation}, cannot be installed: {reason}")]
    StaleSnapshot {
        /// The last entry of the snapshot.
        found: EntryId,
        /// The generation that it was to be.
        generation: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The log no longer has the entry: the state holds what it did.
    #[error("entry {index} is compacted, as all are up to {base}: it is in the state only")]
    Compacted {
        /// The entry that was asked for.
        index: Index,
        /// Up to where the log is compacted.
        base: EntryId,
    },
    /// An earlier failure broke this transaction.
    #[error("this append has failed before: drop it and begin another")]
    Broken,
    /// The disk or the map is full; nothing was changed.
    #[error("no space left for the log: free some on its file system, nothing is lost ({source})")]
    NoSpace {
        /// What LMDB answered.
        source: heed::Error,
    },
    /// An entry is not what was written.
    #[error("entry {index} of the log is damaged ({reason}): {}", WHEN_DAMAGED)]
    Damaged {
        /// Where.
        index: Index,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A parameter of the log is not what was written.
    #[error(
        "the log's parameter \"{name}\" is damaged ({reason}): {}",
        WHEN_DAMAGED
    )]
    DamagedParameter {
        /// Which.
        name: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A later version of Raft Machine wrote the log.
    #[error(
        "the log has format {found} and this program knows up to {known}: start a newer raft-machine"
    )]
    NewerFormat {
        /// The log's format.
        found: u32,
        /// The newest format that this program reads.
        known: u32,
    },
    /// LMDB or the disk failed.
    #[error("the log's LMDB failed: {source}; look for disk errors in the system's log")]
    Lmdb {
        /// What LMDB answered.
        source: heed::Error,
    },
}

impl LogError {
    /// Whether there was no space: nothing was changed, and it may be tried again when there is.
    pub fn is_no_space(&self) -> bool {
        matches!(self, LogError::NoSpace { .. })
    }
}

impl From<heed::Error> for LogError {
    fn from(source: heed::Error) -> LogError {
        if heed_is_no_space(&source) {
            LogError::NoSpace { source }
        } else {
            LogError::Lmdb { source }
        }
    }
}

impl From<io::Error> for LogError {
    fn from(source: io::Error) -> LogError {
        LogError::from(heed::Error::Io(source))
    }
}

/// Whether the system's error means that the disk or the quota is full.
pub(crate) fn io_is_no_space(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOSPC | Errno::DQUOT)
    )
}

/// Whether LMDB's error means that the disk, the quota or the map is full.
pub(crate) fn heed_is_no_space(error: &heed::Error) -> bool {
    match error {
        heed::Error::Io(error) => io_is_no_space(error),
        heed::Error::Mdb(error) => *error == heed::MdbError::MapFull,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_of_damaged_data_advises_to_forget_what_was_promised() {
        let path = PathBuf::from("data/log/data.mdb");
        let reason = "its checksum does not match";
        let texts = [
            OpenError::Identity {
                path: path.clone(),
                reason: reason.to_owned(),
            }
            .to_string(),
            OpenError::Missing { path: path.clone() }.to_string(),
            OpenError::ForeignFile { path: path.clone() }.to_string(),
            OpenError::Damaged {
                path,
                damage: Damage::Origin,
            }
            .to_string(),
            LogError::Damaged {
                index: Index(7),
                reason,
            }
            .to_string(),
            LogError::DamagedParameter {
                name: "hard state",
                reason,
            }
            .to_string(),
        ];
        for text in texts {
            assert!(text.contains(WHEN_DAMAGED), "{text}");
            assert!(!text.contains("backup"), "{text}");
        }
    }
}
