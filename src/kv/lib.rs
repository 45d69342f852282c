//! The state machine: etcd's data model over LMDB tables, deterministic: the same commands in the same order give the
//! same bytes on every machine.

mod command;

pub use command::*;
