//! A leader's log holds all that was committed in earlier terms (§5.4; rule 4). With log matching it suffices to look at the
//! last of that.

use rm_raft::{Role, Status, Term};

use super::{Check, Committed, require};
use crate::simulation::log_image::LogImage;

/// The latest term whose leader was looked at.
#[derive(Debug, Default)]
pub(super) struct LeaderCompleteness {
    seen: Vec<Term>,
}

impl LeaderCompleteness {
    /// Checks a machine that has just begun to lead.
    pub(super) fn check(
        &mut self,
        status: &Status,
        log: &LogImage,
        committed: &[Committed],
    ) -> Check {
        if status.role != Role::Leader || self.seen.contains(&status.term) {
            return Ok(());
        }
        self.seen.push(status.term);
        if self.seen.len() > 8 {
            self.seen.remove(0);
        }
        let earlier = committed.partition_point(|entry| entry.term < status.term);
        let Some(last) = earlier.checked_sub(1).map(|place| committed[place].id) else {
            return Ok(());
        };
        require(log.covers(last), "leader completeness", || {
            let here = log.id_at(last.index);
            format!(
                "the leader of term {} lacks {last}, which is committed; it has {here:?}",
                status.term
            )
        })
    }
}
