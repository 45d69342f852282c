//! Frames between peers, and QUIC under them.
//!
//! [`Outbound`] dials every peer and sends; [`Inbound`] listens on the machine's one peer port and receives. Each can be
//! dropped and built anew at any instant while the process lives. A connection carries messages one way only, from
//! the machine that dialled it, and proves domain, era, name and protocol version before anything else ([`Identity`]).
//!
//! A snapshot goes to a peer on a stream of its own ([`Outbound::send_snapshot`], [`SnapshotSource`]) and is taken by
//! the [`SnapshotSink`] of its [`Inbound`]. The list of peers may change while both live (`set_peers`); a machine that comes
//! back without its data is refused ([`DataIds`]). A machine that is not listed is heard as far as it leads or stands
//! ([`Event::Stranger`]).
//!
//! Nothing here logs, retries a lost message or knows Raft's rules: what happened comes back as values.

mod close;
mod codec;
mod data;
mod endpoint;
mod error;
mod farewell;
mod frame;
mod heard;
mod hello;
mod identity;
mod inbound;
mod lessor;
mod link;
mod members;
mod options;
mod outbound;
mod presence;
mod queue;
mod refusal;
mod refusals;
mod session;
mod snapshot;
mod snapshot_frame;
mod snapshot_receiver;
mod snapshot_sender;
mod stranger;
mod stray;
mod tls;

pub use codec::{decode, encode};
pub use data::{DataId, DataIds};
pub use error::WireError;
pub use frame::FrameError;
pub use heard::HeardCounts;
pub use identity::{Identity, Peer};
pub use inbound::{Event, Handler, Inbound};
pub use lessor::{LeaseStanding, LessorBody, LessorMessage};
pub use options::Options;
pub use outbound::{Outbound, PeerStatus};
pub use refusals::{Refusals, RefusedBecause};
pub use snapshot::{
    IncomingSnapshot, SnapshotDigest, SnapshotError, SnapshotFault, SnapshotHeader,
    SnapshotOutcome, SnapshotRefusal, SnapshotSink, SnapshotSource, SnapshotStart,
};
pub use tls::Credentials;
