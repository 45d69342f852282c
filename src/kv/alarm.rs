//! Alarms: what is wrong with a machine, known to all of them through the log, until somebody disarms it. While one stands, what it
//! concerns is refused, the same on every machine.

use std::collections::BTreeSet;

use heed::{RoTxn, RwTxn};
use serde::{Deserialize, Serialize};

use crate::command::{Command, Operation, Txn};
use crate::error::{Failure, KvError, RequestError};
use crate::hash::KeyspaceHash;
use crate::tables::Tables;

/// The most alarms that stand at a time: two for each machine that a domain may have, and for each of as many that it had.
pub const ALARMS_MAX: usize = 256;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AlarmKind {
    /// A state has reached its quota (etcd's NOSPACE).
    NoSpace,
    /// The data of a machine is not what the others have (etcd's CORRUPT).
    Corrupt,
}

/// What is wrong with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Alarm {
    /// The machine's number; whether there is such a machine is not looked at.
    pub machine: u64,
    /// What is wrong with it.
    pub kind: AlarmKind,
}

/// What is done about alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AlarmCommand {
    /// Raises one; whether it stood already makes no difference.
    Raise(Alarm),
    /// Disarms one, if it stands.
    Disarm(Alarm),
    /// Has every machine compare its hash with this one. No client asks for it: the machine that leads does. What a machine finds, it
    /// says by an alarm.
    Compare(KeyspaceHash),
}

/// The alarms that stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alarms {
    standing: BTreeSet<Alarm>,
    /// The hash that was to be compared last, until somebody takes it.
    claim: Option<KeyspaceHash>,
}

impl Alarms {
    /// Those that stand as of the last checkpoint.
    pub(crate) fn load(tables: &Tables, txn: &RoTxn) -> Result<Alarms, KvError> {
        Ok(Alarms {
            standing: tables.alarms(txn)?.into_iter().collect(),
            claim: None,
        })
    }

    /// All of them, in the order of the machines' numbers.
    pub(crate) fn all(&self) -> Vec<Alarm> {
        self.standing.iter().copied().collect()
    }

    /// The hash that was to be compared last.
    pub(crate) fn take_claim(&mut self) -> Option<KeyspaceHash> {
        self.claim.take()
    }

    /// Does what a command says: the alarm that it is about, if it changed anything or was to raise it.
    pub(crate) fn apply(
        &mut self,
        tables: &Tables,
        txn: &mut RwTxn,
        command: &AlarmCommand,
    ) -> Result<Vec<Alarm>, Failure> {
        match *command {
            AlarmCommand::Raise(alarm) => {
                if self.standing.len() >= ALARMS_MAX && !self.standing.contains(&alarm) {
                    return Err(RequestError::TooManyAlarms.into());
                }
                if self.standing.insert(alarm) {
                    tables.set_alarms(txn, &self.all())?;
                }
                Ok(vec![alarm])
            }
            AlarmCommand::Disarm(alarm) => {
                if !self.standing.remove(&alarm) {
                    return Ok(Vec::new());
                }
                tables.set_alarms(txn, &self.all())?;
                Ok(vec![alarm])
            }
            AlarmCommand::Compare(claim) => {
                self.claim = Some(claim);
                Ok(Vec::new())
            }
        }
    }

    /// Why a command is refused while they stand. What only gives space back is let through though there is none. While data is corrupt,
    /// nothing that a client asks for about keys and leases is done. Reads go on in either case, as in etcd: whoever has to find out what
    /// is wrong must see it.
    pub(crate) fn refusal(&self, command: &Command) -> Option<RequestError> {
        if self.stands(AlarmKind::Corrupt) && is_of_a_client(command) {
            return Some(RequestError::Corrupt);
        }
        let refused = command.needs_space() && self.stands(AlarmKind::NoSpace);
        refused.then_some(RequestError::NoSpace)
    }

    fn stands(&self, kind: AlarmKind) -> bool {
        self.standing.iter().any(|alarm| alarm.kind == kind)
    }
}

/// Whether a command is what a client asks for about keys and leases.
fn is_of_a_client(command: &Command) -> bool {
    match command {
        Command::Put(_)
        | Command::DeleteRange(_)
        | Command::Txn(_)
        | Command::Compact { .. }
        | Command::GrantLease { .. }
        | Command::RevokeLease { .. } => true,
        // The time of a lease is over whatever the data is; etcd, which revokes it for that, lets it live on.
        Command::ExpireLeases { .. }
        | Command::Scrub { .. }
        | Command::NoteLeases { .. }
        | Command::CountLeases
        | Command::Auth(_)
        | Command::Alarm(_) => false,
    }
}

impl Command {
    /// Whether it may make the state larger: a put, a transaction that may put, however deep in it (etcd #22139), and the grant of a
    /// lease.
    pub fn needs_space(&self) -> bool {
        match self {
            Command::Put(_) | Command::GrantLease { .. } => true,
            Command::Txn(txn) => may_put(txn),
            _ => false,
        }
    }
}

fn may_put(txn: &Txn) -> bool {
    let mut operations = txn.success.iter().chain(&txn.failure);
    operations.any(|operation| match operation {
        Operation::Put(_) => true,
        Operation::Txn(nested) => may_put(nested),
        Operation::Range(_) | Operation::DeleteRange(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rm_raft::{EntryId, Index, Term};

    use super::*;
    use crate::command::{DeleteRange, Put, Query, Range, Reply, ReplyBody};
    use crate::keyspace::Keyspace;
    use crate::state_machine::StateMachine;
    use crate::testing::Disk;

    const NO_SPACE: Alarm = Alarm {
        machine: 7,
        kind: AlarmKind::NoSpace,
    };
    const CORRUPT: Alarm = Alarm {
        machine: 8,
        kind: AlarmKind::Corrupt,
    };

    fn apply(keyspace: &mut Keyspace, command: Command) -> Result<Reply, RequestError> {
        let entry = EntryId {
            term: Term(1),
            index: keyspace.applied().index.next(),
        };
        let applied = keyspace.apply(entry, Some(&command.encode()), true);
        applied.unwrap().expect("a command")
    }

    fn raise(keyspace: &mut Keyspace, alarm: Alarm) -> Result<Reply, RequestError> {
        apply(keyspace, Command::Alarm(AlarmCommand::Raise(alarm)))
    }

    fn disarm(keyspace: &mut Keyspace, alarm: Alarm) -> Vec<Alarm> {
        let disarmed = apply(keyspace, Command::Alarm(AlarmCommand::Disarm(alarm)));
        match disarmed.expect("it is good").body {
            ReplyBody::Alarms(alarms) => alarms,
            other => panic!("{other:?}"),
        }
    }

    fn put() -> Put {
        Put {
            key: Bytes::from_static(b"key"),
            ..Put::default()
        }
    }

    fn txn(operations: Vec<Operation>) -> Txn {
        Txn {
            compare: Vec::new(),
            success: Vec::new(),
            failure: operations,
        }
    }

    fn delete() -> DeleteRange {
        DeleteRange {
            key: Bytes::from_static(b"key"),
            ..DeleteRange::default()
        }
    }

    /// Requests that need space, and requests that need none.
    fn requests() -> (Vec<Command>, Vec<Command>) {
        let nested = |operation| Operation::Txn(txn(vec![Operation::Txn(txn(vec![operation]))]));
        let needy = vec![
            Command::Put(put()),
            Command::Txn(txn(vec![Operation::Put(put())])),
            Command::Txn(txn(vec![nested(Operation::Put(put()))])),
            Command::GrantLease { id: 5, ttl: 60 },
        ];
        let others = vec![
            Command::DeleteRange(delete()),
            Command::Txn(txn(vec![nested(Operation::DeleteRange(delete()))])),
            Command::RevokeLease { id: 9 },
            Command::Compact { revision: 2 },
        ];
        (needy, others)
    }

    fn read(keyspace: &Keyspace) -> Result<Reply, RequestError> {
        let query = Query::Range(Range {
            key: Bytes::from_static(b"key"),
            ..Range::default()
        });
        keyspace.query(&query).unwrap()
    }

    #[test]
    fn without_space_only_what_needs_some_is_refused_until_all_such_alarms_are_disarmed() {
        let disk = Disk::new();
        let mut keyspace = Keyspace::open(&disk.environment).unwrap();
        apply(&mut keyspace, Command::Put(put())).unwrap();
        apply(&mut keyspace, Command::GrantLease { id: 9, ttl: 60 }).unwrap();
        let other = Alarm {
            machine: 1,
            ..NO_SPACE
        };
        raise(&mut keyspace, NO_SPACE).unwrap();
        raise(&mut keyspace, other).unwrap();
        let (needy, others) = requests();
        let refused = Err(RequestError::NoSpace);
        for command in &needy {
            assert_eq!(
                apply(&mut keyspace, command.clone()),
                refused,
                "{command:?}"
            );
        }
        for command in others {
            let text = format!("{command:?}");
            assert!(apply(&mut keyspace, command).is_ok(), "{text}");
        }
        assert!(read(&keyspace).is_ok());
        assert_eq!(disarm(&mut keyspace, other), [other]);
        assert_eq!(apply(&mut keyspace, needy[0].clone()), refused);
        assert_eq!(disarm(&mut keyspace, NO_SPACE), [NO_SPACE]);
        assert_eq!(disarm(&mut keyspace, NO_SPACE), []);
        for command in needy {
            let text = format!("{command:?}");
            assert!(apply(&mut keyspace, command).is_ok(), "{text}");
        }
    }

    #[test]
    fn while_data_is_corrupt_a_client_may_only_read() {
        let disk = Disk::new();
        let mut keyspace = Keyspace::open(&disk.environment).unwrap();
        raise(&mut keyspace, CORRUPT).unwrap();
        let refused = Err(RequestError::Corrupt);
        let (needy, others) = requests();
        for command in needy.into_iter().chain(others) {
            assert_eq!(
                apply(&mut keyspace, command.clone()),
                refused,
                "{command:?}"
            );
        }
        assert!(read(&keyspace).is_ok());
        let scrub = Command::Scrub {
            changes: 1,
            bytes: 1,
        };
        assert!(apply(&mut keyspace, scrub).is_ok());
        disarm(&mut keyspace, CORRUPT);
        apply(&mut keyspace, Command::Put(put())).expect("nothing is wrong any more");
    }

    #[test]
    fn alarms_are_durable_with_the_checkpoint_and_gone_in_a_domain_that_begins_anew() {
        let disk = Disk::new();
        let mut keyspace = Keyspace::open(&disk.environment).unwrap();
        raise(&mut keyspace, NO_SPACE).unwrap();
        raise(&mut keyspace, CORRUPT).unwrap();
        drop(keyspace);
        let mut keyspace = Keyspace::open(&disk.environment).unwrap();
        assert_eq!(keyspace.alarms(), [], "nothing was written down");
        raise(&mut keyspace, NO_SPACE).unwrap();
        raise(&mut keyspace, CORRUPT).unwrap();
        keyspace.checkpoint().unwrap();
        drop(keyspace);
        let keyspace = Keyspace::open(&disk.environment).unwrap();
        assert_eq!(keyspace.alarms(), [NO_SPACE, CORRUPT]);
        drop(keyspace);
        crate::begin_anew(&disk.environment, crate::Anew::default()).unwrap();
        let keyspace = Keyspace::open(&disk.environment).unwrap();
        assert_eq!(keyspace.alarms(), []);
    }

    #[test]
    fn there_is_a_bound_on_alarms() {
        let disk = Disk::new();
        let mut keyspace = Keyspace::open(&disk.environment).unwrap();
        for machine in 0..ALARMS_MAX as u64 {
            raise(
                &mut keyspace,
                Alarm {
                    machine,
                    ..NO_SPACE
                },
            )
            .unwrap();
        }
        let refused = Err(RequestError::TooManyAlarms);
        assert_eq!(
            raise(
                &mut keyspace,
                Alarm {
                    machine: 999,
                    ..NO_SPACE
                }
            ),
            refused
        );
        raise(&mut keyspace, NO_SPACE).expect("it stands already");
    }

    #[test]
    fn a_hash_to_be_compared_is_taken_once() {
        let disk = Disk::new();
        let mut keyspace = Keyspace::open(&disk.environment).unwrap();
        let claim = KeyspaceHash {
            hash: 3,
            compact_revision: -1,
            revision: 1,
        };
        let compare = Command::Alarm(AlarmCommand::Compare(claim));
        apply(&mut keyspace, compare).unwrap();
        assert_eq!(keyspace.take_hash_claim(), Some(claim));
        assert_eq!(keyspace.take_hash_claim(), None);
        assert_eq!(keyspace.applied().index, Index(1));
    }
}
