//! A hash over the changes of a key space, to compare machines by.
//!
//! What a scrub will remove counts as removed, so that machines compacted at the same revision have the same hash however far each
//! has scrubbed. That is why the hash is a sum: it does not depend on the order, and what is left over can be taken off again.

use heed::RoTxn;
use rm_store::Environment;
use serde::{Deserialize, Serialize};

use crate::error::{Failure, KvError};
use crate::scrub::for_each_left_over;
use crate::tables::{State, Tables};
use crate::view::revision_to_read;

/// After how many changes whoever waits for the hash of a snapshot is told.
const TOLD_EVERY: u64 = 1_024;

/// A hash over all changes up to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyspaceHash {
    /// The sum of the changes' CRC-32C, modulo 2^32.
    pub hash: u32,
    /// The revision that was compacted last; -1 when none was.
    pub compact_revision: i64,
    /// The revision up to which was hashed.
    pub revision: i64,
}

/// Hashes all changes up to a revision, as of the last checkpoint; zero is for the newest revision. Equal on all machines
/// that have applied it and are compacted at the same revision.
///
/// It reads all changes, so that its length is that of the key space, in a transaction of its own: any thread may call it
/// while the key space is open on another. What is written meanwhile makes the file grow more than it would otherwise.
///
/// # Errors
/// [`Failure::Request`] for a revision that is compacted or was not there at the last checkpoint, [`Failure::Store`] by
/// our own fault.
pub fn hash(environment: &Environment, revision: i64) -> Result<KeyspaceHash, Failure> {
    let tables = Tables::find(environment)?;
    let txn = environment.env().read_txn()?;
    let state = match &tables {
        Some(tables) => tables.state(&txn)?,
        None => State::FIRST,
    };
    let revision = revision_to_read(revision, state.revision, state.compact_revision)?;
    let hash = match &tables {
        Some(tables) => sum(tables, &txn, &state, revision, &|_| ())?.0,
        None => 0,
    };
    Ok(KeyspaceHash {
        hash,
        compact_revision: state.compact_revision,
        revision,
    })
}

/// The hash of the newest revision, and how many changes were read for it, which is also told `each` time that some were.
pub(crate) fn of_newest(
    tables: &Tables,
    txn: &RoTxn,
    state: &State,
    each: &dyn Fn(u64),
) -> Result<(u32, u64), KvError> {
    sum(tables, txn, state, state.revision, each)
}

/// The sum of the checksums of all changes up to a revision but for those that the rest of the scrub will remove. The scrub goes no
/// further than the compacted revision, and so not beyond the one that can be asked for.
fn sum(
    tables: &Tables,
    txn: &RoTxn,
    state: &State,
    up_to: i64,
    each: &dyn Fn(u64),
) -> Result<(u32, u64), KvError> {
    let (mut sum, mut read) = (0_u32, 0);
    for change in tables.revisions.scan(txn, 0)? {
        let (revision, record) = change?;
        if revision.main > up_to {
            break;
        }
        sum = sum.wrapping_add(record.checksum(revision));
        read += 1;
        if read % TOLD_EVERY == 0 {
            each(read);
        }
    }
    each(read);
    for_each_left_over(tables, txn, state, |revision, record| {
        sum = sum.wrapping_sub(record.checksum(revision));
    })?;
    Ok((sum, read))
}
