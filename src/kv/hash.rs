//! A hash over the changes of a key space, to compare machines by.

use rm_store::Environment;

use crate::error::Failure;
use crate::tables::{State, Tables};
use crate::view::revision_to_read;

/// A hash over all changes up to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyspaceHash {
    /// A CRC-32C of the changes.
    pub hash: u32,
    /// The revision that was compacted last; -1 when none was.
    pub compact_revision: i64,
    /// The revision up to which was hashed.
    pub revision: i64,
}

/// Hashes all changes up to a revision, as of the last checkpoint; zero is for the newest revision. Equal on all machines
/// that have applied it.
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
        Some(tables) => tables.revisions.hash(&txn, revision)?,
        None => 0,
    };
    Ok(KeyspaceHash {
        hash,
        compact_revision: state.compact_revision,
        revision,
    })
}
