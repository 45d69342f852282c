//! What all machines hold alike: the rules of the key space for leases (`src/kv/lease.rs`), in the plainest way.

use std::collections::BTreeMap;

use rm_kv::{Command, Grant, Lease, LeaseChange, LeaseTime, ReplyBody};

/// The most leases that an entry ends here, so that some are left for the next.
const ENDS: usize = 2;

/// The leases, and the reign that counts.
#[derive(Clone, Default)]
pub(super) struct Table {
    pub(super) leases: BTreeMap<i64, Lease>,
    reign: Option<u64>,
}

impl Table {
    /// What becomes of an entry, and what is news of it.
    pub(super) fn apply(&mut self, entry: u64, command: &Command) -> (ReplyBody, Vec<LeaseChange>) {
        match command {
            Command::GrantLease { id, ttl } => {
                let grant = Grant { id: *id, entry };
                let lease = Lease {
                    grant,
                    ttl: *ttl,
                    remaining: None,
                };
                // One that is there is refused.
                if self.leases.contains_key(id) {
                    return (ReplyBody::RevokeLease, Vec::new());
                }
                self.leases.insert(*id, lease);
                (
                    ReplyBody::GrantLease(lease),
                    vec![LeaseChange::Granted(lease)],
                )
            }
            Command::RevokeLease { id } => {
                let ended = self.leases.remove(id);
                let ended = ended.map(|lease| LeaseChange::Ended(lease.grant));
                (ReplyBody::RevokeLease, ended.into_iter().collect())
            }
            Command::CountLeases => {
                self.reign = Some(entry);
                (ReplyBody::CountLeases(entry), Vec::new())
            }
            Command::ExpireLeases { reign, .. } | Command::NoteLeases { reign, .. }
                if self.reign != Some(*reign) =>
            {
                (ReplyBody::LeasesCounted(None), Vec::new())
            }
            Command::ExpireLeases { grants, .. } => {
                let mut ended = Vec::new();
                for (done, grant) in grants.iter().enumerate() {
                    if ended.len() == ENDS {
                        return (ReplyBody::LeasesCounted(Some(done)), ended);
                    }
                    if self.lease(grant).is_some() {
                        self.leases.remove(&grant.id);
                        ended.push(LeaseChange::Ended(*grant));
                    }
                }
                (ReplyBody::LeasesCounted(Some(grants.len())), ended)
            }
            Command::NoteLeases { times, .. } => {
                for LeaseTime { grant, remaining } in times {
                    if let Some(lease) = self.lease(grant) {
                        lease.remaining = remaining.map(|left| left.clamp(0, lease.ttl));
                    }
                }
                (ReplyBody::LeasesCounted(Some(times.len())), Vec::new())
            }
            other => unreachable!("nobody proposes {other:?}"),
        }
    }

    fn lease(&mut self, grant: &Grant) -> Option<&mut Lease> {
        let lease = self.leases.get_mut(&grant.id);
        lease.filter(|lease| lease.grant == *grant)
    }

    /// Those of these leases that are there.
    pub(super) fn known(&self, ids: &[i64]) -> Vec<Lease> {
        let known = ids.iter().filter_map(|id| self.leases.get(id));
        known.copied().collect()
    }

    /// So many of the leases after one.
    pub(super) fn after(&self, after: Option<i64>, count: usize) -> Vec<Lease> {
        let leases = self.leases.values();
        let leases = leases.filter(|lease| after.is_none_or(|after| lease.grant.id > after));
        leases.take(count).copied().collect()
    }
}
