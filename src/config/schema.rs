//! The shape of the config file, with the default of everything that has one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Address, Auth, AutoCompaction, Clients, Leases, Watch};

/// A config file as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The name that all machines of one cluster share.
    pub domain: String,
    /// Every machine of the domain.
    pub machines: Vec<Machine>,
    /// Which of them this one is; found by `--local` or by the addresses of this host when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
    /// Where the machine keeps its data; `{name}` stands for its name.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// How long things may take.
    #[serde(default)]
    pub timings: Timings,
    /// How much there may be of anything.
    #[serde(default)]
    pub limits: Limits,
    /// When the state is written down, and how surely the log is.
    #[serde(default)]
    pub storage: Storage,
    /// What is logged, and where to.
    #[serde(default)]
    pub log: Log,
    /// What reads rest on.
    #[serde(default)]
    pub reads: Reads,
    /// How clients watch keys.
    #[serde(default)]
    pub watch: Watch,
    /// How machines and their clients prove to each other who they are.
    #[serde(default)]
    pub clients: Clients,
    /// How users prove who they are.
    #[serde(default)]
    pub auth: Auth,
    /// How the time of leases is counted.
    #[serde(default)]
    pub leases: Leases,
    /// How failed actors are restarted.
    #[serde(default)]
    pub supervision: Supervision,
    /// How machines prove to each other who they are.
    #[serde(default)]
    pub peers: Peers,
    /// Whether faults may be injected, actors killed by hand among them. For tests and demonstrations.
    #[serde(default)]
    pub fault_injection: bool,
}

impl Config {
    /// A config of defaults.
    pub fn new(domain: impl Into<String>, machines: Vec<Machine>) -> Self {
        Config {
            domain: domain.into(),
            machines,
            local: None,
            data_dir: default_data_dir(),
            timings: Timings::default(),
            limits: Limits::default(),
            storage: Storage::default(),
            log: Log::default(),
            reads: Reads::default(),
            watch: Watch::default(),
            clients: Clients::default(),
            auth: Auth::default(),
            leases: Leases::default(),
            supervision: Supervision::default(),
            peers: Peers::default(),
            fault_injection: false,
        }
    }
}

fn default_data_dir() -> PathBuf {
    PathBuf::from("data/{name}")
}

/// One machine of the domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Its name, unique in the domain.
    pub name: String,
    /// Where the other machines reach it (UDP).
    pub peer: Address,
    /// Where clients reach it (TCP).
    pub client: Address,
    /// Where it tells monitors and probes how it is, in plain HTTP whatever `clients.tls` demands (TCP); nowhere if absent (etcd:
    /// --listen-metrics-urls). It may be the address of no single host, such as `0.0.0.0:2381`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Address>,
    /// How much it is preferred as the leader, from 0 to 100: leadership moves to the machine of the highest priority once it
    /// has kept up for a while.
    #[serde(default)]
    pub priority: u8,
}

/// How long things may take. All in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timings {
    /// How often a leader makes itself heard; at least 10.
    pub heartbeat_ms: u64,
    /// The shortest time without a leader before an election; at least 100, and at least five heartbeats.
    pub election_timeout_ms: u64,
    /// How long a leader's own disk may do nothing while something waits for it, or be full while others have space, before the
    /// leader gives leadership up; at least the election timeout. Four election timeouts if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_patience_ms: Option<u64>,
    /// How long a request of a client may take before it is answered with an error.
    pub request_timeout_ms: u64,
    /// How long a client may take nothing of a snapshot that waits for it before it gets no more.
    pub snapshot_stall_ms: u64,
    /// How long a client may take for each sixteenth of a reply before it gets no more of it.
    pub reply_stall_ms: u64,
    /// How long a stop may take before what is left is cut off.
    pub shutdown_timeout_ms: u64,
    /// The first pause before a lost peer is dialled again.
    pub reconnect_min_ms: u64,
    /// The longest such pause.
    pub reconnect_max_ms: u64,
}

impl Default for Timings {
    fn default() -> Self {
        Timings {
            heartbeat_ms: 100,
            election_timeout_ms: 1_000,
            disk_patience_ms: None,
            request_timeout_ms: 7_000,
            snapshot_stall_ms: 60_000,
            reply_stall_ms: 60_000,
            shutdown_timeout_ms: 5_000,
            reconnect_min_ms: 10,
            reconnect_max_ms: 1_000,
        }
    }
}

impl Timings {
    /// How long a leader's disk may do nothing, or the default for that: long enough for an election that waits for slow disks.
    pub fn disk_patience_ms(&self) -> u64 {
        let default = self.election_timeout_ms.saturating_mul(4);
        self.disk_patience_ms.unwrap_or(default)
    }
}

/// The quota of a state that nothing else is said of, in bytes; as in etcd.
pub const QUOTA_BYTES_DEFAULT: i64 = 2 << 30;

/// How much there may be of anything. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The largest request of a client (etcd: 1.5 MiB); at most [`MESSAGE_BYTES_MAX`](crate::MESSAGE_BYTES_MAX).
    pub request_bytes_max: usize,
    /// The most operations in one transaction, nested ones counted (etcd: 128); at most
    /// [`TRANSACTION_OPERATIONS_MAX`](crate::TRANSACTION_OPERATIONS_MAX).
    pub transaction_operations_max: usize,
    /// The most requests of clients that one machine holds at a time; beyond it they are refused.
    pub requests_max: usize,
    /// The most bytes of clients' requests that one machine holds at a time, until they are answered, and an eighth more for small ones;
    /// as much again of the writes that are proposed. Beyond it they are refused. At least `request_bytes_max`.
    pub requests_bytes_max: usize,
    /// The most bytes of memory that the replies of one machine take which clients have not taken yet. A reply for which none is left
    /// waits, then is refused. One reply takes three quarters of it at most. At least eight times `request_bytes_max`.
    pub replies_bytes_max: usize,
    /// The most bytes of entries that are proposed and not yet committed. The clients of one machine have at most half of it, and
    /// less while those of others have some, so that they cannot starve them.
    pub uncommitted_bytes_max: usize,
    /// The most append requests on their way to one follower.
    pub inflight_requests_max: usize,
    /// The most entries on their way to one follower.
    pub inflight_entries_max: usize,
    /// The most bytes of entries on their way to one follower.
    pub inflight_bytes_max: usize,
    /// The most bytes of entries in one append request; at most [`MESSAGE_BYTES_MAX`](crate::MESSAGE_BYTES_MAX).
    pub append_bytes_max: usize,
    /// About how many bytes of the newest entries stay in memory.
    pub log_cache_bytes_max: usize,
    /// The most bytes that wait for one peer's connection.
    pub peer_queue_bytes_max: usize,
    /// The most messages that an actor handles before it lets others run.
    pub messages_per_poll_max: usize,
    /// The most connections of clients that one machine holds at a time.
    pub client_connections_max: usize,
    /// The most concurrent streams of one client connection.
    pub client_streams_max: u32,
    /// The space that must stay free on the disk; below it writes are refused.
    pub disk_reserve_bytes: u64,
    /// The space that no snapshot, made or received, may take. Where `disk_reserve_bytes` is more, that is what counts, so that a
    /// snapshot alone never has writes refused.
    pub snapshot_reserve_bytes: u64,
    /// The most bytes of a snapshot that are copied, and that leave to one machine, in a second; 0 for no bound.
    pub snapshot_bytes_per_second: u64,
    /// The most clients that take a snapshot from one machine at a time; more are refused.
    pub snapshot_clients_max: usize,
    /// The size of the state's file from which on writes that need space are refused (etcd's `--quota-backend-bytes`); 0 for
    /// [`QUOTA_BYTES_DEFAULT`], a negative number for no quota.
    pub quota_bytes: i64,
    /// The largest file that the log or the state may become.
    pub map_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            request_bytes_max: 1_572_864,
            transaction_operations_max: 128,
            requests_max: 4_096,
            requests_bytes_max: 256 << 20,
            replies_bytes_max: 1 << 30,
            uncommitted_bytes_max: 64 << 20,
            inflight_requests_max: 256,
            inflight_entries_max: 65_536,
            inflight_bytes_max: 16 << 20,
            append_bytes_max: 1 << 20,
            log_cache_bytes_max: 16 << 20,
            peer_queue_bytes_max: 32 << 20,
            messages_per_poll_max: 64,
            client_connections_max: 10_000,
            client_streams_max: 1_024,
            disk_reserve_bytes: 16 << 20,
            snapshot_reserve_bytes: 64 << 20,
            snapshot_bytes_per_second: 64 << 20,
            snapshot_clients_max: 4,
            quota_bytes: QUOTA_BYTES_DEFAULT,
            map_bytes_max: 1 << 40,
        }
    }
}

impl Limits {
    /// The quota of the state, if there is one.
    pub fn quota_bytes(&self) -> Option<u64> {
        match self.quota_bytes {
            0 => u64::try_from(QUOTA_BYTES_DEFAULT).ok(),
            bytes => u64::try_from(bytes).ok(),
        }
    }
}

/// When the state is written down, and how surely the log is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// What a commit of the log waits for.
    pub durability: Durability,
    /// The longest time between two checkpoints of a state that changes, in milliseconds.
    pub checkpoint_interval_ms: u64,
    /// How many bytes of changes bring the next checkpoint before its time.
    pub checkpoint_bytes: usize,
    /// The largest data file, in bytes, whose structure is checked to the last page when the machine starts. Of a larger one
    /// only the ends are; `raft-machine --verify` checks the rest of it while the machine is down.
    pub verify_bytes_max: u64,
    /// How many entries the log keeps that the state holds durably, for machines that are a little behind; those further behind
    /// get a snapshot. With `compaction_keep_bytes` the smaller tail wins.
    pub compaction_keep_entries: usize,
    /// About how many bytes of such entries the log keeps.
    pub compaction_keep_bytes: usize,
    /// How many entries a leader keeps at most while a machine catches up by a snapshot, so that the log still follows on it when it
    /// has arrived: more than are written while the largest snapshot is sent. A full disk ends the wait.
    pub compaction_wait_entries: usize,
    /// About how many bytes of such entries it keeps at most. With `compaction_wait_entries` the smaller tail wins.
    pub compaction_wait_bytes: usize,
    /// The log is compacted by at least this many entries at once.
    pub compaction_step_entries: usize,
    /// How often the machine that leads has the others compare their data with its own, in seconds; 0 for never. It reads all of the
    /// state, on every machine (etcd's `--corrupt-check-time`).
    pub corruption_check_seconds: u64,
    /// When the key space is compacted without a client that asks for it.
    pub auto_compaction: AutoCompaction,
}

impl Default for Storage {
    fn default() -> Self {
        Storage {
            durability: Durability::Disk,
            checkpoint_interval_ms: 5_000,
            checkpoint_bytes: 32 << 20,
            verify_bytes_max: 1 << 30,
            compaction_keep_entries: 10_000,
            compaction_keep_bytes: 64 << 20,
            compaction_wait_entries: 10_000_000,
            compaction_wait_bytes: 16 << 30,
            compaction_step_entries: 1_000,
            corruption_check_seconds: 0,
            auto_compaction: AutoCompaction::default(),
        }
    }
}

/// What a commit of the log waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The disk: an acknowledged write outlives a loss of power on every machine at once.
    Disk,
    /// The operating system: an acknowledged write outlives the process, not the host. For tests.
    OperatingSystem,
}

/// What is logged, and where to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The level of every log that has none of its own.
    pub level: Level,
    /// The level of single logs, by the names in [`LOGGERS`](crate::LOGGERS).
    pub actors: BTreeMap<String, Level>,
    /// Where records go.
    pub sinks: Vec<Sink>,
}

impl Default for Log {
    fn default() -> Self {
        Log {
            level: Level::Info,
            actors: BTreeMap::new(),
            sinks: vec![Sink::Terminal],
        }
    }
}

/// How grave a record is, or which are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing.
    Off,
    /// Data or service is lost.
    Critical,
    /// Something failed.
    Error,
    /// Something is odd.
    Warning,
    /// What an operator wants to read.
    Info,
    /// What a developer wants to read.
    Debug,
    /// Every message.
    Trace,
}

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sink {
    /// The terminal, in colours when it is one.
    Terminal,
    /// A file, as lines for people; `{name}` stands for the machine's name.
    File {
        /// Its path.
        path: PathBuf,
    },
    /// A file of JSON lines, or standard error when there is no path.
    Json {
        /// Its path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<PathBuf>,
    },
}

/// What reads rest on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reads {
    /// What confirms a linearizable read that does not say it.
    pub default: ReadMode,
    /// By how many percent the rates of two machines' clocks may differ at most. With it leaders hold leases; absent, every
    /// read is confirmed by a quorum. A machine without it is of no use to the leases of others. Refused where the machine's clock
    /// stops while its host sleeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_drift_percent: Option<u8>,
}

/// What confirms a linearizable read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadMode {
    /// A quorum that is asked, whatever the clocks do.
    #[default]
    Quorum,
    /// The leader's lease, which rests on `clock_drift_percent`; a quorum where there is none.
    Lease,
}

/// How failed actors are restarted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Supervision {
    /// Storage, Applier, LogicCenter and Timer.
    pub brain: Restarts,
    /// Listener and Sender.
    pub net: Restarts,
    /// Gate, Watcher, Compactor and Lessor.
    pub front: Restarts,
    /// How long an actor may be busy with one message before it counts as hung, in milliseconds.
    pub hang_ms: u64,
    /// The same for Storage and Applier, whose hang ends the process; longer, since a disk may stall.
    pub storage_hang_ms: u64,
}

impl Default for Supervision {
    fn default() -> Self {
        let net = Restarts {
            strategy: Strategy::OneForOne,
            ..Restarts::default()
        };
        Supervision {
            brain: Restarts::default(),
            front: net.clone(),
            net,
            hang_ms: 2_000,
            storage_hang_ms: 30_000,
        }
    }
}

/// How one group of actors is restarted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Restarts {
    /// Who is restarted with whom.
    pub strategy: Strategy,
    /// The most failures within the window; one more goes to the level above.
    pub intensity: u32,
    /// The window, in milliseconds.
    pub window_ms: u64,
    /// The pause before the first restart in a row, in milliseconds; it doubles with each.
    pub backoff_min_ms: u64,
    /// The longest pause, in milliseconds.
    pub backoff_max_ms: u64,
}

impl Default for Restarts {
    fn default() -> Self {
        Restarts {
            strategy: Strategy::RestForOne,
            intensity: 10,
            window_ms: 60_000,
            backoff_min_ms: 1,
            backoff_max_ms: 1_000,
        }
    }
}

/// Who is restarted with whom (the names are Erlang's).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The one that failed.
    OneForOne,
    /// It and those that were started after it.
    RestForOne,
    /// The whole group.
    OneForAll,
}

/// How machines prove to each other who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Peers {
    /// Certificates for mutual TLS; without them a machine speaks to peers on loopback only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Speak to peers beyond loopback without certificates all the same: whoever reaches the port can join.
    pub insecure: bool,
}

/// Files of certificates, in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The authority that signed every machine's certificate.
    pub ca: PathBuf,
    /// This machine's certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}
