//! What happened to the key space: its changes in order, as a watch tells of them.

use bytes::Bytes;
use heed::RoTxn;
use rm_store::Environment;

use crate::command::KeyValue;
use crate::error::KvError;
use crate::progress::Progress;
use crate::revision::{Meta, Record, Revision};
use crate::tables::{State, Tables};

/// What an event takes in memory beside its keys and values, in bytes, about.
const EVENT_BYTES: usize = 256;

/// One change of one key (etcd's Event).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether the key was deleted; else it was put.
    pub is_delete: bool,
    /// The key after a put. After a delete only its name, and the revision of the delete as its `mod_revision`.
    pub kv: KeyValue,
    /// The key as it was before; none if there was none, or if that is compacted.
    pub prev_kv: Option<KeyValue>,
}

impl Event {
    /// The revision of the key space that the change made.
    pub fn revision(&self) -> i64 {
        self.kv.mod_revision
    }

    /// How much memory it takes, in bytes, about.
    pub fn bytes(&self) -> usize {
        EVENT_BYTES + self.data_bytes()
    }

    /// The length of its keys and values, in bytes.
    pub fn data_bytes(&self) -> usize {
        let bytes = |kv: &KeyValue| kv.key.len() + kv.value.len();
        bytes(&self.kv) + self.prev_kv.as_ref().map_or(0, bytes)
    }
}

/// A stretch of the history: all changes of some revisions in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The changes, oldest first. All of one revision are in it or none.
    pub events: Vec<Event>,
    /// The first revision that is in it; later than the one asked for if changes of that were removed.
    pub from: i64,
    /// The first revision after it. One more than the newest where the history ends.
    pub next: i64,
    /// The revision that was compacted last; -1 when none was.
    pub compacted: i64,
    /// From this revision on no change is missing that a watch from there is to be told of: the compacted one, or an earlier one
    /// while the scrub is on its way.
    pub whole_from: i64,
}

/// The changes from the revision `from` on, as of the last checkpoint: about so many bytes of them, and all of one revision at
/// least.
///
/// It reads in a transaction of its own: any thread may call it while the key space is open on another.
///
/// # Errors
/// Damage, or LMDB's own.
pub fn history(environment: &Environment, from: i64, bytes_max: usize) -> Result<History, KvError> {
    let Some(tables) = Tables::find(environment)? else {
        return Ok(History {
            events: Vec::new(),
            from,
            next: from.max(State::FIRST.revision + 1),
            compacted: State::FIRST.compact_revision,
            whole_from: State::FIRST.whole_from(),
        });
    };
    let txn = environment.env().read_txn()?;
    let state = tables.state(&txn)?;
    Past {
        tables: &tables,
        txn: &txn,
        state: &state,
        progress: &Progress::default(),
    }
    .read(from, bytes_max)
}

/// The key space as a transaction shows it, to be read in the order of its changes.
pub(crate) struct Past<'p> {
    pub(crate) tables: &'p Tables,
    pub(crate) txn: &'p RoTxn<'p>,
    pub(crate) state: &'p State,
    pub(crate) progress: &'p Progress,
}

impl Past<'_> {
    /// As [`history`].
    pub(crate) fn read(&self, from: i64, bytes_max: usize) -> Result<History, KvError> {
        let (compacted, whole_from) = (self.state.compact_revision, self.state.whole_from());
        let from = from.max(whole_from);
        let mut history = History {
            events: Vec::new(),
            from,
            next: from.max(self.state.revision + 1),
            compacted,
            whole_from,
        };
        let mut bytes = 0;
        for change in self.tables.revisions.scan(self.txn, from)? {
            let (revision, record) = change?;
            let is_new = history.events.last().map(Event::revision) != Some(revision.main);
            if is_new && bytes >= bytes_max {
                history.next = revision.main;
                break;
            }
            let event = self.event(revision, &record)?;
            bytes += event.bytes();
            self.progress.step(record.value.len());
            history.events.push(event);
        }
        Ok(history)
    }

    fn event(&self, revision: Revision, record: &Record) -> Result<Event, KvError> {
        let kv = |revision, record: &Record| {
            let (key, value) = (record.key, record.value);
            let value = Bytes::copy_from_slice(value);
            let key = Bytes::copy_from_slice(key);
            record.meta.key_value(key, revision, value)
        };
        let before = self.before(revision, record)?;
        Ok(Event {
            is_delete: record.meta.is_tombstone(),
            kv: kv(revision, record),
            prev_kv: before.map(|(revision, record)| kv(revision, &record)),
        })
    }

    /// What the key was just before a revision, if that can still be read: so etcd tells it, and so all machines do, however far each
    /// has removed what is compacted. What an earlier operation of the same transaction had made of it is passed over.
    fn before(
        &self,
        revision: Revision,
        record: &Record,
    ) -> Result<Option<(Revision, Record<'_>)>, KvError> {
        if revision.main - 1 < self.state.compact_revision {
            return Ok(None);
        }
        let mut before = record.link.previous;
        while before.main == revision.main {
            let within = self.tables.revisions.get(self.txn, before)?;
            before = within.ok_or_else(|| before.missing())?.link.previous;
        }
        if before == Revision::NONE {
            return Ok(None);
        }
        let found = self.tables.revisions.get(self.txn, before)?;
        let lives = |meta: &Meta| !meta.is_tombstone();
        match found {
            Some(record) => Ok(Some((before, record)).filter(|(_, it)| lives(&it.meta))),
            // A deletion that is compacted.
            None if before.main < self.state.compact_revision => Ok(None),
            None => Err(before.missing()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rm_raft::{EntryId, Term};

    use super::*;
    use crate::command::{Command, DeleteRange, Operation, Put, Txn};
    use crate::keyspace::Keyspace;
    use crate::state_machine::StateMachine;
    use crate::testing::Disk;

    fn put(key: &'static str, value: &'static str) -> Put {
        Put {
            key: key.into(),
            value: value.into(),
            ..Put::default()
        }
    }

    fn delete(key: &'static str) -> DeleteRange {
        DeleteRange {
            key: key.into(),
            ..DeleteRange::default()
        }
    }

    fn apply(keyspace: &mut Keyspace, command: Command) {
        let entry = EntryId {
            term: Term(1),
            index: keyspace.applied().index.next(),
        };
        let outcome = keyspace.apply(entry, Some(&command.encode()), false);
        outcome.unwrap().unwrap().unwrap();
    }

    /// Revision 2 puts `a`; 3 puts `a` and `b`; 4 deletes `a`; 5 puts it again.
    fn keyspace(disk: &Disk) -> Keyspace {
        let mut keyspace = Keyspace::open(&disk.environment).unwrap();
        let both = Txn {
            success: vec![Operation::Put(put("b", "1")), Operation::Put(put("a", "2"))],
            ..Txn::default()
        };
        for command in [
            Command::Put(put("a", "1")),
            Command::Txn(both),
            Command::DeleteRange(delete("a")),
            Command::Put(put("a", "3")),
        ] {
            apply(&mut keyspace, command);
        }
        keyspace
    }

    /// An event as `revision key=value` or `revision key-`, and what was before.
    fn told(history: &History) -> Vec<String> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let tell = |event: &Event| {
            let (kv, key) = (&event.kv, text(&event.kv.key));
            let now = match event.is_delete {
                true => format!("{} {key}-", kv.mod_revision),
                false => format!("{} {key}={}", kv.mod_revision, text(&kv.value)),
            };
            match &event.prev_kv {
                Some(before) => format!("{now} was {}", text(&before.value)),
                None => now,
            }
        };
        history.events.iter().map(tell).collect()
    }

    #[test]
    fn every_change_is_told_once_in_order_with_what_was_before() {
        let disk = Disk::new();
        let keyspace = keyspace(&disk);
        let history = keyspace.history(0, usize::MAX).unwrap();
        let all = ["2 a=1", "3 b=1", "3 a=2 was 1", "4 a- was 2", "5 a=3"];
        assert_eq!(told(&history), all);
        assert_eq!((history.next, history.compacted), (6, -1));
        let later = keyspace.history(4, usize::MAX).unwrap();
        assert_eq!(told(&later), all[3..]);
        assert_eq!(later.from, 4);
    }

    #[test]
    fn what_was_before_a_transaction_is_told_of_each_of_its_changes() {
        let disk = Disk::new();
        let mut keyspace = keyspace(&disk);
        let nested = |operation| {
            Operation::Txn(Txn {
                success: vec![operation],
                ..Txn::default()
            })
        };
        let put_and_delete = |key| Txn {
            success: vec![
                nested(Operation::Put(put(key, "within"))),
                nested(Operation::DeleteRange(delete(key))),
            ],
            ..Txn::default()
        };
        apply(&mut keyspace, Command::Txn(put_and_delete("a")));
        apply(&mut keyspace, Command::Txn(put_and_delete("new")));
        let history = keyspace.history(6, usize::MAX).unwrap();
        let expected = ["6 a=within was 3", "6 a- was 3", "7 new=within", "7 new-"];
        assert_eq!(told(&history), expected);
    }

    #[test]
    fn a_stretch_ends_between_two_revisions() {
        let disk = Disk::new();
        let keyspace = keyspace(&disk);
        let first = keyspace.history(3, 1).unwrap();
        assert_eq!(told(&first), ["3 b=1", "3 a=2 was 1"]);
        assert_eq!(first.next, 4);
        let none = keyspace.history(6, 1).unwrap();
        assert_eq!((none.events.len(), none.next), (0, 6));
        let beyond = keyspace.history(9, 1).unwrap();
        assert_eq!((beyond.events.len(), beyond.next), (0, 9));
    }

    #[test]
    fn what_a_scrub_has_not_reached_is_told_to_who_goes_on() {
        let disk = Disk::new();
        let mut keyspace = keyspace(&disk);
        let all = keyspace.history(0, usize::MAX).unwrap();
        apply(&mut keyspace, Command::Compact { revision: 4 });
        let compacted = keyspace.history(0, usize::MAX).unwrap();
        assert_eq!((compacted.compacted, compacted.whole_from), (4, 0));
        // What was before a compacted revision is told to nobody.
        let expected = ["2 a=1", "3 b=1", "3 a=2", "4 a-", "5 a=3"];
        assert_eq!(told(&compacted), expected);
        let mut whole_from = Vec::new();
        for _ in 0..5 {
            let scrub = Command::Scrub {
                changes: 1,
                bytes: u32::MAX,
            };
            apply(&mut keyspace, scrub);
            let rest = keyspace.history(0, usize::MAX).unwrap();
            let from = |event: &&Event| event.revision() >= rest.whole_from;
            let whole: Vec<&Event> = all.events.iter().filter(from).collect();
            let same = |(a, b): (&Event, &&Event)| (a.kv == b.kv) && (a.is_delete == b.is_delete);
            assert_eq!(rest.events.len(), whole.len());
            assert!(rest.events.iter().zip(&whole).all(same));
            whole_from.push(rest.whole_from);
        }
        assert_eq!(whole_from, [3, 4, 4, 4, 4]);
    }

    #[test]
    fn another_thread_reads_it_as_of_the_last_checkpoint() {
        let disk = Disk::new();
        let mut keyspace = keyspace(&disk);
        let read = || history(&disk.environment, 1, usize::MAX).unwrap();
        assert_eq!((read().events.len(), read().next), (0, 2));
        keyspace.checkpoint().unwrap();
        assert_eq!(read(), keyspace.history(1, usize::MAX).unwrap());
    }
}
