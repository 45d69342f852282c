//! The state machine: registers by number, with put, delete and compare-and-swap, whose whole state is a few bytes.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rm_raft::{Entry, EntryId, Index, Payload, Term};

use crate::history::{Answer, Request, Value};

/// A key.
pub(crate) type Key = u32;

/// The registers, as of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registers {
    values: BTreeMap<Key, u64>,
    /// The last entry that was applied.
    applied: EntryId,
    /// Of all that was ever applied, in order, with the answers: two machines that applied the same have the same.
    digest: u64,
}

impl Registers {
    pub(crate) fn applied(&self) -> EntryId {
        self.applied
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn get(&self, key: Key) -> Value {
        self.values.get(&key).copied()
    }

    /// Applies the next entry; the answer for whoever asked for it.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Option<Answer> {
        self.applied = entry.id;
        let answer = match &entry.payload {
            Payload::Command(proposal) => {
                let (key, request) = decode(&proposal.command);
                Some(self.perform(key, request))
            }
            Payload::Empty | Payload::Configuration { .. } => None,
        };
        let seen = match answer {
            Some(Answer::Held(value)) => value.unwrap_or(1) << 2,
            Some(Answer::Deleted(value)) => (value.unwrap_or(1) << 2) | 1,
            Some(Answer::Written) => 2,
            None => 3,
        };
        for number in [entry.id.term.0, entry.id.index.0, seen] {
            self.digest = mix(self.digest, number);
        }
        answer
    }

    fn perform(&mut self, key: Key, request: Request) -> Answer {
        let held = self.get(key);
        match request {
            Request::Get => Answer::Held(held),
            Request::Put(value) => {
                self.values.insert(key, value);
                Answer::Written
            }
            Request::Delete => Answer::Deleted(self.values.remove(&key)),
            Request::CompareAndSwap(expected, value) if held == expected => {
                self.values.insert(key, value);
                Answer::Written
            }
            Request::CompareAndSwap(..) => Answer::Held(held),
        }
    }

    /// The whole state, for a checkpoint or a snapshot.
    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(24 + 12 * self.values.len());
        bytes.put_u64(self.applied.term.0);
        bytes.put_u64(self.applied.index.0);
        bytes.put_u64(self.digest);
        for (&key, &value) in &self.values {
            bytes.put_u32(key);
            bytes.put_u64(value);
        }
        bytes.freeze()
    }

    /// The state that these bytes hold; nothing was ever applied if there are none.
    pub(crate) fn from_bytes(mut bytes: Bytes) -> Registers {
        if bytes.is_empty() {
            return Registers::default();
        }
        let (term, index) = (Term(bytes.get_u64()), Index(bytes.get_u64()));
        let digest = bytes.get_u64();
        let mut values = BTreeMap::new();
        while bytes.has_remaining() {
            let key = bytes.get_u32();
            values.insert(key, bytes.get_u64());
        }
        let applied = EntryId { term, index };
        Registers {
            values,
            applied,
            digest,
        }
    }
}

/// A hash of what came before and a number.
pub(crate) fn mix(hash: u64, number: u64) -> u64 {
    (hash.rotate_left(5) ^ number).wrapping_mul(0x517C_C1B7_2722_0A95)
}

/// A command as bytes, made longer by `padding`.
pub(crate) fn encode(key: Key, request: Request, padding: usize) -> Bytes {
    let (kind, expected, value) = match request {
        Request::Get => (0, None, 0),
        Request::Put(value) => (1, None, value),
        Request::Delete => (2, None, 0),
        Request::CompareAndSwap(expected, value) => (3, expected, value),
    };
    let mut bytes = BytesMut::with_capacity(21 + padding);
    bytes.put_u8(kind);
    bytes.put_u32(key);
    bytes.put_u64(expected.unwrap_or(0)); // values begin with one
    bytes.put_u64(value);
    bytes.put_bytes(b' ', padding);
    bytes.freeze()
}

fn decode(mut bytes: &[u8]) -> (Key, Request) {
    let kind = bytes.get_u8();
    let key = bytes.get_u32();
    let expected = Some(bytes.get_u64()).filter(|&value| value > 0);
    let value = bytes.get_u64();
    let request = match kind {
        0 => Request::Get,
        1 => Request::Put(value),
        2 => Request::Delete,
        _ => Request::CompareAndSwap(expected, value),
    };
    (key, request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_what_its_bytes_say() {
        let swap = Request::CompareAndSwap(None, 5);
        for request in [Request::Get, Request::Put(3), Request::Delete, swap] {
            assert_eq!(decode(&encode(7, request, 9)), (7, request));
        }
    }

    #[test]
    fn a_state_is_what_its_bytes_say() {
        let mut registers = Registers::default();
        assert_eq!(Registers::from_bytes(Bytes::new()), registers);
        registers.perform(1, Request::Put(4));
        registers.perform(2, Request::Put(5));
        assert_eq!(Registers::from_bytes(registers.to_bytes()), registers);
    }
}
