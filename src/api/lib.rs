//! The gRPC services of a machine, one file each, and HTTP beside them: thin, between the wire and the machine's port.
//!
//! A service checks what can be checked without the key space, hands the request to the [`Port`](rm_actors::port::Port),
//! and puts the answer into etcd's words. It holds no state, and starts no task but for a place in line (`place.rs`), which must be
//! left though its call is gone, for the deadline of a stream (`deadline.rs`), which its client may not take from any more, for each
//! handshake of TLS (`door.rs`), and for each connection of a monitor (`monitors.rs`). What is on its way to clients is held to a pace beside the services (`reply.rs`).

mod admin;
mod alarm;
mod arrival;
mod auth;
mod calls;
mod certificates;
mod cluster;
mod connection;
mod consistency;
mod cut;
mod deadline;
mod departure;
mod descriptors;
mod dispatch;
mod door;
mod election;
mod error;
mod following;
mod header;
mod health;
mod join;
mod kv;
mod lease;
mod line;
mod linger;
mod lock;
mod lookout;
mod maintenance;
mod members;
mod monitors;
mod observing;
mod patience;
mod pings;
mod place;
mod recognition;
mod reflection;
mod reply;
mod request;
mod response;
mod server;
mod size;
mod transfer;
mod visitor;
mod watch;
mod web;

pub use certificates::Certificates;
pub use departure::learn_of_removal;
pub use join::{JoinError, find_admission};
pub use rm_tls::TlsError;
pub use server::{Listeners, ServeError, serve};
