//! Peers on real loopback sockets: what arrives, what is refused, and what survives.

mod disk;
mod exchange;
mod garbage;
mod harness;
mod limits;
mod peers;
mod presence;
mod proof;
mod restarts;
mod snapshot_garbage;
mod snapshots;
