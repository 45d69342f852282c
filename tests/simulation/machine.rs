//! One machine: a process with its parts, which fail together or alone, and the disk that outlives it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rm_raft::{
    Config, Configuration, Entry, EntryId, HardState, Index, MachineId, Persist, Proposal, Raft,
    ReadId, ReadMode, Snapshot, Term,
};

use super::clock::Clock;
use super::commit::Commit;
use super::log_image::LogImage;
use super::random::Random;
use super::register::Registers;
use super::world::Event;

/// A machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) id: MachineId,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    /// The contents of snapshots that came and are not installed.
    pub(crate) received: BTreeMap<EntryId, Bytes>,
    /// To each machine, the number of the snapshot that is on its way there.
    pub(crate) sending: BTreeMap<MachineId, u64>,
    /// What survives a crash of the process.
    pub(crate) disk: Disk,
    /// Whether the process runs.
    pub(crate) runs: bool,
    /// Counts its processes.
    pub(crate) boot: u64,
    /// Until when the process is stopped.
    pub(crate) paused_until: u64,
    /// Until when the whole machine is stopped: what comes alone is lost.
    pub(crate) halted_until: u64,
    /// What came for the process meanwhile.
    pub(crate) held: Vec<Event>,
    /// Until when there is no Sender.
    pub(crate) mute_until: u64,
    /// Until when there is no Listener.
    pub(crate) deaf_until: u64,
    /// Until when its disk does nothing.
    pub(crate) stalled_until: u64,
    /// Until when its disk is full.
    pub(crate) full_until: u64,
    /// Until when its disk has only the reserve left.
    pub(crate) low_until: u64,
    /// Whether the next read of its disk fails.
    pub(crate) read_fails: bool,
    pub(crate) board: Board,
    pub(crate) logic: Logic,
    pub(crate) storage: Storage,
    pub(crate) applier: Applier,
    pub(crate) gate: Gate,
}

/// What is durable: the log, and the state as of the last checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) log: LogImage,
    pub(crate) state: Bytes,
}

/// What outlives every part of a process, and dies with the process.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// Up to where any life of the Applier has applied.
    pub(crate) applied: Index,
    /// Whether LogicCenter led when last heard of.
    pub(crate) led: bool,
    /// The leader that it knew.
    pub(crate) leader: Option<MachineId>,
}

/// LogicCenter: the core and the reads that it is asked about.
#[derive(Debug, Default)]
pub(crate) struct Logic {
    /// Tells its lives apart, over all machines.
    pub(crate) life: u64,
    pub(crate) up: bool,
    /// Whether it is the first life in its process.
    pub(crate) first: bool,
    /// None while it learns what is durable.
    pub(crate) core: Option<Raft>,
    /// The log once all that this core asked is written.
    pub(crate) log: LogImage,
    pub(crate) new_reads: Vec<Ticket>,
    pub(crate) reads: BTreeMap<ReadId, Vec<Ticket>>,
    pub(crate) next_read: u64,
    /// Whether the core was last told that the disk is full.
    pub(crate) told_full: bool,
    /// What came from clients before there was a core.
    pub(crate) proposals: Vec<Proposal>,
    /// When it next looks at the clock.
    pub(crate) tick_at: u64,
    pub(crate) flush_is_due: bool,
}

/// A linearizable read that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(crate) client: usize,
    /// The client's operation.
    pub(crate) operation: u64,
    pub(crate) mode: ReadMode,
    /// Up to where anything was known to be committed when it came.
    pub(crate) committed: Index,
    /// The term of the machine when it came.
    pub(crate) term: Term,
}

/// What Storage is asked.
#[derive(Debug)]
pub(crate) enum Request {
    /// Make this durable.
    Persist(Persist),
    /// Remove the log up to this entry.
    Compact(EntryId),
    /// Put a snapshot in force: its content in the place of the state, and the log begins after it, in one commit.
    Install(Snapshot),
}

/// Storage: what waits for the disk.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    pub(crate) life: u64,
    pub(crate) up: bool,
    pub(crate) waiting: Vec<Request>,
    /// The commit that is under way, and what it makes durable.
    pub(crate) commit: Option<(Commit, Vec<Request>)>,
    /// Of each commit of which the core has not heard yet: the last entry of the log then.
    pub(crate) unheard: VecDeque<EntryId>,
    /// When it hears of the last of them.
    pub(crate) heard_at: u64,
    /// Whether a LogicCenter waits to learn what is durable.
    pub(crate) load: bool,
}

impl Storage {
    /// All that the core asked to persist and is not durable, in order.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &Persist> {
        let under_way = self.commit.iter().flat_map(|(_, requests)| requests);
        let all = under_way.chain(&self.waiting);
        all.filter_map(|request| match request {
            Request::Persist(persist) => Some(persist),
            Request::Compact(_) | Request::Install(_) => None,
        })
    }
}

/// Applier: the state machine.
#[derive(Debug, Default)]
pub(crate) struct Applier {
    pub(crate) life: u64,
    pub(crate) up: bool,
    pub(crate) state: Registers,
    /// Up to where to apply.
    pub(crate) target: Index,
    /// Entries that came from memory.
    pub(crate) ahead: VecDeque<Entry>,
    pub(crate) parked: BTreeMap<Index, Vec<Ticket>>,
    /// What an earlier life may have shown: nothing older is served.
    pub(crate) floor: Index,
    pub(crate) checkpointed: Index,
    /// The checkpoint that is under way, and the state that it writes.
    pub(crate) checkpoint: Option<(Commit, Bytes)>,
    /// The snapshot that is to take the place of the state.
    pub(crate) install: Option<Snapshot>,
    /// Whether Storage was asked to put it in force.
    pub(crate) install_is_asked: bool,
    pub(crate) work_is_due: bool,
}

impl Applier {
    /// Whether a snapshot is about to take the place of the state.
    pub(crate) fn is_installing(&self) -> bool {
        self.install.is_some()
    }
}

/// Gate: the answers that clients wait for. The numbers of requests outlive it, and its process.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    pub(crate) next: u64,
    /// By the number of the request: the client and its operation.
    pub(crate) pending: BTreeMap<u64, (usize, u64)>,
    /// Until when there is none.
    pub(crate) down_until: u64,
}

impl Machine {
    /// A machine that does not run yet, with an empty disk.
    pub(crate) fn new(
        config: Config,
        begun_with: Configuration,
        clock: Clock,
        random: Random,
    ) -> Machine {
        Machine {
            id: config.local,
            config,
            clock,
            random,
            received: BTreeMap::new(),
            sending: BTreeMap::new(),
            disk: Disk {
                log: LogImage::new(begun_with),
                ..Disk::default()
            },
            runs: false,
            boot: 0,
            paused_until: 0,
            halted_until: 0,
            held: Vec::new(),
            mute_until: 0,
            deaf_until: 0,
            stalled_until: 0,
            full_until: 0,
            low_until: 0,
            read_fails: false,
            board: Board::default(),
            logic: Logic::default(),
            storage: Storage::default(),
            applier: Applier::default(),
            gate: Gate::default(),
        }
    }

    /// Whether nothing new is to be taken for want of space.
    pub(crate) fn has_no_space(&self, now: u64) -> bool {
        self.full_until > now || self.low_until > now
    }

    /// The status of its core, if there is one.
    pub(crate) fn status(&self) -> Option<rm_raft::Status> {
        self.logic.core.as_ref().map(|core| core.status())
    }
}
