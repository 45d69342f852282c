//! When the key space is compacted by itself: the part `storage.auto_compaction` of the config.

use serde::{Deserialize, Serialize};

/// When the key space is compacted without a client that asks for it. The machine that leads does it, by its own config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AutoCompaction {
    /// By what.
    pub mode: AutoCompactionMode,
    /// With `periodic`: for how long the past can be read at least, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_seconds: Option<u64>,
    /// With `revisions`: how many revisions before the newest can be read at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_revisions: Option<u64>,
    /// With `revisions`: how often it is looked whether there are more, in seconds.
    pub interval_seconds: u64,
}

impl Default for AutoCompaction {
    fn default() -> Self {
        AutoCompaction {
            mode: AutoCompactionMode::Off,
            retention_seconds: None,
            retention_revisions: None,
            interval_seconds: 300,
        }
    }
}

/// By what the key space is compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoCompactionMode {
    /// Only when a client asks for it.
    Off,
    /// By time.
    Periodic,
    /// By the number of revisions.
    Revisions,
}
