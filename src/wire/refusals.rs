//! Why connections are refused, and how often.

use rm_raft::MachineId;
use thiserror::Error;

use crate::{DataId, SnapshotRefusal};

/// Why a connection, or what came on it, was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RefusedBecause {
    /// The other end belongs to another domain.
    #[error(
        "it belongs to domain {theirs:?}, this machine to {ours:?}: correct `domain` or the peer address in the config"
    )]
    Domain {
        /// What it says.
        theirs: String,
        /// What this machine is configured with.
        ours: String,
    },
    /// The other end's data is of another era of the domain.
    #[error(
        "its data is of era {theirs:016x} of the domain and this machine's of era {ours:016x}: the domain was begun anew by \
         --force-new-domain. A machine of the era that was given up takes part again only with an empty folder: run `rmctl \
         member add` for it, and start it with --join"
    )]
    Era {
        /// Its era.
        theirs: u64,
        /// This machine's era.
        ours: u64,
    },
    /// Its name and number do not belong together, or it was removed, or there are too many strangers.
    #[error(
        "{name:?} with number {id} is not in this machine's list of the domain's machines: add it to the cluster, or correct its config"
    )]
    Machine {
        /// The name that it gives.
        name: String,
        /// The number that it gives.
        id: u64,
    },
    /// The other end meant to reach another machine.
    #[error(
        "it wants to reach {name:?} with number {id}, and this is another machine: correct that machine's address in the config"
    )]
    Receiver {
        /// The name that it expects.
        name: String,
        /// The number that it expects.
        id: u64,
    },
    /// The other end speaks another version.
    #[error(
        "it speaks version {theirs} of the protocol and this machine version {ours}: run one release on both"
    )]
    Version {
        /// Its version.
        theirs: u16,
        /// This machine's version.
        ours: u16,
    },
    /// The machine lives on other data than before.
    #[error(
        "machine {name:?} must live on data {expected} and lives on {found}: its data directory was emptied or replaced; \
         remove the machine from the cluster and add it again"
    )]
    DataChanged {
        /// The machine.
        name: String,
        /// The data that it must live on.
        expected: DataId,
        /// The data that it says it lives on.
        found: DataId,
    },
    /// A snapshot that it offered, or was sending, was refused; the connection goes on.
    #[error("a snapshot from machine {} was not taken: {because}", from.0)]
    Snapshot {
        /// Who sent it.
        from: MachineId,
        /// Why.
        because: SnapshotRefusal,
    },
    /// The certificate does not name the machine's host.
    #[error("its certificate does not name the host {host:?} of machine {name:?}: {reason}")]
    Certificate {
        /// The machine that it claims to be.
        name: String,
        /// The host that the certificate should name.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// What it sent is no frame, or not the one that belongs there.
    #[error("{0}")]
    Frame(#[from] crate::FrameError),
    /// It opened a stream of a kind that this machine does not know.
    #[error("it opened a stream of kind {kind}, which this machine does not know")]
    Stream {
        /// The first byte of the stream.
        kind: u8,
    },
    /// It did not prove itself in time.
    #[error("it did not prove itself in time")]
    Slow,
    /// There are as many connections as the limits allow.
    #[error("there are {open} connections already, as many as the limit allows")]
    Crowded {
        /// How many there are.
        open: usize,
    },
    /// TLS or QUIC itself failed before anything was proved.
    #[error("no connection came to be: {0}")]
    Transport(String),
}

/// How often connections, or what came on them, were refused, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Another domain.
    pub domain: u64,
    /// Another era of the domain.
    pub era: u64,
    /// A name and number that are not in the list together.
    pub machine: u64,
    /// Another receiver was meant.
    pub receiver: u64,
    /// Another protocol version.
    pub version: u64,
    /// Other data than before.
    pub data: u64,
    /// A snapshot that was not taken.
    pub snapshot: u64,
    /// A certificate of another host.
    pub certificate: u64,
    /// Something that is no frame, or not the one that belongs there.
    pub frame: u64,
    /// A stream of an unknown kind.
    pub stream: u64,
    /// No proof in time.
    pub slow: u64,
    /// Too many connections.
    pub crowded: u64,
    /// A failure of TLS or QUIC.
    pub transport: u64,
    /// Datagrams that are none of this protocol.
    pub stray: u64,
}

impl Refusals {
    /// All of them.
    pub fn total(&self) -> u64 {
        let Refusals {
            domain,
            era,
            machine,
            receiver,
            version,
            data,
            snapshot,
            certificate,
            frame,
            stream,
            slow,
            crowded,
            transport,
            stray,
        } = *self;
        domain
            + era
            + machine
            + receiver
            + version
            + data
            + snapshot
            + certificate
            + frame
            + stream
            + slow
            + crowded
            + transport
            + stray
    }

    pub(crate) fn count(&mut self, because: &RefusedBecause) {
        use crate::FrameError;
        let counter = match because {
            RefusedBecause::Domain { .. } => &mut self.domain,
            RefusedBecause::Era { .. } => &mut self.era,
            RefusedBecause::Machine { .. } => &mut self.machine,
            RefusedBecause::Receiver { .. } => &mut self.receiver,
            RefusedBecause::Version { .. }
            | RefusedBecause::Frame(FrameError::NewerVersion { .. }) => &mut self.version,
            RefusedBecause::DataChanged { .. } => &mut self.data,
            RefusedBecause::Snapshot { .. } => &mut self.snapshot,
            RefusedBecause::Certificate { .. } => &mut self.certificate,
            RefusedBecause::Frame(_) => &mut self.frame,
            RefusedBecause::Stream { .. } => &mut self.stream,
            RefusedBecause::Slow => &mut self.slow,
            RefusedBecause::Crowded { .. } => &mut self.crowded,
            RefusedBecause::Transport(_) => &mut self.transport,
        };
        *counter += 1;
    }
}
