//! The Raft algorithm, with no input or output of its own: values in, values out. No disk, no socket, no clock,
//! no thread, and no randomness but from the seed that it is given.

mod candidate;
mod canonical;
mod compaction;
mod config;
mod configuration;
mod entries;
mod entry;
mod follower;
mod interface;
mod leader;
mod lease;
mod log;
mod membership;
mod message;
mod node;
mod participation;
mod priority;
mod progress;
mod quorum;
mod raft;
mod random;
mod read;
mod reconfiguration;
mod replication;
mod requests;
mod shares;
mod snapshot;
mod space;
mod status;
#[cfg(test)]
mod testing;
mod transfer;
mod types;
mod vote;
mod window;

pub use config::{Config, ConfigError, Durable};
pub use configuration::{
    ABOUT_BYTES_MAX, Configuration, ConfigurationError, Configured, MEMBERS_MAX,
};
pub use entries::Entries;
pub use entry::{Entry, HardState, Payload, Proposal, RequestId};
pub use interface::{Effect, FollowerStatus, Input, Member, Persist, Role, Status};
pub use membership::{Change, ChangeRefused, STEPS_MAX, Step};
pub use message::{Body, Message, ReadId, ReadMode, Refusal};
pub use raft::Raft;
pub use snapshot::Snapshot;
pub use transfer::TransferOutcome;
pub use types::{EntryId, Index, MachineId, Machines, Term, Time};
