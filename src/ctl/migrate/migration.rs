//! The course of a migration: copy, follow, compare; and what of it is begun anew when the source compacts under it.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::sleep;

use crate::migrate::difference::Comparison;
use crate::migrate::done::Done;
use crate::migrate::error::{MigrateError, Result};
use crate::migrate::feed::Feed;
use crate::migrate::flags::MigrateFlags;
use crate::migrate::leases::Leases;
use crate::migrate::ours::Ours;
use crate::migrate::progress::Progress;
use crate::migrate::report::{Left, Report};
use crate::migrate::scope::Scope;
use crate::migrate::side::Side;
use crate::migrate::signal::Signal;
use crate::migrate::verify::{Verified, verify};
use crate::migrate::writer::Writer;
use crate::output::Shown;
use crate::range::KeyRange;

/// How often in a row a copy is begun anew before it is given up.
const ANEW_MAX: u32 = 5;
/// How often what differs at the end is written: an old etcd's notice of progress may come before the changes that it stands for
/// (etcd #15220), so that the target has not all of them. One copy as of the same revision has them all.
const MENDS_MAX: u32 = 2;
/// How often a source that changes nothing is asked how far it is, once the end is wanted.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// A migration under way.
pub(super) struct Migration<'a> {
    pub(super) scope: &'a Scope,
    pub(super) source: &'a Side,
    pub(super) target: &'a Side,
    pub(super) leases: &'a Leases<'a>,
    pub(super) ours: &'a Ours,
    pub(super) writer: Writer<'a>,
    pub(super) flags: &'a MigrateFlags,
    pub(super) progress: Progress,
    /// It is to catch up with the source, and end.
    pub(super) ending: Signal,
    /// Whether it is known that what stood in the target's range is ours.
    pub(super) is_looked_at: Cell<bool>,
    /// How many copies were begun.
    pub(super) copies: Cell<u32>,
    /// How many of them in a row came to nothing.
    pub(super) anew: Cell<u32>,
    /// How many changes were written by copies.
    pub(super) written: Cell<u64>,
    /// How many changes were written that followed.
    pub(super) followed: Cell<u64>,
    /// Once the source is followed: as of which of its revisions the target is.
    pub(super) position: Cell<Option<i64>>,
}

impl Migration<'_> {
    /// Does all of it.
    ///
    /// # Errors
    /// What it cannot mend by beginning anew.
    pub(super) async fn carry_out(&self) -> Result<Report> {
        self.check().await?;
        if self.flags.until_caught_up {
            self.ending.raise();
        }
        loop {
            let done = async { self.finish(self.copy().await?).await };
            match done.await {
                Err(error) if error.is_mended_by_a_copy() => self.begin_anew(error)?,
                done => return done,
            }
        }
    }

    /// What no copy could mend.
    async fn check(&self) -> Result<()> {
        let source = self.source.standing(&self.scope.source()).await?;
        let target = self.target.standing(&self.scope.target()).await?;
        if source.cluster == target.cluster {
            return Err(MigrateError::Itself(source.cluster));
        }
        if self.flags.force && source.keys == 0 && target.keys > 0 {
            return Err(MigrateError::NothingToMove(target.keys));
        }
        let Some(key) = self.scope.nameless() else {
            return Ok(());
        };
        match self.source.standing(&KeyRange::of(key)).await?.keys {
            0 => Ok(()),
            _ => Err(MigrateError::NoName(shown(key))),
        }
    }

    fn begin_anew(&self, error: MigrateError) -> Result<()> {
        let anew = self.anew.get() + 1;
        self.anew.set(anew);
        if anew >= ANEW_MAX {
            return Err(MigrateError::NoEnd {
                attempts: anew,
                why: error.to_string(),
            });
        }
        self.progress
            .note(&format!("{error}: the two are compared anew"));
        Ok(())
    }

    /// Follows the source if that is asked for, and compares the two.
    async fn finish(&self, mut revision: i64) -> Result<Report> {
        if self.flags.follow {
            let mut feed = Feed::new(self.source, self.scope, revision);
            revision = self.follow(&mut feed).await?;
        }
        let mut mends = 0;
        loop {
            let verified = self.compare(revision).await?;
            let found = verified.findings.count;
            if found == 0 {
                return self.report(revision, &verified).await;
            }
            if !self.flags.follow || mends == MENDS_MAX {
                return Err(MigrateError::Different {
                    revision,
                    found,
                    samples: verified.findings.samples,
                });
            }
            mends += 1;
            self.progress.note(&format!(
                "at revision {revision} of the source {found} differences are left: it may have said too early that it has told all. \
                 They are written, and the two compared again"
            ));
            self.copy_as_of(revision).await?;
        }
    }

    /// Writes what the source changes, until the target has all of it after the end was wanted: as of which revision.
    async fn follow(&self, feed: &mut Feed<'_>) -> Result<i64> {
        self.progress.following();
        let mut goal = None;
        loop {
            let operations_max = self.writer.operations_at_ease();
            while let Some(writes) = feed.take(goal.unwrap_or(i64::MAX), operations_max) {
                self.writer.write(writes, &self.followed).await?;
                self.anew.set(0);
                self.progress.at(feed.taken(), feed.behind());
            }
            self.position.set(Some(feed.taken()));
            self.progress.at(feed.taken(), feed.behind());
            if self.ending.is_raised() && goal.is_none() {
                let standing = self.source.standing(&self.scope.source()).await?;
                goal = Some(standing.revision);
                continue;
            }
            if let Some(goal) = goal
                && feed.taken() >= goal
            {
                return Ok(goal);
            }
            let is_asked = goal.is_some() && feed.is_open();
            tokio::select! {
                heard = feed.listen() => heard?,
                () = self.ending.raised(), if goal.is_none() => {}
                () = self.leases.lost.raised() => return Err(MigrateError::LeasesLost),
                () = sleep(PROGRESS_INTERVAL), if is_asked => feed.ask_for_progress(),
            }
        }
    }

    async fn compare(&self, revision: i64) -> Result<Verified> {
        let keys = self.source.standing(&self.scope.source()).await?.keys;
        self.progress.keys("comparing", keys);
        let comparison = self.comparison(revision);
        let verified = verify(comparison, self.leases, &self.progress).await?;
        match verified.findings.count > 0 && self.leases.lost.is_raised() {
            true => Err(MigrateError::LeasesLost),
            false => Ok(verified),
        }
    }

    /// Of the two, with the source as of a revision.
    pub(super) fn comparison(&self, revision: i64) -> Comparison<'_> {
        Comparison::new(self.scope, self.source, self.target, revision)
    }

    /// What was done up to now.
    pub(super) fn done(&self) -> Done {
        Done {
            written: self.written.get(),
            followed: self.followed.get(),
            unanswered: self.writer.unanswered(),
            position: self.position.get(),
        }
    }

    async fn report(&self, revision: i64, verified: &Verified) -> Result<Report> {
        let target = self.target.standing(&self.scope.target()).await?;
        Ok(Report {
            source_revision: revision,
            target_revision: target.revision,
            keys: verified.compared.keys,
            bytes: verified.compared.bytes,
            leases: verified.leases,
            ended_meanwhile: verified.ended,
            written: self.written.get(),
            followed: self.followed.get(),
            copies: self.copies.get(),
            users_and_roles: Left::at(self.source).await?,
        })
    }
}

fn shown(key: &[u8]) -> String {
    let shown = Shown {
        bytes: key,
        hex: false,
    };
    shown.cell()
}
