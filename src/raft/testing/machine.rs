//! A machine around a core, with a disk that is slow, merges what it is asked, and loses what it has not done in a crash.

use std::collections::VecDeque;

use crate::{
    Config, Configuration, Configured, Durable, Effect, Entry, EntryId, HardState, Index, Input,
    MachineId, Message, Payload, Persist, Raft, Time,
};

/// A core and what its driver keeps for it.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) config: Config,
    /// The configuration that it began with.
    pub(super) first: Configuration,
    /// None while the machine is down.
    pub(super) core: Option<Raft>,
    pub(super) disk: Disk,
    /// What Storage was asked and has not done yet.
    pub(super) jobs: VecDeque<Job>,
    /// All that was ever applied, across restarts.
    pub(super) applied: Vec<Entry>,
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) hard_state: HardState,
    pub(super) log: Vec<Entry>,
}

/// One request to Storage.
#[derive(Clone, Debug)]
pub(super) enum Job {
    Persist(Persist),
    Read {
        from: Index,
        up_to: Index,
        bytes_max: usize,
    },
}

/// What Storage gives back for a job: messages to send, then an input for the core.
pub(super) struct Done {
    pub(super) then: Vec<(MachineId, Message)>,
    pub(super) answer: Input,
}

impl Disk {
    /// The last entry.
    pub(super) fn last(&self) -> EntryId {
        self.log.last().map(|entry| entry.id).unwrap_or_default()
    }

    /// The entry at an index.
    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        self.log.get((index.0 as usize).checked_sub(1)?)
    }

    fn persist(&mut self, hard_state: HardState, entries: Vec<Entry>) {
        assert!(
            hard_state.term >= self.hard_state.term,
            "the durable term never goes back"
        );
        assert!(
            hard_state.commit >= self.hard_state.commit,
            "the durable commit index never goes back"
        );
        if hard_state.term == self.hard_state.term && self.hard_state.vote.is_some() {
            assert_eq!(hard_state.vote, self.hard_state.vote, "one vote a term");
        }
        let committed = self.hard_state.commit;
        self.hard_state = hard_state;
        if let Some(first) = entries.first() {
            let keep = first.id.index.0 as usize - 1;
            assert!(keep <= self.log.len(), "an append leaves no gap");
            assert!(keep as u64 >= committed.0, "nothing committed is removed");
            self.log.truncate(keep);
            self.log.extend(entries);
        }
    }
}

impl Machine {
    /// A machine that runs, with an empty disk.
    pub(super) fn new(config: Config, first: Configuration, now: Time) -> Machine {
        let mut machine = Machine {
            config,
            first,
            core: None,
            disk: Disk::default(),
            jobs: VecDeque::new(),
            applied: Vec::new(),
        };
        machine.start(now, Index(0));
        machine
    }

    /// Starts the core with what the disk holds; the state machine comes back as it was at `applied`.
    pub(super) fn start(&mut self, now: Time, applied: Index) {
        let mut terms: Vec<EntryId> = Vec::new();
        for entry in &self.disk.log {
            if terms.last().is_none_or(|run| run.term < entry.id.term) {
                terms.push(entry.id);
            }
        }
        let mut hard_state = self.disk.hard_state;
        // What was applied is committed, though the disk may not say so.
        hard_state.commit = hard_state.commit.max(applied);
        let durable = Durable {
            hard_state,
            terms,
            last: self.disk.last(),
            applied,
            configurations: self.configurations(),
        };
        self.applied.truncate(applied.0 as usize);
        let core = Raft::new(self.config.clone(), durable, now).expect("the disk is sound");
        self.core = Some(core);
    }

    /// The configurations that the disk holds, after the one that the machine began with.
    pub(super) fn configurations(&self) -> Vec<Configured> {
        let first = Configured {
            index: Index(0),
            configuration: self.first.clone(),
        };
        let logged = self
            .disk
            .log
            .iter()
            .filter_map(|entry| match &entry.payload {
                Payload::Configuration { configuration, .. } => Some(Configured {
                    index: entry.id.index,
                    configuration: configuration.clone(),
                }),
                Payload::Empty | Payload::Command(_) => None,
            });
        [first].into_iter().chain(logged).collect()
    }

    /// Loses everything but the disk, and what was under way.
    pub(super) fn crash(&mut self) {
        self.core = None;
        self.jobs.clear();
    }

    /// The log as the core has it: what is on disk, and what Storage is still to write.
    pub(super) fn log(&self) -> Vec<Entry> {
        let mut log = self.disk.log.clone();
        for job in &self.jobs {
            if let Job::Persist(persist) = job
                && let Some(first) = persist.entries.first()
            {
                log.truncate(first.id.index.0 as usize - 1);
                log.extend(persist.entries.iter().cloned());
            }
        }
        log
    }

    /// The entries that Storage was last asked to write and has not written yet, after the name of the entry before them.
    pub(super) fn last_to_write(&self) -> Option<(EntryId, &[Entry])> {
        let mut writes = self.jobs.iter().rev().filter_map(|job| match job {
            Job::Persist(persist) => Some(persist.entries.as_slice()),
            Job::Read { .. } => None,
        });
        let last = writes.next()?;
        let before = last.first()?.id.index.previous();
        let earlier = writes.flatten().find(|entry| entry.id.index == before);
        let entry = earlier.or_else(|| self.disk.entry(before));
        Some((entry.map(|entry| entry.id).unwrap_or_default(), last))
    }

    /// Keeps what concerns this machine alone; gives back the rest.
    pub(super) fn keep(&mut self, effect: Effect) -> Option<Effect> {
        match effect {
            Effect::Persist(persist) => self.jobs.push_back(Job::Persist(persist)),
            Effect::ReadEntries {
                from,
                up_to,
                bytes_max,
            } => self.jobs.push_back(Job::Read {
                from,
                up_to,
                bytes_max,
            }),
            Effect::Apply { up_to, entries } => self.apply(up_to, &entries),
            other => return Some(other),
        }
        None
    }

    /// Applies what its own log holds, and checks that the core's copy is the same.
    fn apply(&mut self, up_to: Index, entries: &[Entry]) {
        let from = self.applied.len() + 1;
        assert!(up_to.0 as usize >= from, "an apply goes on");
        assert!(
            up_to <= self.disk.last().index,
            "only what is durable here is applied"
        );
        let durable = &self.disk.log[from - 1..up_to.0 as usize];
        assert!(
            durable.ends_with(entries),
            "what is applied is what is durable"
        );
        self.applied.extend_from_slice(durable);
    }

    /// Does the next job.
    pub(super) fn work(&mut self) -> Option<Done> {
        match self.jobs.pop_front()? {
            Job::Persist(Persist {
                hard_state,
                entries,
                then,
            }) => {
                self.disk.persist(hard_state, entries);
                let last = self.disk.last();
                let answer = Input::Persisted { hard_state, last };
                Some(Done { then, answer })
            }
            Job::Read {
                from,
                up_to,
                bytes_max,
            } => {
                let mut entries = Vec::new();
                let mut bytes = 0;
                for index in from.0..=up_to.0 {
                    let Some(entry) = self.disk.entry(Index(index)) else {
                        break;
                    };
                    bytes += entry.size();
                    if bytes > bytes_max && !entries.is_empty() {
                        break;
                    }
                    entries.push(entry.clone());
                }
                let answer = Input::EntriesRead { entries };
                Some(Done {
                    then: Vec::new(),
                    answer,
                })
            }
        }
    }
}
