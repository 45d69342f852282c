//! A proposal is applied at most once, and never if it was refused (§8; rule 22): a refusal is a promise that it will not
//! enter the log.

use std::collections::HashSet;

use rm_raft::RequestId;

use super::{Check, require};

/// What became of the proposals.
#[derive(Debug, Default)]
pub(crate) struct Proposals {
    refused: HashSet<RequestId>,
    applied: HashSet<RequestId>,
}

impl Proposals {
    /// A core says that a proposal has not entered the log and will not.
    pub(crate) fn refused(&mut self, request: RequestId) -> Check {
        self.refused.insert(request);
        require(!self.applied.contains(&request), "proposals", || {
            format!("{request:?} is applied, and refused")
        })
    }

    /// A proposal is applied at an index that nobody had applied before.
    pub(super) fn applied(&mut self, request: RequestId) -> Check {
        let first = self.applied.insert(request);
        require(
            first && !self.refused.contains(&request),
            "proposals",
            || format!("{request:?} is applied, and was refused or applied before"),
        )
    }
}
