//! The port for monitors and probes: in plain HTTP, whatever the port for clients demands, and with no call that reads a key or changes
//! anything (etcd: --listen-metrics-urls).
//!
//! It is HTTP/1.1 only, as etcd's: a connection on which nothing is asked ends by itself there, while one of HTTP/2 would stay for good, and
//! a few of them would keep all monitors out.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use slog::Logger;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::body::Body;

use crate::connection::{Connection, PREFACE_TIME};
use crate::door::Door;
use crate::web::Web;

/// The most connections at a time: those of clients do not count, so that a monitor comes in where no more clients do.
const CONNECTIONS_MAX: usize = 64;

/// How long a connection may stay. Most monitors come anew each time, and whoever takes no answer has no place for ever.
const STAY: Stay = Stay {
    asking: Duration::from_secs(60),
    last_answer: Duration::from_secs(30),
};

/// How long a connection may stay.
#[derive(Clone, Copy, Debug)]
struct Stay {
    /// And ask for more.
    asking: Duration,
    /// How long the last answer may take then.
    last_answer: Duration,
}

/// Answers until `draining` says that the machine stops, and what is asked then to its end.
pub(crate) async fn serve(
    web: Web,
    listener: TcpListener,
    linger_time: Duration,
    draining: watch::Receiver<bool>,
    log: Logger,
) {
    let mut stopping = draining.clone();
    let door = Door {
        listener,
        tls: None,
        connections_max: CONNECTIONS_MAX,
        preface_time: PREFACE_TIME,
        linger_time,
        ping_pause_min: Duration::ZERO,
        draining: draining.clone(),
        traffic: Arc::default(),
        log,
    };
    let mut connections = JoinSet::new();
    {
        let mut incoming = pin!(door.incoming());
        loop {
            tokio::select! {
                // An error says that the server is gone.
                _ = stopping.wait_for(|draining| *draining) => break,
                Some(Ok(connection)) = incoming.next() => {
                    connections.spawn(attend(web.clone(), connection, draining.clone()));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Answers what is asked on a connection, one after the other.
async fn attend(web: Web, connection: Connection, draining: watch::Receiver<bool>) {
    let answer = |request: Request<Incoming>| {
        let web = web.clone();
        async move { web.monitored(request.method(), request.uri()).await }
    };
    answer_for_a_while(connection, answer, draining, STAY).await;
}

/// Has a connection's requests answered until it ends, its time is over, or the machine stops.
async fn answer_for_a_while<Answer>(
    connection: impl AsyncRead + AsyncWrite + Unpin,
    answer: impl Fn(Request<Incoming>) -> Answer,
    mut draining: watch::Receiver<bool>,
    stay: Stay,
) where
    Answer: Future<Output = Response<Body>>,
{
    let answer = service_fn(|request| answer(request).map(Ok::<_, Infallible>));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(connection), answer);
    let mut served = pin!(served);
    // How a connection ends is the affair of whoever is at the other end.
    let is_stop = tokio::select! {
        _ = &mut served => return,
        _ = draining.wait_for(|draining| *draining) => true,
        () = tokio::time::sleep(stay.asking) => false,
    };
    served.as_mut().graceful_shutdown();
    if is_stop {
        let _ = served.await;
    } else {
        let _ = tokio::time::timeout(stay.last_answer, served).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use http_body_util::Full;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;

    const REQUEST: &[u8] = b"GET /livez HTTP/1.1\r\nhost: monitor\r\n\r\n";
    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(600);
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A monitor that is let in, and has its answers if it is to have any.
    fn let_in(
        has_answers: bool,
        stay: Stay,
    ) -> (DuplexStream, JoinHandle<()>, watch::Sender<bool>) {
        let (monitor, connection) = duplex(1 << 10);
        let (stop, draining) = watch::channel(false);
        let answer = move |_| async move {
            match has_answers {
                true => Response::new(Body::new(Full::new("ok".into()))),
                false => pending().await,
            }
        };
        let served = answer_for_a_while(connection, answer, draining, stay);
        (monitor, tokio::spawn(served), stop)
    }

    async fn is_answered(monitor: &mut DuplexStream) -> bool {
        // It may have ended before.
        let _ = monitor.write_all(REQUEST).await;
        let mut told = [0; 256];
        let bytes = monitor.read(&mut told).await.unwrap_or_default();
        told[..bytes].starts_with(b"HTTP/1.1 200 OK")
    }

    /// Returns what comes before a test is given up.
    async fn soon<T>(what: impl Future<Output = T>) -> T {
        let soon = tokio::time::timeout(PATIENCE, what).await;
        soon.expect("it ends")
    }

    async fn ends(served: JoinHandle<()>) {
        soon(served).await.expect("it never panics");
    }

    #[tokio::test]
    async fn a_monitor_that_asks_again_and_again_gives_its_place_up_in_the_end() {
        let stay = Stay {
            asking: SHORT,
            last_answer: LONG,
        };
        let (mut monitor, served, _stop) = let_in(true, stay);
        soon(async { while is_answered(&mut monitor).await {} }).await;
        ends(served).await;
    }

    #[tokio::test]
    async fn a_monitor_that_waits_for_an_answer_gives_its_place_up_a_little_later() {
        let stay = Stay {
            asking: SHORT,
            last_answer: SHORT,
        };
        let (mut monitor, served, _stop) = let_in(false, stay);
        assert!(!soon(is_answered(&mut monitor)).await);
        ends(served).await;
    }

    #[tokio::test]
    async fn a_stop_ends_the_connection_of_a_monitor_that_asks_nothing() {
        let stay = Stay {
            asking: LONG,
            last_answer: LONG,
        };
        let (mut monitor, served, stop) = let_in(true, stay);
        assert!(is_answered(&mut monitor).await);
        stop.send_replace(true);
        ends(served).await;
    }
}
