//! The scaffolding of the tests that run real machines: processes started from a config, killed, paused and started
//! again, clients that talk to them, and a checker of what the clients saw; and an exploration of all that three cores can do.
//!
//! Everything here panics with a text that says what was expected, since only tests call it.

pub mod asks;
pub mod authority;
pub mod behind;
pub mod between;
pub mod binary;
pub mod checker;
pub mod client;
pub mod cluster;
pub mod curl;
pub mod etcd;
pub mod exploration;
pub mod history;
pub mod host;
pub mod leases;
pub mod lines;
pub mod logs;
pub mod lone_etcd;
pub mod machine;
pub mod members;
mod memory;
pub mod mover;
pub mod openssl;
pub mod panics;
pub mod ports;
pub mod prober;
pub mod process;
pub mod prometheus;
pub mod raw;
pub mod restarts;
pub mod rmctl;
pub mod settings;
pub mod silence;
pub mod simulation;
pub mod times;
pub mod unread;
pub mod users;
pub mod wait;
pub mod watching;
pub mod workload;
pub mod writers;

pub use behind::Behind;
pub use between::Between;
pub use client::Client;
pub use cluster::Cluster;
pub use lone_etcd::LoneEtcd;
pub use machine::Machine;
pub use mover::Mover;
pub use prober::Prober;
pub use settings::Settings;
pub use wait::{rounds, until, until_within};
pub use workload::Workload;
pub use writers::Writers;
