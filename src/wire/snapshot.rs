//! What a snapshot is to the wire: a header, bytes that a source reads and a sink takes, and how sending one may end.
//!
//! A snapshot goes over a stream of its own, of a lower priority than the messages. The sender offers it; the receiver
//! says from which offset it wants it, that it has it already, or why it refuses. Then chunks follow, each confirmed once
//! the sink has taken it, then the digest, and at last the receiver confirms that the whole is durable.
//!
//! QUIC's own flow control would not do: its windows are shared by the streams of a connection, so that a slow disk behind
//! this stream would hold up the messages. Therefore a sender never has more than
//! [`Options::snapshot_window_bytes`](crate::Options::snapshot_window_bytes) on the way that the sink has not taken, and both
//! windows of the connection have that much room beyond what the messages may take.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use rm_raft::{EntryId, Index, MachineId, Term};
use thiserror::Error;

use crate::FrameError;

/// The longest configuration that a header carries, in bytes.
pub(crate) const CONFIGURATION_BYTES_MAX: usize = 64 << 10;

/// A digest of a snapshot's whole content. Source and sink agree on how it is computed; the wire only carries it.
pub type SnapshotDigest = [u8; 32];

/// Whatever went wrong in a source or a sink.
pub type SnapshotFault = Box<dyn Error + Send + Sync>;

/// What is said of a snapshot before its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// The term of the leader that sends it.
    pub term: Term,
    /// Tells this snapshot from all others: a transfer that broke off is resumed only with the same one.
    pub id: SnapshotDigest,
    /// The last entry that it stands for.
    pub last: EntryId,
    /// The length of its content in bytes.
    pub length: u64,
    /// The newest configuration at or before `last`, encoded; at most 64 KiB.
    pub configuration: Bytes,
    /// The entry that holds that configuration.
    pub configured: Index,
}

/// Where the content of a snapshot is read from. Called on threads that may block, one call at a time.
pub trait SnapshotSource: Send + 'static {
    /// Fills `buffer` with the content from `offset` on; it never reaches beyond the header's length.
    ///
    /// # Errors
    /// Any; the transfer is then broken off.
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), SnapshotFault>;

    /// The digest of the whole content, whatever part of it was read.
    ///
    /// # Errors
    /// Any; the transfer is then broken off.
    fn digest(&mut self) -> Result<SnapshotDigest, SnapshotFault>;
}

/// What takes the snapshots of peers. Called on threads that may block.
pub trait SnapshotSink: Send + Sync + 'static {
    /// Decides what to do with a snapshot that a peer offers.
    ///
    /// An [`Inbound`](crate::Inbound) takes one snapshot at a time. But where one was dropped during a transfer, its last
    /// call may still go on while the next one's sink begins.
    ///
    /// # Errors
    /// Why it is refused, to be told to the peer.
    fn begin(
        &self,
        from: MachineId,
        header: &SnapshotHeader,
    ) -> Result<SnapshotStart, SnapshotFault>;
}

/// How a transfer begins.
pub enum SnapshotStart {
    /// The snapshot is here already, whole and durable.
    AlreadyHere,
    /// Its content is wanted.
    From {
        /// From this offset on: what comes before it is here from a transfer that broke off.
        offset: u64,
        /// What takes it.
        incoming: Box<dyn IncomingSnapshot>,
    },
}

/// A snapshot that is being received. Dropped when the transfer breaks off; what was taken may be kept to resume it.
pub trait IncomingSnapshot: Send + 'static {
    /// Takes the next bytes. Each chunk follows on the one before.
    ///
    /// # Errors
    /// Why it cannot, to be told to the peer; the transfer ends.
    fn chunk(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SnapshotFault>;

    /// Checks the whole content and makes it durable; only then the sender is told that it arrived.
    ///
    /// # Errors
    /// Why it is not to be had, to be told to the peer.
    fn finish(self: Box<Self>, digest: SnapshotDigest) -> Result<(), SnapshotFault>;
}

/// How sending a snapshot ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// The peer holds it durably.
    Delivered {
        /// From which offset on it was sent: more than 0 where an earlier transfer was resumed.
        resumed_at: u64,
    },
    /// The peer had it already.
    AlreadyThere,
}

/// Why a receiver does not take a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SnapshotRefusal {
    /// It takes one at a time.
    #[error("another snapshot is on its way")]
    Busy,
    /// It has no sink at present.
    #[error("no snapshots are taken at present")]
    Closed,
    /// The transfer got no further for too long.
    #[error("it got no further for too long")]
    Stalled,
    /// Its sink refused or failed.
    #[error("{0}")]
    Sink(String),
}

/// Why a snapshot was not sent, or not to its end. All but the last three may be gone at the next attempt, which resumes where
/// the peer's sink kept what it had.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// There is no connection to the peer at present.
    #[error("machine {} is not connected", peer.0)]
    NotConnected {
        /// The peer.
        peer: MachineId,
    },
    /// The peer refused it.
    #[error("the peer did not take it: {0}")]
    Refused(#[from] SnapshotRefusal),
    /// It got no further for too long.
    #[error("it got no further for {0:?}")]
    Stalled(Duration),
    /// The connection was lost, or closed.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The machine is not in the list of peers.
    #[error("machine {} is not a peer", peer.0)]
    UnknownPeer {
        /// The machine.
        peer: MachineId,
    },
    /// The source cannot be read.
    #[error("the snapshot cannot be read: {0}")]
    Source(SnapshotFault),
    /// The header cannot be sent, or the peer answered with what is no answer.
    #[error("{0}")]
    Frame(#[from] FrameError),
}
