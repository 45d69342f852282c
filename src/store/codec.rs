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

use crate::LogError;

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

/// The hard state's value: its checksum, term, vote (zero for none) and commit index.
pub(crate) fn encode_hard_state(hard_state: &HardState) -> [u8; 28] {
    let mut value = [0; 28];
    value[4..12].copy_from_slice(&hard_state.term.0.to_le_bytes());
    value[12..20].copy_from_slice(&hard_state.vote.map_or(0, |machine| machine.0).to_le_bytes());
    value[20..28].copy_from_slice(&hard_state.commit.0.to_le_bytes());
    let checksum = checksum(&[], &value[CHECKSUM..]);
    value[..CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    value
}

/// Reads the hard state, once its checksum matches.
pub(crate) fn decode_hard_state(value: &[u8]) -> Result<HardState, LogError> {
    let damaged = |reason| LogError::DamagedParameter {
        name: "hard state",
        reason,
    };
    let (stored, body) = value
        .split_first_chunk()
        .ok_or(damaged("it is cut short"))?;
    if u32::from_le_bytes(*stored) != checksum(&[], body) {
        return Err(damaged("its checksum does not match"));
    }
    let mut rest = Rest(body);
    let mut hard_state = || {
        Some(HardState {
            term: Term(rest.number()?),
            vote: Some(MachineId(rest.number()?)).filter(|machine| machine.0 != 0),
            commit: Index(rest.number()?),
        })
    };
    hard_state().ok_or(damaged("it is cut short"))
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
