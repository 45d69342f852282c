//! A copy: the differences of the two, as of one revision of the source, written at the target in batches.

use futures::{TryStreamExt, stream};

use crate::migrate::batch::{Batch, Write};
use crate::migrate::difference::{Comparison, Difference};
use crate::migrate::error::{MigrateError, Result};
use crate::migrate::findings::Findings;
use crate::migrate::migration::Migration;
use crate::migrate::ours::Ours;

/// How many transactions are under way at a time.
const WRITES_MAX: usize = 8;

impl Migration<'_> {
    /// Has the target be as the source: as of which of its revisions.
    ///
    /// # Errors
    /// The source has compacted the revision, the target holds what is not ours, or a cluster refuses.
    pub(super) async fn copy(&self) -> Result<i64> {
        let revision = self.source.standing(&self.scope.source()).await?.revision;
        self.copy_as_of(revision).await?;
        Ok(revision)
    }

    /// Has the target be as the source was at this revision.
    ///
    /// # Errors
    /// As [`Migration::copy`].
    pub(super) async fn copy_as_of(&self, revision: i64) -> Result<()> {
        self.copies.set(self.copies.get() + 1);
        self.leases.lost.lower();
        let keys = self.source.standing(&self.scope.source()).await?.keys;
        if !self.ours.all_may_go() && !self.is_looked_at.get() {
            let target = self.target.standing(&self.scope.target()).await?;
            if target.keys > 0 {
                self.progress.keys("looking", keys);
                self.look_whether_it_is_free(revision).await?;
            }
            self.ours.adopt(target.revision);
            self.is_looked_at.set(true);
        }
        self.leases.begin().await?;
        self.progress.keys("copying", keys);
        let mut filling = Filling {
            comparison: self.comparison(revision),
            ours: self.ours,
            operations_max: self.writer.operations_at_ease(),
            next: None,
        };
        // The first is written alone: the others hold on to what is there by then.
        let first = filling.fill().await?;
        self.writer.write(first, &self.written).await?;
        let batches = stream::try_unfold(filling, |mut filling| async move {
            let batch = filling.fill().await?;
            self.progress.passed(filling.comparison.compared.keys);
            Ok((!batch.is_empty()).then_some((batch, filling)))
        });
        let write = async |batch: Vec<Write>| self.writer.write(batch, &self.written).await;
        batches.try_for_each_concurrent(WRITES_MAX, write).await?;
        self.progress
            .note(&format!("copied as of revision {revision} of the source"));
        Ok(())
    }

    /// Whether all that stands in the target's range is as at the source: nothing, or what an earlier run has left.
    async fn look_whether_it_is_free(&self, revision: i64) -> Result<()> {
        let mut comparison = self.comparison(revision);
        let mut findings = Findings::default();
        while let Some(difference) = comparison.next().await? {
            if !matches!(difference, Difference::Missing(_)) {
                findings.note(difference.line());
            }
            self.progress.passed(comparison.compared.keys);
        }
        match findings.count {
            0 => Ok(()),
            found => Err(MigrateError::Occupied {
                found,
                samples: findings.samples,
            }),
        }
    }
}

/// Differences on their way into batches.
struct Filling<'a> {
    comparison: Comparison<'a>,
    ours: &'a Ours,
    operations_max: usize,
    /// What did not fit into the last batch.
    next: Option<Write>,
}

impl Filling<'_> {
    /// The next batch; an empty one behind the last. A key that somebody else has written is none to be changed.
    async fn fill(&mut self) -> Result<Vec<Write>> {
        let mut batch = Batch::new(self.operations_max);
        loop {
            let write = match self.next.take() {
                Some(write) => Some(write),
                None => self.next_write().await?,
            };
            let Some(write) = write else { break };
            if !batch.is_empty() && !batch.has_room_for(std::slice::from_ref(&write)) {
                self.next = Some(write);
                break;
            }
            batch.push(write);
        }
        Ok(batch.into_writes())
    }

    async fn next_write(&mut self) -> Result<Option<Write>> {
        let Some(difference) = self.comparison.next().await? else {
            return Ok(None);
        };
        let (key, held) = difference.held();
        self.ours.saw(key, held)?;
        Ok(Some(difference.into()))
    }
}
