//! Connections of clients: how their bytes are read and written, who is at the other end, and how soon it must speak.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use rm_actors::port::Origin;
use rm_tls::Accepted;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tonic::transport::server::Connected;

use crate::linger::Linger;
use crate::pings::{PREFACE, Pings};

/// How long a client may take for its first bytes, the handshake of TLS among them: the preface of HTTP/2, or as much of a request of
/// HTTP/1.1. Nothing else ends a connection that never sends them: HTTP/2's own keepalive begins with the preface, HTTP/1.1's limit on
/// the head of a request with its first byte, and the stop in good order with either.
pub(crate) const PREFACE_TIME: Duration = Duration::from_secs(10);

/// How many bytes the preface has.
pub(crate) const PREFACE_BYTES: usize = PREFACE.len();

/// One client's connection.
///
/// It says that it cannot write from several buffers at once, though it could: h2 then copies payloads of up to 1 KiB
/// behind each other and writes them together, where it would otherwise make a system call for each payload of more
/// than 255 bytes. Measured at 256 clients, gets of 256 and 900 bytes cost a quarter less CPU so, and gets of 4 KiB
/// a tenth more.
pub(crate) struct Connection {
    transport: Transport,
    client: Client,
    /// What is there until the preface is.
    opening: Option<Opening>,
    /// Set once everything is written, and no more will be.
    leaving: Option<Linger>,
    linger_time: Duration,
    /// Followed where clients may not ping at will.
    pings: Option<Pings>,
    place: Place,
}

/// In plain or by TLS, whose state is larger by far.
type Transport = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Who is at the other end, as far as the connection tells. It travels with each request.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The common name of its certificate, which an authority of the config has signed.
    pub(crate) common_name: Option<Arc<str>>,
    /// Where it is.
    pub(crate) origin: Origin,
    /// What closes the connection.
    pub(crate) cut: Cutoff,
}

/// Closes a connection from elsewhere, with all that was to be sent on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cutoff(Arc<CutoffState>);

#[derive(Debug, Default)]
struct CutoffState {
    is_cut: AtomicBool,
    /// Whoever drives the connection.
    driver: AtomicWaker,
}

impl Cutoff {
    /// Closes it; true unless that was done before.
    pub(crate) fn cut(&self) -> bool {
        let is_first = !self.0.is_cut.swap(true, Ordering::AcqRel);
        self.0.driver.wake();
        is_first
    }

    /// Fails once it is to be closed, and has whoever asks hear of that.
    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        self.0.driver.register(cx.waker());
        match self.0.is_cut.load(Ordering::Acquire) {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(()),
        }
    }
}

impl Client {
    /// The same one over the gateway, where no certificate counts: as in etcd, where it would be the gateway's.
    pub(crate) fn over_gateway(&self) -> Client {
        Client {
            common_name: None,
            ..self.clone()
        }
    }
}

/// Held as long as a connection is open.
pub(crate) struct Place(Arc<Traffic>);

impl Place {
    pub(crate) fn taken(traffic: &Arc<Traffic>) -> Place {
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
pub(crate) struct Opening {
    missing_bytes: usize,
    over: BoxFuture<'static, ()>,
}

impl Opening {
    /// With what is ready when the client has had its time, or when no more clients are served.
    pub(crate) fn until(over: BoxFuture<'static, ()>) -> Opening {
        Opening {
            missing_bytes: PREFACE_BYTES,
            over,
        }
    }

    /// Returns when the client has had its time.
    pub(crate) async fn over(&mut self) {
        (&mut self.over).await;
    }
}

/// On what terms a client comes in.
pub(crate) struct Admission {
    pub(crate) origin: Origin,
    pub(crate) opening: Opening,
    /// How long the connection waits in the end for the client to end it too.
    pub(crate) linger_time: Duration,
    /// What is asked of its pings.
    pub(crate) pings: Option<Pings>,
    pub(crate) place: Place,
}

impl Connection {
    /// In plain.
    pub(crate) fn plain(stream: TcpStream, admission: Admission) -> Connection {
        Connection::new(Either::Left(stream), None, admission)
    }

    /// By TLS, from somebody whose certificate was looked at.
    pub(crate) fn by_tls(accepted: Accepted<TcpStream>, admission: Admission) -> Connection {
        let common_name = accepted.common_name.map(Arc::from);
        let transport = Either::Right(Box::new(accepted.stream));
        Connection::new(transport, common_name, admission)
    }

    fn new(
        transport: Transport,
        common_name: Option<Arc<str>>,
        admission: Admission,
    ) -> Connection {
        Connection {
            transport,
            client: Client {
                common_name,
                origin: admission.origin,
                cut: Cutoff::default(),
            },
            opening: Some(admission.opening),
            leaving: None,
            linger_time: admission.linger_time,
            pings: admission.pings,
            place: admission.place,
        }
    }
}

#[cfg(test)]
impl Connection {
    /// What is below.
    pub(crate) fn socket(&self) -> &TcpStream {
        match &self.transport {
            Either::Left(stream) => stream,
            Either::Right(stream) => stream.get_ref().0,
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Client;

    fn connect_info(&self) -> Client {
        self.client.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.client.cut.check(cx)?;
        // The client has pinged too often. To hyper it is as if it had ended its half.
        if self.pings.as_ref().is_some_and(Pings::is_over) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.transport).poll_read(cx, buf);
        let bytes = buf.filled().len() - before;
        let received = &self.place.0.received_bytes;
        received.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(pings) = &mut self.pings
            && let Some(heard) = pings.received(&buf.filled()[before..], Instant::now)
        {
            buf.set_filled(before + heard);
        }
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
        self.client.cut.check(cx)?;
        let written = Pin::new(&mut self.transport).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = written {
            let sent = &self.place.0.sent_bytes;
            sent.fetch_add(bytes as u64, Ordering::Relaxed);
            if let Some(pings) = &mut self.pings {
                pings.sent(&buf[..bytes]);
            }
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    /// Ends our half, behind whole frames, and waits a while for the client to end its own.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let connection = &mut *self;
        let (time, pings) = (connection.linger_time, &connection.pings);
        let leaving = connection.leaving.get_or_insert_with(|| {
            let linger = Linger::within(time);
            match pings.as_ref().filter(|pings| pings.is_over()) {
                Some(pings) => linger.saying(pings.farewell()),
                None => linger,
            }
        });
        leaving.poll(&mut connection.transport, cx)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }
}
