//! Frames between peers, and QUIC under them.
//!
//! [`Outbound`] dials every peer and sends; [`Inbound`] listens on the machine's one peer port and receives. Each can be
//! dropped and built anew at any instant while the process lives. A connection carries messages one way only, from
//! the machine that dialled it, and proves domain, name and protocol version before anything else ([`Identity`]).
//!
//! Nothing here logs, retries a lost message or knows Raft's rules: what happened comes back as values.

mod close;
mod codec;
mod endpoint;
mod error;
mod frame;
mod hello;
mod identity;
mod inbound;
mod link;
mod members;
mod options;
mod outbound;
mod presence;
mod queue;
mod refusals;
mod session;
mod stray;
mod tls;

pub use codec::{decode, encode};
pub use error::WireError;
pub use frame::FrameError;
pub use identity::{Identity, Peer};
pub use inbound::{Event, Handler, Inbound};
pub use options::Options;
pub use outbound::{Outbound, PeerStatus};
pub use refusals::{Refusals, RefusedBecause};
pub use tls::Credentials;
