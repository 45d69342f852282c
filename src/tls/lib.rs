//! TLS on the port for clients, for both of its ends: [`Acceptor`] for a machine that serves, [`Dialler`] for whoever asks it.
//!
//! Certificates and keys are PEM files. A machine takes new ones into force while it serves, so that a certificate is renewed
//! without a stop. A client's certificate, where one is asked for, says who it is: [`Accepted::common_name`].
//!
//! The port of the machines among themselves is another matter (`rm-wire`): QUIC, always mutual, with names of hosts in both.

mod client;
mod error;
mod files;
mod server;
mod subject;

pub use client::{ClientFiles, Dialler};
pub use error::TlsError;
pub use server::{Accepted, Acceptor, ServerFiles, Version};

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// What the port speaks inside TLS, the preferred first (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn protocols() -> Vec<Vec<u8>> {
    PROTOCOLS.map(<[u8]>::to_vec).to_vec()
}
