//! Who takes part in a domain: what an entry of the log, or a snapshot, says of its members.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{Index, MachineId};

/// The members of a domain (§6). Sorted, distinct. It lives in the log, whole and never as a difference, and in snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Configuration {
    /// The voters; while joint, those of the new configuration.
    pub voters: Vec<MachineId>,
    /// While joint, the voters of the configuration that is being left; else empty.
    pub outgoing: Vec<MachineId>,
    /// Those that receive the log and have no vote.
    pub learners: Vec<MachineId>,
    /// What the driver wants to know of each member; opaque to Raft.
    pub about: BTreeMap<MachineId, Bytes>,
}

/// A configuration and the entry that holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Configured {
    /// Where it stands in the log; zero is the one from which the domain was begun.
    pub index: Index,
    /// The configuration.
    pub configuration: Configuration,
}
