//! Where the other machines are: their addresses, which names may get late and may change.
//!
//! Asking a resolver may take seconds, which no actor has: a thread of its own asks, and actors read what it found last.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use rm_raft::MachineId;
use rm_wire::{DataId, Peer};

use crate::members;

/// How often names are asked for again.
const PAUSE: Duration = Duration::from_secs(5);

/// The other machines, with the addresses that were found last.
pub(crate) struct Addresses {
    neighbours: ArcSwap<Vec<Neighbour>>,
    known: ArcSwap<Vec<Peer>>,
    asking: OnceLock<Thread>,
    setting: Mutex<()>,
}

struct Neighbour {
    id: MachineId,
    name: String,
    address: rm_config::Address,
    data_id: Option<DataId>,
    stranger: bool,
}

impl Addresses {
    /// The addresses of all these machines but the local one.
    pub(crate) fn new(local: MachineId, machines: &[members::Peer]) -> Arc<Addresses> {
        let addresses = Arc::new(Addresses {
            neighbours: ArcSwap::default(),
            known: ArcSwap::default(),
            asking: OnceLock::new(),
            setting: Mutex::default(),
        });
        addresses.set(local, || machines.to_vec());
        addresses
    }

    /// From now on it is these machines, which are asked for under a lock: of two who tell at once, none overwrites what is newer.
    /// Those whose address is a number are known at once. One that tells no address can only be waited for.
    pub(crate) fn set(&self, local: MachineId, machines: impl FnOnce() -> Vec<members::Peer>) {
        let _setting = self.setting.lock().unwrap_or_else(PoisonError::into_inner);
        let machines = machines();
        let others = machines.iter().filter(|each| each.machine != local);
        let neighbours = others.filter_map(|machine| {
            Some(Neighbour {
                id: machine.machine,
                name: machine.name.clone(),
                address: machine.address.parse().ok()?,
                data_id: machine.data_id,
                stranger: machine.stranger,
            })
        });
        self.neighbours.store(Arc::new(neighbours.collect()));
        self.find(|address| {
            let host = address.host.parse().ok()?;
            Some(SocketAddr::new(host, address.port))
        });
        if let Some(asking) = self.asking.get() {
            asking.unpark();
        }
    }

    /// The other machines whose addresses are known.
    pub(crate) fn peers(&self) -> Arc<Vec<Peer>> {
        self.known.load_full()
    }

    /// How many machines have no known address.
    pub(crate) fn missing(&self) -> usize {
        let known = self.known.load();
        self.neighbours.load().len().saturating_sub(known.len())
    }

    /// Goes on asking for names on a thread of its own for as long as the process lives: any configuration may bring one.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn keep_asking(self: &Arc<Self>) -> std::io::Result<()> {
        let addresses = self.clone();
        let asking = move || {
            loop {
                addresses.find(|address| address.resolve().ok()?.into_iter().next());
                std::thread::park_timeout(PAUSE);
            }
        };
        let thread = std::thread::Builder::new()
            .name("resolver".into())
            .spawn(asking)?;
        self.asking.get_or_init(|| thread.thread().clone());
        Ok(())
    }

    /// Looks every machine up; one that is not found keeps the address that it had.
    fn find(&self, look_up: impl Fn(&rm_config::Address) -> Option<SocketAddr>) {
        let before = self.known.load();
        let mut found = Vec::new();
        for neighbour in self.neighbours.load().iter() {
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
                    data_id: neighbour.data_id,
                    stranger: neighbour.stranger,
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

    fn machine(number: u64, address: &str) -> members::Peer {
        members::Peer {
            machine: MachineId(number),
            name: format!("RM.{number:02}"),
            address: address.into(),
            data_id: None,
            stranger: false,
        }
    }

    #[test]
    fn numbers_are_known_at_once_and_names_when_they_are_found() {
        let all = [
            machine(1, "127.0.0.1:7600"),
            machine(2, "two.invalid:7600"),
            machine(3, "127.0.0.1:7601"),
        ];
        let addresses = Addresses::new(MachineId(3), &all);
        assert_eq!((addresses.peers().len(), addresses.missing()), (1, 1));
        let found: SocketAddr = "127.0.0.9:7600".parse().expect("an address");
        addresses.find(|_| Some(found));
        assert_eq!(addresses.missing(), 0);
        addresses.find(|_| None);
        assert!(
            addresses.peers().iter().all(|peer| peer.address == found),
            "what was found is kept"
        );
        addresses.set(MachineId(3), || vec![machine(1, "127.0.0.1:7700")]);
        let ports: Vec<u16> = addresses
            .peers()
            .iter()
            .map(|it| it.address.port())
            .collect();
        assert_eq!(
            ports,
            [7700],
            "who left is forgotten, and who moved is found"
        );
    }
}
