//! Notices within a heartbeat or two that a peer's process was killed: it says no farewell, but the system closes its port.
//!
//! While nothing comes from a peer, a datagram of one byte goes to the port where it listens, from a connected UDP
//! socket: only such a socket is told (`ECONNREFUSED`) when the other system answers that nobody listens. The port is
//! bound as long as the process lives, whichever halves are being built anew. QUIC passes over so short a datagram.
//!
//! No answer means nothing: the process lives, or the network or a firewall is silent. An answer can lie, where a
//! firewall rejects with the same answer or someone forges it; whoever acts on it must stay safe when it is false.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use quinn::Connection;
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep_until},
};

/// Too short for any QUIC packet.
const PROBE: [u8; 1] = [0];

/// Waits until the system of a peer says that nobody listens at `address`, which is asked each `interval` in which
/// nothing came on the connection. For ever, where no socket can be had.
pub(crate) async fn process_gone(connection: &Connection, address: SocketAddr, interval: Duration) {
    let Ok(socket) = connected_to(address).await else {
        return std::future::pending().await;
    };
    let mut came = 0;
    loop {
        let next = Instant::now() + interval;
        tokio::select! {
            () = sleep_until(next) => {}
            () = refused(&socket) => return,
        }
        let before = std::mem::replace(&mut came, connection.stats().udp_rx.datagrams);
        if came == before
            && let Err(error) = socket.send(&PROBE).await
            && error.kind() == ErrorKind::ConnectionRefused
        {
            return;
        }
    }
}

async fn connected_to(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// Waits for the answer that nobody listens. Whatever else comes ends the waiting for this time: nobody answers a probe.
async fn refused(socket: &UdpSocket) {
    match socket.recv(&mut [0]).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        _ => std::future::pending().await,
    }
}
