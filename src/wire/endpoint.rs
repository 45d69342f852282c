//! How QUIC is set up for peers: transport parameters, sockets, and endpoints that can be replaced on the same port.

use std::{
    collections::BTreeMap,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use quinn::{
    AckFrequencyConfig, AsyncUdpSocket, ClientConfig, ConnectionId, ConnectionIdGenerator,
    Endpoint, EndpointConfig, Runtime, ServerConfig, TokioRuntime, TransportConfig, UdpPoller,
    VarInt,
    congestion::CubicConfig,
    udp::{RecvMeta, Transmit},
};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use socket2::SockRef;

use crate::stray::{CONNECTION_ID_BYTES, Strays, mark};
use crate::{Credentials, Options, WireError, farewell};

/// What the system is asked to buffer for a socket, in bytes: a burst should not be lost before it is read.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// The one-way streams that a peer may have open at a time: one for messages is needed.
const ONE_WAY_STREAMS_MAX: u32 = 4;
/// The two-way streams that a peer may have open at a time: the hello, a snapshot, and one that is refused.
const TWO_WAY_STREAMS_MAX: u32 = 3;
/// What a connection may have on its way before it has learnt anything about the path. Peers stand in one network,
/// and a leader's first burst (an append of a megabyte to a follower that came back) should not take ten round
/// trips. The controller still backs off when packets are lost.
const INITIAL_WINDOW_BYTES: u64 = 512 << 10;
/// What round trips are taken to be before one is measured: with quinn's 333 ms, the first lost packet of a
/// handshake would cost a second.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(10);
/// Acknowledge after so many packets, or after so long: acknowledgements are half of all packets otherwise.
const PACKETS_PER_ACKNOWLEDGEMENT: u32 = 16;
const ACKNOWLEDGEMENT_DELAY_MAX: Duration = Duration::from_millis(5);
/// The least time between two answers to packets of connections that are not known here.
const RESET_INTERVAL_MIN: Duration = Duration::from_millis(2);

fn transport(options: &Options) -> Result<Arc<TransportConfig>, WireError> {
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements
        .ack_eliciting_threshold(VarInt::from_u32(PACKETS_PER_ACKNOWLEDGEMENT))
        .max_ack_delay(Some(ACKNOWLEDGEMENT_DELAY_MAX));
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW_BYTES);
    let idle = options
        .idle_timeout
        .try_into()
        .map_err(|error| WireError::Options {
            what: "the idle timeout",
            reason: format!("{:?}: {error}", options.idle_timeout),
        })?;
    // Room for what a snapshot has on its way, twice since small chunks have headers too: messages never wait for it.
    let of_messages = VarInt::from_u32(options.receive_window_bytes);
    let of_snapshot = options.snapshot_window_bytes.saturating_mul(2);
    let of_all = VarInt::from_u32(options.receive_window_bytes.saturating_add(of_snapshot));

    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(options.idle_timeout / 4))
        .max_concurrent_bidi_streams(VarInt::from_u32(TWO_WAY_STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(ONE_WAY_STREAMS_MAX))
        .stream_receive_window(of_messages)
        .receive_window(of_all)
        .send_window(of_all.into_inner())
        .initial_rtt(INITIAL_ROUND_TRIP)
        .ack_frequency_config(Some(acknowledgements))
        .congestion_controller_factory(farewell::controllers(congestion));
    Ok(Arc::new(transport))
}

/// The endpoints that only dial, on ports of the system's choice: one for each kind of address that a peer has had.
#[derive(Debug)]
pub(crate) struct Dialler {
    credentials: Credentials,
    config: ClientConfig,
    endpoints: BTreeMap<IpAddr, Endpoint>,
}

impl Dialler {
    pub(crate) fn new(credentials: &Credentials, options: &Options) -> Result<Dialler, WireError> {
        let mut config = ClientConfig::new(credentials.client.clone());
        config.transport_config(transport(options)?);
        Ok(Dialler {
            credentials: credentials.clone(),
            config,
            endpoints: BTreeMap::new(),
        })
    }

    /// The endpoint that reaches this address.
    pub(crate) fn endpoint_to(&mut self, peer: SocketAddr) -> Result<Endpoint, WireError> {
        let from = address_to_dial_from(peer.ip());
        if let Some(endpoint) = self.endpoints.get(&from) {
            return Ok(endpoint.clone());
        }
        let address = SocketAddr::new(from, 0);
        let fail = |source| WireError::Socket { address, source };
        let socket = UdpSocket::bind(address).map_err(fail)?;
        enlarge_buffers(&socket);
        let mut endpoint = Endpoint::new(
            endpoint_config(&self.credentials),
            None,
            socket,
            Arc::new(TokioRuntime),
        )
        .map_err(fail)?;
        endpoint.set_default_client_config(self.config.clone());
        self.endpoints.insert(from, endpoint.clone());
        Ok(endpoint)
    }

    pub(crate) fn close(&self, code: VarInt, reason: &[u8]) {
        for endpoint in self.endpoints.values() {
            endpoint.close(code, reason);
        }
    }

    /// Waits until no connection is left.
    pub(crate) async fn wait_idle(&self) {
        for endpoint in self.endpoints.values() {
            endpoint.wait_idle().await;
        }
    }
}

/// An endpoint that only listens, on a socket that other incarnations use before and after it, and the switch that
/// takes the socket away from it.
pub(crate) fn listener(
    socket: UdpSocket,
    credentials: &Credentials,
    options: &Options,
) -> Result<(Endpoint, Arc<LeasedSocket>), WireError> {
    enlarge_buffers(&socket);
    let mut config = ServerConfig::with_crypto(credentials.server.clone());
    config
        .transport_config(transport(options)?)
        .max_incoming(options.connections_max)
        .migration(false);
    let socket = TokioRuntime
        .wrap_udp_socket(socket)
        .map_err(WireError::Listen)?;
    let socket = Arc::new(LeasedSocket {
        socket,
        ended: AtomicBool::new(false),
        strays: Strays::new(mark_key(credentials)),
    });
    let endpoint = Endpoint::new_with_abstract_socket(
        endpoint_config(credentials),
        Some(config),
        socket.clone(),
        Arc::new(TokioRuntime),
    )
    .map_err(WireError::Listen)?;
    Ok((endpoint, socket))
}

/// Loopback for loopback, else any address; of the same family.
fn address_to_dial_from(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(address) if address.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(address) if address.is_loopback() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Best effort: the system may allow less, and smaller buffers only cost retransmissions.
fn enlarge_buffers(socket: &UdpSocket) {
    let socket = SockRef::from(socket);
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
}

fn endpoint_config(credentials: &Credentials) -> EndpointConfig {
    let mut config = EndpointConfig::new(credentials.reset_key.clone());
    let key = mark_key(credentials);
    config
        .cid_generator(move || {
            let system = SystemRandom::new();
            Box::new(RandomConnectionIds { system, key })
        })
        .min_reset_interval(RESET_INTERVAL_MIN);
    config
}

/// The key of the marks on connection ids: the same after a restart, as the key of the resets.
fn mark_key(credentials: &Credentials) -> u64 {
    let tag = hmac::sign(&credentials.reset_key, b"raft-machine connection ids");
    let bytes = tag.as_ref().iter().take(8);
    bytes.fold(0, |key, byte| key << 8 | u64::from(*byte))
}

/// Makes connection ids at random, with a mark by which the packets of connections are told from strays. quinn's own are
/// marked with a key that dies with the endpoint, and what carries another's mark is not answered; but the packets of a
/// connection to an earlier process must be, by a reset.
#[derive(Debug)]
struct RandomConnectionIds {
    system: SystemRandom,
    key: u64,
}

impl ConnectionIdGenerator for RandomConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut random = [0; 4];
        self.system
            .fill(&mut random)
            .expect("the system's source of randomness does not fail once it has started");
        let id: Vec<u8> = random.into_iter().chain(mark(random, self.key)).collect();
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// A socket that is shared with later incarnations of an endpoint. When its lease ends it receives nothing more, so that every datagram
/// reaches the successor; it still sends, so that connections can be closed properly.
#[derive(Debug)]
pub(crate) struct LeasedSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    ended: AtomicBool,
    strays: Strays,
}

impl LeasedSocket {
    /// How many datagrams came that are none of this protocol.
    pub(crate) fn strays(&self) -> u64 {
        self.strays.count()
    }

    pub(crate) fn end_lease(&self) {
        self.ended.store(true, Ordering::Release);
    }
}

impl AsyncUdpSocket for LeasedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.ended.load(Ordering::Acquire) {
            // Never woken again by the socket; the endpoint's driver ends with its last connection.
            return Poll::Pending;
        }
        let received = ready!(self.socket.poll_recv(context, buffers, meta))?;
        for (buffer, meta) in buffers.iter().zip(&*meta).take(received) {
            // The system may hand over several datagrams of one sender in one buffer.
            for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                self.strays.look_at(datagram);
            }
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}
