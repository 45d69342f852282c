//! How an entry and the hard state lie in their tables.
//!
//! An entry's key is its index, big-endian, so that LMDB's order is the log's. Its value is, little-endian:
//!
//! | bytes | what                                             |
//! |-------|--------------------------------------------------|
//! | 4     | CRC-32C of the key and the rest of the value     |
//! | 8     | term                                             |
//! | 1     | kind: 0 empty, 1 command                         |
//! | 8, 8  | the request's machine and number (command only)  |
//! | ...   | the command (command only)                       |

use bytes::Bytes;
use rm_raft::{Entry, EntryId, HardState, Index, MachineId, Payload, Proposal, RequestId, Term};

use crate::{
    LogError,
    tables::{BASE_NAME, Base},
};

const CHECKSUM: usize = 4;
const EMPTY: u8 = 0;
const COMMAND: u8 = 1;

/// A key: the index of an entry.
pub(crate) fn key(index: Index) -> [u8; 8] {
    index.0.to_be_bytes()
}

/// The index that a key stands for.
pub(crate) fn index(key: &[u8]) -> Result<Index, LogError> {
    let key = key.try_into().map_err(|_| LogError::DamagedParameter {
        name: "index",
        reason: "a key of the log is not eight bytes long",
    })?;
    Ok(Index(u64::from_be_bytes(key)))
}

/// Writes an entry's value into `buffer`, which keeps its allocation from entry to entry.
pub(crate) fn encode(entry: &Entry, buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.extend_from_slice(&[0; CHECKSUM]);
    buffer.extend_from_slice(&entry.id.term.0.to_le_bytes());
    match &entry.payload {
        Payload::Empty => buffer.push(EMPTY),
        Payload::Command(proposal) => {
            buffer.push(COMMAND);
            buffer.extend_from_slice(&proposal.request.machine.0.to_le_bytes());
            buffer.extend_from_slice(&proposal.request.number.to_le_bytes());
            buffer.extend_from_slice(&proposal.command);
        }
    }
    let checksum = checksum(&key(entry.id.index), &buffer[CHECKSUM..]);
    buffer[..CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads an entry, once its checksum has shown that it is the one that was written at this index.
pub(crate) fn decode(index: Index, value: &[u8]) -> Result<Entry, LogError> {
    let damaged = |reason| LogError::Damaged { index, reason };
    let (stored, body) = value
        .split_first_chunk()
        .ok_or(damaged("it is cut short"))?;
    if u32::from_le_bytes(*stored) != checksum(&key(index), body) {
        return Err(damaged("its checksum does not match"));
    }
    let mut rest = Rest(body);
    let mut entry = || -> Option<Entry> {
        let term = Term(rest.number()?);
        let payload = match rest.byte()? {
            EMPTY => Payload::Empty,
            COMMAND => Payload::Command(Proposal {
                request: RequestId {
                    machine: MachineId(rest.number()?),
                    number: rest.number()?,
                },
                command: Bytes::copy_from_slice(rest.0),
            }),
            _ => return None,
        };
        Some(Entry {
            id: EntryId { term, index },
            payload,
        })
    };
    entry().ok_or(damaged("it is of a kind that never existed"))
}

/// The size of a parameter, in bytes: a checksum and three numbers.
const PARAMETER: usize = CHECKSUM + 3 * 8;

/// The hard state's value: its checksum, term, vote (zero for none) and commit index.
pub(crate) fn encode_hard_state(hard_state: &HardState) -> [u8; PARAMETER] {
    let vote = hard_state.vote.map_or(0, |machine| machine.0);
    // The first parameter there was: its checksum covers no name.
    encode_parameter(&[], [hard_state.term.0, vote, hard_state.commit.0])
}

/// Reads the hard state, once its checksum matches.
pub(crate) fn decode_hard_state(value: &[u8]) -> Result<HardState, LogError> {
    let [term, vote, commit] = decode_parameter("hard state", &[], value)?;
    Ok(HardState {
        term: Term(term),
        vote: Some(MachineId(vote)).filter(|machine| machine.0 != 0),
        commit: Index(commit),
    })
}

/// The base's value: its checksum, the generation of the state, and term and index of the entry.
pub(crate) fn encode_base(base: &Base) -> [u8; PARAMETER] {
    let numbers = [base.generation, base.entry.term.0, base.entry.index.0];
    encode_parameter(BASE_NAME.as_bytes(), numbers)
}

/// Reads the base, once its checksum matches.
pub(crate) fn decode_base(value: &[u8]) -> Result<Base, LogError> {
    let [generation, term, index] = decode_parameter(BASE_NAME, BASE_NAME.as_bytes(), value)?;
    Ok(Base {
        generation,
        entry: EntryId {
            term: Term(term),
            index: Index(index),
        },
    })
}

fn encode_parameter(covered: &[u8], numbers: [u64; 3]) -> [u8; PARAMETER] {
    let mut value = [0; PARAMETER];
    for (place, number) in value[CHECKSUM..].chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    let checksum = checksum(covered, &value[CHECKSUM..]);
    value[..CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    value
}

fn decode_parameter(
    name: &'static str,
    covered: &[u8],
    value: &[u8],
) -> Result<[u64; 3], LogError> {
    let damaged = |reason| LogError::DamagedParameter { name, reason };
    let (stored, body) = value
        .split_first_chunk()
        .ok_or(damaged("it is cut short"))?;
    if u32::from_le_bytes(*stored) != checksum(covered, body) {
        return Err(damaged("its checksum does not match"));
    }
    let mut rest = Rest(body);
    let mut numbers = || Some([rest.number()?, rest.number()?, rest.number()?]);
    numbers().ok_or(damaged("it is cut short"))
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), body)
}

/// What of a value is still to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }
}
