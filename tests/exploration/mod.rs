//! All that three machines can do, within bounds: the core itself, not a model of it, is driven through every order of
//! messages, disks, elections, crashes and proposals, and the properties of Raft are checked in every state.
//!
//! `cargo run -p rm-tests --release --bin explore -- --help` shows what can be asked.

mod bounds;
mod catalog;
mod disk;
pub mod fault;
mod history;
mod machine;
mod options;
mod planted;
mod quick;
mod search;
mod show;
mod state;

pub use bounds::Bounds;
pub use options::{HELP, Options};
pub use planted::explore_planted;
pub use search::{Report, Verdict, explore};
