//! A linearizable read sees all that anyone knew to be committed when it came (dissertation 6.4; rule 10).

use rm_raft::Index;

use super::{Check, require};

/// Checks a read that is answered by a state machine that has applied up to `applied`.
pub(crate) fn read(applied: Index, committed_when_it_came: Index) -> Check {
    require(applied >= committed_when_it_came, "read freshness", || {
        format!(
            "a read is answered as of {applied}, and {committed_when_it_came} was committed when it came"
        )
    })
}
