//! Why a half of the wire could not be built. All of these are the environment's or the config's fault.

use std::{io, net::SocketAddr, path::PathBuf};

use thiserror::Error;

/// Why credentials could not be loaded or a half could not be built.
#[derive(Debug, Error)]
pub enum WireError {
    /// A socket could not be opened or prepared.
    #[error("cannot open a UDP socket for peers on {address}: {source}")]
    Socket {
        /// Where it was to be bound.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The listening socket is not usable.
    #[error("cannot listen for peers on the given UDP socket: {0}")]
    Listen(#[source] io::Error),
    /// A PEM file cannot be read or holds nothing of what it should.
    #[error("cannot read {what} from {}: {reason}; the file must be PEM", path.display())]
    Pem {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The certificates and the key do not make usable credentials.
    #[error("the certificates for peers are not usable: {0}")]
    Certificates(String),
    /// Timings or limits that QUIC cannot express.
    #[error("{what} cannot be used for connections between peers: {reason}")]
    Options {
        /// Which.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
}
