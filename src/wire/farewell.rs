//! Closing a connection so that the other end learns why, also where much is on its way.
//!
//! quinn holds back the packet that closes a connection while congestion control lets nothing more be sent, and sends it never if data
//! waits then: the other end hears nothing until its keep-alive, and then only that nobody knows the connection. So its
//! controller is told of the end and lets that one packet go, after which nothing else is sent.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use quinn::{Connection, VarInt};
use quinn_proto::RttEstimator;

/// Closes the connection with an application code and its reason.
pub(crate) fn close(connection: &Connection, code: VarInt, reason: &[u8]) {
    if let Ok(courteous) = connection
        .congestion_state()
        .into_any()
        .downcast::<Courteous>()
    {
        courteous.ends.store(true, Ordering::Release);
    }
    connection.close(code, reason);
}

/// Makes controllers that let a farewell go.
pub(crate) fn controllers(congestion: CubicConfig) -> Arc<dyn ControllerFactory + Send + Sync> {
    Arc::new(Controllers(Arc::new(congestion)))
}

struct Controllers(Arc<CubicConfig>);

impl ControllerFactory for Controllers {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Courteous {
            inner: Arc::clone(&self.0).build(now, current_mtu),
            ends: Arc::default(),
        })
    }
}

/// A controller as any other, until the connection ends.
struct Courteous {
    inner: Box<dyn Controller>,
    /// Whether the connection is being closed; shared by all copies.
    ends: Arc<AtomicBool>,
}

impl Controller for Courteous {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.inner
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.inner
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    /// Without an end while the connection ends: quinn does not pace such a window either.
    fn window(&self) -> u64 {
        if self.ends.load(Ordering::Acquire) {
            u64::MAX
        } else {
            self.inner.window()
        }
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Courteous {
            inner: self.inner.clone_box(),
            ends: Arc::clone(&self.ends),
        })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::time::Duration;

    use quinn::ConnectionError;

    use super::*;
    use crate::endpoint::{self, Dialler};
    use crate::{Credentials, Options, close::PROCESS_EXIT};

    /// Should the farewell not come, the other end learns from silence that all is over.
    const SILENCE: Duration = Duration::from_secs(4);

    /// More than may be on its way before anything is confirmed, and less than may wait.
    const BYTES: usize = 4 << 20;

    #[tokio::test]
    async fn the_other_end_hears_why_though_the_window_is_full_and_data_waits() {
        let mut options = Options::new(Duration::from_millis(100), Duration::from_secs(1));
        options.idle_timeout = SILENCE;
        let credentials = Credentials::self_made("farewell").expect("a certificate can be made");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
        let address: SocketAddr = socket.local_addr().expect("a bound socket has an address");
        let (listener, lease) =
            endpoint::listener(socket, &credentials, &options).expect("the socket is good");
        let mut dialler = Dialler::new(&credentials, &options).expect("the options are good");
        let dialling = dialler
            .endpoint_to(address)
            .expect("loopback has free ports")
            .connect(address, "localhost")
            .expect("the address is good");
        let accepting = async { listener.accept().await.expect("it listens").await };
        let (here, there) = tokio::join!(accepting, dialling);
        let (here, there) = (here.expect("it connects"), there.expect("it connects"));

        // What is sent from now on is never confirmed here, so that the window only fills.
        lease.end_lease();
        let before = here.stats().udp_tx.bytes;
        let mut stream = here.open_uni().await.expect("a stream is allowed");
        stream
            .write_all(&vec![0; BYTES])
            .await
            .expect("there is room");
        let sent = || here.stats().udp_tx.bytes - before;
        while sent() < here.congestion_state().window() && here.close_reason().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(sent() < BYTES as u64, "data waits");

        close(&here, PROCESS_EXIT, b"the process ends");
        match there.closed().await {
            ConnectionError::ApplicationClosed(closed) => {
                assert_eq!(closed.error_code, PROCESS_EXIT);
                assert_eq!(&closed.reason[..], b"the process ends");
            }
            other => panic!("it heard no farewell: {other}"),
        }
    }
}
