//! The state machine: etcd's data model over LMDB tables, deterministic: the same commands in the same order give the
//! same bytes on every machine.
//!
//! A [`Keyspace`] applies the [`Command`]s of the log and answers [`Query`]s. How its tables lie is told in `tables`. What a machine
//! asks of it, and would of any other state machine, is the trait [`StateMachine`].

mod alarm;
mod anew;
mod auth;
mod auth_command;
mod auth_table;
mod carry_out;
mod chain;
mod change;
mod codec;
mod command;
mod dirty;
mod error;
mod frame;
mod hash;
mod hash_whole;
mod history;
mod index;
mod keyspace;
mod kind;
mod lease;
mod limits;
mod peek;
mod permit;
mod progress;
mod range;
mod ranges;
mod reading;
mod revision;
mod role;
mod room;
mod scrub;
mod span;
mod state_machine;
mod summary;
mod tables;
mod tally;
mod txn;
mod vetted;
mod view;

pub use alarm::{ALARMS_MAX, Alarm, AlarmCommand, AlarmKind};
pub use anew::{Anew, begin_anew};
pub use auth::{NAME_BYTES_MAX, ROLES_MAX, ROLES_OF_USER_MAX, USERS_MAX};
pub use auth_command::{
    AuthCommand, AuthError, AuthNews, AuthQuery, AuthReply, Deed, Permission, PermissionKind,
    Signature,
};
pub use codec::{DecodeError, MAX_COMMAND_BYTES, MAX_TXN_DEPTH, Signed};
pub use command::*;
pub use error::{Failure, KvError, RequestError};
pub use hash::{KeyspaceHash, hash};
pub use hash_whole::hash_whole;
pub use history::{Event, History, history};
pub use keyspace::{CheckpointReport, Keyspace, MAX_TXN_OPERATIONS, Outcome, Size};
pub use kind::Kind;
pub use lease::{LEASE_SECONDS_MAX, LEASES_MAX, LeaseChange, LeaseNews};
pub use peek::{Peek, peek};
pub use progress::Work;
pub use reading::{Reading, Slice, Unsorted};
pub use role::{PERMISSIONS_OF_ROLE_MAX, ROLE_BYTES_MAX};
pub use room::{MAX_REPLY_BYTES, ReplyMemory, Unbounded};
pub use scrub::Compaction;
pub use span::Span;
pub use state_machine::{Answer, StateMachine};
pub use summary::{Summary, summary};
pub use tables::{Configuration, TABLES};
pub use tally::Tally;

#[cfg(test)]
mod testing;
