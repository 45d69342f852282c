//! The half that receives: listens on the machine's peer port and hands on what proved peers send.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quinn::{Connection, Endpoint, VarInt};
use rm_raft::{MachineId, Message};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use crate::{
    Credentials, DataId, DataIds, HeardCounts, Identity, LessorMessage, Options, Peer, Refusals,
    RefusedBecause, SnapshotSink, WireError, close,
    endpoint::{self, LeasedSocket},
    farewell,
    heard::Heard,
    hello::Hello,
    session::{self, Proved},
};

/// How long an ending process waits for its farewells to leave.
const FAREWELL_MAX: Duration = Duration::from_millis(200);

/// How many machines that were listed are refused by name; whoever left longer ago counts as a stranger.
const GONE_MAX: usize = 64;

/// Something that happened on the peer port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer has connected and proved itself.
    Connected {
        /// Who.
        from: MachineId,
        /// Which start of it.
        incarnation: u64,
        /// The data that it lives on.
        data_id: DataId,
    },
    /// A machine has connected and proved itself that no list tells of. It is heard as far as it leads or stands, until
    /// [`Event::Gone`] tells that it is gone, or until it is listed and dials anew. What it is answered needs a way to it.
    Stranger(Identity),
    /// Messages came: what one read brought, in order. Datagrams and stream are not ordered among each other.
    Received {
        /// From whom.
        from: MachineId,
        /// The messages, at least one.
        messages: Vec<Message>,
    },
    /// A peer's lessor says something. Ordered among the messages of lessors only.
    Lessor {
        /// From whom.
        from: MachineId,
        /// What.
        message: LessorMessage,
    },
    /// A peer's connection ended and no newer one is there.
    Gone {
        /// Whose.
        from: MachineId,
        /// Whether its process is known to have ended, not just its sender or the network.
        process_gone: bool,
        /// Why the connection ended, for people to read.
        reason: String,
    },
    /// A connection was refused, or closed for what came on it.
    Refused {
        /// Where it came from.
        address: SocketAddr,
        /// Why.
        reason: RefusedBecause,
    },
}

/// What is called with each event, on the runtime's thread: it must not block.
pub type Handler = Arc<dyn Fn(Event) + Send + Sync>;

/// Receives messages from peers. To be created inside the tokio runtime that is to drive it; dropping it ends all its
/// tasks and tells the peers that only this half is gone.
#[derive(Debug)]
pub struct Inbound {
    endpoint: Endpoint,
    socket: Arc<LeasedSocket>,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Inbound {
    /// Starts to listen on `socket`, which the caller has bound once and cloned (`try_clone`) for this half, so that
    /// the port outlives it.
    ///
    /// # Errors
    /// [`WireError`] if the socket is not usable or the options cannot be expressed in QUIC.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(
        socket: UdpSocket,
        local: &Identity,
        peers: &[Peer],
        data_ids: &DataIds,
        credentials: &Credentials,
        options: &Options,
        handler: Handler,
    ) -> Result<Inbound, WireError> {
        let (endpoint, socket) = endpoint::listener(socket, credentials, options)?;
        let shared = Arc::new(Shared {
            local: local.clone(),
            data_ids: data_ids.clone(),
            credentials: credentials.clone(),
            options: options.clone(),
            handler,
            snapshot: Arc::new(Semaphore::new(1)),
            state: Mutex::new(State {
                peers: peers.into(),
                ..State::default()
            }),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(endpoint.clone(), shared.clone()));
        Ok(Inbound {
            endpoint,
            socket,
            shared,
            _tasks: tasks,
        })
    }

    /// From now on hears these machines, and strangers. Connections of those that stay as they were go on; those of a machine
    /// whose entry has changed are closed, for it to dial anew, and those of a machine that is gone from the list with a
    /// farewell that says so: it is no stranger. What was read before may still be handed on.
    pub fn set_peers(&self, peers: &[Peer]) {
        let mut state = self.shared.state();
        state.replace_peers(peers);
        // Under the lock that whoever enters is noted under, or an older list could still note one.
        self.shared.data_ids.retain(peers);
        for (id, entered) in &state.entered {
            match peers.iter().find(|peer| peer.id == *id) {
                Some(peer) if entered.serves(peer) => {}
                None if entered.peer.stranger => {}
                Some(_) => farewell::close(
                    &entered.connection,
                    close::PEER_CHANGED,
                    b"the entry of this machine in the list of peers has changed",
                ),
                None => farewell::close(
                    &entered.connection,
                    close::REMOVED,
                    b"this machine was removed from the list of peers",
                ),
            }
        }
    }

    /// Takes snapshots with this sink from now on, or refuses them. Without it they are refused. A transfer that goes on
    /// keeps the sink that it began with.
    pub fn set_snapshot_sink(&self, sink: Option<Arc<dyn SnapshotSink>>) {
        self.shared.state().sink = sink;
    }

    /// How often connections, or what came on them, were refused since this half was built.
    pub fn refusals(&self) -> Refusals {
        Refusals {
            stray: self.socket.strays(),
            ..self.shared.state().refusals
        }
    }

    /// The machines that are connected, in the order of their numbers.
    pub fn connected(&self) -> Vec<MachineId> {
        let mut ids: Vec<_> = self.shared.state().entered.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// What came from each peer that is listed, and no stranger, since this half was built.
    pub fn heard(&self) -> Vec<(MachineId, HeardCounts)> {
        let state = self.shared.state();
        let listed = state.peers.iter().filter(|peer| !peer.stranger);
        let heard = |id| {
            state
                .heard
                .get(id)
                .map(|heard| heard.read())
                .unwrap_or_default()
        };
        listed.map(|peer| (peer.id, heard(&peer.id))).collect()
    }

    /// Tells all connected peers that this process ends, and gives that a moment to leave.
    pub async fn close_for_exit(self) {
        self.close(close::PROCESS_EXIT, b"the process ends");
        // Whether or not the peers confirm it in time, the process ends.
        let _ = tokio::time::timeout(FAREWELL_MAX, self.endpoint.wait_idle()).await;
    }

    fn close(&self, code: VarInt, reason: &[u8]) {
        for entered in self.shared.state().entered.values() {
            farewell::close(&entered.connection, code, reason);
        }
        self.endpoint.close(code, reason);
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.socket.end_lease();
        // After `close_for_exit` this changes nothing: the first code stands.
        self.close(close::ACTOR_RESTART, b"the listener is built anew");
    }
}

async fn accept(endpoint: Endpoint, shared: Arc<Shared>) {
    let mut sessions = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        while sessions.try_join_next().is_some() {}
        let address = incoming.remote_address();
        match shared.admit(address.ip()) {
            Ok(slot) => {
                sessions.spawn(session::run(shared.clone(), incoming, slot));
            }
            Err(reason) => {
                incoming.refuse();
                shared.refused(address, reason);
            }
        }
    }
}

/// What all sessions of one listening half share.
pub(crate) struct Shared {
    pub(crate) local: Identity,
    pub(crate) data_ids: DataIds,
    pub(crate) credentials: Credentials,
    pub(crate) options: Options,
    handler: Handler,
    /// One snapshot at a time, from whomever.
    snapshot: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The machines that are heard.
    peers: Arc<[Peer]>,
    /// Machines that were listed and are no more, the latest last.
    gone: VecDeque<MachineId>,
    sink: Option<Arc<dyn SnapshotSink>>,
    /// Connections by address, proved or not.
    open: HashMap<IpAddr, usize>,
    /// The connection of each machine that has proved itself.
    entered: HashMap<MachineId, Entered>,
    /// What came from each machine that is heard; of strangers nothing is counted.
    heard: BTreeMap<MachineId, Arc<Heard>>,
    refusals: Refusals,
}

/// The connection of a machine that has proved itself.
#[derive(Debug)]
struct Entered {
    connection: Connection,
    /// The machine, as it was listed then.
    peer: Peer,
    data_id: DataId,
}

impl Entered {
    /// Whether this connection will do for the machine as it is listed now. A stranger that told a name is taken to be where it
    /// dialled from until that is looked up, which may find it elsewhere; only a member's presence is asked for there.
    fn serves(&self, peer: &Peer) -> bool {
        let same_place = match peer.stranger {
            true => self.peer.address.port() == peer.address.port(),
            false => self.peer.address == peer.address,
        };
        self.peer.stranger == peer.stranger
            && same_place
            && peer.is_still(&self.peer, Some(self.data_id))
    }
}

impl State {
    fn replace_peers(&mut self, peers: &[Peer]) {
        let is_listed = |id: MachineId| peers.iter().any(|peer| peer.id == id);
        self.gone.retain(|&id| !is_listed(id));
        for peer in self.peers.iter().filter(|peer| !peer.stranger) {
            if !is_listed(peer.id) {
                if self.gone.len() == GONE_MAX {
                    self.gone.pop_front();
                }
                self.gone.push_back(peer.id);
            }
        }
        self.heard.retain(|&id, _| is_listed(id));
        self.peers = peers.into();
    }

    /// Whether this machine may be heard as it is listed.
    fn lists(&self, entered: &Entered) -> bool {
        self.peers.iter().any(|listed| entered.serves(listed))
    }

    /// Whether this machine may be heard as one more stranger.
    fn has_room_for(&self, entered: &Entered, strangers_max: usize) -> bool {
        let id = entered.peer.id;
        let is_listed = self.peers.iter().any(|peer| peer.id == id);
        let others = self.entered.values().filter(|each| each.peer.id != id);
        let strangers = others.filter(|each| each.peer.stranger).count();
        entered.peer.stranger && !is_listed && !self.gone.contains(&id) && strangers < strangers_max
    }
}

impl Shared {
    pub(crate) fn tell(&self, event: Event) {
        (self.handler)(event);
    }

    /// Counts a refusal and tells of it.
    pub(crate) fn refused(&self, address: SocketAddr, reason: RefusedBecause) {
        self.state().refusals.count(&reason);
        self.tell(Event::Refused { address, reason });
    }

    /// Room for one more connection from this address, if the limits leave any.
    fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Slot, RefusedBecause> {
        let mut state = self.state();
        let open: usize = state.open.values().sum();
        // Before the address is noted: whoever is refused must leave nothing behind.
        if open >= self.options.connections_max {
            return Err(RefusedBecause::Crowded { open });
        }
        let of_address = state.open.get(&address).copied().unwrap_or_default();
        if of_address >= self.options.connections_per_address_max {
            return Err(RefusedBecause::Crowded { open: of_address });
        }
        state.open.insert(address, of_address + 1);
        Ok(Slot {
            shared: self.clone(),
            address,
        })
    }

    /// Makes this the machine's connection and closes the one that was.
    ///
    /// # Errors
    /// If the list of peers has changed since the machine proved itself, and it is no more in it as it was; if another of its
    /// name came before on other data; or if there are as many strangers as the limit allows.
    pub(crate) fn enter(
        &self,
        proved: &Proved,
        connection: &Connection,
    ) -> Result<(), RefusedBecause> {
        let Proved { peer, sender } = proved;
        let entered = Entered {
            connection: connection.clone(),
            peer: peer.clone(),
            data_id: sender.data_id,
        };
        let mut state = self.state();
        if state.lists(&entered) {
            self.data_ids.admit(peer, sender.data_id)?;
        } else if !state.has_room_for(&entered, self.options.strangers_max) {
            return Err(RefusedBecause::Machine {
                name: peer.name.clone(),
                id: peer.id.0,
            });
        }
        if let Some(replaced) = state.entered.insert(peer.id, entered) {
            farewell::close(
                &replaced.connection,
                close::REPLACED,
                b"a newer connection of the same machine came",
            );
        }
        Ok(())
    }

    /// The machine that says this, which dialled `from`: one of the list, or a stranger.
    ///
    /// # Errors
    /// If it is known otherwise, or was removed from the list, or does not tell where it can be answered.
    pub(crate) fn recognise(&self, hello: &Hello, from: IpAddr) -> Result<Peer, RefusedBecause> {
        let state = self.state();
        if let Some(peer) = hello.find(&state.peers) {
            return Ok(peer.clone());
        }
        let id = hello.sender.id;
        let has_its_number = |peer: &Peer| peer.id == id;
        if id == self.local.id || state.peers.iter().any(has_its_number) || state.gone.contains(&id)
        {
            return Err(hello.unknown());
        }
        Peer::stranger(&hello.sender, from).ok_or_else(|| hello.unknown())
    }

    /// Where to count what comes from a peer.
    pub(crate) fn heard_from(&self, peer: &Peer) -> Arc<Heard> {
        match peer.stranger {
            true => Arc::default(),
            false => self.state().heard.entry(peer.id).or_default().clone(),
        }
    }

    pub(crate) fn snapshot_sink(&self) -> Option<Arc<dyn SnapshotSink>> {
        self.state().sink.clone()
    }

    /// The right to receive a snapshot, if no other is being received.
    pub(crate) fn snapshot_permit(&self) -> Option<OwnedSemaphorePermit> {
        self.snapshot.clone().try_acquire_owned().ok()
    }

    /// Whether this was still the machine's connection, which it now is no more.
    pub(crate) fn leave(&self, id: MachineId, connection: &Connection) -> bool {
        let mut state = self.state();
        let current = state
            .entered
            .get(&id)
            .is_some_and(|current| current.connection.stable_id() == connection.stable_id());
        if current {
            state.entered.remove(&id);
        }
        current
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock; should it, the counters are still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

/// The place of one connection within the limits, given back when it ends however it ends.
pub(crate) struct Slot {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if let Some(open) = state.open.get_mut(&self.address) {
            *open -= 1;
            if *open == 0 {
                state.open.remove(&self.address);
            }
        }
    }
}
