//! The port for monitors and probes: in plain HTTP, whatever the port for clients demands, and with no call that reads a key or changes
//! anything (etcd: --listen-metrics-urls).
//!
//! It is HTTP/1.1 only, as etcd's: a connection on which nothing is asked ends by itself there, while one of HTTP/2 would stay for good, and
//! a few of them would keep all monitors out.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use slog::Logger;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::connection::{Connection, PREFACE_TIME};
use crate::door::Door;
use crate::web::Web;

/// The most connections at a time: those of clients do not count, so that a monitor comes in where no more clients do.
const CONNECTIONS_MAX: usize = 64;

/// How long a connection may ask for more. Most monitors come anew each time, and whoever takes no answer has no place for ever.
const CONNECTION_TIME: Duration = Duration::from_secs(60);

/// How long the last answer of a connection may take then.
const LAST_ANSWER_TIME: Duration = Duration::from_secs(30);

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
async fn attend(web: Web, connection: Connection, mut draining: watch::Receiver<bool>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let web = web.clone();
        async move { Ok::<_, Infallible>(web.monitored(request.method(), request.uri()).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(connection), answer);
    let mut served = pin!(served);
    // How a connection ends is the affair of whoever is at the other end.
    let is_stop = tokio::select! {
        _ = &mut served => return,
        _ = draining.wait_for(|draining| *draining) => true,
        () = tokio::time::sleep(CONNECTION_TIME) => false,
    };
    served.as_mut().graceful_shutdown();
    if is_stop {
        let _ = served.await;
    } else {
        let _ = tokio::time::timeout(LAST_ANSWER_TIME, served).await;
    }
}
