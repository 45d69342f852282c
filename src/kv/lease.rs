//! Leases: keys that hang on one are deleted when it ends.
//!
//! The key space knows which leases there are, for how long each was granted, and which keys hang on it. It has no clock: when a
//! lease ends is decided by the machine that leads, which says so through the log.

use bytes::Bytes;
use heed::types::Bytes as Raw;
use heed::{CommitOrAbort, Database, RoTxn, RwTxn};
use rm_store::Environment;
use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::command::{Grant, Lease, LeaseReply, LeaseTime};
use crate::error::{Failure, KvError, RequestError};
use crate::frame;
use crate::revision::{Meta, Revision};
use crate::view::View;

/// The table of leases.
pub(crate) const LEASE_TABLE: &str = "lease";
/// The table of what hangs on them.
pub(crate) const ATTACHED_TABLE: &str = "attached";

/// The longest time for which a lease is granted, in seconds, as in etcd.
pub const LEASE_SECONDS_MAX: i64 = 9_000_000_000;

/// The most leases that one command may name, or one reply list.
pub const LEASES_MAX: usize = 10_000;

/// After so many changes of keys an entry ends no further leases: others wait for it.
const ENDS_CHANGES_MAX: u64 = 1_000;

/// What happened to leases, for whoever counts their time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseNews {
    /// What was granted and what has ended, in order.
    pub changes: Vec<LeaseChange>,
}

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// There is a new lease.
    Granted(Lease),
    /// There is no such lease any more.
    Ended(Grant),
}

/// The tables of leases. A state of an older layout has none until it is opened; there are no leases in it.
#[derive(Clone, Copy)]
pub(crate) struct Leases {
    pub(crate) leases: Database<'static, Raw, Raw>,
    pub(crate) attached: Database<'static, Raw, Raw>,
}

/// A lease as it lies in its table.
#[derive(Serialize, Deserialize)]
struct Stored {
    entry: u64,
    ttl: i64,
    /// What was left of it when that was last noted; none if it was renewed since.
    remaining: Option<i64>,
}

impl Stored {
    fn lease(&self, id: i64) -> Lease {
        Lease {
            grant: Grant {
                id,
                entry: self.entry,
            },
            ttl: self.ttl,
            remaining: self.remaining,
        }
    }
}

impl Leases {
    /// Opens the tables, and makes them where there are none.
    pub(crate) fn open(environment: &Environment) -> Result<Leases, KvError> {
        let env = environment.env();
        let found = env.open_databases_and_commit(env.read_txn()?, |opener, txn| {
            let leases = opener.open_database(txn, Some(LEASE_TABLE))?;
            let attached = opener.open_database(txn, Some(ATTACHED_TABLE))?;
            Ok::<_, KvError>(CommitOrAbort::<_, ()>::Commit((leases, attached)))
        })?;
        if let Some((Some(leases), Some(attached))) = found.commit() {
            return Ok(Leases { leases, attached });
        }
        let made = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
            let leases = opener.create_database(txn, Some(LEASE_TABLE))?;
            let attached = opener.create_database(txn, Some(ATTACHED_TABLE))?;
            environment.stamp(txn)?;
            Ok::<_, KvError>(CommitOrAbort::<_, ()>::Commit((leases, attached)))
        })?;
        let (leases, attached) = made
            .commit()
            .expect("the closure returns an error or commits");
        Ok(Leases { leases, attached })
    }

    /// A lease, if there is one of that id.
    pub(crate) fn get(&self, txn: &RoTxn, id: i64) -> Result<Option<Lease>, KvError> {
        let key = id.to_be_bytes();
        let found = self.leases.get(txn, &key)?;
        found.map(|value| decode(&key, value)).transpose()
    }

    /// The leases whose ids follow on one, in the order of their bytes.
    fn after(&self, txn: &RoTxn, id: Option<i64>, count: usize) -> Result<Vec<Lease>, KvError> {
        use std::ops::Bound;
        let start = id.map(i64::to_be_bytes);
        let start = start
            .as_ref()
            .map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_slice()));
        let leases = self.leases.range(txn, &(start, Bound::Unbounded))?;
        let decoded = leases.take(count).map(|item| {
            let (key, value) = item?;
            decode(key, value)
        });
        decoded.collect()
    }

    fn put(&self, txn: &mut RwTxn, lease: &Lease, scratch: &mut Vec<u8>) -> Result<(), KvError> {
        let key = lease.grant.id.to_be_bytes();
        let stored = Stored {
            entry: lease.grant.entry,
            ttl: lease.ttl,
            remaining: lease.remaining,
        };
        frame::seal(scratch, &key, &stored, [&[], &[]]);
        Ok(self.leases.put(txn, &key, scratch)?)
    }

    /// The changes that hang on a lease: each is the newest of its key.
    fn attached<'t>(
        &self,
        txn: &'t RoTxn,
        id: i64,
    ) -> Result<impl Iterator<Item = Result<Revision, KvError>> + use<'t>, KvError> {
        let prefix = id.to_be_bytes();
        let items = self.attached.prefix_iter(txn, &prefix)?;
        Ok(items.map(move |item| {
            let (key, value) = item?;
            let ((), _) = frame::open(ATTACHED_TABLE, key, value)?;
            Revision::from_key(&key[prefix.len()..])
        }))
    }
}

fn attached_key(id: i64, revision: Revision) -> [u8; 20] {
    let mut key = [0; 20];
    key[..8].copy_from_slice(&id.to_be_bytes());
    key[8..].copy_from_slice(&revision.to_key());
    key
}

fn decode(key: &[u8], value: &[u8]) -> Result<Lease, KvError> {
    let (stored, _): (Stored, _) = frame::open(LEASE_TABLE, key, value)?;
    let id = key
        .try_into()
        .map_err(|_| KvError::damaged(LEASE_TABLE, key, "the key is not the id of a lease"))?;
    Ok(stored.lease(i64::from_be_bytes(id)))
}

impl View<'_> {
    /// A lease, with the keys that hang on it if they are wanted, in their order.
    pub(crate) fn lease(&self, id: i64, keys: bool) -> Result<LeaseReply, Failure> {
        let lease = self.leases.get(self.txn, id)?;
        let lease = lease.ok_or(RequestError::LeaseNotFound)?;
        let mut reply = LeaseReply {
            lease,
            keys: Vec::new(),
        };
        if keys {
            self.each_attached(id, |key| {
                self.room.take(size_of::<Bytes>() + key.len())?;
                reply.keys.push(Bytes::copy_from_slice(key));
                Ok::<_, Failure>(())
            })?;
            reply.keys.sort();
        }
        Ok(reply)
    }

    /// Those of these leases that are there.
    pub(crate) fn known_leases(&self, ids: &[i64]) -> Result<Vec<Lease>, KvError> {
        let mut known = Vec::new();
        for id in ids.iter().take(LEASES_MAX) {
            known.extend(self.leases.get(self.txn, *id)?);
            self.progress.step(0);
        }
        Ok(known)
    }

    /// The leases after one, at most so many and no more than [`LEASES_MAX`].
    pub(crate) fn leases_after(
        &self,
        id: Option<i64>,
        count: usize,
    ) -> Result<Vec<Lease>, KvError> {
        self.leases.after(self.txn, id, count.min(LEASES_MAX))
    }

    /// The keys that hang on a lease, in their order.
    pub(crate) fn attached_keys(&self, id: i64) -> Result<Vec<Bytes>, KvError> {
        let mut keys = Vec::new();
        self.each_attached(id, |key| {
            keys.push(Bytes::copy_from_slice(key));
            Ok::<_, KvError>(())
        })?;
        keys.sort();
        Ok(keys)
    }

    /// Tells of each key that hangs on a lease.
    fn each_attached<E: From<KvError>>(
        &self,
        id: i64,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for revision in self.leases.attached(self.txn, id)? {
            let revision = revision?;
            let record = self.tables.revisions.get(self.txn, revision)?;
            let record = record.ok_or_else(|| revision.missing())?;
            self.progress.step(record.key.len());
            each(record.key)?;
        }
        Ok(())
    }
}

impl Change<'_, '_> {
    /// Grants a lease of an id that is free.
    pub(crate) fn grant_lease(&mut self, grant: Grant, ttl: i64) -> Result<Lease, Failure> {
        if self.leases.get(self.txn, grant.id)?.is_some() {
            return Err(RequestError::LeaseExists.into());
        }
        let lease = Lease {
            grant,
            ttl,
            remaining: None,
        };
        self.put_lease(&lease)?;
        self.news.changes.push(LeaseChange::Granted(lease));
        self.tally.leases_granted += 1;
        Ok(lease)
    }

    /// Ends a lease and deletes the keys that hang on it, all in one revision.
    pub(crate) fn revoke_lease(&mut self, id: i64) -> Result<(), Failure> {
        let lease = self.leases.get(self.txn, id)?;
        let lease = lease.ok_or(RequestError::LeaseNotFound)?;
        for key in self.view().attached_keys(id)? {
            let newest = self.tables.index.get(self.txn, &key)?;
            self.append(&key, newest.as_ref(), Meta::TOMBSTONE, &[])?;
            self.tally.deletes += 1;
        }
        self.leases.leases.delete(self.txn, &id.to_be_bytes())?;
        self.written.leases += 1;
        self.news.changes.push(LeaseChange::Ended(lease.grant));
        self.tally.leases_ended += 1;
        Ok(())
    }

    /// Ends those of these leases that are there, each in a revision of its own, until enough keys were deleted; how many of these it came
    /// to.
    pub(crate) fn expire_leases(&mut self, grants: &[Grant]) -> Result<usize, Failure> {
        for (done, grant) in grants.iter().enumerate() {
            if self.written.changes >= ENDS_CHANGES_MAX {
                return Ok(done);
            }
            if self.lease(grant)?.is_some() {
                self.revoke_lease(grant.id)?;
                self.end_revision();
            }
        }
        Ok(grants.len())
    }

    /// Whether whoever began to count by this entry was the last to begin.
    pub(crate) fn is_reign(&self, entry: u64) -> Result<bool, KvError> {
        Ok(self.tables.lease_reign(self.txn)? == Some(entry))
    }

    /// From now on only what names this entry counts.
    pub(crate) fn begin_reign(&mut self, entry: u64) -> Result<(), KvError> {
        self.written.leases += 1;
        self.tables.set_lease_reign(self.txn, entry)
    }

    /// Notes how much is left of those of these leases that are there; how many of these that is.
    pub(crate) fn note_leases(&mut self, times: &[LeaseTime]) -> Result<usize, KvError> {
        for LeaseTime { grant, remaining } in times {
            if let Some(mut lease) = self.lease(grant)? {
                lease.remaining = remaining.map(|left| left.clamp(0, lease.ttl.max(0)));
                self.put_lease(&lease)?;
            }
        }
        Ok(times.len())
    }

    /// The lease of this very grant, if it is there.
    fn lease(&self, grant: &Grant) -> Result<Option<Lease>, KvError> {
        let lease = self.leases.get(self.txn, grant.id)?;
        Ok(lease.filter(|lease| lease.grant == *grant))
    }

    fn put_lease(&mut self, lease: &Lease) -> Result<(), KvError> {
        self.written.leases += 1;
        self.progress.step(0);
        self.leases.put(self.txn, lease, self.scratch)
    }

    /// Has a key hang on the lease that its newest change names, and no more on that which the change before did.
    pub(crate) fn reattach(
        &mut self,
        before: Option<(i64, Revision)>,
        after: Option<(i64, Revision)>,
    ) -> Result<(), KvError> {
        let attached = &self.leases.attached;
        if let Some((id, revision)) = before {
            attached.delete(self.txn, &attached_key(id, revision))?;
            self.written.attached += 1;
        }
        if let Some((id, revision)) = after {
            let key = attached_key(id, revision);
            frame::seal(self.scratch, &key, &(), [&[], &[]]);
            attached.put(self.txn, &key, self.scratch)?;
            self.written.attached += 1;
        }
        Ok(())
    }
}
