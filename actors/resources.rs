//! What a process opens once and no restart of an actor reopens: the data, the peer port, the certificates.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rm_config::{Durability, Effective};
use rm_raft::MachineId;
use rm_store::{DataDirectory, Environment, Log, LogError, OpenError};
use rm_wire::{Credentials, DataId, DataIds, WireError};

use crate::addresses::Addresses;
use crate::machine::Shared;
use crate::port::Identity;

/// The numbers of one boot's requests; more would take centuries to give out.
const REQUEST_BITS: u32 = 40;

/// What a frame may hold besides commands.
const FRAME_REST_BYTES: usize = 1 << 20;

// Whatever the config allows into the log, every machine can apply.
const _: () = assert!(rm_config::MESSAGE_BYTES_MAX * 2 <= rm_kv::MAX_COMMAND_BYTES);
const _: () = assert!(rm_config::TRANSACTION_OPERATIONS_MAX <= rm_kv::MAX_TXN_OPERATIONS);

/// What the actors find open.
pub(crate) struct Resources {
    directory: DataDirectory,
    pub(crate) log: Log,
    pub(crate) state: Environment,
    pub(crate) peer_socket: UdpSocket,
    pub(crate) credentials: Credentials,
    pub(crate) wire_identity: rm_wire::Identity,
    pub(crate) wire_options: rm_wire::Options,
    /// The data that peers were found on, for as long as the process lives.
    pub(crate) data_ids: DataIds,
    pub(crate) boot: u64,
    pub(crate) addresses: Arc<Addresses>,
    next_request: AtomicU64,
}

/// Why a machine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data cannot be opened.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The peer port cannot be opened.
    #[error(
        "the peer port {address} cannot be opened: {source}. Is another machine running there? Else correct machines[].peer in the config"
    )]
    PeerPort {
        /// The address in the config.
        address: String,
        /// What the system answered.
        source: std::io::Error,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Certificates(#[from] WireError),
    /// The peer port would be open beyond this host to whoever reaches it.
    #[error(
        "the peer port {address} is not on loopback and peers.tls is not set: anyone who reaches it could join. Set peers.tls, or peers.insecure if the network is yours alone"
    )]
    Insecure {
        /// The address in the config.
        address: String,
    },
    /// A log file cannot be opened.
    #[error(transparent)]
    LogFile(#[from] crate::logs::LogFileError),
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
}

impl Resources {
    pub(crate) fn open(config: &Effective, identity: &Identity) -> Result<Resources, StartError> {
        let machine = config.local();
        let credentials = credentials(config, machine)?;
        let directory = DataDirectory::open(config.data_dir(), &owner(identity))?;
        let log = Log::open(&Environment::open(
            &directory,
            "log",
            &options(config, true),
        )?)?;
        let state =
            Environment::open_state(&directory, log.generation()?, &options(config, false))?;
        let boot = directory.boot();
        let data_id = DataId(directory.data_number().to_be_bytes());
        let addresses = Addresses::new(&identity.domain, &config.neighbours());
        addresses.keep_asking().map_err(StartError::Thread)?;
        Ok(Resources {
            directory,
            log,
            state,
            peer_socket: bind_peer_port(config, machine)?,
            credentials,
            wire_identity: rm_wire::Identity {
                domain: identity.domain.clone(),
                name: identity.name.clone(),
                id: identity.machine,
                incarnation: boot,
                data_id,
            },
            wire_options: wire_options(config),
            data_ids: DataIds::default(),
            boot,
            addresses,
            next_request: AtomicU64::new(boot << REQUEST_BITS),
        })
    }

    /// A number for a request that this machine gives to no other, not even after a restart.
    pub(crate) fn next_request_number(&self) -> u64 {
        self.next_request.fetch_add(1, Ordering::Relaxed)
    }

    /// The number that the next request will get.
    pub(crate) fn peek_request_number(&self) -> u64 {
        self.next_request.load(Ordering::Relaxed)
    }

    /// The bytes that may still be written to the disk; all there could be when that cannot be told.
    pub(crate) fn free_bytes(&self) -> u64 {
        match rustix::fs::statvfs(self.directory.path()) {
            Ok(status) => status.f_bavail * status.f_frsize,
            Err(_) => u64::MAX,
        }
    }
}

/// Whose the data must be.
pub(crate) fn owner(identity: &Identity) -> rm_store::Identity {
    rm_store::Identity {
        domain: identity.domain.clone(),
        machine: identity.name.clone(),
        id: identity.machine,
        machines: identity
            .members
            .iter()
            .map(|each| each.name.clone())
            .collect(),
    }
}

fn credentials(
    config: &Effective,
    machine: &rm_config::Machine,
) -> Result<Credentials, StartError> {
    if let Some(tls) = &config.config.peers.tls {
        let credentials = Credentials::from_pem_files(&tls.ca, &tls.certificate, &tls.key)?;
        return Ok(credentials);
    }
    let seed = format!("{}/{}", config.config.domain, machine.name);
    Ok(Credentials::self_made(&seed)?)
}

fn options(config: &Effective, is_log: bool) -> rm_store::Options {
    rm_store::Options {
        map_bytes: usize::try_from(config.config.limits.map_bytes_max).unwrap_or(usize::MAX),
        durability: match config.config.storage.durability {
            Durability::Disk => rm_store::Durability::Full,
            Durability::OperatingSystem => rm_store::Durability::System,
        },
        verify_bytes_max: config.config.storage.verify_bytes_max,
        read_ahead: is_log,
        ..rm_store::Options::default()
    }
}

fn wire_options(config: &Effective) -> rm_wire::Options {
    let (timings, limits) = (&config.config.timings, &config.config.limits);
    let heartbeat = Duration::from_millis(timings.heartbeat_ms);
    let election = Duration::from_millis(timings.election_timeout_ms);
    let defaults = rm_wire::Options::new(heartbeat, election);
    rm_wire::Options {
        backoff_min: Duration::from_millis(timings.reconnect_min_ms),
        backoff_max: Duration::from_millis(timings.reconnect_max_ms),
        queue_bytes_max: limits.peer_queue_bytes_max,
        // The largest message is one entry of the largest request, or a full append.
        frame_bytes_max: 2 * limits.append_bytes_max.max(limits.request_bytes_max)
            + FRAME_REST_BYTES,
        ..defaults
    }
}

/// Opens the peer port. Without certificates only where no other host reaches it, whatever the name in the config says.
fn bind_peer_port(
    config: &Effective,
    machine: &rm_config::Machine,
) -> Result<UdpSocket, StartError> {
    let address = machine.peer.to_string();
    let failed = |source| StartError::PeerPort {
        address: address.clone(),
        source,
    };
    let addresses = machine.peer.resolve().map_err(failed)?;
    let peers = &config.config.peers;
    let anyone_may_join = peers.tls.is_none() && !peers.insecure;
    if anyone_may_join && !addresses.iter().all(|each| each.ip().is_loopback()) {
        return Err(StartError::Insecure { address });
    }
    UdpSocket::bind(&addresses[..]).map_err(failed)
}

impl Shared {
    /// What a Raft core of this machine is made with. The seed differs for every life, so that machines whose cores
    /// restart together do not choose the same election timeouts again and again.
    pub(crate) fn core_config(&self, incarnation: u64) -> rm_raft::Config {
        let config = &self.config.config;
        let (timings, limits) = (&config.timings, &config.limits);
        rm_raft::Config {
            local: self.local(),
            election_timeout: Duration::from_millis(timings.election_timeout_ms),
            heartbeat_interval: Duration::from_millis(timings.heartbeat_ms),
            seed: self.local().0
                ^ self.resources.boot.rotate_left(32)
                ^ incarnation.rotate_left(16),
            inflight_requests_max: limits.inflight_requests_max,
            inflight_bytes_max: limits.inflight_bytes_max,
            append_bytes_max: limits.append_bytes_max,
            uncommitted_bytes_max: limits.uncommitted_bytes_max,
            log_cache_bytes_max: limits.log_cache_bytes_max,
            reads_max: limits.requests_max,
            // A false report that the leader is gone would break its lease.
            trust_peer_gone: config.reads.clock_drift_percent.is_none(),
            lease_drift_percent: config.reads.clock_drift_percent,
            priorities: config
                .machines
                .iter()
                .map(|each| (MachineId(self.config.machine_id(&each.name)), each.priority))
                .collect(),
            compaction_keep_entries: 10_000,
            compaction_keep_bytes: limits.log_cache_bytes_max,
            compaction_step_entries: 1_000,
            snapshot_timeout: Duration::from_secs(60),
        }
    }

    /// How long a client's request may take.
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.config.config.timings.request_timeout_ms)
    }

    /// The name of a machine, for the logs.
    pub(crate) fn name_of(&self, machine: MachineId) -> String {
        let member = self
            .identity
            .members
            .iter()
            .find(|each| each.machine == machine);
        member.map_or_else(|| machine.to_string(), |member| member.name.clone())
    }
}
