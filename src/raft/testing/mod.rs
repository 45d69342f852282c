//! Tests of whole clusters of cores in one process: readable scripts, and a simulation that looks for what breaks safety.

mod clock;
mod cluster;
mod disk;
mod machine;
mod properties;
mod script;
mod show;

mod simulation;
