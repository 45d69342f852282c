//! At most one machine leads in a term (§5.2; rule 1).

use std::collections::HashMap;

use rm_raft::{Role, Status, Term};

use super::{Check, require};

/// Who led each term.
#[derive(Debug, Default)]
pub(super) struct ElectionSafety {
    leaders: HashMap<Term, usize>,
}

impl ElectionSafety {
    /// Checks what a core says of itself.
    pub(super) fn check(&mut self, place: usize, status: &Status) -> Check {
        if status.role != Role::Leader {
            return Ok(());
        }
        let leader = *self.leaders.entry(status.term).or_insert(place);
        require(leader == place, "election safety", || {
            format!(
                "machines {} and {} lead in term {}",
                leader + 1,
                place + 1,
                status.term
            )
        })
    }

    /// Who led in a term, if anybody is known to have.
    pub(super) fn leader_of(&self, term: Term) -> Option<usize> {
        self.leaders.get(&term).copied()
    }
}
