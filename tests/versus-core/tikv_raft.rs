//! The crate `raft`, driven as its example of a cluster in memory drives it, with the limits that TiKV sets; but its
//! storage takes the entries over instead of copying them, and a batch is one message.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot};
use raft::{
    Config, Error, GetEntriesContext, RaftState, RawNode, StateRole, Storage, StorageError,
};

use crate::memory_log::MemoryLog;
use crate::work::{Applied, Cluster, Commands, MACHINES};

/// How often the cores are told that time passes: ten times an election timeout, as by default.
const TICK: Duration = Duration::from_millis(100);

/// Three machines and what is on its way between them.
pub(crate) struct TikvRaft {
    ticked: Instant,
    machines: Vec<Machine>,
    leader: usize,
    commands: Commands,
}

struct Machine {
    node: RawNode<Disk>,
    applied: Applied,
    inbox: VecDeque<Message>,
}

impl Cluster for TikvRaft {
    const NAME: &'static str = "raft 0.7.0";

    fn start() -> TikvRaft {
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let machines = (1..=MACHINES).map(|id| Machine {
            node: RawNode::new(&config(id), Disk::new(), &logger).expect("the config is sound"),
            applied: Applied::default(),
            inbox: VecDeque::new(),
        });
        let mut cluster = TikvRaft {
            ticked: Instant::now(),
            machines: machines.collect(),
            leader: 0,
            commands: Commands::default(),
        };
        let first = &mut cluster.machines[0].node;
        first.campaign().expect("a voter may stand");
        cluster.settle();
        let leads = |machine: &Machine| machine.node.raft.state == StateRole::Leader;
        cluster.leader = cluster.machines.iter().position(leads).expect("one leads");
        cluster
    }

    fn run(&mut self, batch: usize, batches: usize) {
        for _ in 0..batches {
            let entries: Vec<Entry> = (0..batch)
                .map(|_| Entry {
                    data: self.commands.next_shared(),
                    ..Entry::default()
                })
                .collect();
            let leader = &mut self.machines[self.leader].node.raft;
            let mut proposal = Message::default();
            proposal.set_msg_type(MessageType::MsgPropose);
            proposal.from = leader.id;
            proposal.entries = entries.into();
            leader.step(proposal).expect("the leader takes proposals");
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

impl TikvRaft {
    /// Lets the machines work until nothing waits for any.
    fn settle(&mut self) {
        if self.ticked.elapsed() >= TICK {
            self.ticked = Instant::now();
            for machine in &mut self.machines {
                machine.node.tick();
            }
        }
        let mut at = self.leader;
        let mut idle = 0;
        while idle < self.machines.len() {
            let machine = &mut self.machines[at];
            for message in machine.inbox.drain(..) {
                machine
                    .node
                    .step(message)
                    .expect("a machine takes what the others send");
            }
            if machine.node.has_ready() {
                idle = 0;
                self.work(at);
            } else {
                idle += 1;
            }
            at = (at + 1) % self.machines.len();
        }
    }

    /// Performs what a core has ready, in the order that its documentation gives.
    fn work(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let mut ready = machine.node.ready();
        let messages = ready.take_messages();
        machine.apply(ready.take_committed_entries());
        let entries = ready.take_entries();
        let disk = machine.node.mut_store();
        if let Some(first) = entries.first() {
            disk.log.append(first.index, entries);
        }
        if let Some(hard_state) = ready.hs() {
            disk.hard_state = hard_state.clone();
        }
        let promises = ready.take_persisted_messages();
        let mut light = machine.node.advance(ready);
        if let Some(commit) = light.commit_index() {
            machine.node.mut_store().hard_state.commit = commit;
        }
        let more = light.take_messages();
        machine.apply(light.take_committed_entries());
        machine.node.advance_apply();
        for message in messages.into_iter().chain(promises).chain(more) {
            self.machines[message.to as usize - 1]
                .inbox
                .push_back(message);
        }
    }
}

impl Machine {
    fn apply(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            // A new leader's first entry is empty.
            if entry.entry_type == EntryType::EntryNormal && !entry.data.is_empty() {
                self.applied.apply(&entry.data);
            }
        }
    }
}

/// What stands in for a disk.
struct Disk {
    log: MemoryLog<Entry>,
    hard_state: HardState,
}

impl Disk {
    fn new() -> Disk {
        Disk {
            log: MemoryLog::starting_at(1),
            hard_state: HardState::default(),
        }
    }
}

impl Storage for Disk {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let voters: Vec<u64> = (1..=MACHINES).collect();
        let conf_state = ConfState::from((voters, Vec::new()));
        Ok(RaftState::new(self.hard_state.clone(), conf_state))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.log.first() {
            return Err(Error::Store(StorageError::Compacted));
        }
        let mut entries = self.log.range(low..high).cloned().collect();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match self.log.get(index) {
            Some(entry) => Ok(entry.term),
            None if index == 0 => Ok(0),
            None if index < self.log.first() => Err(Error::Store(StorageError::Compacted)),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.log.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.log.end() - 1)
    }

    fn snapshot(&self, _: u64, _: u64) -> raft::Result<Snapshot> {
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

fn config(id: u64) -> Config {
    Config {
        id,
        election_tick: 10,
        heartbeat_tick: 1,
        pre_vote: true,
        check_quorum: true,
        max_size_per_msg: 1 << 20,
        max_inflight_msgs: 256,
        ..Config::default()
    }
}
