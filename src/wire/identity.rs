//! Who a machine is to its peers, and whom it expects.

use std::net::SocketAddr;

use rm_raft::MachineId;

use crate::DataId;

/// This machine, as it proves itself to its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The domain. Machines of different domains never exchange a message.
    pub domain: String,
    /// The era of the domain that its data is of. Those of different eras never exchange a message either: each may hold as
    /// committed what the other never had, at the same places of the log and in the same terms.
    pub era: u64,
    /// The machine's name, unique in the domain.
    pub name: String,
    /// The machine's number, unique in the domain.
    pub id: MachineId,
    /// Where it listens for peers, `host:port`: whoever does not know it can answer it there.
    pub address: String,
    /// Tells one start of the machine from another. Peers are told it and decide nothing by it.
    pub incarnation: u64,
    /// The data directory that it lives on.
    pub data_id: DataId,
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
    /// The data that it must live on; where that is not known, the data that it is found on first.
    pub data_id: Option<DataId>,
    /// Whether the log does not list it and only its own hello tells of it. Of a stranger nothing is heard but what a leader
    /// or a candidate says: a machine whose log lags may not know them yet.
    pub stranger: bool,
}

impl Peer {
    /// Whether the machine that was `listed` so at the time of a connection, on which it proved to live on the data `found`, is
    /// still the same as it is listed now, wherever that leads.
    pub(crate) fn is_still(&self, listed: &Peer, found: Option<DataId>) -> bool {
        let same_name = self.name == listed.name && self.host == listed.host;
        let same_data = self.data_id == listed.data_id
            || found.is_some_and(|found| self.data_id.is_none_or(|expected| expected == found));
        same_name && same_data
    }
}
