//! The server on the client port: its limits, its settings, its end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rm_actors::port::{Config, Port};
use rm_proto::etcdserverpb::auth_server::AuthServer;
use rm_proto::etcdserverpb::cluster_server::ClusterServer;
use rm_proto::etcdserverpb::kv_server::KvServer;
use rm_proto::etcdserverpb::lease_server::LeaseServer;
use rm_proto::etcdserverpb::maintenance_server::MaintenanceServer;
use rm_proto::raftmachine::v1::admin_server::AdminServer;
use rm_proto::told::watch_server::WatchServer;
use rm_proto::v3electionpb::election_server::ElectionServer;
use rm_proto::v3lockpb::lock_server::LockServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::pb::health_server::HealthServer;

use crate::admin::AdminService;
use crate::arrival::Arrivals;
use crate::auth::AuthService;
use crate::calls::Calls;
use crate::certificates::Certificates;
use crate::cluster::ClusterService;
use crate::connection::{PREFACE_TIME, Traffic};
use crate::dispatch::Services;
use crate::door::Door;
use crate::election::ElectionService;
use crate::health::HealthService;
use crate::kv::KvService;
use crate::lease::LeaseService;
use crate::lock::LockService;
use crate::lookout::{Leaderless, Looks};
use crate::maintenance::MaintenanceService;
use crate::monitors;
use crate::reflection;
use crate::reply::Pace;
use crate::size::message_bytes_max;
use crate::watch::WatchService;
use crate::web::{Web, document_bytes_max};

/// How many bytes all requests of one connection may have on their way before the client must wait. Large enough that
/// the many small requests of a busy client seldom need leave for more.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// The most that a connection which we end waits for the client to end it too.
const LINGER_TIME_MAX: Duration = Duration::from_secs(1);

/// The largest window that HTTP/2 knows (RFC 9113, section 6.9.1).
const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;

/// Why a server ended otherwise than by a clean stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener is of no use.
    #[error(
        "the {port} port cannot be served: {error}; check machines[].{port}, and that no other process holds it"
    )]
    Listener {
        /// The key in `machines[]` that names it.
        port: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// The descriptors of the services do not fit together; a fault of the build.
    #[error("the services cannot be described: {0}; the program was built wrongly")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("the gRPC server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// Clients still had requests under way when the time for the stop was over. They get no answer.
    #[error(
        "requests of clients were still under way {limit_ms} ms after the stop began and were cut off; \
         a longer timings.shutdown_timeout_ms gives them more time"
    )]
    CutOff {
        /// The time that they had, in milliseconds.
        limit_ms: u64,
    },
}

/// The ports of a machine, open.
#[derive(Debug)]
pub struct Listeners {
    /// For clients.
    pub clients: std::net::TcpListener,
    /// For monitors and probes, in plain HTTP, if there is one.
    pub metrics: Option<std::net::TcpListener>,
}

/// Serves clients until `shutdown` is ready, then takes no more connections or requests, and returns when all requests
/// under way are answered, or when the config's `shutdown_timeout_ms` is over.
///
/// Needs a tokio runtime with time and I/O; one of a single thread spends a third less CPU on a request than one of
/// several, because a connection and its requests then need not wake each other across threads. What clients send is
/// bounded by the config: `request_bytes_max` for one request, `client_streams_max` for one connection,
/// `client_connections_max` for all, and `requests_bytes_max` for what has come of requests that are not answered. What a
/// stream does not take yet, as while it finds out who asks, is bounded by the windows of each connection.
///
/// # Errors
/// As [`ServeError`] says. After [`ServeError::CutOff`] the connections that are left close with the runtime.
pub async fn serve(
    port: Port,
    certificates: Certificates,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let listener = listening("client", listeners.clients)?;
    let metrics = listeners
        .metrics
        .map(|metrics| listening("metrics", metrics));
    let metrics = metrics.transpose()?;
    let limit_ms = port.config().timings.shutdown_timeout_ms;
    let (stop, mut draining) = watch::channel(false);
    // A stop waits for it, and must not be cut off for a client that takes nothing.
    let linger_time = LINGER_TIME_MAX.min(Duration::from_millis(limit_ms) / 2);
    let door = client_door(
        &port,
        &certificates,
        listener,
        linger_time,
        draining.clone(),
    );
    let server = builder(port.config());
    let timings = &port.config().timings;
    let (lookout, leaderless) = Leaderless::new(timings.election_timeout_ms);
    let pace = Pace::new(Duration::from_millis(timings.reply_stall_ms), Instant::now);
    let services = services(
        port.clone(),
        pace.clone(),
        door.traffic.clone(),
        draining.clone(),
        leaderless,
    )?;
    let monitored = {
        let (web, draining, log) = (services.web.clone(), draining.clone(), port.logger());
        async move {
            if let Some(metrics) = metrics {
                monitors::serve(web, metrics, linger_time, draining, log).await;
            }
            Ok(())
        }
    };
    let stopping = async {
        shutdown.await;
        stop.send_replace(true);
    };
    let served = server.serve_with_incoming_shutdown(services, door.incoming(), stopping);
    let cut_off = async {
        // It cannot fail: the sender lives as long as this future.
        let _ = draining.wait_for(|draining| *draining).await;
        tokio::time::sleep(Duration::from_millis(limit_ms)).await;
    };
    tokio::select! {
        result = async { tokio::try_join!(served, monitored) } => Ok(result.map(drop)?),
        () = cut_off => Err(ServeError::CutOff { limit_ms }),
        never = background(&port, &certificates, &lookout, &pace) => match never {},
    }
}

/// What goes on beside the services for as long as they serve. It never ends.
async fn background(
    port: &Port,
    certificates: &Certificates,
    lookout: &Looks,
    pace: &Pace,
) -> Infallible {
    let log = port.logger();
    tokio::join!(
        port.learn_early_whether_permissions_are_asked_for(),
        certificates.look_after(&log),
        lookout.look(port),
        pace.look_after(port),
    );
    std::future::pending().await
}

/// The door of the client port.
fn client_door(
    port: &Port,
    certificates: &Certificates,
    listener: TcpListener,
    linger_time: Duration,
    draining: watch::Receiver<bool>,
) -> Door {
    let config = port.config();
    Door {
        listener,
        tls: certificates.acceptor(),
        connections_max: config.limits.client_connections_max,
        preface_time: PREFACE_TIME,
        linger_time,
        ping_pause_min: Duration::from_secs(config.clients.keepalive_min_seconds),
        draining,
        traffic: Arc::default(),
        log: port.logger(),
    }
}

/// Has the listener of the port that one of the keys in `machines[]` names served by this runtime.
fn listening(
    port: &'static str,
    listener: std::net::TcpListener,
) -> Result<TcpListener, ServeError> {
    let ready = listener.set_nonblocking(true);
    let listening = ready.and_then(|()| TcpListener::from_std(listener));
    listening.map_err(|error| ServeError::Listener { port, error })
}

/// The settings of HTTP. By HTTP/2 a request fits into its stream's window, so that no client waits in the middle of one.
fn builder(config: &Config) -> Server {
    let window = u32::try_from(message_bytes_max(config))
        .map_or(WINDOW_BYTES_MAX, |bytes| bytes.min(WINDOW_BYTES_MAX));
    let streams = config.limits.client_streams_max;
    let clients = &config.clients;
    let interval = Duration::from_secs(clients.keepalive_interval_seconds);
    Server::builder()
        .accept_http1(true)
        .initial_stream_window_size(window)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES.max(window))
        .max_concurrent_streams(streams)
        // A client whose deadlines all pass at once gives up all its streams at once, and means no harm.
        .http2_max_pending_accept_reset_streams(Some(streams as usize))
        .http2_keepalive_interval((!interval.is_zero()).then_some(interval))
        .http2_keepalive_timeout(Some(Duration::from_secs(clients.keepalive_timeout_seconds)))
}

fn services(
    port: Port,
    pace: Arc<Pace>,
    traffic: Arc<Traffic>,
    draining: watch::Receiver<bool>,
    leaderless: Leaderless,
) -> Result<Services, ServeError> {
    let limit = message_bytes_max(port.config());
    let calls = Arc::new(Calls::new());
    let kv = KvServer::new(KvService::new(port.clone())).max_decoding_message_size(limit);
    let maintenance = MaintenanceService::new(port.clone(), draining.clone());
    let cluster = ClusterService::new(port.clone());
    let stop = || draining.clone();
    let watch = WatchService::new(port.clone(), calls.clone(), stop(), leaderless.clone());
    let auth = AuthService::new(port.clone());
    let lease = LeaseService::new(port.clone(), calls.clone(), stop(), leaderless.clone());
    let lock = LockService::new(port.clone(), stop(), leaderless.clone());
    let election = ElectionService::new(port.clone(), stop(), leaderless, pace.clone());
    let admin = AdminService::new(port.clone());
    let health = HealthService::new(port.clone(), draining);
    let others = Routes::new(MaintenanceServer::new(maintenance).max_decoding_message_size(limit))
        .add_service(ClusterServer::new(cluster).max_decoding_message_size(limit))
        .add_service(WatchServer::new(watch).max_decoding_message_size(limit))
        .add_service(AuthServer::new(auth).max_decoding_message_size(limit))
        .add_service(LeaseServer::new(lease).max_decoding_message_size(limit))
        .add_service(LockServer::new(lock).max_decoding_message_size(limit))
        .add_service(ElectionServer::new(election).max_decoding_message_size(limit))
        .add_service(AdminServer::new(admin).max_decoding_message_size(limit))
        .add_service(HealthServer::new(health).max_decoding_message_size(limit));
    let others = reflection::add_to(others)?.prepare();
    let requests_bytes = port.config().limits.requests_bytes_max;
    let arrivals = Arrivals::new(requests_bytes.max(document_bytes_max(limit)));
    let web = Web::new(
        port.clone(),
        calls.clone(),
        traffic,
        arrivals.clone(),
        limit,
    );
    Ok(Services {
        port,
        calls,
        arrivals,
        kv,
        others,
        web,
        pace,
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[tokio::test]
    async fn a_port_that_cannot_be_served_is_named() -> io::Result<()> {
        // A file is no socket, and nothing ever comes in there.
        let file: OwnedFd = tempfile::tempfile()?.into();
        let error = listening("metrics", file.into()).expect_err("it is no socket");
        let text = error.to_string();
        assert!(text.starts_with("the metrics port cannot be"), "{text}");
        assert!(text.contains("check machines[].metrics,"), "{text}");
        Ok(())
    }
}
