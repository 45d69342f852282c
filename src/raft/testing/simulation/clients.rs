//! The clients of a simulation.

use bytes::Bytes;

use super::{Event, Simulation};
use crate::{Input, MachineId, Proposal, ReadId, ReadMode, RequestId};

impl Simulation {
    /// Some come to a machine, with proposals and perhaps a read.
    pub(super) fn client(&mut self) {
        let count = self.machines.len() as u64;
        let id = MachineId(1 + self.below(count));
        if self.machine(id).core.is_some() && self.paused_for(id).is_none() {
            let batch = if self.chance(5) { 40 } else { self.below(4) };
            let mut proposals = Vec::new();
            for _ in 0..batch {
                self.numbers += 1;
                let number = self.numbers;
                let machine = id;
                let request = RequestId { machine, number };
                let command = Bytes::from(vec![b'x'; self.below(40) as usize]);
                proposals.push(Proposal { request, command });
            }
            self.input(id, Input::Propose(proposals));
            if self.chance(40) {
                self.numbers += 1;
                let read = ReadId(self.numbers);
                self.reads.came(id, read);
                let mode = if self.chance(50) {
                    ReadMode::Lease
                } else {
                    ReadMode::Quorum
                };
                self.input(id, Input::Read { read, mode });
            }
        }
        if self.hostile {
            if self.chance(8) {
                self.change_members();
            }
            let delay = 1_000 + self.below(20_000);
            self.schedule(delay, Event::Client);
        }
    }
}
