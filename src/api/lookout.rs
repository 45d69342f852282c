//! A look-out for the leader, for streams of clients that want to be told if there is none.

use std::time::{Duration, Instant};

use rm_actors::port::Port;
use tokio::time::Interval;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::dispatch::wants_leader;
use crate::error::NO_LEADER;

/// For how many election timeouts there may be no leader before a stream that wants one is ended; as in etcd.
const TIMEOUTS_WITHOUT_LEADER: u64 = 3;

/// How often to look whether there is a leader.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Looks for a leader, if the client wants one.
pub(crate) struct Lookout(Option<Looks>);

struct Looks {
    port: Port,
    interval: Interval,
    /// When there was a leader last.
    seen: Instant,
}

impl Lookout {
    /// As the client's metadata says it.
    pub(crate) fn new(port: &Port, metadata: &MetadataMap) -> Lookout {
        let headers = metadata.clone().into_headers();
        Lookout(wants_leader(&headers).then(|| Looks {
            port: port.clone(),
            interval: tokio::time::interval(LOOK_PAUSE),
            seen: Instant::now(),
        }))
    }

    /// What the client is told once there has been no leader for too long. Never ready where it does not want to be told. Nothing is
    /// lost if the future is dropped before it is ready.
    pub(crate) async fn lost(&mut self) -> Status {
        let Some(looks) = &mut self.0 else {
            return std::future::pending().await;
        };
        let election_ms = looks.port.config().timings.election_timeout_ms;
        let patience = Duration::from_millis(TIMEOUTS_WITHOUT_LEADER * election_ms);
        loop {
            looks.interval.tick().await;
            if looks.port.report().leader.is_some() {
                looks.seen = Instant::now();
            } else if looks.seen.elapsed() >= patience {
                return Status::unavailable(NO_LEADER);
            }
        }
    }
}
