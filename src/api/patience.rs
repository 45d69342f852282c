//! Until when a call that waits for something goes on to wait.

use rm_actors::port::Refusal;
use tokio::sync::watch;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::error::refused;
use crate::lookout::{Leaderless, Lookout};

/// What ends a wait that the client itself does not end.
pub(crate) struct Patience {
    lookout: Lookout,
    /// True once the server stops.
    draining: watch::Receiver<bool>,
}

impl Patience {
    /// As the client's metadata says it, and until the server stops.
    pub(crate) fn new(
        leaderless: &Leaderless,
        metadata: &MetadataMap,
        draining: &watch::Receiver<bool>,
    ) -> Patience {
        Patience {
            lookout: Lookout::new(leaderless, metadata),
            draining: draining.clone(),
        }
    }

    /// What the client is told once there is no more patience. Nothing is lost if the future is dropped before it is ready.
    pub(crate) async fn over(&mut self) -> Status {
        tokio::select! {
            status = self.lookout.lost() => status,
            // An error says that the server is gone.
            _ = self.draining.wait_for(|draining| *draining) => refused(Refusal::Stopped),
        }
    }
}
