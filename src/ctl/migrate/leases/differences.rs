//! Whether the leases at the target are as at the source.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};

use crate::client::Link;
use crate::migrate::error::Result;
use crate::proto::LeaseGrantRequest;

use super::told::seconds;
use super::{Leases, QUESTIONS_MAX};

impl Leases<'_> {
    /// What of the leases is not as at the source, a line each; and how many were looked at.
    ///
    /// # Errors
    /// A refusal.
    pub(crate) async fn differences(&self) -> Result<(u64, Vec<String>)> {
        let ids: BTreeSet<i64> = match self.scope.is_everything() {
            true => {
                // What was granted a moment ago has yet to be moved.
                let listed = self.listed().await?;
                self.ensure(listed.iter().copied()).await?;
                listed
            }
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
            Some(held) if self.is_time_of(wanted, held).await? => None,
            Some(held) => Some(format!(
                "  the lease {id:x} has {held} s, {wanted} s at the source"
            )),
        })
    }

    /// Whether a lease at the target has the time that one of the source has, in seconds, or the target's shortest where that is longer.
    pub(super) async fn is_time_of(&self, wanted: i64, held: i64) -> Result<bool> {
        Ok(held == wanted || held > wanted && held == self.shortest().await?)
    }

    async fn shortest(&self) -> Result<i64> {
        let ask = async || {
            let grant = async |link: Link| {
                let request = LeaseGrantRequest { ttl: 1, id: 0 };
                link.lease().lease_grant(request).await
            };
            let asked = self.target.ask("asking for the shortest lease", grant);
            let granted = asked.await?.into_inner();
            self.revoke(granted.id).await?;
            Ok(granted.ttl)
        };
        self.shortest.get_or_try_init(ask).await.copied()
    }
}
