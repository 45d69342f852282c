//! The keys of the naive twin: what is read, written and deleted, and transactions.

use bytes::Bytes;
use rm_kv::{
    Compare, CompareResult, CompareTarget, DeleteRange, DeleteReply, KeyValue, Operation, Put,
    Range, RangeReply, Reply, ReplyBody, RequestError, SortOrder, SortTarget, Txn, TxnReply,
};

use crate::twin_keyspace::Twin;

impl Twin {
    /// The keys of a span that exist at a revision.
    fn existing(&self, key: &Bytes, range_end: &Bytes, at: i64) -> Vec<KeyValue> {
        let within = |other: &Bytes| match &range_end[..] {
            [] => other == key,
            [0] => other >= key,
            _ => other >= key && other < range_end,
        };
        let state = |changes: &[(i64, Option<KeyValue>)]| {
            let newest = changes.iter().rfind(|(revision, _)| *revision <= at)?;
            newest.1.clone()
        };
        self.history
            .iter()
            .filter(|(key, _)| within(key))
            .filter_map(|(_, changes)| state(changes))
            .collect()
    }

    pub(crate) fn now(&self, key: &Bytes, range_end: &Bytes) -> Vec<KeyValue> {
        self.existing(key, range_end, i64::MAX)
    }

    pub(crate) fn range(&self, range: &Range, newest: i64) -> ReplyBody {
        let at = if range.revision <= 0 {
            newest
        } else {
            range.revision
        };
        let mut kvs = self.existing(&range.key, &range.range_end, at);
        let count = kvs.len() as i64;
        let bounds = |value, min, max| (min == 0 || value >= min) && (max == 0 || value <= max);
        kvs.retain(|kv| {
            bounds(
                kv.mod_revision,
                range.min_mod_revision,
                range.max_mod_revision,
            ) && bounds(
                kv.create_revision,
                range.min_create_revision,
                range.max_create_revision,
            )
        });
        let descend = range.sort_order == SortOrder::Descend;
        let order = |a: std::cmp::Ordering| if descend { a.reverse() } else { a };
        match range.sort_target {
            SortTarget::Key => kvs.sort_by(|a, b| order(a.key.cmp(&b.key))),
            SortTarget::Version => kvs.sort_by(|a, b| order(a.version.cmp(&b.version))),
            SortTarget::Create => {
                kvs.sort_by(|a, b| order(a.create_revision.cmp(&b.create_revision)))
            }
            SortTarget::Mod => kvs.sort_by(|a, b| order(a.mod_revision.cmp(&b.mod_revision))),
            SortTarget::Value => kvs.sort_by(|a, b| order(a.value.cmp(&b.value))),
        }
        let limit = if range.limit <= 0 {
            usize::MAX
        } else {
            range.limit as usize
        };
        let more = kvs.len() > limit && !range.count_only;
        kvs.truncate(if range.count_only { 0 } else { limit });
        if range.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        ReplyBody::Range(RangeReply { kvs, more, count })
    }

    pub(crate) fn check_lease(&self, put: &Put) -> Result<(), RequestError> {
        match put.lease != 0 && !self.leases.contains_key(&put.lease) {
            true => Err(RequestError::LeaseNotFound),
            false => Ok(()),
        }
    }

    pub(crate) fn check_previous(&self, put: &Put) -> Result<(), RequestError> {
        let keeps = put.ignore_value || put.ignore_lease;
        if keeps && self.now(&put.key, &Bytes::new()).is_empty() {
            return Err(RequestError::KeyNotFound);
        }
        Ok(())
    }

    pub(crate) fn put(&mut self, put: &Put, revision: i64) -> ReplyBody {
        let old = self.now(&put.key, &Bytes::new()).pop();
        let mut new = KeyValue {
            key: put.key.clone(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            value: put.value.clone(),
            lease: put.lease,
        };
        if let Some(old) = &old {
            new.create_revision = old.create_revision;
            new.version = old.version + 1;
            if put.ignore_value {
                new.value = old.value.clone();
            }
            if put.ignore_lease {
                new.lease = old.lease;
            }
        }
        self.change(&put.key, revision, Some(new));
        ReplyBody::Put(old.filter(|_| put.prev_kv))
    }

    pub(crate) fn change(&mut self, key: &Bytes, revision: i64, kv: Option<KeyValue>) {
        let place = (revision, self.records.range((revision, 0)..).count());
        let value = kv.as_ref().map(|kv| kv.value.clone());
        self.records.insert(place, (key.clone(), value));
        let changes = self.history.entry(key.clone()).or_default();
        changes.push((revision, kv));
    }

    pub(crate) fn delete(&mut self, delete: &DeleteRange, revision: i64) -> ReplyBody {
        let old = self.now(&delete.key, &delete.range_end);
        for kv in &old {
            self.change(&kv.key, revision, None);
        }
        ReplyBody::DeleteRange(DeleteReply {
            deleted: old.len() as i64,
            prev_kvs: if delete.prev_kv { old } else { Vec::new() },
        })
    }

    /// The transaction with only the branches that its comparisons choose.
    pub(crate) fn decide(&self, txn: &Txn) -> (bool, Vec<Decided>) {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        let branch = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        let decide = |operation: &Operation| match operation {
            Operation::Txn(txn) => {
                let (succeeded, operations) = self.decide(txn);
                Decided::Txn(succeeded, operations)
            }
            other => Decided::One(other.clone()),
        };
        (succeeded, branch.iter().map(decide).collect())
    }

    fn holds(&self, compare: &Compare) -> bool {
        let one = |kv: &KeyValue| {
            let ordering = match &compare.target {
                CompareTarget::Version(given) => kv.version.cmp(given),
                CompareTarget::Create(given) => kv.create_revision.cmp(given),
                CompareTarget::Mod(given) => kv.mod_revision.cmp(given),
                CompareTarget::Lease(given) => kv.lease.cmp(given),
                CompareTarget::Value(given) => kv.value.cmp(given),
            };
            match compare.result {
                CompareResult::Equal => ordering.is_eq(),
                CompareResult::Greater => ordering.is_gt(),
                CompareResult::Less => ordering.is_lt(),
                CompareResult::NotEqual => ordering.is_ne(),
            }
        };
        let kvs = self.now(&compare.key, &compare.range_end);
        match (&kvs[..], &compare.target) {
            ([], CompareTarget::Value(_)) => false,
            ([], _) => one(&KeyValue::default()),
            (kvs, _) => kvs.iter().all(one),
        }
    }

    pub(crate) fn check(&self, (_, operations): &(bool, Vec<Decided>)) -> Result<(), RequestError> {
        for operation in operations {
            match operation {
                Decided::One(Operation::Range(range)) if range.revision > self.revision() => {
                    return Err(RequestError::FutureRevision);
                }
                Decided::One(Operation::Range(range))
                    if range.revision != 0 && range.revision < self.compacted =>
                {
                    return Err(RequestError::Compacted);
                }
                Decided::One(Operation::Put(put)) => {
                    self.check_previous(put)?;
                    self.check_lease(put)?;
                }
                Decided::One(_) => {}
                Decided::Txn(succeeded, operations) => {
                    self.check(&(*succeeded, operations.clone()))?
                }
            }
        }
        Ok(())
    }

    pub(crate) fn execute(
        &mut self,
        (succeeded, operations): &(bool, Vec<Decided>),
        changed: &mut bool,
    ) -> ReplyBody {
        let before = self.revision();
        let mut replies = Vec::new();
        for operation in operations {
            let body = match operation {
                Decided::One(Operation::Range(range)) => {
                    self.range(range, before + i64::from(*changed))
                }
                Decided::One(Operation::Put(put)) => {
                    *changed = true;
                    self.put(put, before + 1)
                }
                Decided::One(Operation::DeleteRange(delete)) => {
                    let body = self.delete(delete, before + 1);
                    *changed |= matches!(&body, ReplyBody::DeleteRange(reply) if reply.deleted > 0);
                    body
                }
                Decided::One(Operation::Txn(_)) => panic!("a nested transaction was not decided"),
                Decided::Txn(succeeded, operations) => {
                    self.execute(&(*succeeded, operations.clone()), changed)
                }
            };
            let revision = match body {
                ReplyBody::Txn(_) => 0,
                _ => before + i64::from(*changed),
            };
            replies.push(Reply { revision, body });
        }
        ReplyBody::Txn(TxnReply {
            succeeded: *succeeded,
            replies,
        })
    }
}

#[derive(Clone)]
pub(crate) enum Decided {
    One(Operation),
    Txn(bool, Vec<Decided>),
}
