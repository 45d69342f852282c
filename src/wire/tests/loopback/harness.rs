//! Machines for tests, and waiting for what they do.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rm_raft::{
    Body, Entry, EntryId, Index, MachineId, Message, Payload, Proposal, ReadId, ReadMode, Refusal,
    RequestId, Term,
};
use rm_wire::{
    Credentials, DataId, DataIds, Event, Handler, Identity, Inbound, LessorMessage, Options,
    Outbound, Peer, PeerStatus,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Far longer than anything here takes, so that only a failure waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A machine with both halves, either of which may be missing at the moment.
pub(crate) struct Machine {
    pub(crate) identity: Identity,
    pub(crate) peers: Vec<Peer>,
    pub(crate) credentials: Credentials,
    pub(crate) options: Options,
    pub(crate) data_ids: DataIds,
    pub(crate) address: SocketAddr,
    pub(crate) inbound: Option<Inbound>,
    pub(crate) outbound: Option<Outbound>,
    socket: UdpSocket,
    events: UnboundedReceiver<Event>,
    tell: UnboundedSender<Event>,
}

/// Machines 1 to `count` of one domain, none of them started.
pub(crate) fn machines(count: u64) -> Vec<Machine> {
    let listed: Vec<_> = (1..=count)
        .map(|id| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
            let peer = Peer {
                id: MachineId(id),
                name: format!("RM.{id:02}"),
                address: socket.local_addr().expect("a bound socket has an address"),
                host: "127.0.0.1".to_owned(),
                data_id: None,
                stranger: false,
            };
            (peer, socket)
        })
        .collect();
    let peers: Vec<_> = listed.iter().map(|(peer, _)| peer.clone()).collect();
    listed
        .into_iter()
        .map(|(peer, socket)| Machine::new(peer, socket, &peers))
        .collect()
}

/// Machines 1 to `count` of one domain, all started and connected with each other.
pub(crate) async fn cluster(count: u64) -> Vec<Machine> {
    let mut machines = machines(count);
    for machine in &mut machines {
        machine.start();
    }
    for machine in &machines {
        machine.all_connected().await;
    }
    machines
}

impl Machine {
    pub(crate) fn new(own: Peer, socket: UdpSocket, all: &[Peer]) -> Machine {
        let (tell, events) = unbounded_channel();
        let identity = Identity {
            domain: "csy.com".to_owned(),
            era: 7,
            name: own.name.clone(),
            id: own.id,
            address: own.address.to_string(),
            incarnation: 1,
            data_id: DataId([own.id.0 as u8; 16]),
        };
        let mut options = Options::new(Duration::from_millis(100), Duration::from_millis(1000));
        // No test may pass only because a silent connection timed out.
        options.idle_timeout = PATIENCE * 3;
        Machine {
            credentials: Credentials::self_made(&format!("csy.com/{}", own.name))
                .expect("a certificate can be made"),
            peers: all
                .iter()
                .filter(|peer| peer.id != own.id)
                .cloned()
                .collect(),
            identity,
            data_ids: DataIds::default(),
            options,
            address: own.address,
            inbound: None,
            outbound: None,
            socket,
            events,
            tell,
        }
    }

    pub(crate) fn id(&self) -> MachineId {
        self.identity.id
    }

    pub(crate) fn start(&mut self) {
        self.start_inbound();
        self.start_outbound();
    }

    pub(crate) fn start_inbound(&mut self) {
        let tell = self.tell.clone();
        // The test may end, and with it the receiver, before the last event.
        let handler: Handler = Arc::new(move |event| drop(tell.send(event)));
        let socket = self.socket.try_clone().expect("a socket can be cloned");
        // The one before ends before the next begins, as it does where an actor is restarted.
        self.inbound = None;
        self.inbound = Some(
            Inbound::new(
                socket,
                &self.identity,
                &self.peers,
                &self.data_ids,
                &self.credentials,
                &self.options,
                handler,
            )
            .expect("the socket is good"),
        );
    }

    pub(crate) fn start_outbound(&mut self) {
        self.outbound = None;
        self.outbound = Some(
            Outbound::new(
                &self.identity,
                &self.peers,
                &self.data_ids,
                &self.credentials,
                &self.options,
            )
            .expect("loopback has free ports"),
        );
    }

    /// Listens on another port from now on; the address of it.
    pub(crate) fn move_away(&mut self) -> SocketAddr {
        self.inbound = None;
        self.socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
        self.address = self
            .socket
            .local_addr()
            .expect("a bound socket has an address");
        self.start_inbound();
        self.address
    }

    pub(crate) fn send(&self, to: &[&Machine], message: &Message) {
        let to: Vec<_> = to.iter().map(|machine| machine.id()).collect();
        self.outbound().send(&to, message);
    }

    pub(crate) fn outbound(&self) -> &Outbound {
        self.outbound
            .as_ref()
            .expect("the sending half was started")
    }

    /// The sending half gets another list of peers.
    pub(crate) fn set_outbound_peers(&mut self, peers: &[Peer]) {
        let outbound = self.outbound.as_mut();
        outbound
            .expect("the sending half was started")
            .set_peers(peers)
            .expect("loopback has free ports");
    }

    pub(crate) fn inbound(&self) -> &Inbound {
        self.inbound
            .as_ref()
            .expect("the listening half was started")
    }

    pub(crate) fn status(&self, of: MachineId) -> PeerStatus {
        let mut all = self.outbound().status().into_iter();
        all.find(|status| status.id == of).expect("it is a peer")
    }

    /// Waits until the way to each peer is open.
    pub(crate) async fn all_connected(&self) {
        until("all peers are connected", || {
            self.outbound()
                .status()
                .iter()
                .all(|status| status.connected)
        })
        .await;
    }

    /// Waits for the next event that `wanted` makes something of; others are passed over.
    pub(crate) async fn event<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let next = async {
            loop {
                let event = self
                    .events
                    .recv()
                    .await
                    .expect("this machine holds a sender");
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, next)
            .await
            .expect("the event that the test waits for never came")
    }

    /// Waits for `count` messages from a machine.
    pub(crate) async fn received(&mut self, from: MachineId, count: usize) -> Vec<Message> {
        let mut all = Vec::new();
        while all.len() < count {
            let some = self
                .event(|event| match event {
                    Event::Received {
                        from: who,
                        messages,
                    } if *who == from => Some(messages.clone()),
                    _ => None,
                })
                .await;
            all.extend(some);
        }
        all
    }

    /// Waits for what a machine's lessor says.
    pub(crate) async fn lessor_said(&mut self, from: MachineId) -> LessorMessage {
        self.event(|event| match event {
            Event::Lessor { from: who, message } if *who == from => Some(message.clone()),
            _ => None,
        })
        .await
    }

    /// Sends until one arrives, as Raft does: what was on its way when something broke is lost.
    pub(crate) async fn gets_through_to(&self, other: &mut Machine, message: &Message) {
        let from = self.id();
        let arrival = async {
            loop {
                self.send(&[other], message);
                let wait = other.received(from, 1);
                if let Ok(messages) = tokio::time::timeout(Duration::from_millis(20), wait).await
                    && messages.contains(message)
                {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, arrival)
            .await
            .expect("messages never got through");
    }
}

/// Waits until the condition holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, wait).await.is_err() {
        panic!("this never came to be: {what}");
    }
}

/// A message that travels on the stream, told apart from others by its number.
pub(crate) fn numbered(number: u64) -> Message {
    Message {
        term: Term(1),
        body: Body::ReadIndexRequest {
            read: ReadId(number),
            mode: ReadMode::Quorum,
        },
    }
}

/// An append of one command of this many bytes.
pub(crate) fn append(bytes: usize) -> Message {
    Message {
        term: Term(7),
        body: Body::AppendRequest {
            previous: EntryId::default(),
            entries: vec![Entry {
                id: EntryId {
                    term: Term(7),
                    index: Index(1),
                },
                payload: Payload::Command(Proposal {
                    request: RequestId::default(),
                    command: Bytes::from(vec![b'x'; bytes]),
                }),
            }]
            .into(),
            commit: Index(0),
            round: 1,
        },
    }
}

/// One message of each kind.
pub(crate) fn every_kind() -> Vec<Message> {
    let last = EntryId {
        term: Term(3),
        index: Index(5),
    };
    let bodies = vec![
        Body::PreVoteRequest { last },
        Body::PreVoteResponse { granted: true },
        Body::VoteRequest {
            last,
            leader_gave_way: false,
        },
        Body::VoteResponse { granted: true },
        Body::Appended {
            matched: Index(5),
            round: 2,
        },
        Body::AppendRejected {
            previous: Index(9),
            hint: last,
            round: 2,
        },
        Body::Heartbeat {
            commit: last,
            round: 3,
        },
        Body::HeartbeatResponse {
            round: 3,
            last: Index(5),
            full: false,
            loyal: Duration::from_millis(1_000),
        },
        Body::Propose {
            proposals: vec![Proposal {
                request: RequestId::default(),
                command: Bytes::from_static(b"put"),
            }],
        },
        Body::ProposeRefused {
            requests: vec![RequestId::default()],
            reason: Refusal::NotLeader,
        },
        Body::ReadIndexRequest {
            read: ReadId(1),
            mode: ReadMode::Quorum,
        },
        Body::ReadIndexResponse {
            read: ReadId(1),
            index: Some(Index(5)),
        },
    ];
    let mut messages: Vec<_> = bodies
        .into_iter()
        .map(|body| Message {
            term: Term(3),
            body,
        })
        .collect();
    messages.push(append(3));
    messages.push(append(1 << 20));
    messages
}
