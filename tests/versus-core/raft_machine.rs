//! Our core, driven as the running machine drives it: a machine takes in all that waits for it, asks once for the effects,
//! and performs them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rm_raft::{
    Config, Configuration, Configured, Durable, Effect, Entry, EntryId, Index, Input, MachineId,
    Message, Payload, Proposal, Raft, RequestId, Role, Time,
};

use crate::memory_log::MemoryLog;
use crate::work::{Applied, Cluster, Commands, MACHINES};

/// Three machines and what is on its way between them.
pub(crate) struct RaftMachine {
    began: Instant,
    machines: Vec<Machine>,
    leader: usize,
    commands: Commands,
    requests: u64,
    /// Empty: its memory is used again for each batch's effects.
    effects: Vec<Effect>,
}

/// A core with what stands in for its actors.
struct Machine {
    core: Raft,
    log: MemoryLog<Entry>,
    applied: Applied,
    /// What waits for it.
    inbox: VecDeque<Input>,
}

impl Cluster for RaftMachine {
    const NAME: &'static str = "Raft Machine";

    fn start() -> RaftMachine {
        let machines = (1..=MACHINES).map(|number| Machine {
            core: Raft::new(config(MachineId(number)), begun(), Time::default())
                .expect("the config is sound"),
            log: MemoryLog::starting_at(1),
            applied: Applied::default(),
            inbox: VecDeque::new(),
        });
        let mut cluster = RaftMachine {
            began: Instant::now(),
            machines: machines.collect(),
            leader: 0,
            commands: Commands::default(),
            requests: 0,
            effects: Vec::new(),
        };
        cluster.machines[0].inbox.push_back(Input::Campaign);
        cluster.settle();
        let leads = |machine: &Machine| machine.core.status().role == Role::Leader;
        cluster.leader = cluster.machines.iter().position(leads).expect("one leads");
        cluster
    }

    fn run(&mut self, batch: usize, batches: usize) {
        for _ in 0..batches {
            let proposals = (0..batch).map(|_| self.proposal()).collect();
            let inbox = &mut self.machines[self.leader].inbox;
            inbox.push_back(Input::Propose(proposals));
            self.settle();
            assert!(
                self.applied()
                    .iter()
                    .all(|applied| *applied == self.commands.all_applied()),
                "a batch ends when all have applied it"
            );
        }
    }

    fn applied(&self) -> Vec<Applied> {
        self.machines
            .iter()
            .map(|machine| machine.applied)
            .collect()
    }
}

impl RaftMachine {
    fn proposal(&mut self) -> Proposal {
        self.requests += 1;
        Proposal {
            request: RequestId {
                machine: MachineId(self.leader as u64 + 1),
                number: self.requests,
            },
            command: self.commands.next_shared(),
        }
    }

    /// Lets the machines work until nothing waits for any.
    fn settle(&mut self) {
        let now = Time {
            micros: self.began.elapsed().as_micros() as u64,
        };
        for machine in &mut self.machines {
            if machine.core.next_deadline() <= now {
                machine.inbox.push_back(Input::Elapsed);
            }
        }
        let mut at = self.leader;
        let mut idle = 0;
        while idle < self.machines.len() {
            if self.machines[at].inbox.is_empty() {
                idle += 1;
            } else {
                idle = 0;
                self.work(at, now);
            }
            at = (at + 1) % self.machines.len();
        }
    }

    /// Lets a machine take in all that waits for it, and performs the effects once. What they make durable it learns at its next
    /// turn, with what the others sent meanwhile: Storage, too, tells LogicCenter by a message.
    fn work(&mut self, at: usize, now: Time) {
        let machine = &mut self.machines[at];
        for input in machine.inbox.drain(..) {
            machine.core.step(now, input);
        }
        let mut effects = std::mem::take(&mut self.effects);
        machine.core.effects_into(now, &mut effects);
        for effect in effects.drain(..) {
            self.perform(at, effect);
        }
        self.effects = effects;
    }

    fn perform(&mut self, at: usize, effect: Effect) {
        let machine = &mut self.machines[at];
        match effect {
            Effect::Persist(persist) => {
                if let Some(first) = persist.entries.first() {
                    machine
                        .log
                        .append(first.id.index.0, persist.entries.iter().cloned());
                }
                let last = machine.log.last().map(|entry| entry.id);
                machine.inbox.push_back(Input::Persisted {
                    hard_state: persist.hard_state,
                    last: last.unwrap_or(EntryId::default()),
                });
                for (to, message) in persist.then {
                    self.deliver(at, to, message);
                }
            }
            Effect::Send { to, message } => {
                let Some((&last, others)) = to.split_last() else {
                    return;
                };
                for &to in others {
                    self.deliver(at, to, message.clone());
                }
                self.deliver(at, last, message);
            }
            Effect::Apply { entries, .. } => {
                for entry in &entries {
                    if let Payload::Command(proposal) = &entry.payload {
                        machine.applied.apply(&proposal.command);
                    }
                }
            }
            other => unreachable!("nobody reads, lags behind or is refused here: {other:?}"),
        }
    }

    fn deliver(&mut self, from: usize, to: MachineId, message: Message) {
        let from = MachineId(from as u64 + 1);
        let inbox = &mut self.machines[to.0 as usize - 1].inbox;
        inbox.push_back(Input::Received { from, message });
    }
}

/// The limits and times that a machine has whose config names none, but for the cache: older entries are kept once here as
/// with the other cores, in what stands in for the disk.
fn config(local: MachineId) -> Config {
    Config {
        local,
        election_timeout: Duration::from_millis(1_000),
        heartbeat_interval: Duration::from_millis(100),
        disk_patience: Duration::from_millis(4_000),
        seed: 1,
        inflight_requests_max: 256,
        inflight_entries_max: 65_536,
        inflight_bytes_max: 16 << 20,
        append_bytes_max: 1 << 20,
        uncommitted_bytes_max: 64 << 20,
        log_cache_bytes_max: 128 << 10,
        reads_max: 4_096,
        trust_peer_gone: false,
        lease_drift_percent: None,
        may_have_promised: false,
        priorities: BTreeMap::new(),
        // The others do not compact their logs either.
        compaction_keep_entries: usize::MAX,
        compaction_keep_bytes: usize::MAX,
        compaction_wait_entries: usize::MAX,
        compaction_wait_bytes: usize::MAX,
        compaction_step_entries: 1_000,
        snapshot_timeout: Duration::from_secs(60),
    }
}

/// A domain of three voters, with nothing in its log.
fn begun() -> Durable {
    Durable {
        configurations: vec![Configured {
            index: Index(0),
            configuration: Configuration::of_voters((1..=MACHINES).map(MachineId)),
        }],
        ..Durable::default()
    }
}
