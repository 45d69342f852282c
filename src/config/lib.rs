//! The JSON config of a machine: its shape with every default, reading it, and judging all of it at once.
//!
//! [`load`] is the way in. It gives an [`Effective`] config, or a [`ConfigError`] that lists everything that is wrong.

mod address;
mod auth;
mod auto_compaction;
mod certificates;
mod clients;
mod effective;
mod error;
mod identity;
mod interfaces;
mod jwt;
mod leases;
mod numbers;
mod parse;
mod rules;
mod schema;
mod watch;

pub use address::{Address, AddressError};
pub use auth::Auth;
pub use auto_compaction::{AutoCompaction, AutoCompactionMode};
pub use clients::{ClientTls, Clients, TlsVersion};
pub use effective::{Effective, load};
pub use error::{ConfigError, Problem};
pub use identity::{cluster_id, machine_id};
pub use jwt::{Jwt, SignMethod};
pub use leases::Leases;
pub use numbers::{MESSAGE_BYTES_MAX, TRANSACTION_OPERATIONS_MAX};
pub use rules::LOGGERS;
pub use schema::*;
pub use watch::Watch;
