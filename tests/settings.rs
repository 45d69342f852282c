//! What the cluster of a test is like: how many machines, and their config.

use serde_json::{Value, json};

/// A config in the making. The ports and the folders are added when the cluster starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many machines.
    pub machines: usize,
    /// The config without its machines and folders.
    pub config: Value,
}

impl Settings {
    /// Three machines with short timings, faults allowed, and actors that may fail as often as a test likes.
    pub fn trio() -> Self {
        let restarts = |strategy: &str| {
            json!({
                "strategy": strategy, "intensity": 1_000_000, "window_ms": 60_000,
                "backoff_min_ms": 1, "backoff_max_ms": 5,
            })
        };
        Settings {
            machines: 3,
            config: json!({
                "domain": "tests.example",
                "fault_injection": true,
                "timings": {
                    "heartbeat_ms": 30, "election_timeout_ms": 300, "request_timeout_ms": 3_000,
                    "reconnect_min_ms": 5, "reconnect_max_ms": 100,
                },
                "supervision": {
                    "brain": restarts("rest_for_one"),
                    "net": restarts("one_for_one"),
                    "front": restarts("one_for_one"),
                    "hang_ms": 500,
                },
            }),
        }
    }

    /// With the timings of an operator, otherwise as they are: for what is measured in election timeouts, since on a busy host an
    /// election begins by itself now and then where the timings are short.
    #[must_use]
    pub fn with_timings_of_an_operator(self) -> Self {
        self.with("timings.heartbeat_ms", 100)
            .with("timings.election_timeout_ms", 1_000)
    }

    /// With logs that keep next to nothing, so that a machine that was down soon needs a snapshot, otherwise as they are.
    #[must_use]
    pub fn with_short_logs(self) -> Self {
        self.with("storage.checkpoint_interval_ms", 50)
            .with("storage.compaction_keep_entries", 5)
            .with("storage.compaction_step_entries", 5)
    }

    /// One machine alone, otherwise as [`Settings::trio`].
    pub fn solo() -> Self {
        Settings {
            machines: 1,
            ..Settings::trio()
        }
    }

    /// As many machines as this, otherwise as they are.
    #[must_use]
    pub fn of(self, machines: usize) -> Self {
        Settings { machines, ..self }
    }

    /// Sets what `path` (keys with dots between) names, for example `storage.checkpoint_interval_ms`.
    #[must_use]
    pub fn with(mut self, path: &str, value: impl Into<Value>) -> Self {
        let slot = path
            .split('.')
            .fold(&mut self.config, |at, key| &mut at[key]);
        *slot = value.into();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_set_where_its_path_says() {
        let settings = Settings::solo()
            .with("storage.checkpoint_interval_ms", 50)
            .with("domain", "other.example");
        assert_eq!(
            settings.config["storage"],
            json!({"checkpoint_interval_ms": 50})
        );
        assert_eq!(settings.config["domain"], "other.example");
        assert_eq!(settings.config["fault_injection"], true);
    }
}
