//! How the machines of a simulation save their state, and send it to each other.

use super::{Event, Simulation};
use crate::testing::cluster::Shipment;
use crate::{Index, Input, MachineId};

impl Simulation {
    /// A machine's state becomes durable, up to somewhere.
    pub(super) fn save(&mut self, id: MachineId) {
        let applied = self.machine(id).applied.len() as u64;
        let up_to = Index(self.below(applied + 1));
        if self.machine(id).core.is_none() || up_to <= self.machine(id).checkpoint {
            return;
        }
        if let Some(input) = self.machine(id).save(up_to) {
            self.input(id, input);
        }
    }

    /// A machine begins to send a snapshot. It may be slow, and fail; and of that, too, the sender may never hear.
    pub(super) fn send_snapshot(&mut self, from: MachineId, to: MachineId, shipment: Shipment) {
        if self.chance(self.loss) {
            return;
        }
        let slow = self.hostile && self.chance(30);
        let delay = 500 + self.below(if slow { 600_000 } else { 20_000 });
        self.schedule(delay, Event::Snapshot { from, to, shipment });
    }

    /// The whole content of a snapshot is there, if the way is free.
    pub(super) fn snapshot_arrives(&mut self, from: MachineId, to: MachineId, shipment: Shipment) {
        let cut = self.cut.contains(&(from, to)) || self.cut.contains(&(to, from));
        let arrives = !cut && self.machine(to).core.is_some() && self.paused_for(to).is_none();
        let Shipment {
            number,
            term,
            snapshot,
            content,
        } = shipment;
        if arrives {
            let input = self.machine(to).receive(from, term, snapshot, content);
            self.input(to, input);
        }
        if !self.chance(self.loss) {
            self.input(from, Input::SnapshotEnded { to, number });
        }
    }
}
