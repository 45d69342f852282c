//! The chain of one key's changes: from the newest back to any older one in logarithmic time, written by appending.
//!
//! Each change names the one before it and, further back, one to jump to. How far a jump goes follows from the length of
//! the chain alone (the skew-binary numbers of E. W. Myers, "An applicative random-access stack", 1983), so that adding a
//! change reads at most one older record, and the index holds one entry a key however often the key was written.

use heed::RoTxn;
use serde::{Deserialize, Serialize};

use crate::error::KvError;
use crate::index::Head;
use crate::revision::{Record, Revision, Revisions};

/// From one change to older ones of the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    /// The change before this one; [`Revision::NONE`] for the first.
    pub(crate) previous: Revision,
    /// An older change, further back or the same; [`Revision::NONE`] when the jump would pass the first.
    pub(crate) jump: Revision,
}

impl Link {
    /// Of a key's first change.
    pub(crate) const FIRST: Link = Link {
        previous: Revision::NONE,
        jump: Revision::NONE,
    };

    /// The next change to look at on the way to the newest that is not newer than `at`.
    fn toward(&self, at: i64) -> Revision {
        if self.jump.main > at {
            self.jump
        } else {
            self.previous
        }
    }

    /// Of the change that follows on `head`, in a key space that is compacted up to `compact_revision`.
    pub(crate) fn after(
        revisions: &Revisions,
        txn: &RoTxn,
        head: &Head,
        compact_revision: i64,
    ) -> Result<Link, KvError> {
        let span = jump_span(head.length);
        let below = head.length - span;
        let jump = if below == 0 || jump_span(below) != span {
            head.revision
        } else if head.link.jump.main <= compact_revision {
            // What lies there may be gone, on this machine or on another: no read at a revision that still exists jumps
            // over the compacted one, so that nothing is lost by forgetting the way.
            Revision::NONE
        } else {
            revisions
                .get(txn, head.link.jump)?
                .ok_or_else(|| head.link.jump.missing())?
                .link
                .jump
        };
        Ok(Link {
            previous: head.revision,
            jump,
        })
    }
}

impl Revision {
    /// The error for a change that must be there and is not.
    fn missing(self) -> KvError {
        KvError::damaged(
            crate::revision::TABLE,
            &self.to_key(),
            "a newer change names a record that is missing",
        )
    }
}

/// How many changes the jump from the change number `length` of a chain goes back: the least weight in the skew-binary
/// numeral of `length`, whose weights are 1, 3, 7, 15...
fn jump_span(mut length: u64) -> u64 {
    loop {
        let weight = (1 << (u64::BITS - 1 - (length + 1).leading_zeros())) - 1;
        if length == weight {
            return weight;
        }
        length -= weight;
    }
}

/// The newest change before `head` that is not newer than `at`; none if the key did not exist yet, or
/// was deleted at a revision that is compacted.
pub(crate) fn newest_at<'txn>(
    revisions: &Revisions,
    txn: &'txn RoTxn,
    head: &Head,
    at: i64,
    compact_revision: i64,
) -> Result<Option<(Revision, Record<'txn>)>, KvError> {
    let mut revision = head.link.toward(at);
    while revision != Revision::NONE {
        let Some(record) = revisions.get(txn, revision)? else {
            if revision.main <= compact_revision {
                return Ok(None);
            }
            return Err(revision.missing());
        };
        if revision.main <= at {
            return Ok(Some((revision, record)));
        }
        let next = record.link.toward(at);
        if next >= revision {
            return Err(KvError::damaged(
                crate::revision::TABLE,
                &revision.to_key(),
                "the record names a change that is not older",
            ));
        }
        revision = next;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The jump of every change of a chain, by the rule that `Link::after` follows.
    fn jumps(length: u64) -> Vec<u64> {
        let mut jumps = vec![0];
        for number in 1..=length {
            let head = number - 1;
            let jump = match head {
                0 => 0,
                head if jump_span(head) < head
                    && jump_span(head - jump_span(head)) == jump_span(head) =>
                {
                    jumps[jumps[head as usize] as usize]
                }
                head => head,
            };
            jumps.push(jump);
        }
        jumps
    }

    #[test]
    fn a_jump_goes_back_by_the_least_weight_of_the_numeral() {
        for (number, jump) in jumps(1_000).into_iter().enumerate().skip(1) {
            assert_eq!(
                number as u64 - jump,
                jump_span(number as u64),
                "change {number}"
            );
        }
    }

    #[test]
    fn any_older_change_is_found_in_logarithmic_steps() {
        const LENGTH: u64 = 100_000;
        let jumps = jumps(LENGTH);
        for target in (1..LENGTH).step_by(997) {
            let (mut number, mut steps) = (LENGTH, 0);
            while number > target {
                let jump = jumps[number as usize];
                number = if jump >= target { jump } else { number - 1 };
                steps += 1;
            }
            assert!(
                steps <= 3 * LENGTH.ilog2(),
                "{steps} steps to change {target}"
            );
        }
    }
}
