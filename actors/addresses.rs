//! Where the other machines are: their addresses, which names may get late and may change.
//!
//! Asking a resolver may take seconds, which no actor has: a thread of its own asks, and actors read what it found last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rm_raft::MachineId;
use rm_wire::Peer;

/// How often names are asked for again.
const PAUSE: Duration = Duration::from_secs(5);

/// The other machines, with the addresses that were found last.
pub(crate) struct Addresses {
    neighbours: Vec<Neighbour>,
    known: ArcSwap<Vec<Peer>>,
}

struct Neighbour {
    id: MachineId,
    name: String,
    address: rm_config::Address,
}

impl Addresses {
    /// Those whose address is a number are known at once.
    pub(crate) fn new(domain: &str, machines: &[&rm_config::Machine]) -> Arc<Addresses> {
        let neighbour = |machine: &&rm_config::Machine| Neighbour {
            id: MachineId(rm_config::machine_id(domain, &machine.name)),
            name: machine.name.clone(),
            address: machine.peer.clone(),
        };
        let addresses = Addresses {
            neighbours: machines.iter().map(neighbour).collect(),
            known: ArcSwap::default(),
        };
        addresses.find(|address| {
            let host = address.host.parse().ok()?;
            Some(SocketAddr::new(host, address.port))
        });
        Arc::new(addresses)
    }

    /// The other machines whose addresses are known.
    pub(crate) fn peers(&self) -> Arc<Vec<Peer>> {
        self.known.load_full()
    }

    /// How many machines have no known address.
    pub(crate) fn missing(&self) -> usize {
        self.neighbours.len() - self.known.load().len()
    }

    /// Goes on asking for names on a thread of its own, if there are any, for as long as the process lives.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn keep_asking(self: &Arc<Self>) -> std::io::Result<()> {
        let is_name = |neighbour: &Neighbour| {
            let number: Result<std::net::IpAddr, _> = neighbour.address.host.parse();
            number.is_err()
        };
        if !self.neighbours.iter().any(is_name) {
            return Ok(());
        }
        let addresses = self.clone();
        let asking = move || {
            loop {
                addresses.find(|address| address.resolve().ok()?.into_iter().next());
                std::thread::sleep(PAUSE);
            }
        };
        std::thread::Builder::new()
            .name("resolver".into())
            .spawn(asking)?;
        Ok(())
    }

    /// Looks every machine up; one that is not found keeps the address that it had.
    fn find(&self, look_up: impl Fn(&rm_config::Address) -> Option<SocketAddr>) {
        let before = self.known.load();
        let mut found = Vec::new();
        for neighbour in &self.neighbours {
            let earlier = || {
                before
                    .iter()
                    .find(|peer| peer.id == neighbour.id)
                    .map(|peer| peer.address)
            };
            if let Some(address) = look_up(&neighbour.address).or_else(earlier) {
                found.push(Peer {
                    id: neighbour.id,
                    name: neighbour.name.clone(),
                    address,
                    host: neighbour.address.host.clone(),
                    data_id: None,
                });
            }
        }
        if found != **before {
            self.known.store(Arc::new(found));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str, peer: &str) -> rm_config::Machine {
        rm_config::Machine {
            name: name.into(),
            peer: peer.parse().expect("an address"),
            client: "127.0.0.1:1".parse().expect("an address"),
            priority: 0,
        }
    }

    #[test]
    fn numbers_are_known_at_once_and_names_when_they_are_found() {
        let (one, two) = (
            machine("RM.01", "127.0.0.1:7600"),
            machine("RM.02", "two.invalid:7600"),
        );
        let addresses = Addresses::new("domain", &[&one, &two]);
        assert_eq!((addresses.peers().len(), addresses.missing()), (1, 1));
        let found: SocketAddr = "127.0.0.9:7600".parse().expect("an address");
        addresses.find(|_| Some(found));
        assert_eq!(addresses.missing(), 0);
        addresses.find(|_| None);
        assert!(
            addresses.peers().iter().all(|peer| peer.address == found),
            "what was found is kept"
        );
    }
}
