//! The running machine: its actors and the supervision over them. The only crate that names actix.
//!
//! [`start`] opens what the config names and starts the actors; [`port::Port`] is the door for those who serve clients.
//! `docs/architecture.md` has the map, and the pictures of the ring and of the supervision tree.

mod addresses;
mod admission;
mod ahead;
mod applier;
mod auto_compaction;
mod board;
mod changes;
mod checkpoint;
mod compaction;
mod compactor;
mod fault;
mod finds;
mod forced;
mod forcing;
mod gate;
mod group;
mod guard;
mod happened;
mod launch;
mod leasing;
mod lessor;
mod life;
mod listener;
mod logic_center;
mod logs;
mod machine;
mod members;
mod message;
mod meters;
mod operator;
mod participation;
pub mod port;
mod reads;
mod recognition;
mod refusal;
mod report;
mod resources;
mod roster;
mod sender;
mod silence;
mod snapshot_inbox;
mod snapshot_maker;
mod snapshot_receiver;
mod snapshot_sender;
mod snapshot_stream;
mod states;
mod storage;
mod supervisor;
mod timer;
mod tokens;
mod transfers;
mod watcher;
mod watching;

pub use forced::{Begun, Forced};
pub use forcing::ForceError;
pub use launch::{Admission, Running, Start, is_new, start, verify};
pub use logs::LogFileError;
pub use participation::Departure;
pub use resources::StartError;
pub use rm_store::{Era, Neighbour};
pub use roster::{ActorName, GroupName};
pub use supervisor::Outcome;
