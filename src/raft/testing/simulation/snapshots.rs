//! How the machines of a simulation save their state, and send it to each other.

use super::{Event, Simulation};
use crate::{Entry, Index, Input, MachineId, Snapshot, Term};

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
    pub(super) fn send_snapshot(&mut self, from: MachineId, to: MachineId, at_least: Index) {
        let (snapshot, content) = self.machine(from).snapshot(at_least);
        let core = self.machine(from).core.as_ref().expect("it runs");
        let term = core.status().term;
        if self.chance(self.loss) {
            return;
        }
        let slow = self.hostile && self.chance(30);
        let delay = 500 + self.below(if slow { 600_000 } else { 20_000 });
        let event = Event::Snapshot {
            from,
            to,
            term,
            snapshot,
            content,
        };
        self.schedule(delay, event);
    }

    /// The whole content of a snapshot is there, if the way is free.
    pub(super) fn snapshot_arrives(
        &mut self,
        from: MachineId,
        to: MachineId,
        term: Term,
        snapshot: Snapshot,
        content: Vec<Entry>,
    ) {
        let cut = self.cut.contains(&(from, to)) || self.cut.contains(&(to, from));
        let arrives = !cut && self.machine(to).core.is_some() && self.paused_for(to).is_none();
        let last = snapshot.last;
        if arrives {
            let input = self.machine(to).receive(from, term, snapshot, content);
            self.input(to, input);
        }
        if !self.chance(self.loss) {
            let input = match arrives {
                true => Input::SnapshotSent { to, last },
                false => Input::SnapshotFailed { to },
            };
            self.input(from, input);
        }
    }
}
