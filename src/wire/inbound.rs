//! The half that receives: listens on the machine's peer port and hands on what proved peers send.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quinn::{Connection, Endpoint, VarInt};
use rm_raft::{MachineId, Message};
use tokio::task::JoinSet;

use crate::{
    Credentials, Identity, Options, Peer, Refusals, RefusedBecause, WireError, close,
    endpoint::{self, LeasedSocket},
    session,
};

/// How long an ending process waits for its farewells to leave.
const FAREWELL_MAX: Duration = Duration::from_millis(200);

/// Something that happened on the peer port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer has connected and proved itself.
    Connected {
        /// Who.
        from: MachineId,
        /// Which start of it.
        incarnation: u64,
    },
    /// Messages came: what one read brought, in order. Datagrams and stream are not ordered among each other.
    Received {
        /// From whom.
        from: MachineId,
        /// The messages, at least one.
        messages: Vec<Message>,
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
        credentials: &Credentials,
        options: &Options,
        handler: Handler,
    ) -> Result<Inbound, WireError> {
        let (endpoint, socket) = endpoint::listener(socket, credentials, options)?;
        let shared = Arc::new(Shared {
            local: local.clone(),
            peers: peers.to_vec(),
            credentials: credentials.clone(),
            options: options.clone(),
            handler,
            state: Mutex::default(),
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

    /// How often connections, or what came on them, were refused since this half was built.
    pub fn refusals(&self) -> Refusals {
        Refusals {
            stray: self.socket.strays(),
            ..self.shared.state().refusals
        }
    }

    /// The machines that are connected, in the order of their numbers.
    pub fn connected(&self) -> Vec<MachineId> {
        let mut ids: Vec<_> = self.shared.state().proved.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Tells all connected peers that this process ends, and gives that a moment to leave.
    pub async fn close_for_exit(self) {
        self.close(close::PROCESS_EXIT, b"the process ends");
        // Whether or not the peers confirm it in time, the process ends.
        let _ = tokio::time::timeout(FAREWELL_MAX, self.endpoint.wait_idle()).await;
    }

    fn close(&self, code: VarInt, reason: &[u8]) {
        for connection in self.shared.state().proved.values() {
            connection.close(code, reason);
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
    pub(crate) peers: Vec<Peer>,
    pub(crate) credentials: Credentials,
    pub(crate) options: Options,
    handler: Handler,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Connections by address, proved or not.
    open: HashMap<IpAddr, usize>,
    /// The connection of each machine that has proved itself.
    proved: HashMap<MachineId, Connection>,
    refusals: Refusals,
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
    pub(crate) fn enter(&self, id: MachineId, connection: &Connection) {
        let replaced = self.state().proved.insert(id, connection.clone());
        if let Some(replaced) = replaced {
            replaced.close(
                close::REPLACED,
                b"a newer connection of the same machine came",
            );
        }
    }

    /// Whether this was still the machine's connection, which it now is no more.
    pub(crate) fn leave(&self, id: MachineId, connection: &Connection) -> bool {
        let mut state = self.state();
        let current = state
            .proved
            .get(&id)
            .is_some_and(|current| current.stable_id() == connection.stable_id());
        if current {
            state.proved.remove(&id);
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
            .field("state", &self.state)
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
