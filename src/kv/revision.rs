//! Revisions, and the records that lie under them: every change that was made and not yet removed, in order.

use bytes::Bytes;
use heed::types::Bytes as Raw;
use heed::{Database, PutFlags, RoTxn, RwTxn};
use serde::{Deserialize, Serialize};

use crate::chain::Link;
use crate::command::KeyValue;
use crate::error::KvError;
use crate::frame;

/// The name of the table.
pub(crate) const TABLE: &str = "revision";

/// One change: the revision of its transaction, and its place among the transaction's changes, from zero.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub(crate) struct Revision {
    /// The revision of the key space that the transaction made; zero for no change at all.
    pub(crate) main: i64,
    /// The place within the transaction.
    pub(crate) sub: u32,
}

impl Revision {
    /// No change at all; before every other.
    pub(crate) const NONE: Revision = Revision { main: 0, sub: 0 };

    /// The first change of a revision of the key space.
    pub(crate) fn first_of(main: i64) -> Revision {
        Revision { main, sub: 0 }
    }

    /// The next change of the same transaction, if it has one.
    pub(crate) fn next(self) -> Revision {
        Revision {
            sub: self.sub + 1,
            ..self
        }
    }

    /// The key under which the change lies: in order of the changes. `main` is never negative.
    pub(crate) fn to_key(self) -> [u8; 12] {
        let mut key = [0; 12];
        key[..8].copy_from_slice(&self.main.to_be_bytes());
        key[8..].copy_from_slice(&self.sub.to_be_bytes());
        key
    }

    pub(crate) fn from_key(key: &[u8]) -> Result<Revision, KvError> {
        let bytes: [u8; 12] = key
            .try_into()
            .map_err(|_| KvError::damaged(TABLE, key, "the key is not a revision"))?;
        let number = u128::from_be_bytes(std::array::from_fn(|i| {
            i.checked_sub(4).map_or(0, |i| bytes[i])
        }));
        Ok(Revision {
            main: (number >> 32) as i64,
            sub: number as u32,
        })
    }
}

/// What etcd tells of a key beside its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// The revision that created the key; zero if this change deleted it.
    pub(crate) create_revision: i64,
    /// How many changes since then, this one included; zero if this change deleted the key.
    pub(crate) version: i64,
    /// The lease; zero for none.
    pub(crate) lease: i64,
}

impl Meta {
    /// Of a key that is deleted.
    pub(crate) const TOMBSTONE: Meta = Meta {
        create_revision: 0,
        version: 0,
        lease: 0,
    };

    /// Whether the key is deleted.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.version == 0
    }

    /// The key as etcd tells of it.
    pub(crate) fn key_value(&self, key: Bytes, revision: Revision, value: Bytes) -> KeyValue {
        KeyValue {
            key,
            create_revision: self.create_revision,
            mod_revision: revision.main,
            version: self.version,
            value,
            lease: self.lease,
        }
    }
}

/// The part of a record before the key and the value.
#[derive(Serialize, Deserialize)]
struct Head {
    meta: Meta,
    link: Link,
    key_bytes: u32,
}

/// One change, as it lies in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'r> {
    /// What etcd tells of the key.
    pub(crate) meta: Meta,
    /// The way to the key's older changes.
    pub(crate) link: Link,
    /// The key.
    pub(crate) key: &'r [u8],
    /// The value; empty if this change deleted the key.
    pub(crate) value: &'r [u8],
}

impl Record<'_> {
    /// A CRC-32C of the change: of what it says, not of how it is laid out.
    pub(crate) fn checksum(&self, revision: Revision) -> u32 {
        let Meta {
            create_revision,
            version,
            lease,
        } = self.meta;
        let mut checksum = crc32c::crc32c(&revision.to_key());
        for number in [create_revision, version, lease, self.key.len() as i64] {
            checksum = crc32c::crc32c_append(checksum, &number.to_be_bytes());
        }
        checksum = crc32c::crc32c_append(checksum, self.key);
        crc32c::crc32c_append(checksum, self.value)
    }
}

/// The table of all changes, written by appending.
#[derive(Clone, Copy)]
pub(crate) struct Revisions {
    pub(crate) table: Database<'static, Raw, Raw>,
}

impl Revisions {
    /// Appends a change, which must be newer than all there are. `scratch` is overwritten.
    pub(crate) fn append(
        &self,
        txn: &mut RwTxn,
        revision: Revision,
        record: &Record,
        scratch: &mut Vec<u8>,
    ) -> Result<(), KvError> {
        let head = Head {
            meta: record.meta,
            link: record.link,
            key_bytes: u32::try_from(record.key.len()).expect("a command is shorter than 4 GiB"),
        };
        let key = revision.to_key();
        frame::seal(scratch, &key, &head, [record.key, record.value]);
        Ok(self
            .table
            .put_with_flags(txn, PutFlags::APPEND, &key, scratch)?)
    }

    /// The change at a revision, if it is there.
    pub(crate) fn get<'txn>(
        &self,
        txn: &'txn RoTxn,
        revision: Revision,
    ) -> Result<Option<Record<'txn>>, KvError> {
        let key = revision.to_key();
        self.table
            .get(txn, &key)?
            .map(|value| decode(&key, value))
            .transpose()
    }

    /// The change at a revision that must be there, and must be of `key`.
    pub(crate) fn expect<'txn>(
        &self,
        txn: &'txn RoTxn,
        revision: Revision,
        key: &[u8],
    ) -> Result<Record<'txn>, KvError> {
        let damaged = |reason| KvError::damaged(TABLE, &revision.to_key(), reason);
        let record = self
            .get(txn, revision)?
            .ok_or_else(|| damaged("the index names a record that is missing"))?;
        if record.key != key {
            return Err(damaged("the index names the record for another key"));
        }
        Ok(record)
    }

    /// All changes from the revision `from` on, oldest first.
    pub(crate) fn scan<'txn>(
        &self,
        txn: &'txn RoTxn,
        from: i64,
    ) -> Result<impl Iterator<Item = Result<(Revision, Record<'txn>), KvError>>, KvError> {
        let start = Revision::first_of(from.max(0)).to_key();
        let range = (
            std::ops::Bound::Included(start.as_slice()),
            std::ops::Bound::Unbounded,
        );
        Ok(self.table.range(txn, &range)?.map(|item| {
            let (key, value) = item?;
            Ok((Revision::from_key(key)?, decode(key, value)?))
        }))
    }

    /// The first change from `from` on.
    pub(crate) fn first_from<'txn>(
        &self,
        txn: &'txn RoTxn,
        from: Revision,
    ) -> Result<Option<(Revision, Record<'txn>)>, KvError> {
        let found = self
            .table
            .get_greater_than_or_equal_to(txn, &from.to_key())?;
        found
            .map(|(key, value)| Ok((Revision::from_key(key)?, decode(key, value)?)))
            .transpose()
    }

    /// Removes a change; false if it is not there.
    pub(crate) fn remove(&self, txn: &mut RwTxn, revision: Revision) -> Result<bool, KvError> {
        Ok(self.table.delete(txn, &revision.to_key())?)
    }
}

fn decode<'v>(key: &[u8], value: &'v [u8]) -> Result<Record<'v>, KvError> {
    let (head, rest): (Head, _) = frame::open(TABLE, key, value)?;
    let (key, value) = rest
        .split_at_checked(head.key_bytes as usize)
        .ok_or_else(|| KvError::damaged(TABLE, key, "the record is shorter than its key"))?;
    Ok(Record {
        meta: head.meta,
        link: head.link,
        key,
        value,
    })
}
