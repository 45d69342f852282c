//! The running machine: its actors and the supervision over them.
