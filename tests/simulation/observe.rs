//! Notes which interesting states a run reaches at its disks.

use rm_raft::{EntryId, Index, MachineId, Persist};

use super::coverage::State;
use super::members::is_quorum;
use super::world::World;

/// How many entries of figure 8 are remembered.
const REMEMBERED: usize = 8;

impl World {
    /// A core asks to write this over its log.
    pub(crate) fn note_persist(&mut self, at: usize, persist: &Persist) {
        let Some(first) = persist.entries.first().map(|entry| entry.id) else {
            return;
        };
        let machine = &self.machines[at];
        if first.index <= machine.logic.log.last().index {
            self.coverage.reach(State::ConflictTruncated);
            if machine.logic.log.configured().index >= first.index {
                self.coverage.reach(State::ConfigurationTruncated);
            }
            let undone = |id: &&EntryId| id.index >= first.index && machine.logic.log.holds(**id);
            if self.figure8.iter().any(|id| undone(&id)) {
                self.coverage.reach(State::Figure8Undone);
            }
        }
        let mut asked = persist.entries.iter().map(|entry| entry.id);
        let unheard = &machine.storage.unheard;
        if !unheard.is_empty() && asked.any(|id| unheard.contains(&id)) {
            self.coverage.reach(State::WrittenAnew);
        }
    }

    /// A change of members is applied: perhaps it tells other things of a member than before.
    pub(crate) fn note_address(&mut self, at: usize, index: Index) {
        let log = &self.machines[at].disk.log;
        let before = log.configured_at(index.previous()).configuration;
        let after = log.configured_at(index).configuration;
        let told = |machine: &MachineId| before.about.get(machine);
        let moved = after
            .about
            .iter()
            .any(|(machine, about)| before.contains(*machine) && told(machine) != Some(about));
        if moved {
            self.coverage.reach(State::AddressChanged);
        }
    }

    /// A disk holds more than before: perhaps an entry of an earlier term is now on a majority (figure 8).
    pub(crate) fn note_written(&mut self, at: usize) {
        let next = self.properties.committed().next();
        let Some(id) = self.machines[at].disk.log.id_at(next) else {
            return;
        };
        let Some(leader) = self.leader() else {
            return;
        };
        let term = self.machines[leader].status().map(|status| status.term);
        let old = term.is_some_and(|term| id.term < term);
        if !old || self.figure8.contains(&id) || !self.machines[leader].logic.log.holds(id) {
            return;
        }
        let configuration = self.machines[leader].logic.log.configured().configuration;
        let holds = |at: MachineId| self.machines[at.0 as usize - 1].disk.log.holds(id);
        if is_quorum(&configuration, holds) {
            self.coverage.reach(State::Figure8);
            self.figure8.push_back(id);
            if self.figure8.len() > REMEMBERED {
                self.figure8.pop_front();
            }
        }
    }
}
