//! A machine's disk: what is durable, and what it was asked to make so.

use rm_raft::{
    Configuration, Configured, Entry, EntryId, HardState, Index, MachineId, Message, Payload,
    Persist,
};

use super::machine::MACHINES;

/// What survives a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) log: Vec<Entry>,
}

/// One request to the disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Job {
    Persist(Persist),
    Read { from: Index, up_to: Index },
}

/// What the core learns of a job that is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Notice {
    Persisted {
        hard_state: HardState,
        last: EntryId,
    },
    Read(Vec<Entry>),
}

impl Disk {
    /// The last entry.
    pub(crate) fn last(&self) -> EntryId {
        self.log.last().map(|entry| entry.id).unwrap_or_default()
    }

    /// Where each term begins.
    pub(crate) fn terms(&self) -> Vec<EntryId> {
        let mut terms: Vec<EntryId> = Vec::new();
        for entry in &self.log {
            if terms.last().is_none_or(|run| run.term < entry.id.term) {
                terms.push(entry.id);
            }
        }
        terms
    }

    /// The configuration with which all began, and those of the log.
    pub(crate) fn configurations(&self) -> Vec<Configured> {
        let first = Configured {
            index: Index(0),
            configuration: Configuration::of_voters(MACHINES),
        };
        let in_log = self.log.iter().filter_map(|entry| match &entry.payload {
            Payload::Configuration { configuration, .. } => Some(Configured {
                index: entry.id.index,
                configuration: rm_raft::Configuration::clone(configuration),
            }),
            Payload::Empty | Payload::Command(_) => None,
        });
        std::iter::once(first).chain(in_log).collect()
    }

    /// Does a job. Gives back what the core is told of it, and the messages that it promised to send when it is done.
    pub(crate) fn work(
        &mut self,
        job: Job,
        applied: Index,
    ) -> Result<(Notice, Vec<(MachineId, Message)>), String> {
        match job {
            Job::Persist(Persist {
                hard_state,
                entries,
                then,
            }) => {
                self.persist(hard_state, &entries, applied)?;
                let last = self.last();
                Ok((Notice::Persisted { hard_state, last }, then))
            }
            Job::Read { from, up_to } => {
                let range = from.0.saturating_sub(1) as usize..up_to.0 as usize;
                let entries = self.log.get(range).map(<[Entry]>::to_vec);
                Ok((Notice::Read(entries.unwrap_or_default()), Vec::new()))
            }
        }
    }

    fn persist(
        &mut self,
        hard_state: HardState,
        entries: &[Entry],
        applied: Index,
    ) -> Result<(), String> {
        let before = self.hard_state;
        if hard_state.term < before.term || hard_state.commit < before.commit {
            return Err("the durable term or commit index goes back".into());
        }
        let changed = before.vote.is_some() && hard_state.vote != before.vote;
        if hard_state.term == before.term && changed {
            return Err("the durable vote changes within a term".into());
        }
        self.hard_state = hard_state;
        if let Some(first) = entries.first() {
            let keep = first.id.index.0 as usize - 1;
            if keep > self.log.len() {
                return Err("an append leaves a gap".into());
            }
            if (keep as u64) < before.commit.max(applied).0 {
                return Err("something committed is removed from the log".into());
            }
            self.log.truncate(keep);
            self.log.extend_from_slice(entries);
        }
        Ok(())
    }
}
