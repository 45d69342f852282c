//! The Raft algorithm, with no input or output of its own: values in, values out. No disk, no socket, no clock,
//! no thread, and no randomness but from the seed that it is given.
//!
//! To read it: `interface` for what goes in and comes out, `raft` for how an input is taken and where the rule for terms is, `node`
//! for what every role has, then the roles, `follower`, `candidate` and `leader`. With them in mind `log`, `progress` and `replication`
//! tell how a log reaches the others, `vote` how an election is won, `read` and `lease` how a read is confirmed, and `membership` with
//! `reconfiguration` how members change. The rest stands by itself. `docs/architecture.md` says which question is answered where.

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
