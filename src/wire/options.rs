//! Timings and limits of the connections between peers.

use std::time::Duration;

/// Timings and limits. [`Options::new`] derives all of them from the two timings of Raft; each may then be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How often a leader makes itself heard.
    pub heartbeat_interval: Duration,
    /// The shortest election timeout.
    pub election_timeout: Duration,
    /// A connection on which nothing came for this long is lost.
    pub idle_timeout: Duration,
    /// How long a dial, and the proof of identity after it, may take together.
    pub handshake_timeout: Duration,
    /// The wait before a peer is dialled again after a first failure; doubles with each further one.
    pub backoff_min: Duration,
    /// The longest wait before a peer is dialled again. Each wait is shortened by up to half, at random.
    pub backoff_max: Duration,
    /// The longest frame that is sent or accepted, in bytes.
    pub frame_bytes_max: usize,
    /// The most frames that wait for one peer; beyond it the newest is dropped.
    pub queue_frames_max: usize,
    /// The most bytes that wait for one peer; beyond it the newest frame is dropped. An empty queue takes any frame.
    pub queue_bytes_max: usize,
    /// The most bytes that a peer may have on their way to this machine unread.
    pub receive_window_bytes: u32,
    /// The most bytes of a snapshot that are on their way to a peer and not yet taken by its disk.
    pub snapshot_window_bytes: u32,
    /// A snapshot that has got no further for this long is broken off. No step of a source or a sink may take longer.
    pub snapshot_idle: Duration,
    /// The most bytes of a snapshot that leave in a second; 0 for no bound.
    pub snapshot_bytes_per_second: u64,
    /// The most connections to this machine at a time, proved or not.
    pub connections_max: usize,
    /// The most connections from one IP address at a time, proved or not.
    pub connections_per_address_max: usize,
    /// The most machines that are heard at a time although no list tells of them.
    pub strangers_max: usize,
}

impl Options {
    /// The defaults for a cluster with these timings.
    pub fn new(heartbeat_interval: Duration, election_timeout: Duration) -> Options {
        Options {
            heartbeat_interval,
            election_timeout,
            // Longer than an election: to take a leader for dead is Raft's business, not the transport's.
            idle_timeout: (election_timeout * 4).max(Duration::from_millis(500)),
            handshake_timeout: election_timeout
                .clamp(Duration::from_millis(500), Duration::from_secs(2)),
            backoff_min: Duration::from_millis(20),
            // A machine that comes back should be dialled before it loses patience.
            backoff_max: election_timeout.clamp(Duration::from_millis(100), Duration::from_secs(2)),
            frame_bytes_max: 16 << 20,
            queue_frames_max: 8 << 10,
            queue_bytes_max: 32 << 20,
            receive_window_bytes: 8 << 20,
            snapshot_window_bytes: 1 << 20,
            snapshot_idle: Duration::from_secs(30),
            snapshot_bytes_per_second: 0,
            connections_max: 256,
            connections_per_address_max: 64,
            strangers_max: 8,
        }
    }
}
