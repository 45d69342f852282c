//! The half that sends: one connection to each peer, made and made again for as long as this value lives.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use quinn::VarInt;
use rm_raft::{Body, MachineId, Message};
use tokio::task::{AbortHandle, JoinSet};

use crate::{
    Credentials, DataIds, Identity, LessorMessage, Options, Peer, SnapshotError, SnapshotHeader,
    SnapshotOutcome, SnapshotSource, WireError, close, encode, endpoint::Dialler, lessor,
    link::Link, snapshot_sender,
};

/// How long an ending process waits for its farewells to leave.
const FAREWELL_MAX: Duration = Duration::from_millis(200);

/// Sends messages to peers. To be created inside the tokio runtime that is to drive it; dropping it ends all its
/// tasks and tells the peers that only this half is gone.
#[derive(Debug)]
pub struct Outbound {
    local: Identity,
    data_ids: DataIds,
    credentials: Credentials,
    options: Options,
    dialler: Dialler,
    ways: BTreeMap<MachineId, Way>,
    tasks: JoinSet<()>,
}

/// The way to one peer, and the task that keeps it.
#[derive(Debug)]
struct Way {
    link: Arc<Link>,
    task: AbortHandle,
    /// Whether the peer was a stranger by the last list: a way that was made to one serves on when it is listed.
    stranger: bool,
}

impl Way {
    fn give_up(self, code: VarInt, reason: &'static [u8]) {
        // First the farewell: a task that was aborted drops its connection without one.
        self.link.close(code, reason);
        self.task.abort();
    }
}

/// What can be told about the way to one peer. Counts are since this half was built, or the peer was listed as it is.
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
    /// Bytes of snapshots' contents, handed to QUIC on streams of their own.
    pub snapshot_bytes_sent: u64,
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
    /// Which of the two refuses the other, why, and where it is known what to do. It stands until there is a connection, also while
    /// the peer does not answer at all.
    pub refusal: Option<String>,
    /// Whether that is because the peer is of another era of the domain.
    pub other_era: bool,
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
        data_ids: &DataIds,
        credentials: &Credentials,
        options: &Options,
    ) -> Result<Outbound, WireError> {
        let mut outbound = Outbound {
            local: local.clone(),
            data_ids: data_ids.clone(),
            credentials: credentials.clone(),
            options: options.clone(),
            dialler: Dialler::new(credentials, options)?,
            ways: BTreeMap::new(),
            tasks: JoinSet::new(),
        };
        for peer in peers {
            outbound.dial(peer)?;
        }
        Ok(outbound)
    }

    /// From now on these are the peers. The ways to those that stay as they were are left alone, with what waits on them; a
    /// machine whose entry has changed is dialled anew, a new one is dialled, and one that is gone from the list is told so.
    ///
    /// # Errors
    /// [`WireError::Socket`] if there is no socket to dial a new peer from; the others are served all the same.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn set_peers(&mut self, peers: &[Peer]) -> Result<(), WireError> {
        self.data_ids.retain(peers);
        let listed = |id: &MachineId| peers.iter().any(|peer| peer.id == *id);
        let ids: Vec<_> = self.ways.keys().copied().collect();
        let gone = ids.into_iter().filter(|id| !listed(id));
        for way in gone
            .filter_map(|id| self.ways.remove(&id))
            .collect::<Vec<_>>()
        {
            if way.stranger {
                way.give_up(
                    close::PEER_CHANGED,
                    b"this machine was no member, and its own connection ended",
                );
            } else {
                way.give_up(
                    close::REMOVED,
                    b"this machine was removed from the list of peers",
                );
            }
        }
        // The results of tasks that have ended.
        while self.tasks.try_join_next().is_some() {}
        let mut result = Ok(());
        for peer in peers {
            if let Some(way) = self.ways.get_mut(&peer.id)
                && way.link.serves(peer)
            {
                way.stranger = peer.stranger;
                continue;
            }
            if let Some(way) = self.ways.remove(&peer.id) {
                way.give_up(
                    close::PEER_CHANGED,
                    b"the entry of this machine in the list of peers has changed",
                );
            }
            result = result.and(self.dial(peer));
        }
        result
    }

    fn dial(&mut self, peer: &Peer) -> Result<(), WireError> {
        let endpoint = self.dialler.endpoint_to(peer.address)?;
        let link = Arc::new(Link::new(
            &self.local,
            peer,
            &self.data_ids,
            &self.credentials,
            &self.options,
        ));
        let task = self.tasks.spawn(link.clone().keep_connected(endpoint));
        let way = Way {
            link,
            task,
            stranger: peer.stranger,
        };
        self.ways.insert(peer.id, way);
        Ok(())
    }

    /// Sends one message to each of these machines. Encodes it once, waits for nothing, and promises nothing: what
    /// finds no room or no connection is lost and counted, as Raft endures. A machine that is not a peer is passed over.
    pub fn send(&self, to: &[MachineId], message: &Message) {
        let frame = encode(message);
        let unreliable = may_overtake(&message.body);
        for way in to.iter().filter_map(|id| self.ways.get(id)) {
            way.link.send(frame.clone(), unreliable);
        }
    }

    /// Sends the message of a lessor to a machine, as [`Outbound::send`] does: it may be lost.
    pub fn send_to_lessor(&self, to: MachineId, message: &LessorMessage) {
        if let Some(way) = self.ways.get(&to) {
            way.link.send(lessor::encode(message), false);
        }
    }

    /// Sends a snapshot to a peer, on a stream of its own. It goes on while the future is polled, and is broken off when
    /// that is dropped; polled on a thread of its own or beside other work, it never delays a message.
    ///
    /// A later call with the same [`SnapshotHeader::id`] goes on where the peer's sink wants it.
    ///
    /// ```no_run
    /// # use rm_wire::{Outbound, SnapshotError, SnapshotHeader, SnapshotOutcome, SnapshotSource};
    /// # async fn example<S: SnapshotSource>(outbound: &Outbound, header: SnapshotHeader, file: S) {
    /// let transfer = outbound.send_snapshot(rm_raft::MachineId(2), header, file);
    /// match tokio::spawn(transfer).await.expect("it does not panic") {
    ///     Ok(SnapshotOutcome::Delivered { resumed_at }) => println!("sent from byte {resumed_at} on"),
    ///     Ok(SnapshotOutcome::AlreadyThere) => println!("nothing was to be sent"),
    ///     Err(SnapshotError::Refused(reason)) => println!("refused: {reason}"),
    ///     Err(error) => println!("to be tried again: {error}"),
    /// }
    /// # }
    /// ```
    pub fn send_snapshot<S: SnapshotSource>(
        &self,
        to: MachineId,
        header: SnapshotHeader,
        source: S,
    ) -> impl Future<Output = Result<SnapshotOutcome, SnapshotError>> + Send + use<S> {
        let link = self.ways.get(&to).map(|way| way.link.clone());
        let options = self.options.clone();
        async move {
            let link = link.ok_or(SnapshotError::UnknownPeer { peer: to })?;
            let connection = link
                .connection()
                .ok_or(SnapshotError::NotConnected { peer: to })?;
            let count = |bytes| link.count_snapshot(bytes);
            snapshot_sender::send(&connection, &header, Box::new(source), &options, count).await
        }
    }

    /// How it stands with each peer, in the order of their numbers.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.ways.values().map(|way| way.link.status()).collect()
    }

    /// Tells all peers that this process ends, and gives that a moment to leave.
    pub async fn close_for_exit(self) {
        self.close(close::PROCESS_EXIT, b"the process ends");
        // Whether or not the peers confirm it in time, the process ends.
        let _ = tokio::time::timeout(FAREWELL_MAX, self.dialler.wait_idle()).await;
    }

    fn close(&self, code: VarInt, reason: &'static [u8]) {
        for way in self.ways.values() {
            way.link.close(code, reason);
        }
        self.dialler.close(code, reason);
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
