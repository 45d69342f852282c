//! What fails: leaders, clocks, lessors, key spaces, and what is on its way to the log.

use rm_kv::Command;

use super::machine::{Asker, Wait};
use super::{MACHINES, World};
use crate::lessor::reign::{Fate, Proposal};

/// The longest that an entry may be on its way once whoever proposed it has given it up, in milliseconds.
const LATE_MS: u64 = 8_000;

impl World {
    /// Something fails.
    pub(super) fn fail(&mut self) {
        let number = self.rng.usize(0..MACHINES);
        let (stop_ms, leap_ms) = (self.rng.u64(0..20_000), self.rng.u64(0..600_000));
        let is_stopped = self.is_stopped(number);
        let machine = &mut self.machines[number];
        match self.rng.u32(0..100) {
            0..30 if !is_stopped => self.elect(number),
            30..50 => machine.stopped_until_ms = self.now_ms + stop_ms,
            50..60 => {
                machine.ahead_ms += leap_ms;
                self.promises.leap();
            }
            60..75 => machine.restart_lessor(self.now_ms),
            75..90 => self.reopen(number),
            _ => {}
        }
    }

    /// A machine is elected, which learns it at once; whoever led before learns it later. Some of what was proposed is in the log of the new
    /// leader, and is written in the old term; what is left may be proposed again, and is written later.
    pub(super) fn elect(&mut self, machine: usize) {
        for (command, asker) in std::mem::take(&mut self.proposed) {
            match self.rng.u32(0..3) {
                0 => self.write(command, asker),
                1 => self.proposed.push((command, asker)),
                _ => self.give_up(command, asker),
            }
        }
        self.term += 1;
        self.lead(machine);
    }

    /// The key space of a machine is opened again, as of an earlier moment, and some of what was news is told to nobody.
    pub(super) fn reopen(&mut self, number: usize) {
        let is_durable = self.rng.bool();
        let machine = &mut self.machines[number];
        if is_durable {
            machine.checkpoint();
        }
        machine.reopen(self.rng.usize(0..=machine.news.len()));
    }

    /// Something becomes of an entry that was proposed: it is written, where nothing fails.
    pub(super) fn decide(&mut self, is_quiet: bool) {
        if self.proposed.is_empty() {
            return;
        }
        let place = self.rng.usize(0..self.proposed.len());
        let (command, asker) = self.proposed.swap_remove(place);
        let fault = if is_quiet { 15 } else { self.rng.u32(0..16) };
        match fault {
            0 => self.give_up(command, asker),
            // It is lost, and nobody knows that.
            1 => self.answer(asker, Fate::Unknown),
            2 => self.answer(asker, Fate::Refused),
            // Its answer is lost.
            3 => {
                self.write(command, None);
                self.answer(asker, Fate::Unknown);
            }
            _ => self.write(command, asker),
        }
    }

    /// Whoever waits for an entry is told that nothing is known; it is written later.
    fn give_up(&mut self, command: Command, asker: Option<Asker>) {
        let late_ms = self.now_ms + self.rng.u64(0..LATE_MS);
        self.late.push((late_ms, command));
        self.answer(asker, Fate::Unknown);
    }

    /// Writes what is late, once its time has come.
    pub(super) fn write_late(&mut self, now_ms: u64) {
        let (due, late) = std::mem::take(&mut self.late)
            .into_iter()
            .partition(|(late_ms, _)| *late_ms <= now_ms);
        self.late = late;
        let due: Vec<(u64, Command)> = due;
        for (_, command) in due {
            self.write(command, None);
        }
    }

    fn answer(&mut self, asker: Option<Asker>, fate: Fate) {
        let Some(asker) = asker.filter(|it| self.machines[it.machine].life == it.life) else {
            return;
        };
        if let (Wait::Decision(reign, Proposal::Note { times, .. }), Fate::Refused) =
            (&asker.wait, &fate)
        {
            let reign = (asker.machine, asker.life, *reign);
            self.promises.refused(reign, times);
        }
        self.machines[asker.machine].answer(asker.wait, fate);
    }
}
