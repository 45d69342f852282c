//! Every machine applies the same entry at the same index, and gets the same state (§5.4.3; rule 6), also when it applies it
//! again after a restart.

use rm_raft::{Entry, EntryId, Payload};

use super::proposals::Proposals;
use super::{Check, require};

/// What was applied at each index, and the digest of the state after it.
#[derive(Debug, Default)]
pub(crate) struct StateMachineSafety {
    applied: Vec<(EntryId, u64)>,
}

impl StateMachineSafety {
    /// Checks a state that a snapshot brought.
    pub(crate) fn installed(&self, last: EntryId, digest: u64) -> Check {
        let known = self.applied.get(last.index.0 as usize - 1).copied();
        let here = (last, digest);
        require(known == Some(here), "state-machine safety", || {
            format!("a snapshot brings {here:?}, and {known:?} was applied")
        })
    }

    /// Checks an entry that a machine applied.
    pub(crate) fn applied(
        &mut self,
        entry: &Entry,
        digest: u64,
        proposals: &mut Proposals,
    ) -> Check {
        let place = entry.id.index.0 as usize - 1;
        let here = (entry.id, digest);
        if place == self.applied.len() {
            self.applied.push(here);
            return match &entry.payload {
                Payload::Command(proposal) => proposals.applied(proposal.request),
                Payload::Empty | Payload::Configuration { .. } => Ok(()),
            };
        }
        let known = self.applied.get(place).copied();
        require(known == Some(here), "state-machine safety", || {
            format!("{here:?} is applied here, {known:?} elsewhere")
        })
    }
}
