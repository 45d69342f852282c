//! What the actors count for whoever monitors the machine. Each count is an addition or two that wait for nobody, and so is each look
//! at one: a monitor holds up nothing. The counts begin with the process and outlive the actors.

mod histogram;
mod keyspace;
mod promotions;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use histogram::{Distribution, Histogram};
pub use keyspace::KeyspaceMeters;
pub use promotions::Promotions;

pub(crate) use histogram::doubled;

use crate::port::Port;

/// How long a flush may take: etcd's steps, and three below its first millisecond, where the commits of a good disk lie.
static FLUSH_US: [u64; 17] = doubled(125);
/// How long a copy of the state takes (etcd: from 10 ms to 655 s).
static COPY_US: [u64; 17] = doubled(10_000);
/// How long the state is hashed (etcd: from 10 ms to 164 s).
static HASH_US: [u64; 15] = doubled(10_000);
/// How long the state is defragmented (etcd: from 100 ms to 410 s).
static DEFRAGMENT_US: [u64; 13] = doubled(100_000);

/// A number that only goes up, or one that is set anew.
#[derive(Debug, Default)]
pub struct Meter(AtomicU64);

impl Meter {
    /// The number now.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn take_away(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, now: usize) {
        self.0.store(now as u64, Ordering::Relaxed);
    }
}

/// The meters of one machine.
#[derive(Debug)]
pub struct Meters {
    /// The durable commits of the log, flushes included.
    pub log_commits: Histogram,
    /// Bytes of the entries that were written into the log, as they lie there.
    pub log_written_bytes: Meter,
    /// The durable commits of the state, flushes included.
    pub checkpoints: Histogram,
    /// How long each copy of the state took that was made to be sent, to a machine or to a client.
    pub copies: Histogram,
    /// The defragmentations of the state that succeeded.
    pub defragmentations: Histogram,
    /// Whether the state is being defragmented.
    pub defragmenting: Meter,
    /// How long each hash of the whole state took.
    pub hashes: Histogram,
    /// How long each hash of the key space at a revision took.
    pub revision_hashes: Histogram,
    /// Whether a snapshot that came from another machine is being put in force.
    pub installing: Meter,
    /// How often another leader was learnt of.
    pub leader_changes: Meter,
    /// The rounds of heartbeats that left later than an interval after they were due, while this machine led others.
    pub late_heartbeats: Meter,
    /// The promotions of learners that were asked for here.
    pub promotions: Promotions,
    /// The writes of clients that wait for their answer.
    pub writes_pending: Meter,
    /// Writes of clients that were not carried out, or whose outcome is unknown, by no fault of their own.
    pub writes_failed: Meter,
    /// Linearizable reads that were not answered, by no fault of their own.
    pub reads_failed: Meter,
    /// Those of them for which the time was too short.
    pub reads_timed_out: Meter,
    /// The requests that found no room for their reply in time.
    pub replies_refused: Meter,
    /// The replies that their clients did not take in time.
    pub replies_given_up: Meter,
    /// What the key space has done.
    pub keyspace: KeyspaceMeters,
    /// The clients' streams of watchers.
    pub streams: Meter,
    /// Their watchers.
    pub watchers: Meter,
    /// Those of them that have yet to be told what happened.
    pub watchers_late: Meter,
    /// The events that clients were told.
    pub events: Meter,
    /// The events that wait for clients to take them.
    pub events_pending: Arc<Meter>,
    /// The leases whose time this machine counts: all of them if it leads, else none.
    pub leases: Meter,
    /// The leases that it had ended because their time was over.
    pub leases_expired: Meter,
    /// The leases that it renewed.
    pub leases_renewed: Meter,
}

impl Default for Meters {
    fn default() -> Meters {
        Meters {
            log_commits: Histogram::of_times(&FLUSH_US),
            log_written_bytes: Meter::default(),
            checkpoints: Histogram::of_times(&FLUSH_US),
            copies: Histogram::of_times(&COPY_US),
            defragmentations: Histogram::of_times(&DEFRAGMENT_US),
            defragmenting: Meter::default(),
            hashes: Histogram::of_times(&HASH_US),
            revision_hashes: Histogram::of_times(&HASH_US),
            installing: Meter::default(),
            leader_changes: Meter::default(),
            late_heartbeats: Meter::default(),
            promotions: Promotions::default(),
            writes_pending: Meter::default(),
            writes_failed: Meter::default(),
            reads_failed: Meter::default(),
            reads_timed_out: Meter::default(),
            replies_refused: Meter::default(),
            replies_given_up: Meter::default(),
            keyspace: KeyspaceMeters::default(),
            streams: Meter::default(),
            watchers: Meter::default(),
            watchers_late: Meter::default(),
            events: Meter::default(),
            events_pending: Arc::default(),
            leases: Meter::default(),
            leases_expired: Meter::default(),
            leases_renewed: Meter::default(),
        }
    }
}

impl Port {
    /// Counts replies that their clients did not take in time.
    pub fn note_replies_given_up(&self, replies: u64) {
        self.meters().replies_given_up.add(replies);
    }

    /// How many bytes wait for clients' streams of watchers.
    pub fn watch_backlog_bytes(&self) -> usize {
        self.shared.backlog.bytes()
    }

    /// How much memory is held for replies that clients have yet to take, in bytes.
    pub fn replies_bytes(&self) -> usize {
        self.shared.replies.held_bytes()
    }

    /// How many reads wait for memory for their reply.
    pub fn replies_waiting(&self) -> usize {
        self.shared.replies.waiting()
    }

    /// What the machine counts.
    pub fn meters(&self) -> &Meters {
        &self.shared.board.meters
    }
}
