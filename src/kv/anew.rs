//! A key space that another domain begins with: what belonged to the domain that it comes from is taken out.

use rm_raft::EntryId;
use rm_store::Environment;

use crate::error::KvError;
use crate::tables::Tables;

/// The largest step by which a revision is raised at once. No domain gets so far by itself, and an `i64` holds many of them.
const RAISE_MAX: i64 = 1 << 50;

/// How a key space is to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anew {
    /// By how much its revision is raised. Clients that know later revisions of the domain that was there, and watches that go on from them,
    /// then meet none a second time with other content (etcd's `--bump-revision`).
    pub raise_revision: i64,
    /// Whether it is compacted at the revision that it begins with, so that whoever goes on from an earlier one is told to begin anew
    /// (etcd's `--mark-compacted`).
    pub compact: bool,
}

/// Makes a state one that a new domain begins with, durably: who took part in the domain that it comes from is forgotten, and so are
/// its alarms. Returns the
/// entry that was applied last and the revision.
///
/// # Errors
/// [`KvError::NoKeyspace`], [`KvError::Revision`] for a revision that cannot be raised so far, [`KvError::NewerLayout`], damage, or LMDB's
/// own.
pub fn begin_anew(environment: &Environment, how: Anew) -> Result<(EntryId, i64), KvError> {
    let tables = Tables::find(environment)?.ok_or(KvError::NoKeyspace)?;
    let mut txn = environment.env().write_txn()?;
    let mut state = tables.state(&txn)?;
    let raised = (0..=RAISE_MAX)
        .contains(&how.raise_revision)
        .then(|| state.revision.checked_add(how.raise_revision))
        .flatten();
    state.revision = raised.ok_or(KvError::Revision {
        revision: state.revision,
        raise: how.raise_revision,
        raise_max: RAISE_MAX,
    })?;
    if how.compact && state.compact_revision < state.revision {
        let newest = state.revision;
        state
            .compact(newest)
            .expect("the newest revision is no future one, and was not compacted");
    }
    tables.set_state(&mut txn, &state)?;
    tables.forget_configuration(&mut txn)?;
    tables.set_alarms(&mut txn, &[])?;
    environment.commit(txn)?;
    Ok((state.applied(), state.revision))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rm_raft::{Index, Term};

    use super::*;
    use crate::command::{Command, Put, Query, Range, ReplyBody};
    use crate::error::RequestError;
    use crate::keyspace::Keyspace;
    use crate::state_machine::StateMachine;
    use crate::testing::Disk;

    /// A key space with a key that was written so often, and a configuration.
    fn written(times: u64) -> Disk {
        let disk = Disk::new();
        let mut keyspace = Keyspace::open(&disk.environment).unwrap();
        for index in 1..=times {
            put(&mut keyspace, index);
        }
        keyspace
            .set_configuration(Index(1), Bytes::from_static(b"three machines"))
            .unwrap();
        keyspace.checkpoint().unwrap();
        disk
    }

    fn put(keyspace: &mut Keyspace, index: u64) {
        let command = Command::Put(Put {
            key: Bytes::from_static(b"key"),
            value: Bytes::from(index.to_string()),
            ..Put::default()
        });
        let entry = EntryId {
            term: Term(2),
            index: Index(index),
        };
        let applied = keyspace.apply(entry, Some(&command.encode()), true);
        applied.unwrap().expect("a command").expect("it is good");
    }

    fn read(keyspace: &Keyspace, revision: i64) -> Result<Vec<Bytes>, RequestError> {
        let query = Query::Range(Range {
            key: Bytes::from_static(b"key"),
            revision,
            ..Range::default()
        });
        keyspace
            .query(&query)
            .unwrap()
            .map(|reply| match reply.body {
                ReplyBody::Range(range) => range.kvs.into_iter().map(|pair| pair.value).collect(),
                other => panic!("{other:?}"),
            })
    }

    #[test]
    fn a_key_space_that_begins_anew_holds_the_same_and_no_configuration() {
        let disk = written(3);
        let (applied, revision) = begin_anew(&disk.environment, Anew::default()).unwrap();
        assert_eq!((applied.index, revision), (Index(3), 4));
        assert_eq!(crate::peek(&disk.environment).unwrap().configuration, None);
        let keyspace = Keyspace::open(&disk.environment).unwrap();
        assert_eq!(keyspace.applied(), applied);
        for (revision, value) in [(0, "3"), (4, "3"), (2, "1")] {
            assert_eq!(read(&keyspace, revision), Ok(vec![Bytes::from(value)]));
        }
    }

    #[test]
    fn a_raised_revision_is_gone_on_from_and_what_is_before_it_can_be_marked_as_compacted() {
        for compact in [false, true] {
            let disk = written(3);
            let how = Anew {
                raise_revision: 1_000,
                compact,
            };
            let (_, revision) = begin_anew(&disk.environment, how).unwrap();
            assert_eq!(revision, 1_004);
            let mut keyspace = Keyspace::open(&disk.environment).unwrap();
            let before = match compact {
                true => Err(RequestError::Compacted),
                false => Ok(vec![Bytes::from("3")]),
            };
            assert_eq!(read(&keyspace, 1_003), before);
            assert_eq!(read(&keyspace, 1_004), Ok(vec![Bytes::from("3")]));
            put(&mut keyspace, 4);
            assert_eq!(keyspace.revision(), 1_005);
            assert_eq!(read(&keyspace, 1_004), Ok(vec![Bytes::from("3")]));
            assert_eq!(read(&keyspace, 0), Ok(vec![Bytes::from("4")]));
        }
    }

    #[test]
    fn a_revision_is_not_lowered_nor_raised_beyond_its_type() {
        let disk = written(1);
        for raise_revision in [-1, RAISE_MAX + 1, i64::MAX] {
            let how = Anew {
                raise_revision,
                compact: false,
            };
            let error = begin_anew(&disk.environment, how).expect_err("it cannot be");
            assert!(matches!(error, KvError::Revision { .. }), "{error}");
        }
        assert_eq!(
            crate::summary(&disk.environment, &|_| ()).unwrap().revision,
            2,
            "nothing is changed"
        );
    }
}
