//! What a state says of itself, read from its environment while no key space is open on it: of a snapshot, above all.

use rm_raft::EntryId;
use rm_store::Environment;

use crate::error::KvError;
use crate::tables::{Configuration, State, Tables};

/// Where a state stands as of its last checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek {
    /// The entry that was applied last.
    pub applied: EntryId,
    /// The newest configuration up to it, if one was ever set.
    pub configuration: Option<Configuration>,
}

/// Reads where a state stands. Writes nothing, takes no writer's lock, and needs no room for more than the configuration.
///
/// # Errors
/// [`KvError::NewerLayout`], [`KvError::Damaged`], or LMDB's own.
pub fn peek(environment: &Environment) -> Result<Peek, KvError> {
    let Some(tables) = Tables::find(environment)? else {
        return Ok(Peek {
            applied: State::FIRST.applied(),
            configuration: None,
        });
    };
    let txn = environment.env().read_txn()?;
    Ok(Peek {
        applied: tables.state(&txn)?.applied(),
        configuration: tables.configuration(&txn)?,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rm_raft::{Index, Term};

    use super::*;
    use crate::keyspace::Keyspace;
    use crate::state_machine::StateMachine;
    use crate::testing::Disk;

    #[test]
    fn a_configuration_is_durable_with_the_checkpoint_and_not_before() {
        let disk = Disk::new();
        let peek = || peek(&disk.environment).unwrap();
        assert_eq!(peek().applied, EntryId::default());
        let mut keyspace = Keyspace::open(&disk.environment).unwrap();
        let entry = EntryId {
            term: Term(3),
            index: Index(1),
        };
        keyspace.apply(entry, None, false).unwrap();
        keyspace
            .set_configuration(Index(1), Bytes::from_static(b"three machines"))
            .unwrap();
        let set = keyspace.configuration().unwrap();
        assert!(set.is_some());
        assert_eq!(peek().configuration, None);
        keyspace.checkpoint().unwrap();
        assert_eq!(peek().applied, entry);
        assert_eq!(peek().configuration, set);
        drop(keyspace);
        let mut keyspace = Keyspace::open(&disk.environment).unwrap();
        assert_eq!(keyspace.configuration().unwrap(), set);
        keyspace
            .set_configuration(Index(0), Bytes::from_static(b"the first"))
            .unwrap();
        keyspace
            .checkpoint()
            .expect("it alone is worth a checkpoint");
        assert_ne!(peek().configuration, set);
    }
}
