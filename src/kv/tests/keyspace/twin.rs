//! A naive twin of the key space, which keeps every key's history in memory, and random requests that both must answer
//! alike: at old revisions, with long keys, across checkpoints and crashes.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use rm_kv::{
    AuthError, AuthQuery, AuthReply, Command, Compaction, Compare, CompareResult, CompareTarget,
    DeleteRange, DeleteReply, Grant, KeyValue, Keyspace, Lease, LeaseChange, LeaseReply,
    MAX_TXN_OPERATIONS, Operation, Put, Query, Range, RangeReply, Reply, ReplyBody, RequestError,
    Signature, Signed, SortOrder, SortTarget, StateMachine, Txn, TxnReply,
};
use rm_raft::{EntryId, Index, Term};

use crate::steps::{Step, steps};
use crate::support::{Disk, apply_signed, hash};
use crate::twin_permit::TwinJudge;
use crate::twin_users::Users;
use crate::user_steps::signature;

/// The key space, in the plainest way. It forgets nothing, and notes aside which changes are to be there.
#[derive(Clone)]
struct Twin {
    /// How many revisions were made after the first.
    changes: i64,
    /// Each key's changes, oldest first: the revision, and the key or its absence.
    history: BTreeMap<Bytes, Vec<(i64, Option<KeyValue>)>>,
    /// The revision that was compacted last.
    compacted: i64,
    /// The changes that no scrub has removed.
    records: Records,
    /// The first change that the scrub has not looked at.
    scrub_from: Place,
    leases: BTreeMap<i64, Lease>,
    users: Users,
    /// How many entries were applied.
    entries: u64,
    /// The entry by which it was begun to count the time of leases.
    reign: u64,
    /// What happened to leases.
    news: Vec<LeaseChange>,
}

/// A change's revision, and its place in the transaction.
type Place = (i64, usize);

/// Each change's key, and its value or none.
type Records = BTreeMap<Place, (Bytes, Option<Bytes>)>;

impl Twin {
    fn new() -> Twin {
        Twin {
            changes: 0,
            history: BTreeMap::new(),
            compacted: -1,
            records: BTreeMap::new(),
            scrub_from: (0, 0),
            leases: BTreeMap::new(),
            users: Users::default(),
            entries: 0,
            reign: 0,
            news: Vec::new(),
        }
    }

    fn revision(&self) -> i64 {
        1 + self.changes
    }

    /// How far it is compacted, as the key space tells.
    fn compaction(&self) -> Compaction {
        Compaction {
            revision: self.compacted,
            scrubbed: self.scrub_from.0 - 1,
        }
    }

    fn apply(&mut self, signed: &Signed) -> Result<Reply, RequestError> {
        let Signed { by, command } = signed;
        self.entries += 1;
        command.check(MAX_TXN_OPERATIONS)?;
        self.judged(by.as_ref(), |judge| judge.command(command))?;
        let next = self.revision() + 1;
        let (body, changed) = match command {
            Command::Put(put) => {
                self.check_lease(put)?;
                self.check_previous(put)?;
                (self.put(put, next), true)
            }
            Command::DeleteRange(delete) => {
                let body = self.delete(delete, next);
                let changed = matches!(&body, ReplyBody::DeleteRange(reply) if reply.deleted > 0);
                (body, changed)
            }
            Command::Txn(txn) => {
                let decided = self.decide(txn);
                self.check(&decided)?;
                let mut changed = false;
                (self.execute(&decided, &mut changed), changed)
            }
            Command::Compact { revision } => {
                self.compact(*revision)?;
                (ReplyBody::Compact, false)
            }
            Command::Scrub { changes, bytes } => {
                self.scrub(*changes, *bytes as usize);
                (ReplyBody::Scrub, false)
            }
            Command::GrantLease { id, ttl } => {
                let lease = Lease {
                    grant: Grant {
                        id: *id,
                        entry: self.entries,
                    },
                    ttl: *ttl,
                    remaining: None,
                };
                if self.leases.contains_key(id) {
                    return Err(RequestError::LeaseExists);
                }
                self.leases.insert(*id, lease);
                self.news.push(LeaseChange::Granted(lease));
                (ReplyBody::GrantLease(lease), false)
            }
            Command::RevokeLease { id } => {
                let changed = self.revoke(*id, next).ok_or(RequestError::LeaseNotFound)?;
                (ReplyBody::RevokeLease, changed)
            }
            Command::Auth(command) => {
                let reply = self.users.apply(self.entries, command)?;
                (ReplyBody::Auth(reply), false)
            }
            Command::Alarm(_) => panic!("the steps have no alarms"),
            Command::CountLeases => {
                self.reign = self.entries;
                (ReplyBody::CountLeases(self.reign), false)
            }
            Command::ExpireLeases { reign, grants } => {
                let counts = *reign == self.reign;
                for grant in grants.iter().filter(|_| counts) {
                    if self.leases.get(&grant.id).map(|lease| lease.grant) != Some(*grant) {
                        continue;
                    }
                    let changed = self.revoke(grant.id, self.revision() + 1);
                    self.changes += i64::from(changed == Some(true));
                }
                let done = counts.then_some(grants.len());
                (ReplyBody::LeasesCounted(done), false)
            }
            Command::NoteLeases { reign, times } => {
                let counts = *reign == self.reign;
                for time in times.iter().filter(|_| counts) {
                    if let Some(lease) = self.leases.get_mut(&time.grant.id)
                        && lease.grant == time.grant
                    {
                        lease.remaining = time.remaining.map(|left| left.clamp(0, lease.ttl));
                    }
                }
                let done = counts.then_some(times.len());
                (ReplyBody::LeasesCounted(done), false)
            }
        };
        self.changes += i64::from(changed);
        Ok(Reply {
            revision: self.revision(),
            body,
        })
    }

    fn judged(
        &self,
        by: Option<&Signature>,
        judge: impl FnOnce(TwinJudge) -> Result<(), AuthError>,
    ) -> Result<(), RequestError> {
        let judged = judge(TwinJudge {
            users: &self.users,
            by,
            keys_of: &|id| self.keys_of(id),
            leases_after: &|after, limit| {
                let leases = self.leases_after(after, limit).into_iter();
                leases.map(|lease| lease.grant.id).collect()
            },
        });
        Ok(judged?)
    }

    /// Ends a lease, if there is one; whether keys hung on it.
    fn revoke(&mut self, id: i64, revision: i64) -> Option<bool> {
        let lease = self.leases.remove(&id)?;
        self.news.push(LeaseChange::Ended(lease.grant));
        let keys = self.keys_of(id);
        for key in &keys {
            self.change(key, revision, None);
        }
        Some(!keys.is_empty())
    }

    fn keys_of(&self, id: i64) -> Vec<Bytes> {
        let all = self.now(&Bytes::new(), &Bytes::from_static(&[0]));
        let hangs = all.into_iter().filter(|kv| kv.lease == id);
        hangs.map(|kv| kv.key).collect()
    }

    fn compact(&mut self, revision: i64) -> Result<(), RequestError> {
        if revision <= self.compacted {
            return Err(RequestError::Compacted);
        }
        if revision > self.revision() {
            return Err(RequestError::FutureRevision);
        }
        self.scrub_from = self.scrub_from.min((self.compacted.max(0), 0));
        self.compacted = revision;
        Ok(())
    }

    fn scrub(&mut self, changes: u32, mut bytes: usize) {
        for _ in 0..changes {
            let mut rest = self.records.range(self.scrub_from..);
            let next = rest.next().map(|(place, record)| (*place, record.clone()));
            let Some((place, (key, value))) = next.filter(|(place, _)| place.0 <= self.compacted)
            else {
                self.scrub_from = (self.compacted + 1, 0);
                return;
            };
            self.records.retain(|other, (of, _)| {
                let replaced = *other < place && *of == key;
                let deletion = *other == place && value.is_none() && place.0 < self.compacted;
                !replaced && !deletion
            });
            self.scrub_from = (place.0, place.1 + 1);
            bytes = bytes.saturating_sub(key.len() + value.map_or(0, |value| value.len()));
            if bytes == 0 {
                return;
            }
        }
    }

    /// What no read and no watch from the compacted revision on needs.
    fn needless(&self) -> Records {
        let is_needless = |(place, (key, value)): &(&Place, &(Bytes, Option<Bytes>))| {
            let up_to = (self.compacted + 1, 0);
            let mut newer = self.records.range(*place..).skip(1);
            let replaced = newer.any(|(other, (of, _))| *other < up_to && of == key);
            place.0 <= self.compacted && (replaced || value.is_none() && place.0 < self.compacted)
        };
        let needless = self.records.iter().filter(is_needless);
        needless
            .map(|(place, record)| (*place, record.clone()))
            .collect()
    }

    fn query(&self, by: Option<&Signature>, query: &Query) -> Result<Reply, RequestError> {
        query.check(MAX_TXN_OPERATIONS)?;
        self.judged(by, |judge| judge.query(query))?;
        let body = match query {
            Query::Range(range) if range.revision > self.revision() => {
                return Err(RequestError::FutureRevision);
            }
            Query::Range(range) if (1..self.compacted).contains(&range.revision) => {
                return Err(RequestError::Compacted);
            }
            Query::Range(range) => self.range(range, self.revision()),
            Query::Txn(txn) => {
                let decided = self.decide(txn);
                self.check(&decided)?;
                self.clone().execute(&decided, &mut false)
            }
            Query::Lease { id, keys } => {
                let lease = *self.leases.get(id).ok_or(RequestError::LeaseNotFound)?;
                let keys = if *keys { self.keys_of(*id) } else { Vec::new() };
                ReplyBody::Lease(LeaseReply { lease, keys })
            }
            Query::Auth(query) => ReplyBody::Auth(match query {
                AuthQuery::Status => self.users.status(),
                AuthQuery::Users => self.users.names(),
                AuthQuery::Roles => self.users.role_names(),
                AuthQuery::User(name) => self.users.roles_of(name)?,
                AuthQuery::Role(name) => self.users.permissions_of(name)?,
                AuthQuery::Password(name) => self.users.password_of(name)?,
                AuthQuery::May(_) => AuthReply::Done,
            }),
            Query::Signed { .. } => panic!("a query is given with who asks beside it"),
            Query::KnownLeases(ids) => {
                let known = ids.iter().filter_map(|id| self.leases.get(id));
                ReplyBody::Leases(known.copied().collect())
            }
            Query::Leases { after, limit } | Query::ListLeases { after, limit } => {
                ReplyBody::Leases(self.leases_after(*after, *limit))
            }
        };
        Ok(Reply {
            revision: self.revision(),
            body,
        })
    }

    fn leases_after(&self, after: Option<i64>, limit: usize) -> Vec<Lease> {
        // Negative ids come last, as their bytes do.
        let mut leases: Vec<Lease> = self.leases.values().copied().collect();
        leases.sort_by_key(|lease| lease.grant.id as u64);
        leases.retain(|lease| after.is_none_or(|id| lease.grant.id as u64 > id as u64));
        leases.truncate(limit);
        leases
    }

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

    fn now(&self, key: &Bytes, range_end: &Bytes) -> Vec<KeyValue> {
        self.existing(key, range_end, i64::MAX)
    }

    fn range(&self, range: &Range, newest: i64) -> ReplyBody {
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

    fn check_lease(&self, put: &Put) -> Result<(), RequestError> {
        match put.lease != 0 && !self.leases.contains_key(&put.lease) {
            true => Err(RequestError::LeaseNotFound),
            false => Ok(()),
        }
    }

    fn check_previous(&self, put: &Put) -> Result<(), RequestError> {
        let keeps = put.ignore_value || put.ignore_lease;
        if keeps && self.now(&put.key, &Bytes::new()).is_empty() {
            return Err(RequestError::KeyNotFound);
        }
        Ok(())
    }

    fn put(&mut self, put: &Put, revision: i64) -> ReplyBody {
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

    fn change(&mut self, key: &Bytes, revision: i64, kv: Option<KeyValue>) {
        let place = (revision, self.records.range((revision, 0)..).count());
        let value = kv.as_ref().map(|kv| kv.value.clone());
        self.records.insert(place, (key.clone(), value));
        let changes = self.history.entry(key.clone()).or_default();
        changes.push((revision, kv));
    }

    fn delete(&mut self, delete: &DeleteRange, revision: i64) -> ReplyBody {
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
    fn decide(&self, txn: &Txn) -> (bool, Vec<Decided>) {
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

    fn check(&self, (_, operations): &(bool, Vec<Decided>)) -> Result<(), RequestError> {
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

    fn execute(
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
enum Decided {
    One(Operation),
    Txn(bool, Vec<Decided>),
}

fn by_whom(by: Option<Signature>, query: Query) -> Query {
    let signed = |by| Query::Signed {
        by,
        query: Box::new(query.clone()),
    };
    by.map_or(query.clone(), signed)
}

/// Applies again what the key space has lost.
fn replay(keyspace: &mut Keyspace, log: &[(Signed, Result<Reply, RequestError>)]) {
    let lost = keyspace.applied().index.0 as usize..;
    for (number, (signed, outcome)) in log.iter().enumerate().skip(lost.start) {
        let entry = EntryId {
            term: Term(1),
            index: Index(number as u64 + 1),
        };
        // Nobody waits for the answer: only whether it is an error is to be as before.
        let again = keyspace.apply(entry, Some(&signed.encode()), false);
        let again = again.unwrap().unwrap();
        assert_eq!(again.as_ref().err(), outcome.as_ref().err());
        if let (Ok(again), Ok(before)) = (again, outcome) {
            assert_eq!(again.revision, before.revision);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_key_space_answers_as_its_naive_twin_and_every_machine_alike(
        steps in steps(),
    ) {
        let (disk, other_disk, dusty_disk) = (Disk::new(), Disk::new(), Disk::new());
        let mut keyspace = disk.open();
        let mut other = other_disk.open();
        let mut dusty = dusty_disk.open();
        let mut twin = Twin::new();
        let mut log = Vec::new();
        for step in steps {
            match step {
                Step::Apply(asker, command) => {
                    let by = signature(asker, twin.users.revision());
                    let signed = Signed { by, command };
                    let outcome = apply_signed(&mut keyspace, &signed).unwrap().unwrap();
                    let news = keyspace.take_lease_news().changes;
                    prop_assert_eq!(&outcome, &twin.apply(&signed), "{:?}", signed);
                    prop_assert_eq!(news, std::mem::take(&mut twin.news));
                    let news = keyspace.take_auth_news().into_iter();
                    let news = news.map(|(entry, news)| (entry.index.0, news)).collect::<Vec<_>>();
                    prop_assert_eq!(news, std::mem::take(&mut twin.users.news));
                    log.push((signed, outcome));
                }
                Step::Query(asker, query) => {
                    let by = signature(asker, twin.users.revision());
                    let answer = twin.query(by.as_ref(), &query);
                    let query = by_whom(by, query);
                    let reply = keyspace.query(&query).unwrap();
                    prop_assert_eq!(reply, answer, "{:?}", query);
                }
                Step::Checkpoint => {
                    keyspace.checkpoint().unwrap();
                    prop_assert_eq!(keyspace.checkpointed(), keyspace.applied());
                }
                Step::Crash => {
                    drop(keyspace);
                    keyspace = disk.open();
                    replay(&mut keyspace, &log);
                    keyspace.take_lease_news();
                    keyspace.take_auth_news();
                }
            }
            prop_assert_eq!(keyspace.revision(), twin.revision());
            prop_assert_eq!(
                keyspace.auth_status(),
                (twin.users.enabled, twin.users.revision())
            );
            for user in ["root", "alice", "bob"] {
                // Everybody may ask for its own.
                let by = signature(Some((user, 0)), twin.users.revision());
                let query = Query::Auth(AuthQuery::User(user.to_owned()));
                let answer = twin.query(by.as_ref(), &query);
                prop_assert_eq!(keyspace.query(&by_whom(by, query)).unwrap(), answer);
            }
            prop_assert_eq!(keyspace.compaction(), twin.compaction());
            prop_assert_eq!(keyspace.size().unwrap().changes, twin.records.len() as u64);
            if twin.compaction().is_complete() {
                prop_assert_eq!(twin.needless(), Records::new());
            }
        }
        // A machine that never crashed and makes its one checkpoint at the end has the same bytes.
        replay(&mut other, &log);
        prop_assert_eq!(
            hash(&disk, &mut keyspace, 0),
            hash(&other_disk, &mut other, 0)
        );
        prop_assert_eq!(disk.dump(), other_disk.dump());
        // One that has scrubbed nothing answers by the same hash, at every revision that can be read.
        for (signed, _) in &mut log {
            if let Command::Scrub { changes, .. } = &mut signed.command {
                *changes = 0;
            }
        }
        replay(&mut dusty, &log);
        for revision in twin.compacted.max(1)..=twin.revision() {
            prop_assert_eq!(
                hash(&disk, &mut keyspace, revision),
                hash(&dusty_disk, &mut dusty, revision)
            );
        }
    }
}
