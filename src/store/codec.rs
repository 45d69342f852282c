//! How an entry and the hard state lie in their tables.
//!
//! An entry's key is its index, big-endian, so that LMDB's order is the log's. Its value is, little-endian:
//!
//! | bytes | what                                             |
//! |-------|--------------------------------------------------|
//! | 4     | CRC-32C of the key and the rest of the value     |
//! | 8     | term                                             |
//! | 1     | kind: 0 empty, 1 command, 2 configuration        |
//! | 8, 8  | the request's machine and number; zeros for none |
//! | ...   | the command, or the configuration                |
//!
//! An empty entry ends behind its kind. A configuration is four lists, each behind its length in four bytes: voters, outgoing
//! voters, learners, and what is told about machines, each of these with the machine and its own length before it.

use bytes::Bytes;
use rm_raft::{
    Configuration, Entry, EntryId, HardState, Index, MachineId, Payload, Proposal, RequestId, Term,
};

use crate::{
    Era, LogError,
    tables::{BASE_NAME, Base, ERA_NAME},
};

const CHECKSUM: usize = 4;
const EMPTY: u8 = 0;
const COMMAND: u8 = 1;
const CONFIGURATION: u8 = 2;

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
            put_request(proposal.request, buffer);
            buffer.extend_from_slice(&proposal.command);
        }
        Payload::Configuration {
            request,
            configuration,
        } => {
            buffer.push(CONFIGURATION);
            put_request(request.unwrap_or_default(), buffer);
            put_configuration(configuration, buffer);
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
                request: rest.request()?,
                command: Bytes::copy_from_slice(rest.0),
            }),
            CONFIGURATION => Payload::Configuration {
                request: Some(rest.request()?).filter(|request| request.machine.0 != 0),
                configuration: Box::new(rest.configuration()?),
            },
            _ => return None,
        };
        Some(Entry {
            id: EntryId { term, index },
            payload,
        })
    };
    entry().ok_or(damaged("it is of a kind that never existed"))
}

/// A configuration as bytes, for whoever keeps it elsewhere than in the log: in the state, and so in snapshots.
pub fn encode_configuration(configuration: &Configuration) -> Bytes {
    let mut buffer = Vec::new();
    put_configuration(configuration, &mut buffer);
    buffer.into()
}

/// Reads what [`encode_configuration`] wrote; none if it did not write it.
pub fn decode_configuration(bytes: &[u8]) -> Option<Configuration> {
    let configuration = Rest(bytes).configuration()?;
    configuration.check().is_ok().then_some(configuration)
}

fn put_request(request: RequestId, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(&request.machine.0.to_le_bytes());
    buffer.extend_from_slice(&request.number.to_le_bytes());
}

fn put_configuration(configuration: &Configuration, buffer: &mut Vec<u8>) {
    let length = |length: usize| {
        let length = u32::try_from(length).expect("a configuration is small");
        length.to_le_bytes()
    };
    let Configuration {
        voters,
        outgoing,
        learners,
        about,
    } = configuration;
    for machines in [voters, outgoing, learners] {
        buffer.extend_from_slice(&length(machines.len()));
        for machine in machines {
            buffer.extend_from_slice(&machine.0.to_le_bytes());
        }
    }
    buffer.extend_from_slice(&length(about.len()));
    for (machine, about) in about {
        buffer.extend_from_slice(&machine.0.to_le_bytes());
        buffer.extend_from_slice(&length(about.len()));
        buffer.extend_from_slice(about);
    }
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

/// The era's value: its checksum, its number, and zeros.
pub(crate) fn encode_era(era: Era) -> [u8; PARAMETER] {
    encode_parameter(ERA_NAME.as_bytes(), [era.0, 0, 0])
}

/// Reads the era, once its checksum matches.
pub(crate) fn decode_era(value: &[u8]) -> Result<Era, LogError> {
    let [era, ..] = decode_parameter(ERA_NAME, ERA_NAME.as_bytes(), value)?;
    Ok(Era(era))
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

    fn length(&mut self) -> Option<usize> {
        let (length, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        usize::try_from(u32::from_le_bytes(*length)).ok()
    }

    fn request(&mut self) -> Option<RequestId> {
        Some(RequestId {
            machine: MachineId(self.number()?),
            number: self.number()?,
        })
    }

    fn machines(&mut self) -> Option<Vec<MachineId>> {
        let count = self.length()?;
        // Nothing is allocated for more than the value can hold.
        let fits = count <= self.0.len() / 8;
        (0..count)
            .take_while(|_| fits)
            .map(|_| self.number().map(MachineId))
            .collect::<Option<Vec<MachineId>>>()
            .filter(|_| fits)
    }

    fn configuration(&mut self) -> Option<Configuration> {
        let mut configuration = Configuration {
            voters: self.machines()?,
            outgoing: self.machines()?,
            learners: self.machines()?,
            ..Configuration::default()
        };
        for _ in 0..self.length()? {
            let machine = MachineId(self.number()?);
            let length = self.length()?;
            let (about, rest) = self.0.split_at_checked(length)?;
            self.0 = rest;
            let about = Bytes::copy_from_slice(about);
            configuration.about.insert(machine, about);
        }
        self.0.is_empty().then_some(configuration)
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }
}
