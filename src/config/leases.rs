//! The part of the config that is about leases.

use serde::{Deserialize, Serialize};

/// How the time of leases is counted. The machine that leads does it, by its own config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Leases {
    /// About how often it is noted in the log how much is left of a lease that is longer than this and not renewed, so that a change
    /// of leader does not give it its whole time again; in seconds, at least 1 (etcd: defaultLeaseCheckpointInterval).
    pub checkpoint_interval_seconds: u64,
}

impl Default for Leases {
    fn default() -> Self {
        Leases {
            checkpoint_interval_seconds: 300,
        }
    }
}
