//! What can go wrong: by the client's fault, the same on every machine, or by ours.

use rm_raft::EntryId;

use crate::auth_command::AuthError;
use crate::codec::DecodeError;

/// The client's fault: decided from the command and the key space alone, so that every machine decides it alike. Only
/// whether there is room for a reply is known to the machine alone that makes it, and decides nothing else.
///
/// The texts are etcd's own where etcd has the error, because clients compare them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A key is empty.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// A put keeps the value or the lease of a key that does not exist.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// A put both keeps the value and brings one.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// A put both keeps the lease and brings one.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// A transaction has too many operations, nested ones counted, or nests too deep.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOperations,
    /// A transaction changes the same key twice.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// The revision asked for has been compacted.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The revision asked for is not there yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// There is no such lease.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// There is such a lease.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// A lease would be longer than [`crate::LEASE_SECONDS_MAX`].
    #[error("etcdserver: too large lease TTL")]
    LeaseTooLong,
    /// More leases are named in one command than [`crate::LEASES_MAX`]. Not one of etcd's.
    #[error("raftmachine: too many leases in one command; name fewer")]
    TooManyLeases,
    /// A query is signed once more. Not one of etcd's.
    #[error("raftmachine: a query must be signed no more than once")]
    SignedTwice,
    /// By users, roles and permissions.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The alarm of a machine without space stands.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// The alarm of a machine whose data is corrupt stands: nothing is written.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// More alarms would stand than [`crate::ALARMS_MAX`]. Not one of etcd's.
    #[error("raftmachine: too many alarms stand; disarm some")]
    TooManyAlarms,
    /// The reply is larger than one may be. Not one of etcd's.
    #[error(
        "raftmachine: the reply is too large; ask for fewer keys at a time (a limit, a smaller range, keys only)"
    )]
    ReplyTooLarge,
    /// The same of a request that made changes: they were made. Not one of etcd's.
    #[error(
        "raftmachine: the request was carried out, and its reply is too large; ask for fewer keys at a time"
    )]
    ReplyTooLargeAfterChange,
    /// The replies that clients have yet to take leave no memory for this one. Not one of etcd's.
    #[error(
        "raftmachine: this machine has no memory left for the reply; ask again later, or for fewer keys at a time"
    )]
    NoRoomForReply,
    /// The same of a request that made changes: they were made. Not one of etcd's.
    #[error(
        "raftmachine: the request was carried out, and this machine had no memory left for its reply"
    )]
    NoRoomForReplyAfterChange {
        /// The revision of the changes.
        revision: i64,
    },
    /// A query holds a write; send it as a command. Not one of etcd's.
    #[error("raftmachine: a query must not write")]
    NotReadOnly,
}

impl RequestError {
    /// The same of a request that made changes in this revision, where it is a want of room for its reply.
    pub(crate) fn after_change(self, revision: i64) -> RequestError {
        match self {
            RequestError::ReplyTooLarge => RequestError::ReplyTooLargeAfterChange,
            RequestError::NoRoomForReply => RequestError::NoRoomForReplyAfterChange { revision },
            other => other,
        }
    }
}

/// Our own or the environment's fault. The open transaction is given up wherever a change was under way: open the
/// key space anew and apply the log again from [`crate::StateMachine::applied`].
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// Stored bytes are not what was written.
    #[error(
        "table {table}, key {key}: {reason}; the data is damaged: keep the folder and leave this machine down, the others go on"
    )]
    Damaged {
        /// The table.
        table: &'static str,
        /// The key in the table, in hexadecimal, shortened.
        key: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// An entry does not follow on the applied one.
    #[error("entry {entry} does not follow on the applied entry {applied}; apply the log in order")]
    OutOfOrder {
        /// The entry that was given.
        entry: EntryId,
        /// The entry that was applied last.
        applied: EntryId,
    },
    /// A committed entry was written by a newer program.
    #[error(
        "entry {entry} is encoded in version {version}, which this program does not know; upgrade this machine"
    )]
    NewerCommand {
        /// The entry.
        entry: EntryId,
        /// The version of its encoding.
        version: u8,
    },
    /// A committed entry holds no command in any encoding that this program knows.
    #[error(
        "entry {entry} holds no command: {reason}; the log is damaged: keep the folder and leave this machine down, the others go on"
    )]
    MalformedCommand {
        /// The entry.
        entry: EntryId,
        /// What is wrong with it.
        reason: DecodeError,
    },
    /// The tables were laid out by a newer program.
    #[error("the key space has layout {found}, and this program knows {known}; upgrade it")]
    NewerLayout {
        /// The layout of the tables.
        found: u32,
        /// The layout of this program.
        known: u32,
    },
    /// The environment holds no key space.
    #[error("no key space is in it")]
    NoKeyspace,
    /// The revision of a key space that begins anew cannot be what was asked for.
    #[error(
        "the revision is {revision} and cannot be raised by {raise}: give a number from 0 to {raise_max}"
    )]
    Revision {
        /// What it is.
        revision: i64,
        /// By how much it was to be raised.
        raise: i64,
        /// The largest step.
        raise_max: i64,
    },
    /// The disk or its quota is full.
    #[error("no space is left for the key space; free some, then open it again")]
    NoSpace,
    /// The memory map is too small for what is to be written; it grows when the key space is opened again.
    #[error("the memory map of the key space is full; open it again with a larger one")]
    MapFull,
    /// An earlier failure gave up the open transaction.
    #[error("the key space was given up after an earlier failure; open it again")]
    GivenUp,
    /// LMDB found a page that is not what it must be.
    #[error(
        "the file of the key space is damaged: {0}; keep the folder and leave this machine down, the others go on"
    )]
    DamagedFile(heed::MdbError),
    /// LMDB failed otherwise.
    #[error("LMDB failed under the key space: {0}")]
    Lmdb(heed::Error),
}

impl From<heed::Error> for KvError {
    fn from(error: heed::Error) -> Self {
        match error {
            heed::Error::Mdb(heed::MdbError::MapFull) => KvError::MapFull,
            heed::Error::Mdb(
                error @ (heed::MdbError::Corrupted
                | heed::MdbError::PageNotFound
                | heed::MdbError::Invalid),
            ) => KvError::DamagedFile(error),
            heed::Error::Io(ref io)
                if matches!(
                    io.kind(),
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
                ) =>
            {
                KvError::NoSpace
            }
            other => KvError::Lmdb(other),
        }
    }
}

impl KvError {
    /// A committed entry that cannot be decoded.
    pub(crate) fn undecodable(entry: EntryId, reason: DecodeError) -> KvError {
        match reason {
            DecodeError::Version(version) => KvError::NewerCommand { entry, version },
            reason => KvError::MalformedCommand { entry, reason },
        }
    }

    /// Damage found at `key` of `table`.
    pub(crate) fn damaged(table: &'static str, key: &[u8], reason: &'static str) -> KvError {
        const SHOWN: usize = 32;
        let mut text: String = key
            .iter()
            .take(SHOWN)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if key.len() > SHOWN {
            text.push_str("..");
        }
        KvError::Damaged {
            table,
            key: text,
            reason,
        }
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// By the client's fault.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// By ours.
    #[error(transparent)]
    Store(#[from] KvError),
}

impl From<AuthError> for Failure {
    fn from(error: AuthError) -> Self {
        Failure::Request(error.into())
    }
}

impl From<heed::Error> for Failure {
    fn from(error: heed::Error) -> Self {
        Failure::Store(error.into())
    }
}
