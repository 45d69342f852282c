//! One machine of a domain: a core, a log and a state machine, and a driver that does for the core what it may not do itself.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rm_kv::{Answer, StateMachine};
use rm_raft::{
    Config, Configuration, Configured, Durable, Effect, HardState, Index, Input, MachineId,
    Message, Payload, Proposal, Raft, ReadId, ReadMode, RequestId, Snapshot, Term, Time,
};
use rm_store::{
    DataDirectory, Environment, Era, Identity, Log, Options, Received, SnapshotFile,
    SnapshotOptions, Snapshots, decode_configuration, encode_configuration, remove_others,
};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Entries are read back at most so many bytes at a time, and snapshots sent.
const PIECE_BYTES: usize = 64 << 10;

/// What one machine sends to another.
pub(crate) enum Post {
    Message(Message),
    Snapshot {
        term: Term,
        snapshot: Snapshot,
        file: Arc<SnapshotFile>,
    },
}

/// A machine, with the state machine `S`.
pub(crate) struct Machine<S: StateMachine> {
    id: MachineId,
    directory: DataDirectory,
    log: Log,
    hard_state: HardState,
    snapshots: Snapshots,
    received: Option<Received>,
    state: Environment,
    pub(crate) state_machine: S,
    pub(crate) core: Raft,
    /// The number of the next request or read. None is ever given twice, so it begins with that of the boot.
    next_number: u64,
    /// Reads, and from which index on they may be answered.
    reads: BTreeMap<u64, (S::Query, Option<Index>)>,
    /// What requests and reads came to, by their numbers; `None` if they were turned away.
    pub(crate) answers: BTreeMap<u64, Option<Answer<S>>>,
    outbox: Vec<(MachineId, Post)>,
}

impl<S: StateMachine> Machine<S> {
    /// Starts a machine from what its folder holds, or from nothing.
    pub(crate) fn start(
        folder: &Path,
        id: MachineId,
        voters: &[MachineId],
        now: Time,
    ) -> Outcome<Self> {
        let identity = Identity {
            domain: "counters".into(),
            machine: id.to_string(),
            id,
            joined: None,
            era: Era::FIRST,
        };
        let directory = DataDirectory::open(folder, &identity)?;
        let log = Log::open(&Environment::open(&directory, "log", &options())?)?;
        let loaded = log.load()?;
        let state = Environment::open_state(&directory, loaded.generation, &options())?;
        let state_machine = S::open(&state)?;
        let mut configurations = loaded.configurations;
        let first = configurations.first().map(|first| first.index);
        if first.is_none_or(|index| index > loaded.base.index) {
            let begun = Configured {
                index: Index(0),
                configuration: Configuration::of_voters(voters.iter().copied()),
            };
            configurations.insert(0, begun);
        }
        let durable = Durable {
            hard_state: loaded.hard_state,
            base: loaded.base,
            terms: loaded.terms,
            last: loaded.last,
            applied: state_machine.applied().index,
            configurations,
        };
        Ok(Machine {
            core: Raft::new(config(id), durable, now)?,
            id,
            hard_state: loaded.hard_state,
            snapshots: Snapshots::open(&directory, SnapshotOptions::default())?,
            received: None,
            next_number: directory.boot() << 32,
            directory,
            log,
            state,
            state_machine,
            reads: BTreeMap::new(),
            answers: BTreeMap::new(),
            outbox: Vec::new(),
        })
    }

    /// Gives the core an input and performs the effects, until no more comes of it. Returns what is to be sent.
    pub(crate) fn input(&mut self, now: Time, input: Input) -> Outcome<Vec<(MachineId, Post)>> {
        let mut inputs = VecDeque::from([input]);
        while !inputs.is_empty() {
            for input in inputs.drain(..) {
                self.core.step(now, input);
            }
            for effect in self.core.effects(now) {
                inputs.extend(self.perform(effect)?);
            }
        }
        self.answer_reads()?;
        Ok(std::mem::take(&mut self.outbox))
    }

    /// Performs one effect; what the core is to learn of it is its next input.
    fn perform(&mut self, effect: Effect) -> Outcome<Option<Input>> {
        Ok(match effect {
            Effect::Persist(persist) => {
                let mut append = self.log.begin()?;
                append.persist(&persist.hard_state, &persist.entries)?;
                let last = append.last();
                append.commit()?;
                self.hard_state = persist.hard_state;
                // Durable now, and promised only now (figure 2).
                let then = persist.then.into_iter();
                let then = then.map(|(to, message)| (to, Post::Message(message)));
                self.outbox.extend(then);
                let hard_state = self.hard_state;
                Some(Input::Persisted { hard_state, last })
            }
            Effect::Send { to, message } => {
                let copies = to
                    .into_iter()
                    .map(|to| (to, Post::Message(message.clone())));
                self.outbox.extend(copies);
                None
            }
            Effect::ReadEntries {
                from,
                up_to,
                bytes_max,
            } => {
                let entries = self.log.reader().entries(from, up_to, bytes_max)?;
                Some(Input::EntriesRead {
                    entries: entries.into(),
                })
            }
            Effect::Apply { up_to, .. } => {
                self.apply(up_to)?;
                None
            }
            Effect::Compact { up_to } => {
                let mut append = self.log.begin()?;
                // What is compacted is committed, and the log must know that.
                self.hard_state.commit = self.hard_state.commit.max(up_to.index);
                append.persist(&self.hard_state, &[])?;
                append.compact(up_to)?;
                append.commit()?;
                None
            }
            Effect::SendSnapshot {
                to,
                at_least,
                number,
                term,
            } => {
                self.send_snapshot(to, at_least, term)?;
                // The queue takes all of it at once.
                Some(Input::SnapshotEnded { to, number })
            }
            Effect::Install(snapshot) => Some(self.install(snapshot)?),
            Effect::Discard(_) => {
                self.received.take().map_or(Ok(()), Received::discard)?;
                None
            }
            Effect::Readable { read, index } => {
                if let Some((_, readable)) = self.reads.get_mut(&read.0) {
                    *readable = Some(index);
                }
                None
            }
            Effect::ReadRefused { read, .. } => {
                self.reads.remove(&read.0);
                self.answers.insert(read.0, None);
                None
            }
            Effect::Refused { requests, .. } => {
                let numbers = requests.iter().map(|request| request.number);
                self.answers.extend(numbers.map(|number| (number, None)));
                None
            }
            // Nobody here asks for either.
            Effect::Transferred { .. } | Effect::ChangeRefused { .. } => None,
        })
    }

    /// Applies the log up to an index. All of it is in the log by then, so the copies that come with the effect only spare reading.
    fn apply(&mut self, up_to: Index) -> Outcome<()> {
        while self.state_machine.applied().index < up_to {
            let next = self.state_machine.applied().index.next();
            for entry in self.log.reader().entries(next, up_to, PIECE_BYTES)? {
                let (request, command) = match &entry.payload {
                    Payload::Empty => (None, None),
                    Payload::Configuration { configuration, .. } => {
                        let bytes = encode_configuration(configuration);
                        self.state_machine
                            .set_configuration(entry.id.index, bytes)?;
                        (None, None)
                    }
                    Payload::Command(proposal) => (Some(proposal.request), Some(&proposal.command)),
                };
                let ours = request.filter(|request| request.machine == self.id);
                let command = command.map(|command| &command[..]);
                let answer = self
                    .state_machine
                    .apply(entry.id, command, ours.is_some())?;
                let applied = self.state_machine.applied();
                assert_eq!(applied, entry.id, "whatever comes of it, it is applied");
                if let Some(request) = ours {
                    self.answers.insert(request.number, answer);
                }
            }
        }
        Ok(())
    }

    /// Puts a command on its way; its answer will have the number that is returned.
    pub(crate) fn propose(&mut self, command: Bytes) -> (u64, Input) {
        let number = self.number();
        let request = RequestId {
            machine: self.id,
            number,
        };
        (number, Input::Propose(vec![Proposal { request, command }]))
    }

    /// Puts a linearizable query on its way.
    pub(crate) fn read(&mut self, query: S::Query) -> (u64, Input) {
        let number = self.number();
        self.reads.insert(number, (query, None));
        let (read, mode) = (ReadId(number), ReadMode::Quorum);
        (number, Input::Read { read, mode })
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Answers the queries whose read index is applied (dissertation 6.4).
    fn answer_reads(&mut self) -> Outcome<()> {
        let applied = self.state_machine.applied().index;
        let waiting = self.reads.iter();
        let ready = waiting.filter(|(_, (_, index))| index.is_some_and(|index| index <= applied));
        for number in ready.map(|(&number, _)| number).collect::<Vec<_>>() {
            if let Some((query, _)) = self.reads.remove(&number) {
                let answer = self.state_machine.query(&query)?;
                self.answers.insert(number, Some(answer));
            }
        }
        Ok(())
    }

    /// Makes the state durable, which lets the core compact the log.
    pub(crate) fn checkpoint(&mut self) -> Outcome<Input> {
        self.state_machine.checkpoint()?;
        let applied = self.state_machine.checkpointed();
        Ok(Input::Checkpointed { applied })
    }

    /// A snapshot is a copy of the environment as of its last commit; what it holds is read from the copy.
    fn send_snapshot(&mut self, to: MachineId, at_least: Index, term: Term) -> Outcome<()> {
        let file = self.snapshots.make(&self.state, |_| true)?;
        let snapshot = describe::<S>(&file.inspect(&options())?)?;
        assert!(
            snapshot.last.index >= at_least,
            "no log is compacted beyond a checkpoint"
        );
        let post = Post::Snapshot {
            term,
            snapshot,
            file,
        };
        self.outbox.push((to, post));
        Ok(())
    }

    /// Takes a snapshot's content, piece by piece, and holds it beside the present state.
    pub(crate) fn receive(&mut self, file: &SnapshotFile) -> Outcome<()> {
        self.received = None;
        let mut incoming = self.snapshots.receive(file.description())?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let offset = incoming.received();
            match file.read(offset, &mut piece)? {
                0 => break,
                count => incoming.append(offset, &piece[..count])?,
            }
        }
        self.received = Some(incoming.finish()?);
        Ok(())
    }

    /// Puts the snapshot in force: the state first, then the log, in one commit that names the new state.
    fn install(&mut self, snapshot: Snapshot) -> Outcome<Input> {
        let received = self.received.take().ok_or("its content came before it")?;
        let found = describe::<S>(&received.inspect(&options())?)?;
        assert_eq!(found, snapshot, "the content is what was promised");
        let generation = self.log.generation()? + 1;
        self.state = received.prepare(&self.directory, generation, &options())?;
        let mut append = self.log.begin()?;
        append.install(generation, snapshot.last, &snapshot.configured)?;
        append.commit()?;
        self.hard_state.commit = self.hard_state.commit.max(snapshot.last.index);
        self.state_machine = S::open(&self.state)?;
        remove_others(&self.directory, generation)?;
        Ok(Input::Installed(snapshot))
    }
}

/// What a state holds, by its own word.
fn describe<S: StateMachine>(state: &Environment) -> Outcome<Snapshot> {
    let peek = S::peek(state)?;
    let configuration = peek
        .configuration
        .ok_or("a state knows its configuration")?;
    let decoded = decode_configuration(&configuration.bytes);
    let configured = Configured {
        index: configuration.index,
        configuration: decoded.ok_or("its configuration is damaged")?,
    };
    Ok(Snapshot {
        last: peek.applied,
        configured,
    })
}

fn options() -> Options {
    Options {
        map_bytes: 64 << 20,
        ..Options::default()
    }
}

fn config(local: MachineId) -> Config {
    Config {
        local,
        election_timeout: Duration::from_millis(1000),
        heartbeat_interval: Duration::from_millis(100),
        disk_patience: Duration::from_secs(4),
        seed: local.0,
        inflight_requests_max: 16,
        inflight_entries_max: 1 << 16,
        inflight_bytes_max: 1 << 20,
        append_bytes_max: 64 << 10,
        uncommitted_bytes_max: 1 << 20,
        log_cache_bytes_max: 1 << 20,
        compaction_keep_entries: 4,
        compaction_keep_bytes: 1 << 20,
        compaction_wait_entries: 1_000,
        compaction_wait_bytes: 1 << 20,
        compaction_step_entries: 8,
        snapshot_timeout: Duration::from_secs(10),
        reads_max: 16,
        trust_peer_gone: false,
        lease_drift_percent: None,
        may_have_promised: false,
        priorities: BTreeMap::new(),
    }
}
