//! Peers on real loopback sockets: what arrives, what is refused, and what survives.

mod exchange;
mod garbage;
mod harness;
mod limits;
mod presence;
mod proof;
mod restarts;
