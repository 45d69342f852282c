//! Reading: the key space at one revision, and what etcd's Range makes of it.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::Bytes;
use heed::RoTxn;

use crate::chain;
use crate::command::{KeyValue, Range, RangeReply, SortOrder, SortTarget};
use crate::error::{Failure, KvError, RequestError};
use crate::index::{Entry, Head};
use crate::revision::{Meta, Revision};
use crate::span::Span;
use crate::tables::Tables;

/// The key space as a transaction shows it.
#[derive(Clone, Copy)]
pub(crate) struct View<'v> {
    pub(crate) tables: &'v Tables,
    pub(crate) txn: &'v RoTxn<'v>,
    /// The newest revision that is to be seen.
    pub(crate) revision: i64,
    /// The revision that was compacted last.
    pub(crate) compact_revision: i64,
}

/// A key that exists at the revision that is read, without its value.
struct Found {
    revision: Revision,
    kv: KeyValue,
}

impl<'v> View<'v> {
    /// Answers a range that stands alone.
    pub(crate) fn range(&self, range: &Range) -> Result<RangeReply, Failure> {
        self.revision_to_read(range.revision)?;
        Ok(self.range_unchecked(range)?)
    }

    /// The revision that is meant by the one asked for, if it can be read.
    pub(crate) fn revision_to_read(&self, asked: i64) -> Result<i64, RequestError> {
        let at = self.or_newest(asked);
        if at > self.revision {
            return Err(RequestError::FutureRevision);
        }
        if at < self.compact_revision {
            return Err(RequestError::Compacted);
        }
        Ok(at)
    }

    fn or_newest(&self, asked: i64) -> i64 {
        if asked <= 0 { self.revision } else { asked }
    }

    /// Answers a range whose revision is known to be there.
    pub(crate) fn range_unchecked(&self, range: &Range) -> Result<RangeReply, KvError> {
        let at = self.or_newest(range.revision);
        let sorted = !is_key_order(range);
        let limit = usize::try_from(range.limit)
            .ok()
            .filter(|&limit| limit > 0)
            .unwrap_or(usize::MAX);
        let mut reply = RangeReply::default();
        let mut found = Vec::new();
        self.walk(
            Span::new(&range.key, &range.range_end),
            at,
            |key, revision, meta| {
                reply.count += 1;
                if range.count_only || !passes(range, revision, &meta) {
                    return Ok::<_, KvError>(ControlFlow::Continue(()));
                }
                if !sorted && found.len() == limit {
                    reply.more = true;
                    return Ok(ControlFlow::Continue(()));
                }
                // The one key of a point read is shared with the request.
                let key = if range.range_end.is_empty() {
                    range.key.clone()
                } else {
                    Bytes::copy_from_slice(key)
                };
                found.push(Found {
                    revision,
                    kv: meta.key_value(key, revision, Bytes::new()),
                });
                Ok(ControlFlow::Continue(()))
            },
        )?;
        let by_value = sorted && range.sort_target == SortTarget::Value;
        if by_value {
            self.fill(&mut found)?;
        }
        if sorted {
            sort(&mut found, range);
            reply.more = found.len() > limit;
            found.truncate(limit);
        }
        match (range.keys_only, by_value) {
            (false, false) => self.fill(&mut found)?,
            (true, true) => found
                .iter_mut()
                .for_each(|found| found.kv.value = Bytes::new()),
            (true, false) | (false, true) => {}
        }
        reply.kvs = found.into_iter().map(|found| found.kv).collect();
        Ok(reply)
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

    /// A key with its value, if it exists now.
    pub(crate) fn get(&self, key: &Bytes) -> Result<Option<KeyValue>, KvError> {
        let Some(head) = self.head(key)? else {
            return Ok(None);
        };
        let value = self.value(head.revision, key)?;
        Ok(Some(head.meta.key_value(
            key.clone(),
            head.revision,
            Bytes::copy_from_slice(value),
        )))
    }

    /// The value that a change gave to a key.
    pub(crate) fn value(&self, revision: Revision, key: &[u8]) -> Result<&'v [u8], KvError> {
        Ok(self.tables.revisions.expect(self.txn, revision, key)?.value)
    }

    /// Calls `each` for the keys of a span that exist at the revision `at`, in order, until it breaks.
    pub(crate) fn walk<E: From<KvError>>(
        &self,
        span: Span,
        at: i64,
        mut each: impl FnMut(&[u8], Revision, Meta) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        if let Span::One(key) = span {
            if let Some(head) = self.tables.index.get(self.txn, key)?
                && let Some((revision, meta)) = self.existing_at(&head, at)?
            {
                // There is no other key to go on to.
                let _ = each(key, revision, meta)?;
            }
            return Ok(());
        }
        let mut scan = self.tables.index.scan(self.txn, span)?;
        while let Some(Entry { key, head }) = scan.next()? {
            if let Some((revision, meta)) = self.existing_at(&head, at)?
                && each(&key, revision, meta)?.is_break()
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The change that made a key what it is at the revision `at`, if the key exists there.
    fn existing_at(&self, head: &Head, at: i64) -> Result<Option<(Revision, Meta)>, KvError> {
        let newest = if head.revision.main <= at {
            Some((head.revision, head.meta))
        } else {
            chain::newest_at(
                &self.tables.revisions,
                self.txn,
                head,
                at,
                self.compact_revision,
            )?
            .map(|(revision, record)| (revision, record.meta))
        };
        Ok(newest.filter(|(_, meta)| !meta.is_tombstone()))
    }

    fn fill(&self, found: &mut [Found]) -> Result<(), KvError> {
        for Found { revision, kv } in found {
            kv.value = Bytes::copy_from_slice(self.value(*revision, &kv.key)?);
        }
        Ok(())
    }
}

fn passes(range: &Range, revision: Revision, meta: &Meta) -> bool {
    let within = |value, min, max| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(
        revision.main,
        range.min_mod_revision,
        range.max_mod_revision,
    ) && within(
        meta.create_revision,
        range.min_create_revision,
        range.max_create_revision,
    )
}

/// Whether the order that is asked for is the one in which keys are read.
fn is_key_order(range: &Range) -> bool {
    range.sort_target == SortTarget::Key && range.sort_order != SortOrder::Descend
}

/// Sorts as asked; what compares equal stays in the order of the keys, which etcd leaves open. A target other than the key
/// without an order means ascending, as in etcd.
fn sort(found: &mut [Found], range: &Range) {
    let compare: fn(&KeyValue, &KeyValue) -> Ordering = match range.sort_target {
        SortTarget::Key => |a, b| a.key.cmp(&b.key),
        SortTarget::Version => |a, b| a.version.cmp(&b.version),
        SortTarget::Create => |a, b| a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => |a, b| a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => |a, b| a.value.cmp(&b.value),
    };
    match range.sort_order {
        SortOrder::Descend => found.sort_by(|a, b| compare(&b.kv, &a.kv)),
        SortOrder::None | SortOrder::Ascend => found.sort_by(|a, b| compare(&a.kv, &b.kv)),
    }
}

#[cfg(test)]
mod tests {
    use rm_raft::MachineId;
    use rm_store::{DataDirectory, Environment, Identity, Options};

    use super::*;

    #[test]
    fn etcd_18667_a_compacted_revision_is_refused_the_same_by_every_kind_of_read() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity {
            domain: "test".into(),
            machine: "RM.01".into(),
            id: MachineId(1),
        };
        let directory = DataDirectory::open(folder.path(), &identity).unwrap();
        let environment = Environment::open(&directory, "state", &Options::default()).unwrap();
        let tables = Tables::open(&environment).unwrap();
        let txn = environment.env().read_txn().unwrap();
        let view = View {
            tables: &tables,
            txn: &txn,
            revision: 9,
            compact_revision: 5,
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
                view.range(&at(revision)).is_ok(),
                alone.is_ok(),
                "revision {revision}"
            );
        }
    }
}
