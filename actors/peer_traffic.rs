//! How the ways to the peers are, and what went on them and came from there since the process began, for whoever monitors the machine.
//!
//! Each half of the peer port counts from when it was built, and each way from when it was dialled. What was counted before is kept
//! here, so that no count goes back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rm_raft::MachineId;
use rm_wire::{HeardCounts, PeerStatus};

use crate::meters::{Histogram, Meter, doubled};
use crate::port::Port;

/// How long a packet and its answer take (etcd: from 100 us to 3 s).
static ROUND_TRIP_US: [u64; 16] = doubled(100);
/// How long a snapshot is on its way (etcd: from 100 ms to 51 s).
static TRANSFER_US: [u64; 10] = doubled(100_000);

/// The way to one peer.
#[derive(Clone, Debug)]
pub struct PeerTraffic {
    /// The peer's name.
    pub name: String,
    /// Whether there is a connection.
    pub connected: bool,
    /// How long a packet and its answer take, while there is a connection.
    pub round_trip: Option<Duration>,
    /// The same at each look while there was a connection.
    pub round_trips: Arc<Histogram>,
    /// What has happened on it.
    pub counts: PeerCounts,
    /// The snapshots that were sent there.
    pub snapshots: Arc<Transfers>,
}

impl Default for PeerTraffic {
    fn default() -> PeerTraffic {
        PeerTraffic {
            name: String::new(),
            connected: false,
            round_trip: None,
            round_trips: Arc::new(Histogram::of_times(&ROUND_TRIP_US)),
            counts: PeerCounts::default(),
            snapshots: Arc::default(),
        }
    }
}

/// What has happened on the way to one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// The bytes of the messages and of the snapshots that were sent.
    pub sent_bytes: u64,
    /// The messages that were dropped: no room, too long, or no connection could be made.
    pub dropped: u64,
    /// The connections that were made.
    pub connections: u64,
}

impl PeerCounts {
    fn of(status: &PeerStatus) -> PeerCounts {
        PeerCounts {
            sent_bytes: status.bytes_sent + status.snapshot_bytes_sent,
            dropped: status.frames_dropped,
            connections: status.connections,
        }
    }

    /// Adds what was counted since `before`, on a way that may have been dialled anew.
    fn add(&mut self, before: PeerCounts, now: PeerCounts) {
        self.sent_bytes += more(before.sent_bytes, now.sent_bytes);
        self.dropped += more(before.dropped, now.dropped);
        self.connections += more(before.connections, now.connections);
    }
}

/// How much more was counted, by what may have begun anew meanwhile.
fn more(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// What has come from one peer.
#[derive(Clone, Debug, Default)]
pub struct HeardPeer {
    /// The bytes of messages and of snapshots.
    pub bytes: u64,
    /// The connections that were closed for what came on them.
    pub broken: u64,
    /// The snapshots that came.
    pub snapshots: Arc<Transfers>,
}

/// The snapshots that went one way between this machine and a peer.
#[derive(Debug)]
pub struct Transfers {
    /// Those that did not come to their end.
    pub failed: Meter,
    /// How long those were on their way that did.
    pub done: Histogram,
}

impl Default for Transfers {
    fn default() -> Transfers {
        Transfers {
            failed: Meter::default(),
            done: Histogram::of_times(&TRANSFER_US),
        }
    }
}

/// What the sending half had counted when it was looked at last.
pub(crate) type Counted = BTreeMap<MachineId, PeerCounts>;

/// What the receiving half had counted when it was looked at last.
pub(crate) type CountedHeard = BTreeMap<MachineId, HeardCounts>;

/// What is known of all ways. It outlives both halves of the peer port, which post it about every second.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    ways: Mutex<BTreeMap<MachineId, PeerTraffic>>,
    heard: Mutex<BTreeMap<MachineId, HeardPeer>>,
}

impl Traffic {
    /// Posts how the ways are now. Those that are gone are forgotten.
    pub(crate) fn post(&self, now: impl Iterator<Item = PeerStatus>, counted: &mut Counted) {
        let mut posted = self.ways();
        let mut ways = BTreeMap::new();
        let mut counts_now = Counted::new();
        for status in now {
            let before = counted.get(&status.id).copied().unwrap_or_default();
            let counts = PeerCounts::of(&status);
            let mut way = posted.remove(&status.id).unwrap_or_default();
            way.counts.add(before, counts);
            way.connected = status.connected;
            way.round_trip = status.round_trip;
            if let Some(round_trip) = status.round_trip {
                way.round_trips.add_time(round_trip);
            }
            way.name = status.name;
            counts_now.insert(status.id, counts);
            ways.insert(status.id, way);
        }
        *posted = ways;
        *counted = counts_now;
    }

    /// Posts what came. Peers that are listed no more are forgotten.
    pub(crate) fn post_heard(
        &self,
        now: Vec<(MachineId, HeardCounts)>,
        counted: &mut CountedHeard,
    ) {
        let mut posted = self.heard();
        let mut peers = BTreeMap::new();
        for (id, counts) in &now {
            let before = counted.get(id).copied().unwrap_or_default();
            let mut peer = posted.remove(id).unwrap_or_default();
            peer.bytes += more(before.bytes, counts.bytes);
            peer.broken += more(before.broken, counts.broken);
            peers.insert(*id, peer);
        }
        *posted = peers;
        *counted = now.into_iter().collect();
    }

    /// Where the snapshots to a peer are counted; for one that is not known any more they are not.
    pub(crate) fn sent_to(&self, peer: MachineId) -> Arc<Transfers> {
        let ways = self.ways();
        let way = ways.get(&peer);
        way.map(|way| way.snapshots.clone()).unwrap_or_default()
    }

    /// The same for those from a peer. One that is only just heard may not be posted yet.
    pub(crate) fn received_from(&self, peer: MachineId) -> Arc<Transfers> {
        self.heard().entry(peer).or_default().snapshots.clone()
    }

    fn ways(&self) -> MutexGuard<'_, BTreeMap<MachineId, PeerTraffic>> {
        self.ways.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn heard(&self) -> MutexGuard<'_, BTreeMap<MachineId, HeardPeer>> {
        self.heard.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Port {
    /// How the ways to the peers are, as of a second ago.
    pub fn peer_traffic(&self) -> BTreeMap<MachineId, PeerTraffic> {
        self.shared.board.traffic.ways().clone()
    }

    /// What has come from the peers, as of a second ago.
    pub fn heard_peers(&self) -> BTreeMap<MachineId, HeardPeer> {
        self.shared.board.traffic.heard().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_count_goes_back_when_a_way_is_dialled_anew_or_its_half_is_built_anew() {
        let counts = |sent_bytes| PeerCounts {
            sent_bytes,
            dropped: 1,
            connections: 1,
        };
        let mut all = PeerCounts::default();
        all.add(PeerCounts::default(), counts(10));
        all.add(counts(10), counts(15));
        assert_eq!(all, counts(15));
        // Dialled anew, and then built anew.
        all.add(counts(15), counts(4));
        assert_eq!(all.sent_bytes, 19);
        all.add(PeerCounts::default(), counts(2));
        assert_eq!((all.sent_bytes, all.dropped, all.connections), (21, 2, 2));
    }

    #[test]
    fn what_came_adds_up_over_the_halves_and_who_is_gone_is_forgotten() {
        let traffic = Traffic::default();
        let heard = |bytes| vec![(MachineId(1), HeardCounts { bytes, broken: 1 })];
        traffic.received_from(MachineId(1)).failed.add(1);
        let mut counted = CountedHeard::new();
        traffic.post_heard(heard(10), &mut counted);
        traffic.post_heard(heard(15), &mut counted);
        // Another half.
        traffic.post_heard(heard(4), &mut CountedHeard::new());
        let peer = traffic.heard()[&MachineId(1)].clone();
        assert_eq!((peer.bytes, peer.broken), (19, 2));
        assert_eq!(peer.snapshots.failed.read(), 1, "it was not known yet");
        traffic.post_heard(Vec::new(), &mut counted);
        assert!(traffic.heard().is_empty());
    }
}
