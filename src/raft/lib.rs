//! The Raft algorithm, with no input or output of its own: values in, values out. No disk, no socket, no clock,
//! no thread, and no randomness but from the seed that it is given.

mod entry;
mod interface;
mod message;
mod types;

pub use entry::{Entry, HardState, Payload, Proposal, RequestId};
pub use interface::{Config, Durable, Effect, Input, Persist, Role, Status};
pub use message::{Body, Message, ReadId, Refusal};
pub use types::{EntryId, Index, MachineId, Term, Time};
