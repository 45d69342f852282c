//! Leases that somebody asks about: to be renewed, or looked at. From then on until that is settled, what is to be renewed is reserved.

use rm_kv::{Command, Lease, LeaseTime};
use rm_wire::{LeaseStanding, LessorBody};

use super::asking::Wish;
use super::reign::Reign;

/// A question on its way.
#[derive(Debug)]
pub(super) struct Looking {
    wish: Wish,
    ids: Vec<i64>,
    /// Of each, whether it may be looked up: nothing else about it is being decided.
    is_asked: Vec<bool>,
    /// The entry that began the reign.
    entry: u64,
}

/// What a look has come to.
#[derive(Debug)]
pub(super) struct Found {
    /// In the order of the ids that were asked about, without those that are not there.
    leases: Vec<Lease>,
    /// Whether that may be told.
    is_told: bool,
}

/// What has become of a look.
#[derive(Debug)]
pub(super) struct Settled {
    /// The answer.
    pub(super) body: LessorBody,
    /// How many leases have their whole time again, whether that is told or not.
    pub(super) renewed: u64,
}

impl Looking {
    /// The ids that are to be looked up, once a quorum has confirmed who leads.
    pub(super) fn asked(&self) -> Vec<i64> {
        let asked = self.ids.iter().zip(&self.is_asked);
        let asked = asked.filter(|(_, is_asked)| **is_asked);
        asked.map(|(id, _)| *id).collect()
    }

    /// What must be written before what was found counts. Where leases are to be renewed, nothing is noted to be left of them any more: the
    /// next leader gives them their whole time, as this one does whatever was noted.
    pub(super) fn notes_to_take_back(&self, leases: &[Lease]) -> Option<Command> {
        let is_noted = |lease: &&Lease| self.wish == Wish::Renew && lease.remaining.is_some();
        let whole = |lease: &Lease| LeaseTime {
            grant: lease.grant,
            remaining: None,
        };
        let times: Vec<LeaseTime> = leases.iter().filter(is_noted).map(whole).collect();
        let reign = self.entry;
        (!times.is_empty()).then_some(Command::NoteLeases { reign, times })
    }
}

impl Found {
    /// Leases of which all that had to be written is.
    pub(super) fn settled(leases: Vec<Lease>) -> Found {
        Found {
            leases,
            is_told: true,
        }
    }

    /// Leases of which that may not be written: they have their time again while this leader leads, and it is told to nobody.
    pub(super) fn unsettled(leases: Vec<Lease>) -> Found {
        Found {
            leases,
            is_told: false,
        }
    }
}

impl Reign {
    /// Begins to look at leases, as soon as the entry that begins the reign is applied.
    pub(super) fn look(&mut self, wish: Wish, ids: Vec<i64>) -> Option<Looking> {
        let entry = self.entry()?;
        let is_asked = match wish {
            Wish::Renew => self.book.reserve(&ids),
            Wish::Look => vec![true; ids.len()],
        };
        Some(Looking {
            wish,
            ids,
            is_asked,
            entry,
        })
    }

    /// What becomes of leases that were asked about. Those that are to be renewed are, and nothing keeps them from ending any more.
    pub(super) fn settle(
        &mut self,
        looking: &Looking,
        found: Option<Found>,
        now_ms: u64,
    ) -> Settled {
        let wish = looking.wish;
        let is_told = found.as_ref().is_some_and(|found| found.is_told);
        let leases = found.map(|found| found.leases).unwrap_or_default();
        let mut leases = leases.iter().peekable();
        let mut standings = Vec::with_capacity(looking.ids.len());
        let mut renewed = 0;
        for (id, is_asked) in looking.ids.iter().zip(&looking.is_asked) {
            let lease = leases.next_if(|lease| *is_asked && lease.grant.id == *id);
            let left_ms = lease.map(|lease| match wish {
                Wish::Renew => self.book.renew(lease, now_ms),
                Wish::Look => Ok(self.book.left(lease, now_ms)),
            });
            if wish == Wish::Renew && *is_asked {
                self.book.unreserve(*id);
                renewed += u64::from(matches!(left_ms, Some(Ok(_))));
            }
            standings.push(match (is_asked, lease, left_ms) {
                (true, Some(lease), Some(Ok(left_ms))) => LeaseStanding::Held {
                    ttl: lease.ttl,
                    left_ms,
                },
                (true, None, _) => LeaseStanding::None,
                _ => LeaseStanding::Unsettled,
            });
        }
        let body = match is_told {
            true => LessorBody::Standing(standings),
            false => LessorBody::NotNow,
        };
        Settled { body, renewed }
    }
}
