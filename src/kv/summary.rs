//! What is in a state as a whole, for whoever looks at a snapshot.

use rm_raft::EntryId;
use rm_store::Environment;

use crate::error::KvError;
use crate::hash;
use crate::span::Span;
use crate::tables::Tables;

/// What is in a state, as of its last checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The entry that was applied last.
    pub applied: EntryId,
    /// The revision of the newest change.
    pub revision: i64,
    /// The revision that was compacted last; -1 when none was.
    pub compact_revision: i64,
    /// How many keys there are.
    pub keys: u64,
    /// How many changes of keys there are, those that can only be read at earlier revisions included.
    pub changes: u64,
    /// What [`hash`](crate::hash()) tells of the newest revision.
    pub hash: u32,
}

/// Reads all of a state, and so finds what is damaged in it. `each` is told now and then how many changes were read.
///
/// # Errors
/// [`KvError::NoKeyspace`], [`KvError::NewerLayout`], [`KvError::Damaged`], or LMDB's own.
pub fn summary(environment: &Environment, each: &dyn Fn(u64)) -> Result<Summary, KvError> {
    let tables = Tables::find(environment)?.ok_or(KvError::NoKeyspace)?;
    let txn = environment.env().read_txn()?;
    let state = tables.state(&txn)?;
    let mut keys = 0;
    // No key is empty, and none comes before this one.
    let mut scan = tables.index.scan(&txn, Span::From(&[0], None))?;
    while let Some(entry) = scan.next()? {
        keys += u64::from(!entry.head.meta.is_tombstone());
    }
    let (hash, changes) = hash::of_newest(&tables, &txn, &state, each)?;
    Ok(Summary {
        applied: state.applied(),
        revision: state.revision,
        compact_revision: state.compact_revision,
        keys,
        changes,
        hash,
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bytes::Bytes;
    use rm_raft::{Index, Term};

    use super::*;
    use crate::command::{Command, DeleteRange, Put};
    use crate::keyspace::Keyspace;
    use crate::state_machine::StateMachine;
    use crate::testing::Disk;

    #[test]
    fn a_summary_counts_keys_that_are_there_and_changes_and_tells_the_hash_of_the_newest_revision()
    {
        let disk = Disk::new();
        let mut keyspace = Keyspace::open(&disk.environment).unwrap();
        let put = |key: &str| {
            Command::Put(Put {
                key: Bytes::from(key.to_owned()),
                ..Put::default()
            })
        };
        let delete = Command::DeleteRange(DeleteRange {
            key: Bytes::from_static(b"b"),
            ..DeleteRange::default()
        });
        let long = "k".repeat(2_000);
        let commands = [put("a"), put("b"), put("a"), delete, put(&long)];
        for (command, index) in commands.iter().zip(1..) {
            let entry = EntryId {
                term: Term(1),
                index: Index(index),
            };
            let applied = keyspace.apply(entry, Some(&command.encode()), false);
            applied.unwrap().expect("a command").expect("it is good");
        }
        keyspace.checkpoint().unwrap();
        let read = Cell::new(0);
        let found = summary(&disk.environment, &|changes| read.set(changes)).unwrap();
        assert_eq!((found.keys, found.changes, found.revision), (2, 5, 6));
        assert_eq!(
            (found.applied.index, found.compact_revision),
            (Index(5), -1)
        );
        assert_eq!(read.get(), 5, "the last is told too");
        let hash = crate::hash(&disk.environment, 0).unwrap();
        assert_eq!(found.hash, hash.hash);
    }

    #[test]
    fn an_environment_without_a_key_space_is_told_apart() {
        let disk = Disk::new();
        let error = summary(&disk.environment, &|_| ()).expect_err("nothing is in it");
        assert!(matches!(error, KvError::NoKeyspace), "{error}");
    }
}
