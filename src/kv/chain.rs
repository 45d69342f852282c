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
use crate::view::View;

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
            // What lies there may be gone. No read at a revision that can be read jumps over the compacted one, so that nothing
            // is lost by forgetting the way; and how far the scrub has come decides nothing.
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
    pub(crate) fn missing(self) -> KvError {
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
pub(crate) fn newest_at<'v>(
    view: &View<'v>,
    head: &Head,
    at: i64,
) -> Result<Option<(Revision, Record<'v>)>, KvError> {
    let mut revision = head.link.toward(at);
    while revision != Revision::NONE {
        view.progress.step(0);
        let Some(record) = view.tables.revisions.get(view.txn, revision)? else {
            if revision.main <= view.compact_revision {
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
    use std::ops::ControlFlow;

    use bytes::Bytes;
    use rm_raft::{EntryId, Term};

    use super::*;
    use crate::command::{Command, DeleteRange, Put};
    use crate::keyspace::Keyspace;
    use crate::progress::Progress;
    use crate::room::{ReplyRoom, Unbounded};
    use crate::span::Span;
    use crate::state_machine::StateMachine;
    use crate::tables::Tables;
    use crate::testing::Disk;

    const KEY: &[u8] = b"key";
    const CHANGES: i64 = 1_500;
    /// Every so many changes the key is deleted.
    const LIFE: i64 = 7;

    /// Change number `number` of the key; a put tells the number.
    fn change(number: i64) -> Command {
        let key = Bytes::from_static(KEY);
        if number % LIFE == 0 {
            Command::DeleteRange(DeleteRange {
                key,
                ..DeleteRange::default()
            })
        } else {
            Command::Put(Put {
                key,
                value: Bytes::from(number.to_string()),
                ..Put::default()
            })
        }
    }

    #[test]
    fn every_older_change_is_found_in_logarithmic_steps() {
        let disk = Disk::new();
        let environment = &disk.environment;
        let mut keyspace = Keyspace::open(environment).unwrap();
        for number in 1..=CHANGES {
            let entry = EntryId {
                term: Term(1),
                index: keyspace.applied().index.next(),
            };
            let command = change(number).encode();
            let outcome = keyspace.apply(entry, Some(&command), true).unwrap();
            outcome.unwrap().unwrap();
        }
        keyspace.checkpoint().unwrap();

        let tables = Tables::open(environment).unwrap();
        let txn = environment.env().read_txn().unwrap();
        let (progress, room) = (Progress::default(), ReplyRoom::new(usize::MAX, &Unbounded));
        let leases = crate::lease::Leases::open(environment).unwrap();
        let view = View {
            tables: &tables,
            leases: &leases,
            txn: &txn,
            revision: keyspace.revision(),
            compact_revision: -1,
            progress: &progress,
            room: &room,
        };
        for number in 1..=CHANGES {
            // The key space begins with revision one.
            let at = number + 1;
            let before = progress.done();
            let mut found = None;
            view.walk(Span::One(KEY), at, |key, revision, _| {
                found = Some((revision.main, view.value(revision, key)?));
                Ok::<_, KvError>(ControlFlow::Continue(()))
            })
            .unwrap();
            let value = number.to_string();
            let expected = (number % LIFE != 0).then_some((at, value.as_bytes()));
            assert_eq!(found, expected, "change {number}");
            let steps = progress.done().since(before).steps;
            // Beside the records on the way there, the key and the value are steps.
            let most = 3 * u64::from(CHANGES.ilog2()) + 2;
            assert!(steps <= most, "{steps} steps to change {number}");
        }
    }
}
