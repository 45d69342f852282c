//! A machine around a core, with a disk that is slow, merges what it is asked, and loses what it has not done in a crash.

use std::collections::{BTreeMap, VecDeque};

use super::disk::{self, Disk};
use crate::{
    Config, Configuration, Configured, Durable, Effect, Entry, EntryId, Index, Input, MachineId,
    Message, Persist, Raft, Snapshot, Time,
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
    /// All that was ever applied, across restarts and snapshots: what the state is made of.
    pub(super) applied: Vec<Entry>,
    /// Up to where the state is durable.
    pub(super) checkpoint: Index,
    /// The contents of snapshots that came, by their last entries.
    pub(super) received: BTreeMap<EntryId, Vec<Entry>>,
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
    Compact(EntryId),
    /// The first half of an install: the state.
    InstallState(Snapshot),
    /// The second half: the log.
    InstallLog(Snapshot),
}

/// What Storage gives back for a job: messages to send, then an input for the core.
#[derive(Default)]
pub(super) struct Done {
    pub(super) then: Vec<(MachineId, Message)>,
    pub(super) answer: Option<Input>,
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
            checkpoint: Index(0),
            received: BTreeMap::new(),
        };
        machine.start(now, Index(0));
        machine
    }

    /// Starts the core with what the disk holds; the state machine comes back as it was at `applied`.
    pub(super) fn start(&mut self, now: Time, applied: Index) {
        assert!(
            applied >= self.checkpoint,
            "the state is durable up to there"
        );
        self.applied.truncate(applied.0 as usize);
        // A crash between the two halves of an install.
        if let Some(last) = self.applied.last().map(|entry| entry.id)
            && !self.disk.holds(last)
        {
            let configured = self.configured_in(&self.applied);
            self.disk.install(last, configured);
        }
        let mut terms: Vec<EntryId> = Vec::new();
        for entry in &self.disk.log {
            if terms.last().is_none_or(|run| run.term < entry.id.term) {
                terms.push(entry.id);
            }
        }
        let durable = Durable {
            // It may be older than what was applied.
            hard_state: self.disk.hard_state,
            base: self.disk.base,
            terms,
            last: self.disk.last(),
            applied,
            configurations: self.configurations(),
        };
        let core = Raft::new(self.config.clone(), durable, now).expect("the disk is sound");
        self.core = Some(core);
    }

    /// Fails to install the snapshot that it is installing, and throws its content away.
    pub(super) fn spoil(&mut self) -> Option<Snapshot> {
        let install = |job: &Job| match job {
            Job::InstallState(snapshot) => Some(snapshot.clone()),
            _ => None,
        };
        let snapshot = self.jobs.iter().find_map(install)?;
        self.jobs
            .retain(|job| !matches!(job, Job::InstallState(_) | Job::InstallLog(_)));
        self.received.remove(&snapshot.last);
        Some(snapshot)
    }

    /// The configuration that is in force at the log's base, and those that the log holds.
    pub(super) fn configurations(&self) -> Vec<Configured> {
        let first = self.disk.configured.clone();
        let first = first.unwrap_or_else(|| self.begun_with());
        let logged = self.disk.configurations();
        [first].into_iter().chain(logged).collect()
    }

    fn begun_with(&self) -> Configured {
        Configured {
            index: Index(0),
            configuration: self.first.clone(),
        }
    }

    /// The configuration of a state that all these entries made.
    pub(super) fn configured_in(&self, applied: &[Entry]) -> Configured {
        let last = disk::configurations(applied).pop();
        last.unwrap_or_else(|| self.begun_with())
    }

    /// Loses everything but the disk, and what was under way.
    pub(super) fn crash(&mut self) {
        self.core = None;
        self.jobs.clear();
        self.received.clear();
    }

    /// The state becomes durable, up to this index.
    pub(super) fn save(&mut self, up_to: Index) -> Option<Input> {
        let applied = self.applied.get((up_to.0 as usize).checked_sub(1)?)?.id;
        self.checkpoint = self.checkpoint.max(up_to);
        Some(Input::Checkpointed { applied })
    }

    /// A snapshot of the state as it is durable, with its content.
    pub(super) fn snapshot(&self, at_least: Index) -> (Snapshot, Vec<Entry>) {
        assert!(
            at_least <= self.checkpoint,
            "what is compacted is in the durable state"
        );
        let content = &self.applied[..self.checkpoint.0 as usize];
        let last = content.last().map(|entry| entry.id).unwrap_or_default();
        let configured = self.configured_in(content);
        (Snapshot { last, configured }, content.to_vec())
    }

    /// Takes the content of a snapshot.
    pub(super) fn receive(
        &mut self,
        from: MachineId,
        term: crate::Term,
        snapshot: Snapshot,
        content: Vec<Entry>,
    ) -> Input {
        self.received.insert(snapshot.last, content);
        Input::SnapshotReceived {
            from,
            term,
            snapshot,
        }
    }

    /// The log as the core has it: what is on disk, and what Storage is still to write.
    pub(super) fn log(&self) -> Vec<Entry> {
        let mut disk = self.disk.clone();
        for job in &self.jobs {
            match job {
                Job::Persist(persist) => disk.persist(persist.hard_state, &persist.entries),
                Job::Compact(up_to) => disk.compact(*up_to),
                Job::InstallLog(snapshot) => {
                    disk.install(snapshot.last, snapshot.configured.clone());
                }
                Job::Read { .. } | Job::InstallState(_) => {}
            }
        }
        disk.log
    }

    /// The entries that Storage was last asked to write and has not written yet, after the name of the entry before them.
    pub(super) fn last_to_write(&self) -> Option<(EntryId, &[Entry])> {
        let mut writes = self.jobs.iter().rev().filter_map(|job| match job {
            Job::Persist(persist) => Some(&persist.entries[..]),
            _ => None,
        });
        let last = writes.next()?;
        let before = last.first()?.id.index.previous();
        let earlier = writes.flatten().find(|entry| entry.id.index == before);
        let entry = earlier.or_else(|| self.disk.entry(before));
        let before = entry.map_or(self.disk.base, |entry| entry.id);
        Some((before, last))
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
            Effect::Compact { up_to } => self.jobs.push_back(Job::Compact(up_to)),
            Effect::Install(snapshot) => {
                self.jobs.push_back(Job::InstallState(snapshot.clone()));
                self.jobs.push_back(Job::InstallLog(snapshot));
            }
            Effect::Discard(snapshot) => {
                let content = self.received.remove(&snapshot.last);
                assert!(content.is_some(), "what is thrown away was there");
            }
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
        let held = &self.disk.log;
        let base = self.disk.base.index.0 as usize;
        let durable = &held[from - 1 - base..up_to.0 as usize - base];
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
                self.disk.persist(hard_state, &entries);
                let last = self.disk.last();
                let answer = Some(Input::Persisted { hard_state, last });
                Some(Done { then, answer })
            }
            Job::Compact(up_to) => {
                assert!(
                    up_to.index <= self.checkpoint,
                    "what is compacted is in the durable state"
                );
                self.disk.compact(up_to);
                Some(Done::default())
            }
            Job::InstallState(snapshot) => {
                let content = self.received.remove(&snapshot.last);
                self.applied = content.expect("the content is there");
                assert!(
                    snapshot.last.index > self.checkpoint,
                    "the state never goes back"
                );
                self.checkpoint = snapshot.last.index;
                Some(Done::default())
            }
            Job::InstallLog(snapshot) => {
                self.disk
                    .install(snapshot.last, snapshot.configured.clone());
                let answer = Some(Input::Installed(snapshot));
                Some(Done {
                    answer,
                    ..Done::default()
                })
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
                let entries = entries.into();
                let answer = Some(Input::EntriesRead { entries });
                Some(Done {
                    answer,
                    ..Done::default()
                })
            }
        }
    }
}
