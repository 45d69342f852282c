//! Who a machine is to its peers, and whom it expects.

use std::net::SocketAddr;

use rm_raft::MachineId;

/// This machine, as it proves itself to its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The domain. Machines of different domains never exchange a message.
    pub domain: String,
    /// The machine's name, unique in the domain.
    pub name: String,
    /// The machine's number, unique in the domain.
    pub id: MachineId,
    /// Tells one start of the machine from another. Peers are told it and decide nothing by it.
    pub incarnation: u64,
}

/// Another machine of the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its number.
    pub id: MachineId,
    /// Its name.
    pub name: String,
    /// Where it listens for peers.
    pub address: SocketAddr,
    /// The host that its certificate must name: a DNS name, or an IP address as text. Not looked at with self-made
    /// certificates.
    pub host: String,
}
