//! The leases of the source at the target: granted with the same numbers and times, renewed there for as long as they live at the
//! source, and revoked when they have ended there.
//!
//! What hangs on a lease would vanish from the target while its holder still renews it at the source; so rmctl renews it until the holder
//! has changed over.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use futures::future::try_join;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use crate::client::Link;
use crate::migrate::error::{MigrateError, Result};
use crate::migrate::side::Side;
use crate::migrate::signal::Signal;
use crate::proto::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
};

/// The time of a lease that has ended at the source, whose keys were read before that: long enough for what deletes them to come.
const ENDED_SECONDS: i64 = 30;
/// How often it is looked which leases are due.
const TICK: Duration = Duration::from_millis(250);
/// How often the source is asked which leases there are.
const LISTING_INTERVAL: Duration = Duration::from_secs(2);
/// How many leases are asked about at a time.
const QUESTIONS_MAX: usize = 16;
/// How many leases are renewed by one stream.
const RENEWALS_MAX: usize = 1_024;

/// The leases that were moved.
pub(crate) struct Leases<'a> {
    source: &'a Side,
    target: &'a Side,
    /// Whether all leases of the source move, or only those on which keys hang that do.
    everything: bool,
    book: RefCell<BTreeMap<i64, Held>>,
    /// Whether anything may be written yet.
    open: Signal,
    /// A lease has ended at the target that lives at the source: its keys are gone.
    pub(crate) lost: Signal,
}

/// A lease at the target.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// What it was granted, in seconds.
    seconds: i64,
    /// Since when it has its whole time.
    renewed: Instant,
    /// Whether it lives at the source.
    lives: bool,
}

impl Held {
    /// Whether a third of its time is over.
    fn is_due(&self) -> bool {
        let seconds = u64::try_from(self.seconds).unwrap_or(0);
        self.lives && self.renewed.elapsed() >= Duration::from_secs(seconds) / 3
    }
}

impl<'a> Leases<'a> {
    /// None is moved yet.
    pub(crate) fn new(source: &'a Side, target: &'a Side, everything: bool) -> Leases<'a> {
        Leases {
            source,
            target,
            everything,
            book: RefCell::default(),
            open: Signal::new(),
            lost: Signal::new(),
        }
    }

    /// Has all leases that move by themselves be there; from now on they are looked after.
    ///
    /// # Errors
    /// As [`Leases::ensure`].
    pub(crate) async fn begin(&self) -> Result<()> {
        if self.everything {
            let listed = self.listed().await?;
            self.ensure(listed.into_iter()).await?;
        }
        self.open.raise();
        Ok(())
    }

    /// Has these leases be at the target; zero is none.
    ///
    /// # Errors
    /// A refusal; [`MigrateError::LeaseInTheWay`].
    pub(crate) async fn ensure(&self, ids: impl Iterator<Item = i64>) -> Result<()> {
        let unknown: BTreeSet<i64> = {
            let book = self.book.borrow();
            ids.filter(|id| *id != 0 && !book.contains_key(id))
                .collect()
        };
        stream::iter(unknown)
            .map(|id| self.move_one(id))
            .buffer_unordered(QUESTIONS_MAX)
            .try_collect()
            .await
    }

    /// These may have ended at the target: they are granted anew when they are needed.
    pub(crate) fn forget(&self, ids: impl Iterator<Item = i64>) {
        let mut book = self.book.borrow_mut();
        for id in ids {
            book.remove(&id);
        }
    }

    async fn move_one(&self, id: i64) -> Result<()> {
        let wanted = seconds(self.source, id).await?;
        let ttl = wanted.unwrap_or(ENDED_SECONDS);
        let renewed = Instant::now();
        let request = LeaseGrantRequest { ttl, id };
        let grant = async |link: Link| link.lease().lease_grant(request).await;
        let granted = match self.target.ask("granting a lease", grant).await {
            Ok(granted) => Some(granted.into_inner().ttl),
            Err(error) if error.status().is_some_and(is_there) => {
                let held = seconds(self.target, id).await?;
                match (held, wanted) {
                    (Some(held), Some(wanted)) if held < wanted => {
                        return Err(MigrateError::LeaseInTheWay { id, held, wanted });
                    }
                    // Where it ends this moment, the put that needs it is refused, and comes again.
                    (held, _) => held,
                }
            }
            Err(error) => return Err(error),
        };
        if let Some(seconds) = granted {
            let held = Held {
                seconds,
                renewed,
                lives: wanted.is_some(),
            };
            self.book.borrow_mut().insert(id, held);
        }
        Ok(())
    }

    async fn listed(&self) -> Result<BTreeSet<i64>> {
        let list = async |link: Link| link.lease().lease_leases(LeaseLeasesRequest {}).await;
        let listed = self.source.ask("listing the leases", list).await?;
        let leases = listed.into_inner().leases.into_iter();
        Ok(leases.map(|lease| lease.id).collect())
    }

    /// Looks after them without end. A source that does not answer holds up no renewal.
    ///
    /// # Errors
    /// A refusal, or a cluster that does not answer for too long.
    pub(crate) async fn keep(&self) -> Result<Infallible> {
        self.open.raised().await;
        let (kept, _) = try_join(self.keep_renewed(), self.keep_listed()).await?;
        Ok(kept)
    }

    async fn keep_renewed(&self) -> Result<Infallible> {
        loop {
            sleep(TICK).await;
            let due: Vec<i64> = {
                let book = self.book.borrow();
                let due = book.iter().filter(|(_, held)| held.is_due());
                due.map(|(id, _)| *id).collect()
            };
            for ids in due.chunks(RENEWALS_MAX) {
                self.renew(ids).await?;
            }
        }
    }

    async fn renew(&self, ids: &[i64]) -> Result<()> {
        let renewed = Instant::now();
        let renew = async |link: Link| {
            let requests: Vec<_> = ids.iter().map(|&id| LeaseKeepAliveRequest { id }).collect();
            let answers = link
                .lease()
                .lease_keep_alive(stream::iter(requests))
                .await?;
            let answers: Vec<_> = answers.into_inner().try_collect().await?;
            match answers.len() == ids.len() {
                true => Ok(answers),
                false => Err(Status::unavailable("the stream of renewals ended early")),
            }
        };
        let answers = self.target.ask("renewing leases", renew).await?;
        let mut book = self.book.borrow_mut();
        for answer in answers {
            if answer.ttl > 0 {
                if let Some(held) = book.get_mut(&answer.id) {
                    held.renewed = renewed;
                }
            } else if book.remove(&answer.id).is_some() {
                self.lost.raise();
            }
        }
        Ok(())
    }

    async fn keep_listed(&self) -> Result<Infallible> {
        loop {
            sleep(LISTING_INTERVAL).await;
            // Before the source is asked: what is granted there meanwhile is in no list.
            let before: BTreeMap<i64, Held> = self.book.borrow().clone();
            let listed = self.listed().await?;
            for (id, held) in before {
                if held.lives && !listed.contains(&id) {
                    self.end(id).await?;
                }
            }
            if self.everything {
                self.ensure(listed.into_iter()).await?;
            }
        }
    }

    /// Ends a lease that has ended at the source, with its keys: those that have another lease by then are told of by the source.
    async fn end(&self, id: i64) -> Result<()> {
        self.book.borrow_mut().remove(&id);
        let request = LeaseRevokeRequest { id };
        let revoke = async |link: Link| link.lease().lease_revoke(request).await;
        match self.target.ask("revoking a lease", revoke).await {
            Err(error) if error.status().is_some_and(is_gone) => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Whether a lease has ended at the source.
    ///
    /// # Errors
    /// A refusal.
    pub(crate) async fn has_ended(&self, id: i64) -> Result<bool> {
        Ok(seconds(self.source, id).await?.is_none())
    }

    /// What of the leases is not as at the source, a line each; and how many were looked at.
    ///
    /// # Errors
    /// A refusal.
    pub(crate) async fn differences(&self) -> Result<(u64, Vec<String>)> {
        let ids: BTreeSet<i64> = match self.everything {
            true => self.listed().await?,
            false => {
                let book = self.book.borrow();
                let living = book.iter().filter(|(_, held)| held.lives);
                living.map(|(id, _)| *id).collect()
            }
        };
        let count = ids.len() as u64;
        let lines: Vec<Option<String>> = stream::iter(ids)
            .map(|id| self.difference(id))
            .buffered(QUESTIONS_MAX)
            .try_collect()
            .await?;
        Ok((count, lines.into_iter().flatten().collect()))
    }

    async fn difference(&self, id: i64) -> Result<Option<String>> {
        let held = seconds(self.target, id).await?;
        // Asked last: a lease may end at any moment.
        let Some(wanted) = seconds(self.source, id).await? else {
            return Ok(None);
        };
        Ok(match held {
            None => Some(format!("  the lease {id:x} is missing")),
            Some(held) if held < wanted => Some(format!(
                "  the lease {id:x} has {held} s, {wanted} s at the source"
            )),
            // The target's shortest time may be longer.
            Some(_) => None,
        })
    }
}

/// What a lease was granted, in seconds; none if it has ended.
async fn seconds(side: &Side, id: i64) -> Result<Option<i64>> {
    let request = LeaseTimeToLiveRequest { id, keys: false };
    let look = async |link: Link| link.lease().lease_time_to_live(request).await;
    let told = match side.ask("looking at a lease", look).await {
        Ok(told) => told.into_inner(),
        Err(error) if error.status().is_some_and(is_gone) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok((told.ttl >= 0 && told.granted_ttl > 0).then_some(told.granted_ttl))
}

fn is_there(status: &Status) -> bool {
    status.message().contains("lease already exists")
}

fn is_gone(status: &Status) -> bool {
    status.code() == Code::NotFound
}
