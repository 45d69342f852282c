//! The binary raft-machine.
fn main() {}
