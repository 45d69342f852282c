//! What the logs on the disks of machines say, read while no machine runs.

use std::error::Error;

use rm_raft::{Entry, Index, MachineId};
use rm_store::{DataDirectory, Environment, Era, Identity, Log, LogError, LogReader, Options};

use crate::machine::Machine;

/// How many bytes of entries are read at once.
const PIECE_BYTES: usize = 1 << 20;

/// Proves that the log of each machine has no gap, that its terms never fall, and that all logs are the same up to
/// `committed` and as far as any machine durably knows them to be committed; gives back how far they were compared.
///
/// # Panics
///
/// When it is not so, or a machine runs.
pub fn assert_same_without_gaps(machines: &[Machine], committed: u64) -> u64 {
    let logs: Vec<DurableLog> = machines.iter().map(DurableLog::read).collect();
    let known = logs.iter().map(|log| log.commit).max();
    let end = known.map_or(Index(committed), |known| known.max(Index(committed)));
    for log in &logs {
        log.assert_without_gaps();
        assert!(
            log.last >= end,
            "{} ends at {}, though {end} is committed",
            log.name,
            log.last
        );
    }
    for other in &logs[1..] {
        assert_same(&logs[0], other, end);
    }
    end.0
}

/// What the log of a machine says.
#[derive(Clone, Copy, Debug)]
pub struct Durable {
    /// Its last entry.
    pub last: u64,
    /// Which state is in force: each snapshot that is put in force has the next number.
    pub generation: u64,
}

/// What the log of a machine says that does not run.
///
/// # Panics
///
/// When it runs, or its log cannot be read.
pub fn durable(machine: &Machine) -> Durable {
    let log = DurableLog::read(machine);
    Durable {
        last: log.last.0,
        generation: log.generation,
    }
}

/// All that one machine's log holds.
struct DurableLog {
    name: String,
    first: Index,
    last: Index,
    commit: Index,
    generation: u64,
    entries: Vec<Entry>,
}

impl DurableLog {
    fn read(machine: &Machine) -> DurableLog {
        assert!(!machine.runs(), "{} runs", machine.name);
        DurableLog::open(machine).unwrap_or_else(|error| panic!("{}: {error}", machine.name))
    }

    fn open(machine: &Machine) -> Result<DurableLog, Box<dyn Error>> {
        let directory = DataDirectory::open(&machine.data, &identity(machine)?)?;
        let environment = Environment::open(&directory, "log", &Options::default())?;
        let log = Log::open(&environment)?;
        let loaded = log.load()?;
        Ok(DurableLog {
            name: machine.name.clone(),
            first: loaded.first,
            last: loaded.last.index,
            commit: loaded.hard_state.commit,
            generation: log.generation()?,
            entries: all(&log.reader(), loaded.first)?,
        })
    }

    /// The indices are exactly those from the first to the last, and no term is lower than the one before.
    fn assert_without_gaps(&self) {
        let indices = self.entries.iter().map(|entry| entry.id.index.0);
        assert!(
            indices.eq(self.first.0..=self.last.0),
            "the log of {} from {} to {} has a gap",
            self.name,
            self.first,
            self.last
        );
        let falls = self
            .entries
            .windows(2)
            .find(|pair| pair[1].id.term < pair[0].id.term);
        if let Some(pair) = falls {
            panic!(
                "the log of {} falls from {} to {}",
                self.name, pair[0].id, pair[1].id
            );
        }
    }

    /// The entries between two indices, both included, which the log has.
    fn between(&self, from: Index, end: Index) -> &[Entry] {
        let place = |index: Index| usize::try_from(index.0 - self.first.0).expect("it fits");
        &self.entries[place(from)..=place(end)]
    }
}

/// Whose data a machine's folder holds.
fn identity(machine: &Machine) -> Result<Identity, rm_config::ConfigError> {
    let config = rm_config::load(&machine.config, Some(&machine.name))?;
    Ok(Identity {
        domain: config.config.domain.clone(),
        machine: machine.name.clone(),
        id: MachineId(config.machine_id(&machine.name)),
        joined: None,
        era: Era::FIRST,
    })
}

/// All entries from the first on.
fn all(reader: &LogReader, first: Index) -> Result<Vec<Entry>, LogError> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let next = entries.last().map_or(first, |entry| entry.id.index.next());
        let piece = reader.entries(next, Index(u64::MAX), PIECE_BYTES)?;
        if piece.is_empty() {
            return Ok(entries);
        }
        entries.extend(piece);
    }
}

fn assert_same(one: &DurableLog, other: &DurableLog, end: Index) {
    let from = one.first.max(other.first);
    let pairs = one.between(from, end).iter().zip(other.between(from, end));
    for (entry, twin) in pairs {
        assert_eq!(
            entry, twin,
            "{} and {} differ at {}",
            one.name, other.name, entry.id
        );
    }
}

#[cfg(test)]
mod tests {
    use rm_raft::{EntryId, Payload, Term};

    use super::*;

    /// A log with these terms and indices, of which the first and the last are what the store tells.
    fn log(entries: &[(u64, u64)]) -> DurableLog {
        let entries: Vec<Entry> = entries
            .iter()
            .map(|&(term, index)| Entry {
                id: EntryId {
                    term: Term(term),
                    index: Index(index),
                },
                payload: Payload::Empty,
            })
            .collect();
        DurableLog {
            name: "RM.01".to_owned(),
            first: entries[0].id.index,
            last: entries[entries.len() - 1].id.index,
            commit: Index(0),
            generation: 0,
            entries,
        }
    }

    #[test]
    fn a_whole_log_is_the_same_as_one_that_begins_later() {
        let (one, other) = (log(&[(1, 1), (1, 2), (3, 3)]), log(&[(1, 2), (3, 3)]));
        one.assert_without_gaps();
        other.assert_without_gaps();
        assert_same(&one, &other, Index(3));
    }

    #[test]
    fn what_is_not_committed_may_differ() {
        let (one, other) = (log(&[(1, 1), (1, 2)]), log(&[(1, 1), (2, 2)]));
        assert_same(&one, &other, Index(1));
    }

    #[test]
    #[should_panic(expected = "RM.01 and RM.01 differ at")]
    fn a_committed_entry_of_another_term_is_found() {
        let (one, other) = (log(&[(1, 1), (1, 2)]), log(&[(1, 1), (2, 2)]));
        assert_same(&one, &other, Index(2));
    }

    #[test]
    #[should_panic(expected = "has a gap")]
    fn a_gap_is_found() {
        log(&[(1, 1), (1, 3)]).assert_without_gaps();
    }

    #[test]
    #[should_panic(expected = "falls from")]
    fn a_term_that_falls_is_found() {
        log(&[(2, 1), (1, 2)]).assert_without_gaps();
    }
}
