//! LMDB under a machine: its data directory, the two environments in it, and the log.
//!
//! A [`DataDirectory`] is locked and knows whose data it holds. An [`Environment`] in it is one LMDB file, checked before
//! LMDB maps it. The [`Log`] is the durable half of Raft: hard state and entries, one durable commit a batch. [`Snapshots`] are
//! made of the state, received from others, and put in its place.

mod append;
mod codec;
mod compaction;
mod directory;
mod environment;
mod era;
mod error;
mod fault;
mod force;
mod identity;
mod incoming;
mod log;
mod origin;
mod outgoing;
mod page;
mod reader;
mod received;
mod replacement;
mod restoration;
mod sealed;
mod shortage;
mod snapshot;
mod states;
mod tables;
mod verify;
mod walk;
mod writer;

pub use append::Append;
pub use codec::{decode_configuration, encode_configuration};
pub use directory::{DataDirectory, SoundFile};
pub use environment::{Durability, Environment, Options, Space};
pub use era::{Era, EraError};
pub use error::{LogError, OpenError, SnapshotError};
pub use fault::{FaultHook, Point};
pub use identity::{Identity, Neighbour};
pub use incoming::Incoming;
pub use log::{Loaded, Log};
pub use reader::LogReader;
pub use received::Received;
pub use restoration::{Restoration, RestoreError};
pub use snapshot::{Description, SnapshotFile, SnapshotId, SnapshotOptions, Snapshots};
pub use states::remove_others;
pub use verify::{Damage, Extent, verify, verify_copy};
pub use writer::Writer;

#[cfg(test)]
mod testing;
