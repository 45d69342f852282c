//! The leases of the source at the target: granted with the same numbers and times, renewed there for as long as they live at the
//! source, and revoked when they have ended there.
//!
//! What hangs on a lease would vanish from the target while its holder still renews it at the source; so rmctl renews it until the holder
//! has changed over.

mod differences;
mod told;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use futures::future::try_join;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use crate::client::Link;
use crate::migrate::error::{MigrateError, Result};
use crate::migrate::ours::Ours;
use crate::migrate::scope::Scope;
use crate::migrate::side::Side;
use crate::migrate::signal::Signal;
use crate::proto::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
};
use told::{Living, is_gone, is_there, keys, living, seconds};

/// The time of a lease that has ended at the source, whose keys were read before that: long enough for what deletes them to come.
const ENDED_SECONDS: i64 = 30;
/// How often it is looked which leases are due.
const TICK: Duration = Duration::from_millis(250);
/// How often the source is asked which leases there are.
const LISTING_INTERVAL: Duration = Duration::from_secs(2);
/// How long a lease that has time left at the source is not asked about there. It may have been revoked: its keys are told of then.
const TRUST_MAX: Duration = Duration::from_secs(60);
/// How many leases are asked about at a time.
const QUESTIONS_MAX: usize = 16;
/// How many leases are renewed by one stream.
const RENEWALS_MAX: usize = 1_024;
/// How long a stream of renewals may take before another machine is asked.
const RENEWAL_TIME_MAX: Duration = Duration::from_secs(5);
/// For how long a lease that has ended at the source is remembered: as long as its keys may be on their way.
const ENDED_MEMORY: Duration = Duration::from_secs(2 * ENDED_SECONDS as u64);

/// The leases that were moved.
pub(crate) struct Leases<'a> {
    source: &'a Side,
    target: &'a Side,
    /// Which keys move, and with them the leases on which they hang; with all keys all leases do.
    scope: &'a Scope,
    ours: &'a Ours,
    /// The shortest time that the target grants, in seconds, once it was asked.
    shortest: OnceCell<i64>,
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
    /// Until when the source need not be asked: unless it is revoked it lives for so long.
    trusted: Instant,
}

impl Held {
    /// This one, of which the source has just told how it stands with it.
    fn new(seconds: i64, at_the_source: Option<Living>) -> Held {
        let now = Instant::now();
        let left = at_the_source.and_then(|living| u64::try_from(living.left).ok());
        Held {
            seconds,
            renewed: now,
            lives: at_the_source.is_some(),
            trusted: now + Duration::from_secs(left.unwrap_or(0)).min(TRUST_MAX),
        }
    }

    /// Whether a third of its time is over.
    fn is_due(&self) -> bool {
        let seconds = u64::try_from(self.seconds).unwrap_or(0);
        self.lives && self.renewed.elapsed() >= Duration::from_secs(seconds) / 3
    }
}

impl<'a> Leases<'a> {
    /// None is moved yet.
    pub(crate) fn new(
        source: &'a Side,
        target: &'a Side,
        scope: &'a Scope,
        ours: &'a Ours,
    ) -> Leases<'a> {
        Leases {
            source,
            target,
            scope,
            ours,
            shortest: OnceCell::new(),
            book: RefCell::default(),
            open: Signal::new(),
            lost: Signal::new(),
        }
    }

    /// Has all leases that move by themselves be there. From now on they are looked after: where there are many, the first would end
    /// before the last is granted.
    ///
    /// # Errors
    /// As [`Leases::ensure`].
    pub(crate) async fn begin(&self) -> Result<()> {
        self.open.raise();
        if self.scope.is_everything() {
            let listed = self.listed().await?;
            self.ensure(listed.into_iter()).await?;
        }
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

    /// One of these has ended at the target. It is granted anew when it is needed; what else hung on it needs a copy.
    ///
    /// # Errors
    /// A refusal.
    pub(crate) async fn look_again(&self, ids: impl Iterator<Item = i64>) -> Result<()> {
        let known: BTreeSet<i64> = {
            let book = self.book.borrow();
            ids.filter(|id| book.contains_key(id)).collect()
        };
        for id in known {
            if seconds(self.target, id).await?.is_none() {
                self.lose(id);
            }
        }
        Ok(())
    }

    /// Notes that a lease has ended at the target.
    fn lose(&self, id: i64) {
        let lost = self.book.borrow_mut().remove(&id);
        if lost.is_some_and(|held| held.lives) {
            self.lost.raise();
        }
    }

    async fn move_one(&self, id: i64) -> Result<()> {
        let wanted = living(self.source, id).await?;
        let ttl = wanted.map_or(ENDED_SECONDS, |living| living.seconds);
        let mut held = Held::new(ttl, wanted);
        let request = LeaseGrantRequest { ttl, id };
        let grant = async |link: Link| link.lease().lease_grant(request).await;
        match self.target.ask("granting a lease", grant).await {
            Ok(granted) => {
                held.seconds = granted.into_inner().ttl;
                self.book.borrow_mut().insert(id, held);
                Ok(())
            }
            Err(error) if error.status().is_some_and(is_there) => self.adopt(id, wanted).await,
            Err(error) => Err(error),
        }
    }

    /// Takes over a lease that an earlier run has left, and has it live for its whole time again.
    async fn adopt(&self, id: i64, at_the_source: Option<Living>) -> Result<()> {
        let Some(held) = seconds(self.target, id).await? else {
            // It has ended this moment: the put that needs it is refused, and comes again.
            return Ok(());
        };
        if let Some(wanted) = at_the_source.map(|living| living.seconds)
            && !self.is_time_of(wanted, held).await?
        {
            return Err(MigrateError::LeaseInTheWay { id, held, wanted });
        }
        let adopted = Held::new(held, at_the_source);
        self.book.borrow_mut().insert(id, adopted);
        self.renew(&[id]).await
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
            let answers = async {
                let mut lease = link.lease();
                let answers = lease.lease_keep_alive(stream::iter(requests)).await?;
                answers.into_inner().try_collect::<Vec<_>>().await
            };
            let answers = timeout(RENEWAL_TIME_MAX, answers).await;
            let answers = answers
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("renewals are not answered")))?;
            match answers.len() == ids.len() {
                true => Ok(answers),
                false => Err(Status::unavailable("the stream of renewals ended early")),
            }
        };
        let answers = self.target.ask("renewing leases", renew).await?;
        for answer in answers {
            if answer.ttl <= 0 {
                self.lose(answer.id);
            } else if let Some(held) = self.book.borrow_mut().get_mut(&answer.id) {
                held.renewed = renewed;
            }
        }
        Ok(())
    }

    async fn keep_listed(&self) -> Result<Infallible> {
        loop {
            sleep(LISTING_INTERVAL).await;
            let is_remembered = |held: &Held| held.lives || held.renewed.elapsed() < ENDED_MEMORY;
            self.book.borrow_mut().retain(|_, held| is_remembered(held));
            // Before the source is asked: what is granted there meanwhile is in no list.
            let before = self.book.borrow().clone();
            let listed = match self.scope.is_everything() {
                true => Some(self.listed().await?),
                // Who may read a part may not read what hangs on all leases, which a list asks for.
                false => None,
            };
            let now = Instant::now();
            let is_doubtful = |id: &i64, held: &Held| match &listed {
                Some(listed) => listed.contains(id) != held.lives,
                None => now >= held.trusted,
            };
            let doubtful = before
                .into_iter()
                .filter(|(id, held)| is_doubtful(id, held));
            stream::iter(doubtful)
                .map(|(id, held)| self.settle(id, held))
                .buffer_unordered(QUESTIONS_MAX)
                .try_collect::<()>()
                .await?;
            self.ensure(listed.into_iter().flatten()).await?;
        }
    }

    /// Asks the source's leader how it stands with a lease, since a list is what one machine has: it may lag, and have none of the latest.
    async fn settle(&self, id: i64, held: Held) -> Result<()> {
        match (held.lives, living(self.source, id).await?) {
            (true, None) => self.end(id).await,
            // Its number was granted anew, or it was read of just before: it is moved again, with its own time.
            (false, Some(_)) => {
                self.end(id).await?;
                self.lost.raise();
                Ok(())
            }
            (true, Some(living)) => {
                if let Some(held) = self.book.borrow_mut().get_mut(&id) {
                    held.trusted = Held::new(held.seconds, Some(living)).trusted;
                }
                Ok(())
            }
            (false, None) => Ok(()),
        }
    }

    /// Ends a lease that has ended at the source, with its keys: those that have another lease by then are told of by the source. One
    /// on which keys hang that do not move, or that others have put on it, is another's too: it is left to its time, and the source tells
    /// of the keys that move.
    async fn end(&self, id: i64) -> Result<()> {
        self.book.borrow_mut().remove(&id);
        match self.takes_nothing_of_others(id).await? {
            true => self.revoke(id).await,
            false => Ok(()),
        }
    }

    /// Whether all that hangs on a lease at the target moves, and is as we have written it.
    async fn takes_nothing_of_others(&self, id: i64) -> Result<bool> {
        if self.ours.all_may_go() && self.scope.is_everything() {
            return Ok(true);
        }
        let range = self.scope.target();
        for key in keys(self.target, id).await? {
            if !range.holds(&key) {
                return Ok(false);
            }
            let pair = self.target.pair(&key).await?;
            let revision = pair.map_or(0, |pair| pair.mod_revision);
            if !self.ours.may_change(revision) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn revoke(&self, id: i64) -> Result<()> {
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
}
