//! Measures two machines on loopback, each with a thread and a current-thread runtime for either half, as the actors
//! have: round trips of one small message, then frames of 300 bytes in bursts.
//!
//!     cargo run --release -p rm-wire --example loopback

use std::{
    error::Error,
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rm_raft::{Body, MachineId, Message, Proposal, ReadId, ReadMode, RequestId, Term};
use rm_wire::{
    Credentials, DataId, DataIds, Event, Handler, Identity, Inbound, Options, Outbound, Peer,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const ROUND_TRIPS: u64 = 20_000;
const FRAMES: u64 = 1_000_000;
/// The frames that leave in one burst, and how many may be on their way.
const BURST: u64 = 64;
const ON_THEIR_WAY_MAX: u64 = 1_024;
const COMMAND_BYTES: usize = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let sockets = [
        UdpSocket::bind("127.0.0.1:0")?,
        UdpSocket::bind("127.0.0.1:0")?,
    ];
    let mut peers = Vec::new();
    for (id, socket) in (1..).zip(&sockets) {
        peers.push(Peer {
            id: MachineId(id),
            name: format!("RM.{id:02}"),
            address: socket.local_addr()?,
            host: "127.0.0.1".to_owned(),
            data_id: None,
            stranger: false,
        });
    }
    let [first_socket, second_socket] = sockets;
    let (answered, answers) = mpsc::channel();
    let arrived = Arc::new(AtomicU64::new(0));

    let to_second = send_half(&peers, 0);
    let to_first = send_half(&peers, 1);
    listen_half(&peers, 0, first_socket, move |message| {
        // The main thread may have finished.
        let _ = answered.send(message);
    });
    let counter = arrived.clone();
    listen_half(&peers, 1, second_socket, move |message| {
        match message.body {
            Body::ReadIndexRequest { .. } => drop(to_first.send(message)),
            _ => {
                counter.fetch_add(1, Ordering::Release);
            }
        }
    });

    let ping = Message {
        term: Term(1),
        body: Body::ReadIndexRequest {
            read: ReadId(1),
            mode: ReadMode::Quorum,
        },
    };
    // The first ones wait for the connections.
    to_second.send(ping.clone())?;
    while answers.recv_timeout(Duration::from_millis(100)).is_err() {
        to_second.send(ping.clone())?;
    }
    let (start, busy) = (Instant::now(), processor_time());
    for _ in 0..ROUND_TRIPS {
        to_second.send(ping.clone())?;
        answers.recv()?;
    }
    report("round trips", ROUND_TRIPS, start, busy);

    let frame = Message {
        term: Term(1),
        body: Body::Propose {
            proposals: vec![Proposal {
                request: RequestId::default(),
                command: Bytes::from(vec![7; COMMAND_BYTES]),
            }],
        },
    };
    let (start, busy) = (Instant::now(), processor_time());
    let mut sent = 0;
    while sent < FRAMES {
        while sent - arrived.load(Ordering::Acquire) > ON_THEIR_WAY_MAX {
            thread::yield_now();
        }
        for _ in 0..BURST {
            to_second.send(frame.clone())?;
        }
        sent += BURST;
    }
    while arrived.load(Ordering::Acquire) < sent {
        thread::yield_now();
    }
    report("frames", sent, start, busy);
    Ok(())
}

/// Processor time of this process so far, in ticks of 10 ms.
fn processor_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.split_whitespace().collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|field| field.parse().ok())
            .unwrap_or(0)
    };
    ticks(13) + ticks(14)
}

fn report(what: &str, count: u64, start: Instant, busy: u64) {
    let seconds = start.elapsed().as_secs_f64();
    let micros = (processor_time() - busy) as f64 * 10_000.0 / count as f64;
    println!(
        "{:>10.0} {what}/s, {micros:.2} us of processor time each",
        count as f64 / seconds
    );
}

fn identity(peers: &[Peer], at: usize) -> Identity {
    Identity {
        domain: "bench".to_owned(),
        era: 0,
        name: peers[at].name.clone(),
        id: peers[at].id,
        address: peers[at].address.to_string(),
        incarnation: 1,
        data_id: DataId::default(),
    }
}

fn others(peers: &[Peer], at: usize) -> Vec<Peer> {
    let own = peers[at].id;
    peers
        .iter()
        .filter(|peer| peer.id != own)
        .cloned()
        .collect()
}

fn options() -> Options {
    Options::new(Duration::from_millis(100), Duration::from_secs(1))
}

/// Runs `work` on a thread with a runtime of its own.
fn on_own_thread<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) {
    thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be built")
            .block_on(async { work().await });
    });
}

fn send_half(peers: &[Peer], at: usize) -> UnboundedSender<Message> {
    let (sender, mut queue): (_, UnboundedReceiver<Message>) = unbounded_channel();
    let (local, peers) = (identity(peers, at), others(peers, at));
    on_own_thread(move || async move {
        let credentials = Credentials::self_made(&local.name).expect("a certificate can be made");
        let outbound = Outbound::new(
            &local,
            &peers,
            &DataIds::default(),
            &credentials,
            &options(),
        )
        .expect("there are free ports");
        let to: Vec<_> = peers.iter().map(|peer| peer.id).collect();
        while let Some(message) = queue.recv().await {
            outbound.send(&to, &message);
        }
    });
    sender
}

fn listen_half(
    peers: &[Peer],
    at: usize,
    socket: UdpSocket,
    take: impl Fn(Message) + Send + Sync + 'static,
) {
    let (local, peers) = (identity(peers, at), others(peers, at));
    let handler: Handler = Arc::new(move |event| {
        if let Event::Received { messages, .. } = event {
            messages.into_iter().for_each(&take);
        }
    });
    on_own_thread(move || async move {
        let credentials = Credentials::self_made(&local.name).expect("a certificate can be made");
        let _inbound = Inbound::new(
            socket,
            &local,
            &peers,
            &DataIds::default(),
            &credentials,
            &options(),
            handler,
        )
        .expect("the socket is good");
        std::future::pending().await
    });
}
