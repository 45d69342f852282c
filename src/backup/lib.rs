//! Snapshots that operators keep as files: looked into, checked, and made into the data of a new domain.
//!
//! A [`Saved`] snapshot is a compact copy of a machine's state, as a machine sends it to a client, with 32 bytes of SHA-256 behind it.
//! [`restore`] makes the data directory of one machine of it. Nothing here needs a machine that runs.

mod error;
mod restore;
mod saved;

pub use error::BackupError;
pub use restore::{NewDomain, Restored, restore};
pub use rm_kv::{Anew, Summary};
pub use rm_raft::{EntryId, MachineId};
pub use rm_store::{Era, SnapshotId};
pub use saved::{DIGEST_BYTES, Saved};
