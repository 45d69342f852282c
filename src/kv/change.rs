//! Writing: one request's changes to the key space, all under one revision.

use std::ops::ControlFlow;

use bytes::Bytes;
use heed::RwTxn;

use crate::chain::Link;
use crate::command::{DeleteRange, DeleteReply, Put, ReplyBody};
use crate::dirty::Written;
use crate::error::{Failure, KvError, RequestError};
use crate::index::Head;
use crate::lease::{LeaseNews, Leases};
use crate::progress::Progress;
use crate::revision::{Meta, Record, Revision};
use crate::room::ReplyRoom;
use crate::span::Span;
use crate::tables::{State, Tables};
use crate::tally::Tally;
use crate::view::View;

/// The changes of one request, under way.
pub(crate) struct Change<'c, 'env> {
    pub(crate) tables: &'c Tables,
    pub(crate) leases: &'c Leases,
    /// What happens to leases.
    pub(crate) news: &'c mut LeaseNews,
    pub(crate) txn: &'c mut RwTxn<'env>,
    pub(crate) state: &'c mut State,
    /// Overwritten by every write.
    pub(crate) scratch: &'c mut Vec<u8>,
    /// Whether anyone waits for the answers.
    pub(crate) answer: bool,
    /// Why the answers were given up.
    pub(crate) unanswered: Option<RequestError>,
    pub(crate) progress: &'c Progress,
    pub(crate) room: &'c ReplyRoom<'c>,
    /// How many changes were made in this revision.
    pub(crate) made: u32,
    /// What was written in all.
    pub(crate) written: Written,
    /// What was done.
    pub(crate) tally: Tally,
}

impl Change<'_, '_> {
    /// The key space with the changes made so far.
    pub(crate) fn view(&self) -> View<'_> {
        View {
            tables: self.tables,
            leases: self.leases,
            txn: self.txn,
            revision: self.revision(),
            compact_revision: self.state.compact_revision,
            progress: self.progress,
            room: self.room,
        }
    }

    /// What there is to answer; none once there is no room for the answers. The changes go on, since other machines make them too.
    pub(crate) fn answer<T>(
        &mut self,
        read: impl FnOnce(&View) -> Result<T, Failure>,
    ) -> Result<Option<T>, KvError> {
        if !self.answer {
            return Ok(None);
        }
        match read(&self.view()) {
            Ok(answer) => Ok(Some(answer)),
            Err(Failure::Store(error)) => Err(error),
            Err(Failure::Request(error)) => {
                self.answer = false;
                self.unanswered = Some(error);
                Ok(None)
            }
        }
    }

    /// The revision of the key space with the changes made so far: one more as soon as there is one.
    pub(crate) fn revision(&self) -> i64 {
        self.state.revision + i64::from(self.made > 0)
    }

    /// Makes the changes so far a revision of the key space; those that follow are of the next.
    pub(crate) fn end_revision(&mut self) {
        self.state.revision = self.revision();
        self.made = 0;
    }

    /// Puts a key, which [`check_put`] has allowed.
    pub(crate) fn put(&mut self, put: &Put) -> Result<ReplyBody, KvError> {
        let newest = self.tables.index.get(self.txn, &put.key)?;
        let existing = newest.filter(|head| !head.meta.is_tombstone());
        let prev = match existing {
            Some(head) if put.prev_kv => self.answer(|view| view.key_value(&put.key, &head))?,
            _ => None,
        };
        let value = match existing {
            Some(head) if put.ignore_value => {
                Bytes::copy_from_slice(self.view().value(head.revision, &put.key)?)
            }
            _ => put.value.clone(),
        };
        let meta = Meta {
            create_revision: existing
                .map_or(self.state.revision + 1, |head| head.meta.create_revision),
            version: existing.map_or(0, |head| head.meta.version) + 1,
            lease: existing
                .filter(|_| put.ignore_lease)
                .map_or(put.lease, |head| head.meta.lease),
        };
        self.append(&put.key, newest.as_ref(), meta, &value)?;
        self.tally.puts += 1;
        self.tally.put_bytes += (put.key.len() + put.value.len()) as u64;
        Ok(ReplyBody::Put(prev))
    }

    /// Deletes the keys of a range that exist.
    pub(crate) fn delete_range(&mut self, delete: &DeleteRange) -> Result<ReplyBody, KvError> {
        let mut keys = Vec::new();
        let view = self.view();
        view.walk(
            Span::new(&delete.key, &delete.range_end),
            view.revision,
            |key, _, _| {
                keys.push(Bytes::copy_from_slice(key));
                Ok::<_, KvError>(ControlFlow::Continue(()))
            },
        )?;
        let mut reply = DeleteReply {
            deleted: keys.len() as i64,
            prev_kvs: Vec::new(),
        };
        for key in &keys {
            if delete.prev_kv {
                let prev = self.answer(|view| view.get(key))?;
                reply.prev_kvs.extend(prev.flatten());
            }
            let newest = self.tables.index.get(self.txn, key)?;
            self.append(key, newest.as_ref(), Meta::TOMBSTONE, &[])?;
        }
        self.tally.deletes += 1;
        Ok(ReplyBody::DeleteRange(reply))
    }

    /// Appends the next change of a key.
    pub(crate) fn append(
        &mut self,
        key: &[u8],
        newest: Option<&Head>,
        meta: Meta,
        value: &[u8],
    ) -> Result<(), KvError> {
        let revision = Revision {
            main: self.state.revision + 1,
            sub: self.made,
        };
        let revisions = &self.tables.revisions;
        let link = match newest {
            Some(head) => Link::after(revisions, self.txn, head, self.state.compact_revision)?,
            None => Link::FIRST,
        };
        let record = Record {
            meta,
            link,
            key,
            value,
        };
        revisions.append(self.txn, revision, &record, self.scratch)?;
        self.written.record_bytes += self.scratch.len();
        let length = newest.map_or(0, |head| head.length) + 1;
        let head = Head {
            revision,
            meta,
            length,
            link,
        };
        self.tables.index.put(
            self.txn,
            key,
            &head,
            &mut self.state.next_branch,
            self.scratch,
        )?;
        let hangs = |meta: Meta, revision| (meta.lease != 0).then_some((meta.lease, revision));
        let before = newest.and_then(|head| hangs(head.meta, head.revision));
        self.reattach(before, hangs(meta, revision))?;
        self.made += 1;
        self.written.changes += 1;
        self.progress.step(value.len());
        Ok(())
    }
}

/// Checks what a put by itself asks of the key space before any change is made, in etcd's order.
pub(crate) fn check_put(view: &View, put: &Put) -> Result<(), Failure> {
    check_lease(view, put)?;
    check_previous(view, put)
}

/// The same of a put in a transaction, where etcd looks for the key first.
pub(crate) fn check_put_within(view: &View, put: &Put) -> Result<(), Failure> {
    check_previous(view, put)?;
    check_lease(view, put)
}

/// The lease exists.
fn check_lease(view: &View, put: &Put) -> Result<(), Failure> {
    match put.lease != 0 && view.leases.get(view.txn, put.lease)?.is_none() {
        true => Err(RequestError::LeaseNotFound.into()),
        false => Ok(()),
    }
}

/// There is a key of which something is to be kept.
fn check_previous(view: &View, put: &Put) -> Result<(), Failure> {
    let keeps = put.ignore_value || put.ignore_lease;
    match keeps && view.head(&put.key)?.is_none() {
        true => Err(RequestError::KeyNotFound.into()),
        false => Ok(()),
    }
}
