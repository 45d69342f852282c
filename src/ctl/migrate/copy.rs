//! A copy: the differences of the two, as of one revision of the source, written at the target in batches.

use futures::{TryStreamExt, stream};

use crate::migrate::batch::{Batch, Write};
use crate::migrate::difference::{Comparison, Difference};
use crate::migrate::error::{MigrateError, Result};
use crate::migrate::findings::Findings;
use crate::migrate::migration::Migration;
use crate::migrate::side::Standing;

/// How many transactions are under way at a time.
const WRITES_MAX: usize = 8;

impl Migration<'_> {
    /// Has the target be as the source: as of which of its revisions.
    ///
    /// # Errors
    /// The source has compacted the revision, the target holds what is not ours, or a cluster refuses.
    pub(super) async fn copy(&self) -> Result<i64> {
        self.copies.set(self.copies.get() + 1);
        self.leases.lost.lower();
        let standing = self.source.standing(&self.scope.source()).await?;
        if !self.may_overwrite.get() {
            self.look_whether_it_is_free(standing).await?;
            self.may_overwrite.set(true);
        }
        self.leases.begin().await?;
        self.progress.keys("copying", standing.keys);
        let filling = Filling {
            comparison: self.comparison(standing.revision),
            operations_max: self.flags.max_txn_ops.into(),
            next: None,
        };
        let batches = stream::try_unfold(filling, |mut filling| async move {
            let batch = filling.fill().await?;
            self.progress.passed(filling.comparison.compared.keys);
            Ok((!batch.is_empty()).then_some((batch, filling)))
        });
        let write = async |batch: Vec<Write>| {
            let count = batch.len() as u64;
            self.writer.write(batch).await?;
            self.written.set(self.written.get() + count);
            Ok(())
        };
        batches.try_for_each_concurrent(WRITES_MAX, write).await?;
        let revision = standing.revision;
        self.progress
            .note(&format!("copied as of revision {revision} of the source"));
        Ok(revision)
    }

    /// Whether all that stands in the target's range is as at the source: nothing, or what an earlier run has left.
    async fn look_whether_it_is_free(&self, standing: Standing) -> Result<()> {
        if self.target.standing(&self.scope.target()).await?.keys == 0 {
            return Ok(());
        }
        self.progress.keys("looking", standing.keys);
        let mut comparison = self.comparison(standing.revision);
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
    operations_max: usize,
    /// What did not fit into the last batch.
    next: Option<Write>,
}

impl Filling<'_> {
    /// The next batch; an empty one behind the last.
    async fn fill(&mut self) -> Result<Vec<Write>> {
        let mut batch = Batch::new(self.operations_max);
        loop {
            let write = match self.next.take() {
                Some(write) => Some(write),
                None => self.comparison.next().await?.map(Write::from),
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
}
