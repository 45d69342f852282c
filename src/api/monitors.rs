//! The port for monitors and probes: in plain HTTP, whatever the port for clients demands, and with no call that reads a key or changes
//! anything (etcd: --listen-metrics-urls).

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use http::{Request, Response};
use slog::Logger;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::transport::Server;

use crate::connection::PREFACE_TIME;
use crate::door::Door;
use crate::web::Web;

/// The most connections at a time: those of clients do not count, so that a monitor comes in where no more clients do.
const CONNECTIONS_MAX: usize = 64;

/// The most requests of one connection at a time.
const STREAMS_MAX: u32 = 16;

/// The shortest pause between pings of a connection.
const PING_PAUSE_MIN: Duration = Duration::from_secs(5);

/// Answers until `draining` says that the machine stops, and what is asked then to its end.
///
/// # Errors
/// The transport failed.
pub(crate) async fn serve(
    web: Web,
    listener: TcpListener,
    linger_time: Duration,
    draining: watch::Receiver<bool>,
    log: Logger,
) -> Result<(), tonic::transport::Error> {
    let mut stopping = draining.clone();
    let door = Door {
        listener,
        tls: None,
        connections_max: CONNECTIONS_MAX,
        preface_time: PREFACE_TIME,
        linger_time,
        ping_pause_min: PING_PAUSE_MIN,
        draining,
        traffic: Arc::default(),
        log,
    };
    let stopping = async move {
        // An error says that the server is gone.
        let _ = stopping.wait_for(|draining| *draining).await;
    };
    Server::builder()
        .accept_http1(true)
        .max_concurrent_streams(STREAMS_MAX)
        .serve_with_incoming_shutdown(Pages(web), door.incoming(), stopping)
        .await
}

/// The pages that tell how the machine is.
#[derive(Clone)]
struct Pages(Web);

impl Service<Request<Body>> for Pages {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let web = self.0.clone();
        let (head, _) = request.into_parts();
        Box::pin(async move { web.monitored(&head.method, &head.uri).await }.map(Ok))
    }
}
