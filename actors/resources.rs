//! What a process opens once and no restart of an actor reopens: the data, the peer port, the certificates.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rm_config::{Durability, Effective};
use rm_raft::{MachineId, Time};
use rm_store::{
    DataDirectory, Environment, Era, Log, LogError, OpenError, SnapshotError, SnapshotOptions,
    Snapshots,
};
use rm_wire::{Credentials, DataId, DataIds, WireError};
use slog::Logger;

use crate::addresses::Addresses;
use crate::forced::Forced;
use crate::forcing::{Force, ForceError, Survivor};
use crate::machine::Shared;
use crate::members::{self, listed};
use crate::report::{Member, Standing};
use crate::snapshot_inbox::Inbox;
use crate::snapshot_maker::Maker;
use crate::snapshot_stream::ClientSnapshots;
use crate::states::States;

/// The numbers of one boot's requests; more would take centuries to give out.
const REQUEST_BITS: u32 = 40;

/// After so long without news of a snapshot that is on its way, the leader asks the machine what became of it. A transfer that
/// still goes on then is left alone.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);

/// What a frame may hold besides commands.
const FRAME_REST_BYTES: usize = 1 << 20;

/// The longest frame between machines, whatever their configs say: what one takes into the log the others must take, and what is there
/// already is sent after its limits were made less.
const FRAME_BYTES_MAX: usize = 2 * rm_config::MESSAGE_BYTES_MAX + FRAME_REST_BYTES;

// Whatever the config allows into the log, every machine can apply.
const _: () = assert!(rm_config::MESSAGE_BYTES_MAX * 2 <= rm_kv::MAX_COMMAND_BYTES);
const _: () = assert!(rm_config::TRANSACTION_OPERATIONS_MAX <= rm_kv::MAX_TXN_OPERATIONS);

/// What the actors find open.
pub(crate) struct Resources {
    pub(crate) directory: DataDirectory,
    pub(crate) log: Log,
    pub(crate) states: States,
    pub(crate) snapshots: Snapshots,
    /// The snapshot that was made here, for whoever needs one.
    pub(crate) maker: Maker,
    /// The snapshots that clients take.
    pub(crate) client_snapshots: ClientSnapshots,
    /// The snapshot that came, until it is installed.
    pub(crate) inbox: Inbox,
    pub(crate) peer_socket: UdpSocket,
    pub(crate) credentials: Credentials,
    pub(crate) wire_identity: rm_wire::Identity,
    pub(crate) wire_options: rm_wire::Options,
    /// The most bytes of a command that gets into the log.
    pub(crate) command_bytes_max: usize,
    /// The data that peers were found on, for as long as the process lives.
    pub(crate) data_ids: DataIds,
    pub(crate) boot: u64,
    /// The era of the domain that the data is of.
    pub(crate) era: Era,
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
    /// The folder of snapshots cannot be opened.
    #[error(transparent)]
    Snapshots(#[from] SnapshotError),
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
    /// The key of tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] rm_jwt::KeyError),
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
    /// The domain cannot be begun anew with this machine.
    #[error(transparent)]
    Force(#[from] ForceError),
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
}

impl Resources {
    /// Opens all of it. What `asked` says of the machine holds for a folder without data. What is forced is forced last, when
    /// nothing else is in the way of a start, and what became of it is told.
    pub(crate) fn open(
        config: &Effective,
        asked: &rm_store::Identity,
        force: Option<Force>,
        logger: &Logger,
    ) -> Result<(Resources, Vec<Member>, Option<Forced>), StartError> {
        if force.is_some() && DataDirectory::is_new(config.data_dir())? {
            let directory = config.data_dir().to_owned();
            return Err(ForceError::NoData { directory }.into());
        }
        let machine = config.local();
        let credentials = credentials(config, machine)?;
        let directory = DataDirectory::open(config.data_dir(), asked)?;
        let owner = directory.identity();
        let log = Log::open(&Environment::open(
            &directory,
            "log",
            &options(config, true),
        )?)?;
        let states = States::open(&directory, log.generation()?, options(config, false))?;
        let snapshots = Snapshots::open(&directory, snapshot_options(config))?;
        let boot = directory.boot();
        let data_id = DataId(directory.data_number().to_be_bytes());
        let peer_socket = bind_peer_port(config, machine)?;
        let known = known_members(config, &owner);
        let survivor = Survivor {
            config,
            directory: &directory,
            log: &log,
            snapshots: &snapshots,
            known: &known,
        };
        let forced = force
            .map(|force| survivor.force(force, logger))
            .transpose()?;
        let members = match log.load()?.configurations.pop() {
            Some(latest) => listed(&latest.configuration, &known),
            None => known,
        };
        let era = log.era()?.unwrap_or(owner.era);
        let peers: Vec<members::Peer> = members.iter().map(members::Peer::from).collect();
        let addresses = Addresses::new(owner.id, &peers);
        addresses.keep_asking().map_err(StartError::Thread)?;
        let resources = Resources {
            directory,
            log,
            states,
            snapshots,
            maker: Maker::default(),
            client_snapshots: ClientSnapshots::new(config.config.limits.snapshot_clients_max),
            inbox: Inbox::default(),
            peer_socket,
            credentials,
            wire_identity: rm_wire::Identity {
                domain: owner.domain,
                era: era.0,
                name: owner.machine,
                id: owner.id,
                address: machine.peer.to_string(),
                incarnation: boot,
                data_id,
            },
            wire_options: wire_options(config),
            command_bytes_max: command_bytes_max(&config.config.limits),
            data_ids: DataIds::default(),
            boot,
            era,
            addresses,
            next_request: AtomicU64::new(boot << REQUEST_BITS),
        };
        Ok((resources, members, forced))
    }

    /// Whose the data is.
    pub(crate) fn owner(&self) -> rm_store::Identity {
        self.directory.identity()
    }

    /// Notes that this machine takes part no more.
    pub(crate) fn note_removed(&self) -> Result<(), OpenError> {
        self.directory.note_removed()
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

/// The members of which the log need not tell: whom this machine joined, or with whom it begins the domain.
fn known_members(config: &Effective, owner: &rm_store::Identity) -> Vec<Member> {
    match &owner.joined {
        Some(neighbours) => neighbours.iter().map(neighbour).collect(),
        None => {
            let machines = config.config.machines.iter();
            machines.map(|each| founder(config, each)).collect()
        }
    }
}

fn neighbour(neighbour: &rm_store::Neighbour) -> Member {
    Member {
        machine: MachineId(neighbour.id),
        name: neighbour.name.clone(),
        peer: neighbour.peer.clone(),
        client: neighbour.client.clone(),
        standing: Standing::Voter,
        data_id: None,
    }
}

/// One of the machines that a domain begins with.
fn founder(config: &Effective, machine: &rm_config::Machine) -> Member {
    Member {
        machine: MachineId(config.machine_id(&machine.name)),
        name: machine.name.clone(),
        peer: machine.peer.to_string(),
        client: machine.client.to_string(),
        standing: Standing::Voter,
        data_id: None,
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

fn snapshot_options(config: &Effective) -> SnapshotOptions {
    let limits = &config.config.limits;
    SnapshotOptions {
        reserve_bytes: limits.snapshot_reserve_bytes.max(limits.disk_reserve_bytes),
        bytes_max: limits.map_bytes_max,
        ..SnapshotOptions::default()
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
        snapshot_bytes_per_second: limits.snapshot_bytes_per_second,
        frame_bytes_max: FRAME_BYTES_MAX,
        ..defaults
    }
}

/// A command is about as large as its request, but where a name stands in it many times. What is around it in a frame has half of the rest.
fn command_bytes_max(limits: &rm_config::Limits) -> usize {
    let message = limits.append_bytes_max.max(limits.request_bytes_max);
    let fits_into_a_frame = 2 * message + FRAME_REST_BYTES / 2;
    fits_into_a_frame
        .min(rm_kv::MAX_COMMAND_BYTES)
        .min(limits.requests_bytes_max)
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
    if anyone_may_join(&addresses, &config.config.peers) {
        return Err(StartError::Insecure { address });
    }
    UdpSocket::bind(&addresses[..]).map_err(failed)
}

fn anyone_may_join(addresses: &[SocketAddr], peers: &rm_config::Peers) -> bool {
    let is_ours_alone = addresses.iter().all(|each| each.ip().is_loopback());
    !is_ours_alone && peers.tls.is_none() && !peers.insecure
}

impl Shared {
    /// What a Raft core of this machine is made with. The seed differs for every life, so that machines whose cores
    /// restart together do not choose the same election timeouts again and again.
    pub(crate) fn core_config(&self, incarnation: u64) -> rm_raft::Config {
        let config = &self.config.config;
        let (timings, limits) = (&config.timings, &config.limits);
        let election_timeout = Duration::from_millis(timings.election_timeout_ms);
        rm_raft::Config {
            local: self.local(),
            election_timeout,
            heartbeat_interval: Duration::from_millis(timings.heartbeat_ms),
            disk_patience: Duration::from_millis(timings.disk_patience_ms()),
            seed: self.local().0
                ^ self.resources.boot.rotate_left(32)
                ^ incarnation.rotate_left(16),
            inflight_requests_max: limits.inflight_requests_max,
            inflight_entries_max: limits.inflight_entries_max,
            inflight_bytes_max: limits.inflight_bytes_max,
            append_bytes_max: limits.append_bytes_max,
            uncommitted_bytes_max: limits.uncommitted_bytes_max,
            log_cache_bytes_max: limits.log_cache_bytes_max,
            reads_max: limits.requests_max,
            // A false report that the leader is gone would break its lease.
            trust_peer_gone: config.reads.clock_drift_percent.is_none(),
            lease_drift_percent: config.reads.clock_drift_percent,
            // An earlier process may have had another config than this one.
            may_have_promised: config.reads.clock_drift_percent.is_some()
                || (self.resources.boot > 1
                    && self.clock.now() < Time::default().after(election_timeout)),
            priorities: self.priorities(),
            compaction_keep_entries: config.storage.compaction_keep_entries,
            compaction_keep_bytes: config.storage.compaction_keep_bytes,
            compaction_wait_entries: config.storage.compaction_wait_entries,
            compaction_wait_bytes: config.storage.compaction_wait_bytes,
            compaction_step_entries: config.storage.compaction_step_entries,
            snapshot_timeout: SNAPSHOT_TIMEOUT,
        }
    }

    /// The priorities that the config gives by name, of those who are members now: a machine that replaces another of its name has
    /// a number of its own.
    pub(crate) fn priorities(&self) -> BTreeMap<MachineId, u8> {
        let machines = &self.config.config.machines;
        let members = self.members.present();
        let numbered = members.iter().filter_map(|member| {
            let machine = machines.iter().find(|each| each.name == member.name)?;
            Some((member.machine, machine.priority))
        });
        numbered.collect()
    }

    /// How long a client's request may take.
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.config.config.timings.request_timeout_ms)
    }

    /// The name of a machine, for the logs.
    pub(crate) fn name_of(&self, machine: MachineId) -> String {
        self.members.name_of(machine)
    }
}

#[cfg(test)]
mod tests {
    use rm_config::{Limits, MESSAGE_BYTES_MAX};
    use rm_raft::{Body, Entry, EntryId, Index, Message, Payload, Proposal, RequestId, Term};

    use super::*;

    #[test]
    fn a_name_that_leads_beyond_loopback_needs_certificates_or_a_word() {
        let at = |text: &str| vec![text.parse::<SocketAddr>().expect("an address")];
        let (here, beyond) = (at("127.0.0.1:1"), at("192.0.2.1:1"));
        let both = [here.clone(), beyond.clone()].concat();
        let silent = rm_config::Peers::default();
        let told = rm_config::Peers {
            insecure: true,
            ..rm_config::Peers::default()
        };
        assert!(!anyone_may_join(&here, &silent));
        for open in [beyond, both] {
            assert!(anyone_may_join(&open, &silent), "{open:?}");
            assert!(!anyone_may_join(&open, &told), "{open:?}");
        }
    }

    #[test]
    fn the_longest_command_fits_into_a_frame_between_machines_with_any_limits() {
        let largest = Limits {
            append_bytes_max: MESSAGE_BYTES_MAX,
            request_bytes_max: MESSAGE_BYTES_MAX,
            requests_bytes_max: usize::MAX,
            ..Limits::default()
        };
        let entry = Entry {
            id: EntryId::default(),
            payload: Payload::Command(Proposal {
                request: RequestId::default(),
                command: vec![0; command_bytes_max(&largest)].into(),
            }),
        };
        let append = Message {
            term: Term::default(),
            body: Body::AppendRequest {
                previous: EntryId::default(),
                entries: vec![entry].into(),
                commit: Index::default(),
                round: 0,
            },
        };
        let bytes = rm_wire::encode(&append).len();
        assert!(bytes <= FRAME_BYTES_MAX, "{bytes}");
    }

    #[test]
    fn a_command_is_no_larger_than_all_that_may_wait() {
        let limits = Limits {
            requests_bytes_max: 10_000,
            ..Limits::default()
        };
        assert_eq!(command_bytes_max(&limits), 10_000);
    }
}
