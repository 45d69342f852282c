//! The part of the config that is about watches.

use serde::{Deserialize, Serialize};

/// How clients watch keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Watch {
    /// After how long without an event a watcher that asked for it is told of progress, in milliseconds (etcd:
    /// --watch-progress-notify-interval); at least 100.
    pub progress_interval_ms: u64,
    /// The most watchers of one machine; one more is refused.
    pub watchers_max: usize,
    /// About how many bytes of events may wait for one stream of a client. Watchers of a stream that takes its events too slowly are
    /// told the others later, from memory or from the disk.
    pub queue_bytes_max: usize,
    /// About how many bytes of events may wait for all streams of one machine. The more waits, the less may wait for one: at most a
    /// sixteenth of what is free, and always something.
    pub queues_bytes_max: usize,
    /// About how many bytes of the last events stay in memory beyond those since the last checkpoint.
    pub recent_bytes_max: usize,
}

impl Default for Watch {
    fn default() -> Self {
        Watch {
            progress_interval_ms: 600_000,
            watchers_max: 1_000_000,
            queue_bytes_max: 4 << 20,
            queues_bytes_max: 256 << 20,
            recent_bytes_max: 8 << 20,
        }
    }
}
