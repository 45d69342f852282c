//! The crate `openraft`, driven as its own benchmark of a cluster drives it: log and state machine in memory, calls for a
//! network; but on a runtime of one thread, where no call wakes another thread, and without snapshots.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use openraft::alias::{EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf};
use openraft::entry::RaftEntry;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::leader_id_adv::LeaderId;
use openraft::impls::{InlineBatch, OneshotResponder, TokioRuntime};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::storage::{
    EntryResponder, IOFlushed, LogState, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder,
    RaftStateMachine,
};
use openraft::{
    AnyError, Config, EntryPayload, OptionalSend, Raft, RaftNetworkFactory, RaftNetworkV2,
    RaftTypeConfig, SnapshotPolicy,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

use crate::memory_log::MemoryLog;
use crate::work::{Applied, Cluster, Commands, MACHINES};

/// A command, for openraft.
#[derive(Clone, Debug)]
pub(crate) struct Command(Bytes);

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What the cluster is made of: the defaults, but for an answer through the simplest channel there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types;

impl RaftTypeConfig for Types {
    type D = Command;
    type R = ();
    type NodeId = u64;
    type Node = ();
    type Term = u64;
    type LeaderId = LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = EntryPayload<Command, u64, ()>;
    type Entry = openraft::alias::DefaultEntryOf<Types>;
    type AsyncRuntime = TokioRuntime;
    type Responder<T>
        = OneshotResponder<Types, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = AnyError;
}

type Machine = Raft<Types, StateMachine>;

/// Three machines and the runtime that drives them.
pub(crate) struct OpenRaft {
    runtime: Runtime,
    router: Router,
    state_machines: Vec<StateMachine>,
    commands: Commands,
}

impl Cluster for OpenRaft {
    const NAME: &'static str = "openraft 0.10.0-alpha.37";

    fn start() -> OpenRaft {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime of one thread starts");
        let router = Router::default();
        let progress = Arc::new(Notify::new());
        let state_machines: Vec<StateMachine> = (0..MACHINES)
            .map(|_| StateMachine::new(progress.clone()))
            .collect();
        runtime.block_on(async {
            let config = Arc::new(config().validate().expect("the config is sound"));
            for (id, state_machine) in (1..).zip(&state_machines) {
                let (router, log) = (router.clone(), Log::new());
                let machine = Raft::new(
                    id,
                    config.clone(),
                    router.clone(),
                    log,
                    state_machine.clone(),
                );
                let machine = machine.await.expect("a machine starts");
                router.machines().push(machine);
            }
            let leader = router.machine(1);
            let voters: BTreeSet<u64> = (1..=MACHINES).collect();
            leader.initialize(voters).await.expect("the voters are new");
            for id in 1..=MACHINES {
                let machine = router.machine(id);
                let follows = machine
                    .wait(None)
                    .current_leader(1, "the first leads")
                    .await;
                follows.expect("a leader is elected");
            }
        });
        OpenRaft {
            runtime,
            router,
            state_machines,
            commands: Commands::default(),
        }
    }

    fn run(&mut self, batch: usize, batches: usize) {
        let leader = self.router.machine(1);
        self.runtime.block_on(async {
            for _ in 0..batches {
                propose(&leader, &mut self.commands, batch).await;
                let target = self.commands.all_applied();
                for state_machine in &self.state_machines {
                    state_machine.reaches(target).await;
                }
            }
        });
    }

    fn applied(&self) -> Vec<Applied> {
        let machines = self.state_machines.iter();
        machines.map(|machine| machine.inner().applied).collect()
    }
}

/// Proposes a batch and takes the answers.
async fn propose(leader: &Machine, commands: &mut Commands, batch: usize) {
    if batch == 1 {
        let command = Command(commands.next_shared());
        let answer = leader.client_write(command).await;
        answer.expect("the leader takes a proposal");
        return;
    }
    let commands: Vec<Command> = (0..batch)
        .map(|_| Command(commands.next_shared()))
        .collect();
    let answers = leader.client_write_many(commands).await;
    let mut answers = answers.expect("the leader takes proposals");
    while let Some(answer) = answers.try_next().await.expect("the leader answers") {
        answer.expect("a proposal is committed");
    }
}

/// The limits of its own benchmark, and the times that the other cores have.
fn config() -> Config {
    Config {
        heartbeat_interval: 100,
        election_timeout_min: 1_000,
        election_timeout_max: 2_000,
        max_payload_entries: 1_024,
        snapshot_policy: SnapshotPolicy::Never,
        ..Config::default()
    }
}

/// The network: a call.
#[derive(Clone, Default)]
struct Router {
    machines: Arc<Mutex<Vec<Machine>>>,
}

impl Router {
    fn machines(&self) -> MutexGuard<'_, Vec<Machine>> {
        self.machines.lock().expect("nobody panics with the lock")
    }

    fn machine(&self, id: u64) -> Machine {
        self.machines()[id as usize - 1].clone()
    }
}

impl RaftNetworkFactory<Types> for Router {
    type Network = Link;

    async fn new_client(&mut self, target: u64, (): &()) -> Link {
        Link(self.machine(target))
    }
}

/// The way to one machine.
struct Link(Machine);

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let answer = self.0.append_entries(request).await;
        answer.map_err(|error| RPCError::Network(NetworkError::new(&error)))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let answer = self.0.vote(request).await;
        answer.map_err(|error| RPCError::Network(NetworkError::new(&error)))
    }

    async fn full_snapshot(
        &mut self,
        _: VoteOf<Types>,
        _: SnapshotOf<Types, ()>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let error = Unreachable::new(&no_snapshots());
        Err(StreamingError::Unreachable(error))
    }
}

/// What stands in for a disk, shared by the core and its tasks that read.
#[derive(Clone)]
struct Log {
    inner: Arc<Mutex<Disk>>,
}

struct Disk {
    log: MemoryLog<EntryOf<Types>>,
    vote: Option<VoteOf<Types>>,
}

impl Log {
    fn new() -> Log {
        let disk = Disk {
            log: MemoryLog::starting_at(0),
            vote: None,
        };
        Log {
            inner: Arc::new(Mutex::new(disk)),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Disk> {
        self.inner.lock().expect("nobody panics with the lock")
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<Range: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend>(
        &mut self,
        range: Range,
    ) -> io::Result<Vec<EntryOf<Types>>> {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last + 1,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        Ok(self.inner().log.range(start..end).cloned().collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<Types>>> {
        Ok(self.inner().vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Log;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        Ok(LogState {
            last_purged_log_id: None,
            last_log_id: self.inner().log.last().map(RaftEntry::log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Log {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types>) -> io::Result<()> {
        self.inner().vote = Some(*vote);
        Ok(())
    }

    async fn append<Entries>(
        &mut self,
        entries: Entries,
        flushed: IOFlushed<Types>,
    ) -> io::Result<()>
    where
        Entries: IntoIterator<Item = EntryOf<Types>> + OptionalSend,
        Entries::IntoIter: OptionalSend,
    {
        let mut entries = entries.into_iter().peekable();
        if let Some(first) = entries.peek().map(RaftEntry::index) {
            self.inner().log.append(first, entries);
        }
        flushed.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<Types>>) -> io::Result<()> {
        let from = last.map_or(0, |id| id.index + 1);
        self.inner().log.append(from, []);
        Ok(())
    }

    async fn purge(&mut self, _: LogIdOf<Types>) -> io::Result<()> {
        Ok(())
    }
}

/// The state machine, with a bell that rings when it has applied.
#[derive(Clone)]
struct StateMachine {
    inner: Arc<Mutex<State>>,
    progress: Arc<Notify>,
}

#[derive(Default)]
struct State {
    applied: Applied,
    last: Option<LogIdOf<Types>>,
    membership: StoredMembershipOf<Types>,
}

impl StateMachine {
    fn new(progress: Arc<Notify>) -> StateMachine {
        StateMachine {
            inner: Arc::default(),
            progress,
        }
    }

    fn inner(&self) -> MutexGuard<'_, State> {
        self.inner.lock().expect("nobody panics with the lock")
    }

    /// Waits until it has applied all commands.
    async fn reaches(&self, target: Applied) {
        while self.inner().applied != target {
            self.progress.notified().await;
        }
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = ();
    type SnapshotBuilder = StateMachine;

    async fn applied_state(
        &mut self,
    ) -> io::Result<(Option<LogIdOf<Types>>, StoredMembershipOf<Types>)> {
        let state = self.inner();
        Ok((state.last, state.membership.clone()))
    }

    async fn apply<Entries>(&mut self, mut entries: Entries) -> io::Result<()>
    where
        Entries: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let mut state = self.inner();
            state.last = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Normal(Command(command)) => state.applied.apply(&command),
                EntryPayload::Membership(membership) => {
                    state.membership = StoredMembershipOf::<Types>::new(state.last, membership);
                }
                EntryPayload::Blank => {}
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        self.progress.notify_one();
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> StateMachine {
        self.clone()
    }

    async fn install_snapshot(&mut self, _: &SnapshotMetaOf<Types>, (): ()) -> io::Result<()> {
        Err(no_snapshots())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, ()>>> {
        Ok(None)
    }
}

impl RaftSnapshotBuilder<Types> for StateMachine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, ()>> {
        Err(no_snapshots())
    }
}

fn no_snapshots() -> io::Error {
    io::Error::other("no machine here lags so far behind that it needs a snapshot")
}
