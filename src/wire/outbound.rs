//! The half that sends: one connection to each peer, made and made again for as long as this value lives.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use quinn::{Endpoint, VarInt};
use rm_raft::{Body, MachineId, Message};
use tokio::task::JoinSet;

use crate::{Credentials, Identity, Options, Peer, WireError, close, encode, endpoint, link::Link};

/// How long an ending process waits for its farewells to leave.
const FAREWELL_MAX: Duration = Duration::from_millis(200);

/// Sends messages to peers. To be created inside the tokio runtime that is to drive it; dropping it ends all its
/// tasks and tells the peers that only this half is gone.
#[derive(Debug)]
pub struct Outbound {
    endpoint: Endpoint,
    links: BTreeMap<MachineId, Arc<Link>>,
    _tasks: JoinSet<()>,
}

/// What can be told about the way to one peer. Counts are since this half was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub id: MachineId,
    /// Its name.
    pub name: String,
    /// Whether there is a connection that both ends have proved themselves on.
    pub connected: bool,
    /// The smoothed round-trip time, while there is a connection.
    pub round_trip: Option<Duration>,
    /// Frames handed to QUIC.
    pub frames_sent: u64,
    /// Bytes of these frames.
    pub bytes_sent: u64,
    /// Frames that were dropped: no room, too long, or no connection could be made.
    pub frames_dropped: u64,
    /// Frames that wait.
    pub frames_queued: usize,
    /// Bytes of them.
    pub bytes_queued: usize,
    /// Connections made so far; all but the first are reconnections.
    pub connections: u64,
    /// Why the last connection ended, or could not be made.
    pub last_error: Option<String>,
}

impl Outbound {
    /// Starts to dial all `peers`.
    ///
    /// # Errors
    /// [`WireError`] if there is no socket to be had or the options cannot be expressed in QUIC.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(
        local: &Identity,
        peers: &[Peer],
        credentials: &Credentials,
        options: &Options,
    ) -> Result<Outbound, WireError> {
        let endpoint = endpoint::dialler(peers, credentials, options)?;
        let mut links = BTreeMap::new();
        let mut tasks = JoinSet::new();
        for peer in peers {
            let link = Arc::new(Link::new(local, peer, credentials, options));
            tasks.spawn(link.clone().keep_connected(endpoint.clone()));
            links.insert(peer.id, link);
        }
        Ok(Outbound {
            endpoint,
            links,
            _tasks: tasks,
        })
    }

    /// Sends one message to each of these machines. Encodes it once, waits for nothing, and promises nothing: what
    /// finds no room or no connection is lost and counted, as Raft endures. A machine that is not a peer is passed over.
    pub fn send(&self, to: &[MachineId], message: &Message) {
        let frame = encode(message);
        let unreliable = may_overtake(&message.body);
        for link in to.iter().filter_map(|id| self.links.get(id)) {
            link.send(frame.clone(), unreliable);
        }
    }

    /// How it stands with each peer, in the order of their numbers.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.links.values().map(|link| link.status()).collect()
    }

    /// Tells all peers that this process ends, and gives that a moment to leave.
    pub async fn close_for_exit(self) {
        self.close(close::PROCESS_EXIT, b"the process ends");
        // Whether or not the peers confirm it in time, the process ends.
        let _ = tokio::time::timeout(FAREWELL_MAX, self.endpoint.wait_idle()).await;
    }

    fn close(&self, code: VarInt, reason: &[u8]) {
        for link in self.links.values() {
            link.close(code, reason);
        }
        self.endpoint.close(code, reason);
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        // After `close_for_exit` this changes nothing: the first code stands.
        self.close(close::ACTOR_RESTART, b"the sender is built anew");
    }
}

/// Whether the message may overtake others and may be lost for good without harm: it then travels as a datagram,
/// which no lost packet of the stream can hold up.
fn may_overtake(body: &Body) -> bool {
    matches!(
        body,
        Body::Heartbeat { .. }
            | Body::HeartbeatResponse { .. }
            | Body::PreVoteRequest { .. }
            | Body::PreVoteResponse { .. }
            | Body::VoteRequest { .. }
            | Body::VoteResponse { .. }
    )
}
