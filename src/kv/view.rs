//! Reading: the key space at one revision.

use std::ops::ControlFlow;

use bytes::Bytes;
use heed::RoTxn;

use crate::chain;
use crate::command::{KeyValue, Range};
use crate::error::{Failure, KvError, RequestError};
use crate::index::{Entry, Head};
use crate::lease::Leases;
use crate::progress::{Progress, Turn, Work};
use crate::revision::{Meta, Revision};
use crate::room::{ReplyRoom, key_value_bytes};
use crate::span::Span;
use crate::tables::Tables;

/// The key space as a transaction shows it.
#[derive(Clone, Copy)]
pub(crate) struct View<'v> {
    pub(crate) tables: &'v Tables,
    pub(crate) leases: &'v Leases,
    pub(crate) txn: &'v RoTxn<'v>,
    /// The newest revision that is to be seen.
    pub(crate) revision: i64,
    /// The revision that was compacted last.
    pub(crate) compact_revision: i64,
    /// Told of every key that is looked at.
    pub(crate) progress: &'v Progress,
    /// What the reply may still take.
    pub(crate) room: &'v ReplyRoom<'v>,
}

impl<'v> View<'v> {
    /// The revision that is meant by the one asked for, if it can be read.
    pub(crate) fn revision_to_read(&self, asked: i64) -> Result<i64, RequestError> {
        revision_to_read(asked, self.revision, self.compact_revision)
    }

    /// Checks a range of a transaction, before any of the transaction is done. Other than for a range that stands alone,
    /// etcd takes a negative revision for one that is compacted, unless it is that of a key space never compacted.
    pub(crate) fn check_range(&self, range: &Range) -> Result<(), RequestError> {
        match range.revision {
            0 => Ok(()),
            revision if revision > self.revision => Err(RequestError::FutureRevision),
            revision if revision < self.compact_revision => Err(RequestError::Compacted),
            _ => Ok(()),
        }
    }

    /// The newest change of a key, if the key exists now.
    pub(crate) fn head(&self, key: &[u8]) -> Result<Option<Head>, KvError> {
        let head = self.tables.index.get(self.txn, key)?;
        Ok(head.filter(|head| !head.meta.is_tombstone()))
    }

    /// A key with its value, if it exists now, for the reply.
    pub(crate) fn get(&self, key: &Bytes) -> Result<Option<KeyValue>, Failure> {
        self.head(key)?
            .map(|head| self.key_value(key, &head))
            .transpose()
    }

    /// A key as its newest change left it, for the reply.
    pub(crate) fn key_value(&self, key: &Bytes, head: &Head) -> Result<KeyValue, Failure> {
        let value = self.value(head.revision, key)?;
        self.room.take(key_value_bytes(key, value))?;
        let value = Bytes::copy_from_slice(value);
        Ok(head.meta.key_value(key.clone(), head.revision, value))
    }

    /// The value that a change gave to a key.
    pub(crate) fn value(&self, revision: Revision, key: &[u8]) -> Result<&'v [u8], KvError> {
        let value = self.tables.revisions.expect(self.txn, revision, key)?.value;
        self.progress.step(value.len());
        Ok(value)
    }

    /// Calls `each` for the keys of a span that exist at the revision `at`, in order, until it breaks.
    pub(crate) fn walk<E: From<KvError>>(
        &self,
        span: Span,
        at: i64,
        each: impl FnMut(&[u8], Revision, Meta) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let all = Turn::new(self.progress, Work::UNBOUNDED);
        self.walk_for(&all, span, at, each).map(drop)
    }

    /// The same for as long as a turn lasts. What comes back is the key to go on from, if the turn was over before the span was.
    pub(crate) fn walk_for<E: From<KvError>>(
        &self,
        turn: &Turn,
        span: Span,
        at: i64,
        mut each: impl FnMut(&[u8], Revision, Meta) -> Result<ControlFlow<()>, E>,
    ) -> Result<Option<Vec<u8>>, E> {
        if let Span::One(key) = span {
            self.progress.step(0);
            if let Some(head) = self.tables.index.get(self.txn, key)?
                && let Some((revision, meta)) = self.existing_at(&head, at)?
            {
                // There is no other key to go on to.
                let _ = each(key, revision, meta)?;
            }
            return Ok(None);
        }
        let mut scan = self.tables.index.scan(self.txn, span)?;
        while let Some(Entry { key, head }) = scan.next()? {
            if turn.is_over() {
                return Ok(Some(key.into_owned()));
            }
            self.progress.step(key.len());
            if let Some((revision, meta)) = self.existing_at(&head, at)?
                && each(&key, revision, meta)?.is_break()
            {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// The change that made a key what it is at the revision `at`, if the key exists there.
    fn existing_at(&self, head: &Head, at: i64) -> Result<Option<(Revision, Meta)>, KvError> {
        let newest = if head.revision.main <= at {
            Some((head.revision, head.meta))
        } else {
            chain::newest_at(self, head, at)?.map(|(revision, record)| (revision, record.meta))
        };
        Ok(newest.filter(|(_, meta)| !meta.is_tombstone()))
    }
}

/// The revision that is meant by the one asked for, in a key space with the newest revision `newest`, if it can be read.
pub(crate) fn revision_to_read(
    asked: i64,
    newest: i64,
    compacted: i64,
) -> Result<i64, RequestError> {
    let at = if asked <= 0 { newest } else { asked };
    if at > newest {
        return Err(RequestError::FutureRevision);
    }
    if at < compacted {
        return Err(RequestError::Compacted);
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::RangeReading;
    use crate::room::Unbounded;
    use crate::testing::Disk;

    #[test]
    fn etcd_18667_a_compacted_revision_is_refused_the_same_by_every_kind_of_read() {
        let disk = Disk::new();
        let environment = &disk.environment;
        let tables = Tables::open(environment).unwrap();
        let leases = Leases::open(environment).unwrap();
        let txn = environment.env().read_txn().unwrap();
        let (progress, room) = (Progress::default(), ReplyRoom::new(usize::MAX, &Unbounded));
        let view = View {
            tables: &tables,
            leases: &leases,
            txn: &txn,
            revision: 9,
            compact_revision: 5,
            progress: &progress,
            room: &room,
        };
        let at = |revision| Range {
            key: Bytes::from_static(b"a"),
            revision,
            ..Range::default()
        };
        for (revision, alone, in_txn) in [
            (
                10,
                Err(RequestError::FutureRevision),
                Err(RequestError::FutureRevision),
            ),
            (9, Ok(9), Ok(())),
            (5, Ok(5), Ok(())),
            (
                4,
                Err(RequestError::Compacted),
                Err(RequestError::Compacted),
            ),
            (0, Ok(9), Ok(())),
            (-1, Ok(9), Err(RequestError::Compacted)),
        ] {
            assert_eq!(
                view.revision_to_read(revision),
                alone,
                "revision {revision}"
            );
            assert_eq!(
                view.check_range(&at(revision)),
                in_txn,
                "revision {revision}"
            );
            assert_eq!(
                RangeReading::begin(&view, &at(revision)).is_ok(),
                alone.is_ok(),
                "revision {revision}"
            );
        }
    }
}
