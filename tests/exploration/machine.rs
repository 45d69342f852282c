//! One machine of an exploration: the core, its disk, and what happens to them in one step.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;
use rm_raft::{
    Body, Config, Durable, Effect, Entry, EntryId, Index, Input, MachineId, Message, Persist,
    Proposal, Raft, RequestId, Role, Status, Time,
};

use super::bounds::Bounds;
use super::disk::{Disk, Job, Notice};

/// The machines.
pub(crate) const MACHINES: [MachineId; 3] = [MachineId(1), MachineId(2), MachineId(3)];

const HEARTBEAT: Duration = Duration::from_secs(1);
/// So long that no number of heartbeats in an exploration adds up to it.
const TIMEOUT: Duration = Duration::from_secs(1 << 20);
/// Longer than anything that any role waits for.
const PATIENCE: Duration = Duration::from_secs(8 << 20);
/// The present, always: after each step the core's moments are placed around it anew.
const NOW: Time = Time { micros: 1 << 60 };

/// What may happen to one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// A message comes, by its number in the catalog.
    Receive(u32),
    /// More time passes than it waits for anything.
    Timeout,
    /// A heartbeat interval passes.
    Heartbeat,
    /// It stands for election at once.
    Campaign,
    /// Its disk does its next job.
    Work,
    /// It learns of the oldest job done that it does not know of.
    Notice,
    /// It loses all but its disk, and starts again.
    Crash,
    /// A client proposes the command of this number.
    Propose(u8),
}

/// A machine.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Machine {
    config: Config,
    checks_promises: bool,
    core: Raft,
    pub(crate) disk: Disk,
    pub(crate) jobs: VecDeque<Job>,
    notices: VecDeque<Notice>,
    applied: Index,
}

/// Messages, each with its receiver.
pub(crate) type Sent = Vec<(MachineId, Message)>;

impl Machine {
    /// A machine that was never run before.
    pub(crate) fn new(local: MachineId, bounds: &Bounds) -> Machine {
        let bytes = |single| if single { 1 } else { 1 << 20 };
        let config = Config {
            local,
            election_timeout: TIMEOUT,
            heartbeat_interval: HEARTBEAT,
            disk_patience: 4 * TIMEOUT,
            seed: 0,
            inflight_requests_max: 2,
            inflight_entries_max: 1 << 16,
            inflight_bytes_max: 1 << 20,
            append_bytes_max: bytes(bounds.single_entries),
            uncommitted_bytes_max: 1 << 20,
            log_cache_bytes_max: 1 << 20,
            reads_max: 1,
            trust_peer_gone: false,
            lease_drift_percent: None,
            may_have_promised: false,
            priorities: BTreeMap::new(),
            compaction_keep_entries: usize::MAX,
            compaction_keep_bytes: usize::MAX,
            compaction_wait_entries: usize::MAX,
            compaction_wait_bytes: usize::MAX,
            compaction_step_entries: usize::MAX,
            snapshot_timeout: TIMEOUT,
        };
        let disk = Disk::default();
        let mut machine = Machine {
            core: start(&config, &disk),
            config,
            checks_promises: bounds.checks_promises,
            disk,
            jobs: VecDeque::new(),
            notices: VecDeque::new(),
            applied: Index(0),
        };
        machine.place_in_time(NOW);
        machine
    }

    /// Which machine it is.
    pub(crate) fn local(&self) -> MachineId {
        self.config.local
    }

    /// What the core tells of itself.
    pub(crate) fn status(&self) -> Status {
        self.core.status()
    }

    /// Whether the core has something to learn of its disk.
    pub(crate) fn has_notice(&self) -> bool {
        !self.notices.is_empty()
    }

    /// The log as the core has it: what is durable, and what the disk is still to write.
    pub(crate) fn log(&self) -> Vec<Entry> {
        let mut log = self.disk.log.clone();
        for job in &self.jobs {
            if let Job::Persist(Persist { entries, .. }) = job
                && let Some(first) = entries.first()
            {
                log.truncate(first.id.index.0 as usize - 1);
                log.extend(entries.iter().cloned());
            }
        }
        log
    }

    /// What this machine is after a step, and what it sent in it.
    ///
    /// # Errors
    /// What it did that no machine may do, a panic of the core included.
    pub(crate) fn after(
        &self,
        step: Step,
        received: Option<(MachineId, Message)>,
        bounds: &Bounds,
    ) -> Result<(Machine, Sent), String> {
        let mut machine = self.clone();
        let mut sent = Sent::new();
        let act = || machine.act(step, received, bounds, &mut sent);
        match catch_unwind(AssertUnwindSafe(act)) {
            Ok(result) => result?,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.into()));
                return Err(format!("the core panics: {}", text.unwrap_or_default()));
            }
        }
        Ok((machine, sent))
    }

    fn act(
        &mut self,
        step: Step,
        received: Option<(MachineId, Message)>,
        bounds: &Bounds,
        sent: &mut Sent,
    ) -> Result<(), String> {
        let mut now = NOW;
        match step {
            Step::Receive(_) => {
                let (from, message) = received.expect("a message comes with this step");
                self.core.step(now, Input::Received { from, message });
            }
            Step::Timeout => {
                now = NOW.after(PATIENCE);
                self.core.step(now, Input::Elapsed);
            }
            Step::Heartbeat => {
                now = NOW.after(HEARTBEAT);
                self.core.step(now, Input::Elapsed);
            }
            Step::Campaign => self.core.step(now, Input::Campaign),
            Step::Work => self.work(sent)?,
            Step::Notice => self.notice(now),
            Step::Crash => {
                self.jobs.clear();
                self.notices.clear();
                self.applied = Index(0);
                self.core = start(&self.config, &self.disk);
            }
            Step::Propose(number) => {
                let request = RequestId {
                    machine: self.config.local,
                    number: number.into(),
                };
                let command = Bytes::new();
                let proposal = Proposal { request, command };
                self.core.step(now, Input::Propose(vec![proposal]));
            }
        }
        loop {
            if !bounds.late_notices {
                while self.has_notice() {
                    self.notice(now);
                }
            }
            self.perform(now, sent)?;
            if bounds.slow_disks || self.jobs.is_empty() {
                break;
            }
            self.work(sent)?;
        }
        self.place_in_time(now);
        Ok(())
    }

    fn perform(&mut self, now: Time, sent: &mut Sent) -> Result<(), String> {
        for effect in self.core.effects(now) {
            match effect {
                Effect::Persist(persist) => self.jobs.push_back(Job::Persist(persist)),
                Effect::ReadEntries { from, up_to, .. } => {
                    self.jobs.push_back(Job::Read { from, up_to });
                }
                Effect::Send { to, message } => {
                    for to in to {
                        self.send(to, message.clone(), sent)?;
                    }
                }
                Effect::Apply { up_to, entries } => self.apply(up_to, &entries)?,
                Effect::Compact { .. }
                | Effect::SendSnapshot { .. }
                | Effect::Install(_)
                | Effect::Discard(_) => {
                    return Err("a snapshot is taken where no state was made durable".into());
                }
                Effect::Readable { .. }
                | Effect::ReadRefused { .. }
                | Effect::Refused { .. }
                | Effect::ChangeRefused { .. }
                | Effect::Transferred { .. } => {}
            }
        }
        Ok(())
    }

    fn work(&mut self, sent: &mut Sent) -> Result<(), String> {
        let Some(job) = self.jobs.pop_front() else {
            return Ok(());
        };
        let (notice, then) = self.disk.work(job, self.applied)?;
        for (to, message) in then {
            self.send(to, message, sent)?;
        }
        self.notices.push_back(notice);
        Ok(())
    }

    fn notice(&mut self, now: Time) {
        let input = match self.notices.pop_front() {
            Some(Notice::Persisted { hard_state, last }) => Input::Persisted { hard_state, last },
            Some(Notice::Read(entries)) => Input::EntriesRead {
                entries: entries.into(),
            },
            None => return,
        };
        self.core.step(now, input);
    }

    /// Sends a message, if it promises no more than what is durable (figure 2).
    fn send(&mut self, to: MachineId, message: Message, sent: &mut Sent) -> Result<(), String> {
        let (disk, local) = (&self.disk, self.config.local);
        let voted = (message.term, Some(to));
        let stands = (message.term, Some(local));
        let is_durable = |(term, vote)| {
            disk.hard_state.term > term
                || (disk.hard_state.term == term && disk.hard_state.vote == vote)
        };
        let kept = match message.body {
            Body::VoteResponse { granted: true } => is_durable(voted),
            Body::VoteRequest { .. } => is_durable(stands),
            Body::Appended { matched, .. } => matched <= disk.last().index,
            Body::HeartbeatResponse { last, .. } => last <= disk.last().index,
            _ => true,
        };
        if self.checks_promises && !kept {
            return Err(format!("{local} promises what is not durable: {message:?}"));
        }
        sent.push((to, message));
        Ok(())
    }

    fn apply(&mut self, up_to: Index, entries: &[Entry]) -> Result<(), String> {
        let range = self.applied.0 as usize..up_to.0 as usize;
        let durable = self.disk.log.get(range);
        let durable = durable.ok_or("something is applied that is not durable here")?;
        if !durable.ends_with(entries) {
            return Err("what is applied is not what is durable".into());
        }
        self.applied = up_to;
        Ok(())
    }

    /// Places every moment of the core around the same present. The clock moves only by a heartbeat interval or by more than
    /// all patience, so that nothing that the core can tell apart is made equal.
    fn place_in_time(&mut self, now: Time) {
        self.core.canonicalize(|moment| {
            let (ahead, ago) = (moment.since(now), now.since(moment));
            if ahead > HEARTBEAT {
                NOW.after(TIMEOUT * 2)
            } else if ahead > Duration::ZERO {
                NOW.after(HEARTBEAT)
            } else if ago == Duration::ZERO {
                NOW
            } else {
                let ago = if ago < TIMEOUT { HEARTBEAT } else { PATIENCE };
                Time {
                    micros: NOW.micros - ago.as_micros() as u64,
                }
            }
        });
    }
}

/// Whether a heartbeat interval makes this role act.
pub(crate) fn acts_by_the_heartbeat(role: Role) -> bool {
    role != Role::Follower
}

fn start(config: &Config, disk: &Disk) -> Raft {
    let durable = Durable {
        hard_state: disk.hard_state,
        base: EntryId::default(),
        terms: disk.terms(),
        last: disk.last(),
        applied: Index(0),
        configurations: disk.configurations(),
    };
    Raft::new(config.clone(), durable, NOW).expect("the disk is sound")
}
