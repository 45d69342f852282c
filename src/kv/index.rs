//! The index: from a key to the newest change of it, in the order of the keys, for keys of any length.
//!
//! LMDB limits its keys to 511 bytes. A key of up to [`CHUNK`] bytes lies in the table `key` as it is. Of a longer one,
//! the first [`CHUNK`] bytes and a zero byte name a *branch*, with a number of its own, and what follows lies in the table
//! `branch` under that number, by the same rule again. An entry of `CHUNK` + 1 bytes is thus always a branch; it lies
//! directly behind the key that equals its chunk and before all other keys, so that a walk in order stays in order.

use std::borrow::Cow;
use std::ops::Bound;

use heed::types::Bytes as Raw;
use heed::{Database, RoRange, RoTxn, RwTxn};
use serde::{Deserialize, Serialize};

use crate::chain::Link;
use crate::error::KvError;
use crate::frame;
use crate::revision::{Meta, Revision};
use crate::span::Span;

/// The name of the table of keys, and of the first chunks of long ones.
pub(crate) const KEY_TABLE: &str = "key";
/// The name of the table of what follows the chunks of long keys.
pub(crate) const BRANCH_TABLE: &str = "branch";

/// How many bytes of a key one level of the index holds.
const CHUNK: usize = 500;
/// Bytes of a branch's number in front of an entry of the table of branches.
const NUMBER: usize = 8;

/// The newest change of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Which change it is.
    pub(crate) revision: Revision,
    /// What etcd tells of the key.
    pub(crate) meta: Meta,
    /// How many changes the key's chain has had, this one included.
    pub(crate) length: u64,
    /// The way to the key's older changes, as the change's record has it.
    pub(crate) link: Link,
}

/// A level of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// The first bytes of all keys.
    Root,
    /// What follows the chunks of one branch.
    Branch(u64),
}

/// The tables of the index.
#[derive(Clone, Copy)]
pub(crate) struct KeyIndex {
    pub(crate) keys: Database<'static, Raw, Raw>,
    pub(crate) branches: Database<'static, Raw, Raw>,
}

/// Where an entry lies: a table's key of at most 511 bytes, and the table.
struct Slot<'k> {
    name: &'static str,
    key: Cow<'k, [u8]>,
}

impl<'k> Slot<'k> {
    fn new(level: Level, entry: &'k [u8]) -> Slot<'k> {
        match level {
            Level::Root => Slot {
                name: KEY_TABLE,
                key: Cow::Borrowed(entry),
            },
            Level::Branch(number) => {
                let key = [&number.to_be_bytes(), entry].concat();
                Slot {
                    name: BRANCH_TABLE,
                    key: Cow::Owned(key),
                }
            }
        }
    }

    fn branch(level: Level, chunk: &[u8]) -> Slot<'k> {
        let entry = [chunk, &[0]].concat();
        Slot {
            key: Cow::Owned(Slot::new(level, &entry).key.into_owned()),
            ..Slot::new(level, &[])
        }
    }
}

impl KeyIndex {
    /// How many entries the index has: one a key, and one more for each branch.
    pub(crate) fn entries(&self, txn: &RoTxn) -> Result<u64, KvError> {
        Ok(self.keys.len(txn)? + self.branches.len(txn)?)
    }

    /// The newest change of a key, if one is known: a key whose deletion was compacted is forgotten.
    pub(crate) fn get(&self, txn: &RoTxn, key: &[u8]) -> Result<Option<Head>, KvError> {
        let (mut level, mut rest) = (Level::Root, key);
        while rest.len() > CHUNK {
            let (chunk, behind) = rest.split_at(CHUNK);
            match self.read(txn, &Slot::branch(level, chunk))? {
                Some(number) => level = Level::Branch(number),
                None => return Ok(None),
            }
            rest = behind;
        }
        self.read(txn, &Slot::new(level, rest))
    }

    /// Makes `head` the newest change of a key. A new branch takes the number `next_branch`, which is then raised.
    /// `scratch` is overwritten.
    pub(crate) fn put(
        &self,
        txn: &mut RwTxn,
        key: &[u8],
        head: &Head,
        next_branch: &mut u64,
        scratch: &mut Vec<u8>,
    ) -> Result<(), KvError> {
        let (mut level, mut rest) = (Level::Root, key);
        while rest.len() > CHUNK {
            let (chunk, behind) = rest.split_at(CHUNK);
            let slot = Slot::branch(level, chunk);
            let number = match self.read(txn, &slot)? {
                Some(number) => number,
                None => {
                    let number = *next_branch;
                    *next_branch += 1;
                    self.write(txn, &slot, &number, scratch)?;
                    number
                }
            };
            (level, rest) = (Level::Branch(number), behind);
        }
        self.write(txn, &Slot::new(level, rest), head, scratch)
    }

    /// Takes a key out, and with it the branches that then hold nothing.
    pub(crate) fn remove(&self, txn: &mut RwTxn, key: &[u8]) -> Result<(), KvError> {
        let (mut level, mut rest) = (Level::Root, key);
        let mut branches = Vec::new();
        while rest.len() > CHUNK {
            let (chunk, behind) = rest.split_at(CHUNK);
            let slot = Slot::branch(level, chunk);
            let Some(number) = self.read(txn, &slot)? else {
                return Ok(());
            };
            branches.push((slot, number));
            (level, rest) = (Level::Branch(number), behind);
        }
        self.delete(txn, &Slot::new(level, rest))?;
        for (slot, number) in branches.into_iter().rev() {
            if !self.is_empty(txn, number)? {
                break;
            }
            self.delete(txn, &slot)?;
        }
        Ok(())
    }

    /// Whether a branch holds nothing.
    fn is_empty(&self, txn: &RoTxn, number: u64) -> Result<bool, KvError> {
        let number = number.to_be_bytes();
        let first = self.branches.get_greater_than_or_equal_to(txn, &number)?;
        Ok(first.is_none_or(|(key, _)| !key.starts_with(&number)))
    }

    /// The keys of a span with their newest changes, in order; deleted keys are among them.
    pub(crate) fn scan<'txn>(&self, txn: &'txn RoTxn, span: Span) -> Result<Scan<'txn>, KvError> {
        let (start, end) = match span {
            Span::One(key) => (key, Some([key, &[0]].concat())),
            Span::From(start, end) => (start, end.map(<[u8]>::to_vec)),
        };
        let mut scan = Scan {
            index: *self,
            txn,
            start: start.to_vec(),
            end,
            prefix: Vec::new(),
            levels: Vec::new(),
        };
        scan.enter(Level::Root)?;
        Ok(scan)
    }

    fn table(&self, slot: &Slot) -> Database<'static, Raw, Raw> {
        if slot.name == KEY_TABLE {
            self.keys
        } else {
            self.branches
        }
    }

    fn read<T: serde::de::DeserializeOwned>(
        &self,
        txn: &RoTxn,
        slot: &Slot,
    ) -> Result<Option<T>, KvError> {
        match self.table(slot).get(txn, &slot.key)? {
            Some(value) => Ok(Some(frame::open(slot.name, &slot.key, value)?.0)),
            None => Ok(None),
        }
    }

    fn delete(&self, txn: &mut RwTxn, slot: &Slot) -> Result<(), KvError> {
        self.table(slot).delete(txn, &slot.key)?;
        Ok(())
    }

    fn write(
        &self,
        txn: &mut RwTxn,
        slot: &Slot,
        value: &impl Serialize,
        scratch: &mut Vec<u8>,
    ) -> Result<(), KvError> {
        frame::seal(scratch, &slot.key, value, [&[], &[]]);
        Ok(self.table(slot).put(txn, &slot.key, scratch)?)
    }
}

/// A key and the newest change of it.
pub(crate) struct Entry<'txn> {
    pub(crate) key: Cow<'txn, [u8]>,
    pub(crate) head: Head,
}

/// A walk over the index in the order of the keys.
pub(crate) struct Scan<'txn> {
    index: KeyIndex,
    txn: &'txn RoTxn<'txn>,
    start: Vec<u8>,
    end: Option<Vec<u8>>,
    /// The chunks of the branches that are open: [`CHUNK`] bytes for each level above the deepest.
    prefix: Vec<u8>,
    levels: Vec<(Level, RoRange<'txn, Raw, Raw>)>,
}

impl<'txn> Scan<'txn> {
    /// Goes down into a level whose keys all begin with `self.prefix`, to the first that is not before `self.start`.
    fn enter(&mut self, level: Level) -> Result<(), KvError> {
        let start = self
            .start
            .strip_prefix(self.prefix.as_slice())
            .unwrap_or_default();
        let first = match start.get(..CHUNK) {
            Some(chunk) if start.len() > CHUNK => Slot::branch(level, chunk),
            _ => Slot::new(level, start),
        };
        let range = match level {
            Level::Root => {
                let range = (Bound::Included(&first.key[..]), Bound::Unbounded);
                self.index.keys.range(self.txn, &range)?
            }
            Level::Branch(number) => {
                let behind = (number + 1).to_be_bytes();
                let range = (
                    Bound::Included(&first.key[..]),
                    Bound::Excluded(&behind[..]),
                );
                self.index.branches.range(self.txn, &range)?
            }
        };
        self.levels.push((level, range));
        Ok(())
    }

    /// The next key and its newest change.
    pub(crate) fn next(&mut self) -> Result<Option<Entry<'txn>>, KvError> {
        while let Some((level, entries)) = self.levels.last_mut() {
            let Some(entry) = entries.next() else {
                self.levels.pop();
                self.prefix
                    .truncate(self.levels.len().saturating_sub(1) * CHUNK);
                continue;
            };
            let (slot, value) = entry?;
            let (name, entry) = match level {
                Level::Root => (KEY_TABLE, slot),
                Level::Branch(_) => (BRANCH_TABLE, &slot[NUMBER..]),
            };
            if entry.len() > CHUNK {
                let (number, _) = frame::open(name, slot, value)?;
                self.prefix.extend_from_slice(&entry[..CHUNK]);
                self.enter(Level::Branch(number))?;
                continue;
            }
            let key = if self.prefix.is_empty() {
                Cow::Borrowed(entry)
            } else {
                Cow::Owned([&self.prefix, entry].concat())
            };
            if self.end.as_ref().is_some_and(|end| *key >= end[..]) {
                self.levels.clear();
                return Ok(None);
            }
            let (head, _) = frame::open(name, slot, value)?;
            return Ok(Some(Entry { key, head }));
        }
        Ok(None)
    }
}
