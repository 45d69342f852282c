//! A proposal is applied at most once, and never if it was refused.

use std::collections::BTreeSet;

use crate::{Entry, Payload, RequestId};

#[derive(Debug, Default)]
pub(in crate::testing) struct Proposals {
    refused: BTreeSet<RequestId>,
}

impl Proposals {
    pub(in crate::testing) fn refused(&mut self, requests: Vec<RequestId>) {
        self.refused.extend(requests);
    }

    /// Checks one machine's whole history.
    pub(in crate::testing) fn check(&self, applied: &[Entry]) {
        let mut seen = BTreeSet::new();
        for entry in applied {
            if let Payload::Command(proposal) = &entry.payload {
                assert!(
                    seen.insert(proposal.request),
                    "a proposal was applied twice"
                );
                assert!(
                    !self.refused.contains(&proposal.request),
                    "a refused proposal was applied"
                );
            }
        }
    }
}
