//! Which data a machine lives on: one whose disk was emptied or replaced must not come back as the voter that it was.
//!
//! Such a machine has forgotten its votes and what it acknowledged, which no other machine can see by its name.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rm_raft::MachineId;

use crate::{Peer, RefusedBecause};

/// The number of a data directory, drawn at random when the directory was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataId(pub [u8; 16]);

impl fmt::Display for DataId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// The data that each peer was found on. Clones share what they know: the process makes one and gives it to both halves
/// whenever they are built anew.
#[derive(Clone, Debug, Default)]
pub struct DataIds {
    found: Arc<Mutex<BTreeMap<MachineId, DataId>>>,
}

impl DataIds {
    /// What is known, to be kept beyond the process and given back as [`Peer::data_id`].
    pub fn known(&self) -> BTreeMap<MachineId, DataId> {
        self.found().clone()
    }

    /// That a machine which has proved itself to be `peer` lives on the data that it should. What the list of peers
    /// says decides; where it says nothing, what was found first. Notes nothing.
    pub(crate) fn check(&self, peer: &Peer, found: DataId) -> Result<(), RefusedBecause> {
        check(&self.found(), peer, found)
    }

    /// The same, and notes it: for a machine that is listed, since the list is what bounds them.
    pub(crate) fn admit(&self, peer: &Peer, found: DataId) -> Result<(), RefusedBecause> {
        let mut known = self.found();
        check(&known, peer, found)?;
        known.insert(peer.id, found);
        Ok(())
    }

    /// Forgets the machines that are not among `peers`: one that was removed may be added again with new data.
    pub(crate) fn retain(&self, peers: &[Peer]) {
        self.found()
            .retain(|id, _| peers.iter().any(|peer| peer.id == *id));
    }

    fn found(&self) -> MutexGuard<'_, BTreeMap<MachineId, DataId>> {
        // Nothing panics while it holds this lock; should it, the map is still good.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(
    known: &BTreeMap<MachineId, DataId>,
    peer: &Peer,
    found: DataId,
) -> Result<(), RefusedBecause> {
    match peer.data_id.or_else(|| known.get(&peer.id).copied()) {
        Some(expected) if expected != found => Err(RefusedBecause::DataChanged {
            name: peer.name.clone(),
            expected,
            found,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: DataId = DataId([1; 16]);
    const NEW: DataId = DataId([2; 16]);

    fn peer(data_id: Option<DataId>) -> Peer {
        Peer {
            id: MachineId(2),
            name: "RM.02".to_owned(),
            address: ([127, 0, 0, 1], 1).into(),
            host: "127.0.0.1".to_owned(),
            data_id,
            stranger: false,
        }
    }

    #[test]
    fn the_first_data_that_a_peer_is_found_on_is_the_only_one() {
        let ids = DataIds::default();
        assert_eq!(ids.admit(&peer(None), OLD), Ok(()));
        assert_eq!(ids.admit(&peer(None), OLD), Ok(()));
        let reason = ids.clone().admit(&peer(None), NEW).unwrap_err();
        assert!(
            matches!(&reason, RefusedBecause::DataChanged { expected: OLD, found: NEW, name } if name == "RM.02")
        );
    }

    #[test]
    fn the_list_decides_before_what_was_found() {
        let ids = DataIds::default();
        assert!(ids.admit(&peer(Some(OLD)), NEW).is_err());
        assert!(ids.known().is_empty());
        assert_eq!(ids.admit(&peer(Some(OLD)), OLD), Ok(()));
        assert_eq!(ids.admit(&peer(Some(NEW)), NEW), Ok(()));
        assert!(ids.admit(&peer(None), OLD).is_err());
    }

    #[test]
    fn a_machine_that_is_no_more_in_the_list_is_forgotten() {
        let ids = DataIds::default();
        assert_eq!(ids.admit(&peer(None), OLD), Ok(()));
        ids.retain(&[peer(None)]);
        assert!(ids.admit(&peer(None), NEW).is_err());
        ids.retain(&[]);
        assert_eq!(ids.admit(&peer(None), NEW), Ok(()));
    }
}
