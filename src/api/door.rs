//! The door for clients: how many may come in, how soon they must speak, and what they must show.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, Stream, stream};
use rm_tls::Acceptor;
use slog::{Logger, info};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::connection::{Admission, Connection, Opening, Place, Traffic};
use crate::linger::Linger;
use crate::pings::Pings;

/// A connection that is silent for so long is probed, and then again after each interval, until the system gives it up:
/// the other host may be gone without a word.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// How long to wait after the system refused to hand over a connection: most often it is out of file descriptors, and
/// asking again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The pause between two records of who was turned away, so that nobody can fill a disk by knocking.
const TELL_PAUSE: Duration = Duration::from_secs(1);

/// The door for connections.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    /// By what clients come in; without it in plain.
    pub(crate) tls: Option<Acceptor>,
    /// The most connections at a time; one more is closed as soon as it is accepted.
    pub(crate) connections_max: usize,
    /// How long a client may take for the handshake of TLS, if there is one, and the preface.
    pub(crate) preface_time: Duration,
    /// How long a connection that we end waits for the client to end it too.
    pub(crate) linger_time: Duration,
    /// The shortest pause between two pings of a client (see `pings.rs`); zero for any.
    pub(crate) ping_pause_min: Duration,
    /// Whether the server stops: then whoever has sent no preface is sent away.
    pub(crate) draining: watch::Receiver<bool>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) log: Logger,
}

/// One who knocks.
struct Knock {
    stream: TcpStream,
    from: SocketAddr,
    admission: Admission,
}

/// How one who knocked came in, or why not.
type Entry = Result<Connection, (SocketAddr, io::Error)>;

impl Door {
    /// The connections that come in. It never ends.
    pub(crate) fn incoming(self) -> impl Stream<Item = io::Result<Connection>> {
        let inside = (self, JoinSet::new(), TurnedAway::default());
        stream::unfold(inside, |(door, mut entering, mut turned_away)| async move {
            let connection = door.admit(&mut entering, &mut turned_away).await;
            Some((Ok(connection), (door, entering, turned_away)))
        })
    }

    /// The next connection that came in. Those whose handshake takes long hold up no other; each has a place.
    async fn admit(
        &self,
        entering: &mut JoinSet<Entry>,
        turned_away: &mut TurnedAway,
    ) -> Connection {
        loop {
            tokio::select! {
                knock = self.knock() => match &self.tls {
                    None => return Connection::plain(knock.stream, knock.admission),
                    Some(acceptor) => {
                        entering.spawn(enter(acceptor.clone(), knock));
                    }
                },
                // A handshake that panicked has let nobody in, and its connection is closed.
                Some(Ok(entry)) = entering.join_next() => match entry {
                    Ok(connection) => return connection,
                    Err((from, error)) => turned_away.note(&self.log, from, &error),
                },
            }
        }
    }

    /// The next one for whom there is room.
    async fn knock(&self) -> Knock {
        loop {
            match self.listener.accept().await {
                Ok(_) if self.traffic.connections() >= self.connections_max as u64 => {}
                Ok((stream, from)) => return self.receive(stream, from),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn receive(&self, stream: TcpStream, from: SocketAddr) -> Knock {
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
        Knock {
            stream,
            from,
            admission: Admission {
                origin: from.ip().into(),
                opening: Opening::until(over.boxed()),
                linger_time: self.linger_time,
                pings: (!self.ping_pause_min.is_zero()).then(|| Pings::new(self.ping_pause_min)),
                place: Place::taken(&self.traffic),
            },
        }
    }
}

/// The handshake of TLS.
async fn enter(acceptor: Acceptor, knock: Knock) -> Entry {
    let Knock {
        stream,
        from,
        mut admission,
    } = knock;
    let accepted = tokio::select! {
        accepted = acceptor.accept(stream) => accepted,
        () = admission.opening.over() => {
            let text = "the handshake did not end in the time for it, or the machine stops";
            return Err((from, io::Error::new(io::ErrorKind::TimedOut, text)));
        }
    };
    match accepted {
        Ok(accepted) => Ok(Connection::by_tls(accepted, admission)),
        Err((error, mut stream)) => {
            // Why is what it was told last. Whether it has heard that is its own affair.
            let mut linger = Linger::within(admission.linger_time);
            let _ = poll_fn(|cx| linger.poll(&mut stream, cx)).await;
            Err((from, error))
        }
    }
}

/// Those who did not come in since they were last told of.
#[derive(Default)]
struct TurnedAway {
    told_at: Option<Instant>,
    untold: u64,
}

impl TurnedAway {
    fn note(&mut self, log: &Logger, from: SocketAddr, error: &io::Error) {
        let now = Instant::now();
        if self.told_at.is_some_and(|at| now - at < TELL_PAUSE) {
            self.untold += 1;
            return;
        }
        info!(log, "a client did not come in by TLS"; "from" => %from, "error" => %error, "others before" => self.untold);
        *self = TurnedAway {
            told_at: Some(now),
            untold: 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::PREFACE_BYTES;
    use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use tonic::transport::Server;

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(50);

    async fn door(connections_max: usize, preface_time: Duration) -> (Door, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let (stop, draining) = watch::channel(false);
        let door = Door {
            listener,
            tls: None,
            connections_max,
            preface_time,
            linger_time: LONG,
            ping_pause_min: LONG,
            draining,
            traffic: Arc::default(),
            log: Logger::root(slog::Discard, slog::o!()),
        };
        (door, stop)
    }

    /// The next one that comes in.
    async fn enter(door: &Door) -> Connection {
        let (mut entering, mut turned_away) = (JoinSet::new(), TurnedAway::default());
        door.admit(&mut entering, &mut turned_away).await
    }

    #[tokio::test]
    async fn a_connection_too_many_is_closed_and_room_is_given_back() -> io::Result<()> {
        let (door, _stop) = door(1, LONG).await;
        let address = door.listener.local_addr()?;
        let _first_client = TcpStream::connect(address).await?;
        let first = enter(&door).await;

        let mut second_client = TcpStream::connect(address).await?;
        let mut byte = [0];
        tokio::select! {
            _ = enter(&door) => panic!("there is room for one only"),
            read = second_client.read(&mut byte) => assert_eq!(read?, 0, "closed"),
        }

        drop(first);
        let third_client = TcpStream::connect(address).await?;
        let third = enter(&door).await;
        assert_eq!(third.socket().peer_addr()?, third_client.local_addr()?);
        Ok(())
    }

    #[tokio::test]
    async fn small_payloads_are_left_to_be_written_together() -> io::Result<()> {
        let (door, _stop) = door(1, LONG).await;
        let client = TcpStream::connect(door.listener.local_addr()?).await?;
        let connection = enter(&door).await;
        assert!(client.is_write_vectored());
        assert!(!connection.is_write_vectored());
        Ok(())
    }

    #[tokio::test]
    async fn a_connection_is_probed_while_it_is_silent() -> io::Result<()> {
        let (door, _stop) = door(1, LONG).await;
        let _client = TcpStream::connect(door.listener.local_addr()?).await?;
        let connection = enter(&door).await;
        assert!(SockRef::from(connection.socket()).keepalive()?);
        Ok(())
    }

    #[tokio::test]
    async fn a_client_that_sends_no_whole_preface_is_given_up() -> io::Result<()> {
        let (door, _stop) = door(1, SHORT).await;
        let mut client = TcpStream::connect(door.listener.local_addr()?).await?;
        let mut connection = enter(&door).await;
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
        let mut connection = enter(&door).await;
        client.write_all(&[0; PREFACE_BYTES]).await?;
        let mut bytes = [0; PREFACE_BYTES];
        connection.read_exact(&mut bytes).await?;
        stop.send_replace(true);
        let more = tokio::time::timeout(2 * SHORT, connection.read(&mut bytes)).await;
        assert!(more.is_err(), "the read still waits");
        Ok(())
    }

    #[tokio::test]
    async fn the_last_words_reach_a_client_that_still_speaks() -> io::Result<()> {
        let (door, _stop) = door(1, LONG).await;
        let mut client = TcpStream::connect(door.listener.local_addr()?).await?;
        let mut connection = enter(&door).await;
        // More than the client's side takes before it reads.
        let words = vec![7; 1 << 20];
        let said = words.clone();
        let serving = async move {
            connection.write_all(&said).await?;
            connection.shutdown().await?;
            drop(connection);
            Ok::<_, io::Error>(())
        };
        let asking = async {
            client.write_all(b"never read as a request").await?;
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await?;
            drop(client);
            Ok::<_, io::Error>(heard.len())
        };
        let (served, heard) = tokio::join!(serving, asking);
        served?;
        assert_eq!(heard?, words.len());
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
