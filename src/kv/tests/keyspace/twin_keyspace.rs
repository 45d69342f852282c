//! A naive twin of the key space, which keeps every key's history in memory: what it is asked, leases, and compaction. Its keys are in
//! `twin_keys.rs`, users and permissions in `twin_users.rs` and `twin_permit.rs`.

use std::collections::BTreeMap;

use bytes::Bytes;
use rm_kv::{
    AuthError, AuthQuery, AuthReply, Command, Compaction, Grant, KeyValue, Lease, LeaseChange,
    LeaseReply, MAX_TXN_OPERATIONS, Query, Reply, ReplyBody, RequestError, Signature, Signed,
};

use crate::twin_permit::TwinJudge;
use crate::twin_users::Users;

/// The key space, in the plainest way. It forgets nothing, and notes aside which changes are to be there.
#[derive(Clone)]
pub(crate) struct Twin {
    /// How many revisions were made after the first.
    changes: i64,
    /// Each key's changes, oldest first: the revision, and the key or its absence.
    pub(crate) history: BTreeMap<Bytes, Vec<(i64, Option<KeyValue>)>>,
    /// The revision that was compacted last.
    pub(crate) compacted: i64,
    /// The changes that no scrub has removed.
    pub(crate) records: Records,
    /// The first change that the scrub has not looked at.
    scrub_from: Place,
    pub(crate) leases: BTreeMap<i64, Lease>,
    pub(crate) users: Users,
    /// How many entries were applied.
    entries: u64,
    /// The entry by which it was begun to count the time of leases.
    reign: u64,
    /// What happened to leases.
    pub(crate) news: Vec<LeaseChange>,
}

/// A change's revision, and its place in the transaction.
type Place = (i64, usize);

/// Each change's key, and its value or none.
pub(crate) type Records = BTreeMap<Place, (Bytes, Option<Bytes>)>;

impl Twin {
    pub(crate) fn new() -> Twin {
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

    pub(crate) fn revision(&self) -> i64 {
        1 + self.changes
    }

    /// How far it is compacted, as the key space tells.
    pub(crate) fn compaction(&self) -> Compaction {
        Compaction {
            revision: self.compacted,
            scrubbed: self.scrub_from.0 - 1,
        }
    }

    pub(crate) fn apply(&mut self, signed: &Signed) -> Result<Reply, RequestError> {
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
    pub(crate) fn needless(&self) -> Records {
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

    pub(crate) fn query(
        &self,
        by: Option<&Signature>,
        query: &Query,
    ) -> Result<Reply, RequestError> {
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
}
