//! Strangers: machines of the domain that no list tells of. A machine whose log lags may not know yet who leads or stands
//! (dissertation 4.2.2), and would lag for ever if it refused them.
//!
//! A stranger proves domain, era and certificate as everybody does, and says itself where it is to be answered. Nothing is
//! heard of it but what a leader or a candidate says, and there are never more than a few. Once it is listed, it dials anew.

use std::net::{IpAddr, SocketAddr};

use rm_raft::{Body, Message};

use crate::{Identity, Peer};

impl Peer {
    /// A machine as it tells of itself; none if it does not tell where it listens. A name is left for others to look up: until
    /// then it counts as being where it dialled `from`.
    pub(crate) fn stranger(sender: &Identity, from: IpAddr) -> Option<Peer> {
        let (host, port) = sender.address.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok().filter(|&port: &u16| port > 0)?;
        if host.is_empty() {
            return None;
        }
        Some(Peer {
            id: sender.id,
            name: sender.name.clone(),
            address: SocketAddr::new(host.parse().unwrap_or(from), port),
            host: host.to_owned(),
            data_id: None,
            stranger: true,
        })
    }
}

/// Whether it is a leader or a candidate that says this.
pub(crate) fn may_say(message: &Message) -> bool {
    match message.body {
        Body::PreVoteRequest { .. }
        | Body::VoteRequest { .. }
        | Body::AppendRequest { .. }
        | Body::Heartbeat { .. }
        | Body::ProposeRefused { .. }
        | Body::ChangeRefused { .. }
        | Body::ReadIndexResponse { .. }
        | Body::CampaignNow => true,
        Body::PreVoteResponse { .. }
        | Body::VoteResponse { .. }
        | Body::Appended { .. }
        | Body::AppendRejected { .. }
        | Body::HeartbeatResponse { .. }
        | Body::Propose { .. }
        | Body::ProposeChange { .. }
        | Body::ReadIndexRequest { .. }
        | Body::Removed { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use rm_raft::MachineId;

    use super::*;
    use crate::DataId;

    fn at(address: &str) -> Option<(String, String)> {
        let sender = Identity {
            domain: "csy.com".to_owned(),
            era: 0,
            name: "RM.04".to_owned(),
            id: MachineId(4),
            address: address.to_owned(),
            incarnation: 1,
            data_id: DataId([4; 16]),
        };
        let peer = Peer::stranger(&sender, [127, 0, 0, 9].into())?;
        Some((peer.address.to_string(), peer.host))
    }

    #[test]
    fn a_stranger_is_where_it_says_or_else_where_it_came_from() {
        let found = |address: &str, host: &str| Some((address.to_owned(), host.to_owned()));
        assert_eq!(at("10.0.0.4:7600"), found("10.0.0.4:7600", "10.0.0.4"));
        assert_eq!(at("[::1]:7600"), found("[::1]:7600", "::1"));
        assert_eq!(
            at("four.example:7600"),
            found("127.0.0.9:7600", "four.example")
        );
        for nonsense in ["", ":", ":7600", "four.example", "10.0.0.4:0", "10.0.0.4:x"] {
            assert_eq!(at(nonsense), None, "{nonsense:?}");
        }
    }
}
