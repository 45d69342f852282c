//! How the ways to the peers are, and what went on them since the process began, for whoever monitors the machine.
//!
//! The sending half counts from when it was built, and each way from when it was dialled. What was counted before is kept here, so that
//! no count goes back.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use rm_raft::MachineId;
use rm_wire::PeerStatus;

use crate::port::Port;

/// The way to one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerTraffic {
    /// The peer's name.
    pub name: String,
    /// Whether there is a connection.
    pub connected: bool,
    /// How long a packet and its answer take, while there is a connection.
    pub round_trip: Option<Duration>,
    /// What has happened on it.
    pub counts: PeerCounts,
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
        let more = |before: u64, now: u64| now.checked_sub(before).unwrap_or(now);
        self.sent_bytes += more(before.sent_bytes, now.sent_bytes);
        self.dropped += more(before.dropped, now.dropped);
        self.connections += more(before.connections, now.connections);
    }
}

/// What one sending half had counted when it was looked at last.
pub(crate) type Counted = BTreeMap<MachineId, PeerCounts>;

/// What is known of all ways. It outlives the sending half, which posts it about every second.
#[derive(Debug, Default)]
pub(crate) struct Traffic(Mutex<BTreeMap<MachineId, PeerTraffic>>);

impl Traffic {
    /// Posts how the ways are now. Those that are gone are forgotten.
    pub(crate) fn post(&self, now: impl Iterator<Item = PeerStatus>, counted: &mut Counted) {
        let mut posted = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let mut ways = BTreeMap::new();
        let mut counts_now = Counted::new();
        for status in now {
            let before = counted.get(&status.id).copied().unwrap_or_default();
            let counts = PeerCounts::of(&status);
            let mut way = posted.remove(&status.id).unwrap_or_default();
            way.counts.add(before, counts);
            way.connected = status.connected;
            way.round_trip = status.round_trip;
            way.name = status.name;
            counts_now.insert(status.id, counts);
            ways.insert(status.id, way);
        }
        *posted = ways;
        *counted = counts_now;
    }

    fn read(&self) -> BTreeMap<MachineId, PeerTraffic> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

impl Port {
    /// How the ways to the peers are, as of a second ago.
    pub fn peer_traffic(&self) -> BTreeMap<MachineId, PeerTraffic> {
        self.shared.board.traffic.read()
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
}
