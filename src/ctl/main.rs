//! The binary rmctl.
fn main() {}
