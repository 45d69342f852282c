//! What a machine shows to whoever asks: who it is, how it stands, and how its actors fare.

use rm_config::Level;
use rm_kv::Alarm;
use rm_raft::{FollowerStatus, Index, MachineId, Role, Term};
use rm_store::Era;

use crate::ActorName;
use crate::port::Port;

/// Who a machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The domain's name.
    pub domain: String,
    /// A number made of the domain's name: etcd's cluster id.
    pub cluster_id: u64,
    /// The era of the domain that its data is of.
    pub era: Era,
    /// The machine's name.
    pub name: String,
    /// Its number: etcd's member id.
    pub machine: MachineId,
}

/// How a machine takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It votes.
    Voter,
    /// It receives the log.
    Learner,
    /// It votes until the change that removes it is complete.
    Leaving,
}

/// One machine of the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub machine: MachineId,
    /// Its name.
    pub name: String,
    /// Where peers reach it, `host:port`.
    pub peer: String,
    /// Where clients reach it, `host:port`.
    pub client: String,
    /// How it takes part.
    pub standing: Standing,
    /// The data that it lives on, once it was found there.
    pub data_id: Option<rm_wire::DataId>,
}

/// What a machine knows of itself at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its role.
    pub role: Role,
    /// Whether it only receives the log, by the configuration in force.
    pub is_learner: bool,
    /// Its term.
    pub term: Term,
    /// Whom it takes for the leader.
    pub leader: Option<MachineId>,
    /// The longest time, in milliseconds, in which it heard nothing of that leader since it follows it, the one that lasts among them;
    /// none when it knows of no leader, or leads itself.
    pub leader_silence_ms: Option<u64>,
    /// The first index of its log that is not compacted.
    pub first: Index,
    /// The bytes of its log that are in use.
    pub log_bytes: u64,
    /// How far it has got with each machine that it sends the log to, in the order of their numbers; none unless it leads.
    pub followers: Vec<FollowerStatus>,
    /// The snapshots that it sends.
    pub sending: Vec<Transfer>,
    /// The snapshot that it receives.
    pub receiving: Option<Transfer>,
    /// The last index of its log.
    pub last: Index,
    /// Up to where it knows the log to be committed.
    pub commit: Index,
    /// Up to where it has applied the log.
    pub applied: Index,
    /// The revision of its key space.
    pub revision: i64,
    /// The bytes of its data files.
    pub file_bytes: u64,
    /// The bytes in them that are in use.
    pub used_bytes: u64,
    /// The alarms that stand, in the order of the machines' numbers.
    pub alarms: Vec<Alarm>,
    /// Whether the disk is full and writes are refused.
    pub no_space: bool,
    /// How often a connection, a frame or a datagram was refused on the peer port since the process started.
    pub refused: u64,
    /// The peers that refuse the machine, or that it refuses, in the order of their numbers: no message goes to them.
    pub refusals: Vec<PeerRefusal>,
    /// How often the machine was started on this data.
    pub boot: u64,
    /// The process.
    pub process: u32,
    /// Milliseconds since the process started.
    pub uptime_ms: u64,
}

/// How far a snapshot has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The machine that it goes to, or comes from.
    pub peer: MachineId,
    /// The bytes that have gone or come.
    pub bytes: u64,
    /// All of its bytes.
    pub bytes_all: u64,
}

/// Why a peer is not spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRefusal {
    /// The peer's name.
    pub name: String,
    /// Which of the two refuses the other, why, and where it is known what to do.
    pub reason: String,
}

/// What the supervisor knows of one actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorReport {
    /// Its name: `logic_center`, `storage` and so on.
    pub name: String,
    /// The group that it is restarted in: `brain`, `net` or `front`.
    pub group: String,
    /// `running`, `starting`, `stopped` or `hung`.
    pub state: String,
    /// The number of its present life, from one.
    pub incarnation: u64,
    /// How often it was started again.
    pub restarts: u64,
    /// How often it failed itself; the other restarts were for a neighbour's failure.
    pub failures: u64,
    /// What its last failure was.
    pub last_failure: Option<String>,
    /// From its last failure to the first message that it handled again, in microseconds.
    pub recovery_us: Option<u64>,
    /// Messages that wait for it.
    pub mailbox: u64,
    /// Messages that it has handled in all its lives.
    pub handled: u64,
    /// The level of its log.
    pub level: Level,
}

impl Port {
    /// The machine's term, for the header of each response.
    pub fn term(&self) -> Term {
        self.shared.board.raft().term
    }

    /// What the machine knows of itself at the moment.
    pub fn report(&self) -> Report {
        let board = &self.shared.board;
        let raft = board.raft();
        let (file_bytes, used_bytes) = board.sizes();
        let snapshots = board.snapshots();
        let transfer = |(peer, bytes, bytes_all)| Transfer {
            peer,
            bytes,
            bytes_all,
        };
        let sending = snapshots.sending.into_iter();
        let members = self.shared.members.present();
        let own = members
            .iter()
            .find(|member| member.machine == self.shared.local());
        Report {
            role: raft.role,
            is_learner: own.is_some_and(|own| own.standing == Standing::Learner),
            term: raft.term,
            leader: raft.leader,
            leader_silence_ms: board.silence().map(|silence| {
                let longest = silence.longest(self.shared.clock.now()).as_millis();
                u64::try_from(longest).unwrap_or(u64::MAX)
            }),
            first: raft.base.next(),
            log_bytes: board.log_bytes(),
            followers: board.followers(),
            sending: sending
                .map(|(to, (bytes, all))| transfer((to, bytes, all)))
                .collect(),
            receiving: snapshots.receiving.map(transfer),
            last: raft.last,
            commit: raft.commit,
            applied: board.applied(),
            revision: board.revision(),
            file_bytes,
            used_bytes,
            alarms: board.alarms(),
            no_space: board.no_space(),
            refused: board.refused(),
            refusals: board.refusals().into_values().collect(),
            boot: self.shared.resources.boot,
            process: std::process::id(),
            uptime_ms: self.shared.clock.micros() / 1_000,
        }
    }

    /// What the supervisor knows of each actor.
    pub fn actors(&self) -> Vec<ActorReport> {
        ActorName::ALL
            .into_iter()
            .map(|name| self.actor(name))
            .collect()
    }

    fn actor(&self, name: ActorName) -> ActorReport {
        let lives = self.shared.board.actor(name).lives();
        let present = lives.present.as_ref();
        let handled = present.map_or(0, |life| life.handled());
        ActorReport {
            name: name.to_string(),
            group: name.group().as_str().to_owned(),
            state: lives.state.as_str().to_owned(),
            incarnation: lives.incarnation,
            restarts: lives.incarnation.saturating_sub(1),
            failures: lives.failures,
            last_failure: lives.last_failure,
            recovery_us: lives.recovery_us,
            mailbox: present.map_or(0, |life| life.mailbox()),
            handled: lives.handled_before + handled,
            level: self.shared.logs.level(name.as_str()),
        }
    }
}
