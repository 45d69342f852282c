//! Where the other machines are: their addresses, which names may get late and may change.
//!
//! Asking a resolver may take seconds, which no actor has: a thread of its own asks, and actors read what it found last.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
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
    /// Held by whoever stores either list.
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
        let setting = self.setting();
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
        self.know(&setting, |address| {
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

    /// Looks every machine up, which may take its time: what is found counts for whoever is at that address by the list that is in
    /// force then. A list that came meanwhile has woken who asks, so that the rest of it is looked up next.
    fn find(&self, mut look_up: impl FnMut(&rm_config::Address) -> Option<SocketAddr>) {
        let neighbours = self.neighbours.load_full();
        let addresses = neighbours.iter().map(|neighbour| &neighbour.address);
        let found: BTreeMap<_, _> = addresses
            .filter_map(|address| Some((address, look_up(address)?)))
            .collect();
        self.know(&self.setting(), |address| found.get(address).copied());
    }

    /// Tells where the machines of the list are, by what was found; one that was not found keeps the address that it had.
    fn know(
        &self,
        _setting: &MutexGuard<'_, ()>,
        found: impl Fn(&rm_config::Address) -> Option<SocketAddr>,
    ) {
        let before = self.known.load();
        let mut known = Vec::new();
        for neighbour in self.neighbours.load().iter() {
            let earlier = || {
                before
                    .iter()
                    .find(|peer| peer.id == neighbour.id)
                    .map(|peer| peer.address)
            };
            if let Some(address) = found(&neighbour.address).or_else(earlier) {
                known.push(Peer {
                    id: neighbour.id,
                    name: neighbour.name.clone(),
                    address,
                    host: neighbour.address.host.clone(),
                    data_id: neighbour.data_id,
                    stranger: neighbour.stranger,
                });
            }
        }
        if known != **before {
            self.known.store(Arc::new(known));
        }
    }

    fn setting(&self) -> MutexGuard<'_, ()> {
        // It guards the order of what is stored, and each store is whole.
        self.setting.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn a_list_that_came_while_a_resolver_took_its_time_stays_in_force() {
        let ours = MachineId(4);
        let stranger = members::Peer {
            stranger: true,
            ..machine(2, "two.invalid:7600")
        };
        let before = [
            machine(1, "127.0.0.1:7600"),
            stranger,
            machine(3, "three.invalid:7600"),
        ];
        let addresses = Addresses::new(ours, &before);
        let found: SocketAddr = "127.0.0.9:7600".parse().expect("an address");
        let (asks, asked) = std::sync::mpsc::channel();
        let (answer, answered) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let addresses = &addresses;
            scope.spawn(move || {
                let mut first = true;
                addresses.find(|_| {
                    if std::mem::take(&mut first) {
                        asks.send(()).expect("the test waits");
                        answered.recv().expect("the test answers");
                    }
                    Some(found)
                });
            });
            asked.recv().expect("it asks");
            // One left, one is listed that was a stranger, and one moved.
            let after = vec![machine(2, "two.invalid:7600"), machine(3, "127.0.0.1:7603")];
            addresses.set(ours, || after);
            answer.send(()).expect("it waits");
        });
        let known = addresses.peers();
        let known: Vec<_> = known
            .iter()
            .map(|peer| (peer.id.0, peer.address.to_string(), peer.stranger))
            .collect();
        let expected = [
            (2, "127.0.0.9:7600".to_owned(), false),
            (3, "127.0.0.1:7603".to_owned(), false),
        ];
        assert_eq!(
            known, expected,
            "what was found counts where it was asked for"
        );
    }
}
