//! The manners of gRPC, and what a call may take: compared with the real etcd where it has them.

mod calls;
mod deadlines;
mod leaders;
mod pings;
mod sizes;
mod stops;
