//! What a client may ask of the key space, and what it is answered: etcd's KV requests as plain values.
//!
//! Keys and range ends follow etcd: an empty `range_end` means the one key, `[0]` means all keys from `key` on, and
//! anything else is the exclusive end of a range. Revisions are etcd's; zero stands for "the newest" or "no bound".

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::alarm::{Alarm, AlarmCommand};
use crate::auth_command::{AuthCommand, AuthQuery, AuthReply, Signature};

/// A request that changes the key space, or a transaction that may. A new one comes last, so that the others keep their bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Writes one key.
    Put(Put),
    /// Deletes keys.
    DeleteRange(DeleteRange),
    /// Compares, then does one of two lists of operations.
    Txn(Txn),
    /// Forgets what the key space was before a revision: it can be read there no more.
    Compact {
        /// The oldest revision that can still be read.
        revision: i64,
    },
    /// Removes some of the changes that a compaction has left without a reader. No client asks for it: the machine that leads does.
    Scrub {
        /// The most changes to look at.
        changes: u32,
        /// With how many bytes of keys and values to be content. At least one change is looked at.
        bytes: u32,
    },
    /// Grants a lease.
    GrantLease {
        /// Its id, which must be free and not zero.
        id: i64,
        /// For how long, in seconds.
        ttl: i64,
    },
    /// Ends a lease, and deletes the keys that hang on it.
    RevokeLease {
        /// Its id.
        id: i64,
    },
    /// Ends leases whose time is over, in order, unless somebody else has begun to count; after so many changes of keys the rest is
    /// left. No client asks for it: the machine that leads does.
    ExpireLeases {
        /// The entry by which whoever counted their time had begun.
        reign: u64,
        /// Which. Those that are not there any more are passed over.
        grants: Vec<Grant>,
    },
    /// Notes how much is left of leases, so that a change of leader does not renew them, unless somebody else has begun to count. No
    /// client asks for it: the machine that leads does.
    NoteLeases {
        /// The entry by which whoever counted their time had begun.
        reign: u64,
        /// What is left of each. Those that are not there any more are passed over.
        times: Vec<LeaseTime>,
    },
    /// Changes users, roles or permissions.
    Auth(AuthCommand),
    /// Begins to count the time of leases anew: what whoever counted before has yet in the log counts for nothing from here on. No client
    /// asks for it: the machine that leads does.
    CountLeases,
    /// Raises an alarm, disarms one, or looks for the reason of one.
    Alarm(AlarmCommand),
}

/// A lease, told from others that had or will have its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// Its id.
    pub id: i64,
    /// The index of the entry that granted it.
    pub entry: u64,
}

/// What is left of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTime {
    /// Which.
    pub grant: Grant,
    /// What is left of it, in seconds; none if it was renewed.
    pub remaining: Option<i64>,
}

/// A request that only reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Reads keys.
    Range(Range),
    /// A transaction without writes.
    Txn(Txn),
    /// Looks at a lease.
    Lease {
        /// Its id.
        id: i64,
        /// Whether the keys that hang on it are wanted.
        keys: bool,
    },
    /// Looks which of some leases are there, at most [`crate::LEASES_MAX`].
    KnownLeases(Vec<i64>),
    /// Lists leases in the order of their ids, negative ones last.
    Leases {
        /// The one after which to begin; none for the beginning.
        after: Option<i64>,
        /// The most to list; never more than [`crate::LEASES_MAX`] are.
        limit: usize,
    },
    /// The same for a client, who must be permitted to read all that hangs on each of those that are listed.
    ListLeases {
        /// The one after which to begin; none for the beginning.
        after: Option<i64>,
        /// The most to list; never more than [`crate::LEASES_MAX`] are.
        limit: usize,
    },
    /// Asks about users, roles and permissions.
    Auth(AuthQuery),
    /// Asks on behalf of a user. A query without it comes from a client that has not said who it is.
    Signed {
        /// Who asks.
        by: Signature,
        /// What; not signed once more.
        query: Box<Query>,
    },
}

impl Query {
    /// Whether it is a range that stands alone.
    pub fn is_range(&self) -> bool {
        match self {
            Query::Range(_) => true,
            Query::Signed { query, .. } => query.is_range(),
            _ => false,
        }
    }
}

/// Reads keys (etcd's RangeRequest; whether the read is linearizable is not the key space's concern).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The key, or the first of a range.
    pub key: Bytes,
    /// The end of the range.
    pub range_end: Bytes,
    /// The most keys to return; zero for all.
    pub limit: i64,
    /// The revision to read at; zero or less for the newest.
    pub revision: i64,
    /// In which order.
    pub sort_order: SortOrder,
    /// By what to sort.
    pub sort_target: SortTarget,
    /// Leave the values out.
    pub keys_only: bool,
    /// Return only the number of keys.
    pub count_only: bool,
    /// Leave out keys with a lower modification revision.
    pub min_mod_revision: i64,
    /// Leave out keys with a higher modification revision.
    pub max_mod_revision: i64,
    /// Leave out keys with a lower creation revision.
    pub min_create_revision: i64,
    /// Leave out keys with a higher creation revision.
    pub max_create_revision: i64,
}

/// The order of a range's keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortOrder {
    /// As the keys lie: ascending by key.
    #[default]
    None,
    /// Ascending.
    Ascend,
    /// Descending.
    Descend,
}

/// What a range is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// The version.
    Version,
    /// The creation revision.
    Create,
    /// The modification revision.
    Mod,
    /// The value.
    Value,
}

/// Writes one key (etcd's PutRequest).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// The key.
    pub key: Bytes,
    /// Its new value.
    pub value: Bytes,
    /// The lease to attach; zero for none.
    pub lease: i64,
    /// Return what was there before.
    pub prev_kv: bool,
    /// Keep the value that is there; an error if there is none.
    pub ignore_value: bool,
    /// Keep the lease that is there; an error if there is no such key.
    pub ignore_lease: bool,
}

/// Deletes keys (etcd's DeleteRangeRequest).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRange {
    /// The key, or the first of a range.
    pub key: Bytes,
    /// The end of the range.
    pub range_end: Bytes,
    /// Return what was deleted.
    pub prev_kv: bool,
}

/// A transaction (etcd's TxnRequest): if every comparison holds, `success`, else `failure`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// The comparisons.
    pub compare: Vec<Compare>,
    /// What to do if all hold.
    pub success: Vec<Operation>,
    /// What to do if one does not.
    pub failure: Vec<Operation>,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Reads keys.
    Range(Range),
    /// Writes one key.
    Put(Put),
    /// Deletes keys.
    DeleteRange(DeleteRange),
    /// A transaction within the transaction.
    Txn(#[serde(deserialize_with = "crate::codec::nested")] Txn),
}

/// One comparison of a transaction (etcd's Compare).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// The key, or the first of a range: then the comparison must hold for every key in it.
    pub key: Bytes,
    /// The end of the range.
    pub range_end: Bytes,
    /// How the stored property must stand to the given one.
    pub result: CompareResult,
    /// The property, and what it is compared with.
    pub target: CompareTarget,
}

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareResult {
    /// Equal.
    Equal,
    /// The stored one is greater.
    Greater,
    /// The stored one is less.
    Less,
    /// Not equal.
    NotEqual,
}

/// What is compared, and with what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareTarget {
    /// The version; zero when the key does not exist.
    Version(i64),
    /// The creation revision; zero when the key does not exist.
    Create(i64),
    /// The modification revision; zero when the key does not exist.
    Mod(i64),
    /// The value.
    Value(Bytes),
    /// The lease.
    Lease(i64),
}

/// A key with all that is known of it (etcd's KeyValue).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The revision that created it.
    pub create_revision: i64,
    /// The revision that wrote it last.
    pub mod_revision: i64,
    /// How often it was written since it was created.
    pub version: i64,
    /// Its value.
    pub value: Bytes,
    /// The lease that it hangs on; zero for none.
    pub lease: i64,
}

/// The answer to a request, with the revision of the key space at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The revision of the key space when the request was judged.
    pub revision: i64,
    /// What the request yields.
    pub body: ReplyBody,
}

/// What a request yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyBody {
    /// To a range.
    Range(RangeReply),
    /// To a put: what was there before, if asked for.
    Put(Option<KeyValue>),
    /// To a delete.
    DeleteRange(DeleteReply),
    /// To a transaction.
    Txn(TxnReply),
    /// To a compaction.
    Compact,
    /// To a part of a scrub.
    Scrub,
    /// To the grant of a lease: the lease.
    GrantLease(Lease),
    /// To the end of a lease.
    RevokeLease,
    /// To a beginning of the count of their time: its entry.
    CountLeases(u64),
    /// To the end of leases whose time is over, and to a note of what is left of others: how many of those that were named were dealt
    /// with, from the first on; none if somebody else had begun to count.
    LeasesCounted(Option<usize>),
    /// To a look at a lease.
    Lease(LeaseReply),
    /// To a list of leases.
    Leases(Vec<Lease>),
    /// To a command about alarms: those that it raised or disarmed.
    Alarms(Vec<Alarm>),
    /// To a change of users, roles and permissions, or a question about them.
    Auth(AuthReply),
}

/// A lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which.
    pub grant: Grant,
    /// For how long it was granted, in seconds.
    pub ttl: i64,
    /// What was left of it when that was last noted, in seconds; none if it was renewed since.
    pub remaining: Option<i64>,
}

/// What a look at a lease yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseReply {
    /// The lease.
    pub lease: Lease,
    /// The keys that hang on it, in their order, if they were asked for.
    pub keys: Vec<Bytes>,
}

/// What a range yields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeReply {
    /// The keys.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit left some out.
    pub more: bool,
    /// How many keys lie in the range, limit aside.
    pub count: i64,
}

/// What a delete yields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteReply {
    /// How many keys were deleted.
    pub deleted: i64,
    /// What they were, if asked for.
    pub prev_kvs: Vec<KeyValue>,
}

/// What a transaction yields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnReply {
    /// Whether every comparison held.
    pub succeeded: bool,
    /// The answer to each operation that was done, each with the revision that etcd's nested header tells.
    pub replies: Vec<Reply>,
}
