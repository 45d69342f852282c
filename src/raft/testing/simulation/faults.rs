//! What befalls the machines of a simulation, and how they come back.

use std::time::Duration;

use super::{Event, Simulation, leads};
use crate::{Index, Input, MachineId};

/// As what a machine comes back that does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comeback {
    /// The process starts: the state machine is as it was at some moment before the crash.
    Process,
    /// LogicCenter alone starts, in a process whose other actors went on.
    LogicCenter {
        /// Whether it led when it died.
        led: bool,
    },
}

impl Simulation {
    /// Lets something befall a machine or the network.
    pub(super) fn fault(&mut self) {
        if !self.hostile {
            return;
        }
        let ids: Vec<MachineId> = self.machines.keys().copied().collect();
        // What befalls a leader matters most.
        let leader = self.machines.values().find_map(leads);
        let any = ids[self.below(ids.len() as u64) as usize];
        let id = leader
            .filter(|_| self.random.next().is_multiple_of(2))
            .unwrap_or(any);
        match self.below(24) {
            0 | 1 => self.crash(id),
            2 => {
                let until = self.now.after(Duration::from_millis(20 + self.below(400)));
                self.stalled_until.insert(id, until);
            }
            3 => self.loss = self.random.next() % 30,
            4 => self.loss = 0,
            5 | 6 => self.cut.clear(),
            7 => {
                // In one direction only.
                let other = ids[self.below(ids.len() as u64) as usize];
                self.cut.insert((id, other));
            }
            8 => {
                let other = ids[self.below(ids.len() as u64) as usize];
                self.cut.extend([(id, other), (other, id)]);
            }
            9 => {
                let others = ids.iter().filter(|&&other| other != id);
                self.cut
                    .extend(others.flat_map(|&other| [(id, other), (other, id)]));
            }
            10 => {
                // Where a lease may rest on it, only who led until a moment ago stands at once.
                let mut machines = self.machines.values();
                let leased = machines.any(|it| it.config.lease_drift_percent.is_some());
                if leased {
                    self.logic_center_dies(id);
                } else {
                    self.input(id, Input::Campaign);
                }
            }
            11 | 12 => {
                // The partition moves: who was alone comes back, and another is alone.
                self.cut.clear();
                let others = ids.iter().filter(|&&other| other != any);
                self.cut
                    .extend(others.flat_map(|&other| [(any, other), (other, any)]));
            }
            13 | 14 => self.logic_center_dies(id),
            20 | 21 => {
                let full = self.chance(60);
                self.input(id, Input::Space { full });
            }
            22 => self.space_for_all(true),
            23 => self.space_for_all(false),
            15 | 16 => self.pause(id),
            17 | 18 => {
                let to = self.chance(70).then_some(any);
                self.input(id, Input::Transfer { to });
            }
            _ => {
                // Everyone is told that a machine is gone, truly or falsely.
                for &other in ids.iter().filter(|&&other| other != id) {
                    self.input(other, Input::PeerGone(id));
                }
            }
        }
        let delay = 10_000 + self.below(400_000);
        self.schedule(delay, Event::Fault);
    }

    /// All disks are found full, or free, at a moment.
    pub(super) fn space_for_all(&mut self, full: bool) {
        for id in self.machines.keys().copied().collect::<Vec<_>>() {
            self.input(id, Input::Space { full });
        }
    }

    /// A machine crashes. Of what its disk was asked, a part may be done, though nobody heard of it.
    fn crash(&mut self, id: MachineId) {
        if let Some((_, Comeback::Process)) = self.down.get(&id) {
            return;
        }
        let jobs = self.machine(id).jobs.len() as u64;
        for _ in 0..self.below(jobs + 1) {
            self.machine(id).work();
        }
        self.machine(id).crash();
        self.paused_until.remove(&id);
        self.reads.crashed(id);
        self.properties.check(&self.machines[&id]);
        let down = Duration::from_micros(self.below(800_000));
        let until = self.now.after(down);
        self.down.insert(id, (until, Comeback::Process));
    }

    /// A machine's process is stopped for a while; what is sent to it comes when it goes on.
    fn pause(&mut self, id: MachineId) {
        let pause = Duration::from_millis(10 + self.below(500));
        self.paused_until.insert(id, self.now.after(pause));
    }

    /// LogicCenter dies alone: the core is lost with all that it had not handed out, but Storage does what it was asked, and
    /// the messages that waited for that leave.
    fn logic_center_dies(&mut self, id: MachineId) {
        let led = leads(self.machine(id)).is_some();
        if self.paused_for(id).is_some() || self.machine(id).core.take().is_none() {
            return;
        }
        self.reads.crashed(id);
        self.properties.check(&self.machines[&id]);
        let down = Duration::from_micros(self.below(20_000));
        let until = self.now.after(down);
        self.down.insert(id, (until, Comeback::LogicCenter { led }));
    }

    /// A machine comes back that did not run.
    pub(super) fn come_back(&mut self, id: MachineId, comeback: Comeback) {
        let now = self.clock(id);
        match comeback {
            Comeback::Process => {
                let saved = self.machine(id).checkpoint.0;
                let unsaved = self.machine(id).applied.len() as u64 - saved;
                let applied = Index(saved + self.below(unsaved + 1));
                self.machine(id).start(now, applied);
            }
            Comeback::LogicCenter { led } => {
                // Storage is first-in first-out: what the last life asked is durable before the next one learns what is.
                while let Some(done) = self.machine(id).work() {
                    for (to, message) in done.then {
                        self.send(id, to, message);
                    }
                }
                let applied = self.machine(id).applied.len() as u64;
                self.machine(id).start(now, Index(applied));
                if led {
                    self.input(id, Input::Campaign);
                }
            }
        }
    }
}
