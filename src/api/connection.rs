//! Connections of clients: how many there may be, how soon they must speak, and how their bytes are written.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, Stream, stream};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::transport::server::Connected;

/// How long a client may take for its first bytes: the preface of HTTP/2, or as much of a request of HTTP/1.1. Nothing else ends a
/// connection that never sends them: HTTP/2's own keepalive begins with the preface, HTTP/1.1's limit on the head of a request
/// with its first byte, and the stop in good order with either.
pub(crate) const PREFACE_TIME: Duration = Duration::from_secs(10);

/// How many bytes the preface has (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

/// A connection that is silent for so long is probed, and then again after each interval, until the system gives it up:
/// the other host may be gone without a word.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// How long to wait after the system refused to hand over a connection: most often it is out of file descriptors, and
/// asking again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One client's connection.
///
/// It says that it cannot write from several buffers at once, though it could: h2 then copies payloads of up to 1 KiB
/// behind each other and writes them together, where it would otherwise make a system call for each payload of more
/// than 255 bytes. Measured at 256 clients, gets of 256 and 900 bytes cost a quarter less CPU so, and gets of 4 KiB
/// a tenth more.
pub(crate) struct Connection {
    stream: TcpStream,
    /// What is there until the preface is.
    opening: Option<Opening>,
    place: Place,
}

/// Held as long as a connection is open.
struct Place(Arc<Traffic>);

impl Place {
    fn taken(traffic: &Arc<Traffic>) -> Place {
        traffic.connections.fetch_add(1, Ordering::Relaxed);
        Place(traffic.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How much went to and fro on all connections.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    connections: AtomicU64,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

impl Traffic {
    /// How many connections are open.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// What clients have sent, in bytes.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// What clients were sent, in bytes.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }
}

/// The time before the preface is there.
struct Opening {
    missing_bytes: usize,
    /// Ready when the client has had its time, or when no more clients are served.
    over: BoxFuture<'static, ()>,
}

/// The door for connections.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    /// The most connections at a time; one more is closed as soon as it is accepted.
    pub(crate) connections_max: usize,
    /// How long a client may take for the preface.
    pub(crate) preface_time: Duration,
    /// Whether the server stops: then whoever has sent no preface is sent away.
    pub(crate) draining: watch::Receiver<bool>,
    pub(crate) traffic: Arc<Traffic>,
}

impl Door {
    pub(crate) fn new(
        listener: TcpListener,
        connections_max: usize,
        preface_time: Duration,
        draining: watch::Receiver<bool>,
    ) -> Door {
        Door {
            listener,
            connections_max,
            preface_time,
            draining,
            traffic: Arc::default(),
        }
    }

    /// The connections that come in. It never ends.
    pub(crate) fn incoming(self) -> impl Stream<Item = io::Result<Connection>> {
        stream::unfold(self, |door| async move {
            let connection = door.accept().await;
            Some((Ok(connection), door))
        })
    }

    /// The next connection for which there is room.
    async fn accept(&self) -> Connection {
        loop {
            match self.listener.accept().await {
                Ok(_) if self.traffic.connections() >= self.connections_max as u64 => {}
                Ok((stream, _)) => return self.admit(stream),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn admit(&self, stream: TcpStream) -> Connection {
        // These fail only on a connection that is already gone. Without the first an answer would wait for the
        // acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let probes = TcpKeepalive::new()
            .with_time(PROBE_AFTER)
            .with_interval(PROBE_INTERVAL);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&probes);
        let deadline = tokio::time::sleep(self.preface_time);
        let mut draining = self.draining.clone();
        let over = async move {
            tokio::select! {
                () = deadline => {}
                // An error says that the server is gone.
                _ = draining.wait_for(|draining| *draining) => {}
            }
        };
        Connection {
            stream,
            opening: Some(Opening {
                missing_bytes: PREFACE_BYTES,
                over: over.boxed(),
            }),
            place: Place::taken(&self.traffic),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let bytes = buf.filled().len() - before;
        let received = &self.place.0.received_bytes;
        received.fetch_add(bytes as u64, Ordering::Relaxed);
        let Some(opening) = &mut self.opening else {
            return read;
        };
        if read.is_pending() && opening.over.poll_unpin(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        opening.missing_bytes = opening.missing_bytes.saturating_sub(bytes);
        if opening.missing_bytes == 0 {
            self.opening = None;
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = written {
            let sent = &self.place.0.sent_bytes;
            sent.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tonic::transport::Server;

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(50);

    async fn door(connections_max: usize, preface_time: Duration) -> (Door, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let (stop, draining) = watch::channel(false);
        let door = Door::new(listener, connections_max, preface_time, draining);
        (door, stop)
    }

    #[tokio::test]
    async fn a_connection_too_many_is_closed_and_room_is_given_back() -> io::Result<()> {
        let (door, _stop) = door(1, LONG).await;
        let address = door.listener.local_addr()?;
        let _first_client = TcpStream::connect(address).await?;
        let first = door.accept().await;

        let mut second_client = TcpStream::connect(address).await?;
        let mut byte = [0];
        tokio::select! {
            _ = door.accept() => panic!("there is room for one only"),
            read = second_client.read(&mut byte) => assert_eq!(read?, 0, "closed"),
        }

        drop(first);
        let third_client = TcpStream::connect(address).await?;
        let third = door.accept().await;
        assert_eq!(third.stream.peer_addr()?, third_client.local_addr()?);
        Ok(())
    }

    #[tokio::test]
    async fn small_payloads_are_left_to_be_written_together() -> io::Result<()> {
        let (door, _stop) = door(1, LONG).await;
        let client = TcpStream::connect(door.listener.local_addr()?).await?;
        let connection = door.accept().await;
        assert!(client.is_write_vectored());
        assert!(!connection.is_write_vectored());
        Ok(())
    }

    #[tokio::test]
    async fn a_connection_is_probed_while_it_is_silent() -> io::Result<()> {
        let (door, _stop) = door(1, LONG).await;
        let _client = TcpStream::connect(door.listener.local_addr()?).await?;
        let connection = door.accept().await;
        assert!(SockRef::from(&connection.stream).keepalive()?);
        Ok(())
    }

    #[tokio::test]
    async fn a_client_that_sends_no_whole_preface_is_given_up() -> io::Result<()> {
        let (door, _stop) = door(1, SHORT).await;
        let mut client = TcpStream::connect(door.listener.local_addr()?).await?;
        let mut connection = door.accept().await;
        client.write_all(&[0; PREFACE_BYTES - 1]).await?;
        let mut bytes = [0; 2 * PREFACE_BYTES];
        connection
            .read_exact(&mut bytes[..PREFACE_BYTES - 1])
            .await?;
        let error = connection
            .read(&mut bytes)
            .await
            .expect_err("its time is over");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        Ok(())
    }

    #[tokio::test]
    async fn a_client_that_sent_its_preface_may_be_silent() -> io::Result<()> {
        let (door, stop) = door(1, SHORT).await;
        let mut client = TcpStream::connect(door.listener.local_addr()?).await?;
        let mut connection = door.accept().await;
        client.write_all(&[0; PREFACE_BYTES]).await?;
        let mut bytes = [0; PREFACE_BYTES];
        connection.read_exact(&mut bytes).await?;
        stop.send_replace(true);
        let more = tokio::time::timeout(2 * SHORT, connection.read(&mut bytes)).await;
        assert!(more.is_err(), "the read still waits");
        Ok(())
    }

    #[tokio::test]
    async fn a_silent_connection_does_not_hold_up_a_stop() -> io::Result<()> {
        let (door, stop) = door(1, LONG).await;
        let address = door.listener.local_addr()?;
        let mut draining = door.draining.clone();
        let (accepted, mut admissions) = tokio::sync::mpsc::unbounded_channel();
        let incoming = stream::StreamExt::inspect(door.incoming(), move |_| {
            let _ = accepted.send(());
        });
        let (_reporter, health) = tonic_health::server::health_reporter();
        let stopping = async move {
            let _ = draining.wait_for(|draining| *draining).await;
        };
        let server = Server::builder()
            .add_service(health)
            .serve_with_incoming_shutdown(incoming, stopping);
        let mut server = std::pin::pin!(server);

        let _silent = TcpStream::connect(address).await?;
        tokio::select! {
            _ = &mut server => panic!("nothing stops it yet"),
            admitted = admissions.recv() => assert!(admitted.is_some()),
        }
        stop.send_replace(true);
        let stopped = tokio::time::timeout(LONG / 60, server).await;
        assert!(matches!(stopped, Ok(Ok(()))), "{stopped:?}");
        Ok(())
    }
}
