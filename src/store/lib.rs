//! LMDB under a machine: its data directory, the two environments in it, and the log.
//!
//! A [`DataDirectory`] is locked and knows whose data it holds. An [`Environment`] in it is one LMDB file, checked before
//! LMDB maps it. The [`Log`] is the durable half of Raft: hard state and entries, one durable commit a batch.

mod append;
mod codec;
mod compaction;
mod directory;
mod environment;
mod error;
mod fault;
mod identity;
mod log;
mod origin;
mod page;
mod reader;
mod shortage;
mod tables;
mod verify;
mod walk;

pub use append::Append;
pub use directory::{DataDirectory, SoundFile};
pub use environment::{Durability, Environment, Options, Space};
pub use error::{LogError, OpenError};
pub use fault::{FaultHook, Point};
pub use identity::Identity;
pub use log::{Loaded, Log};
pub use reader::LogReader;
pub use verify::{Damage, Extent, verify};

#[cfg(test)]
mod testing;
