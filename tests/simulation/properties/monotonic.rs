//! A term, a vote within a term, a commit index and an applied index never go back (rule 7): of what is durable never at all,
//! of what a core says while it runs.

use rm_raft::{HardState, Index, Status, Term};

use super::{Check, require};
use crate::simulation::machine::Machine;

/// What each machine said and held last.
#[derive(Debug)]
pub(super) struct Monotonic {
    cores: Vec<(u64, Term, Index)>,
    disks: Vec<HardState>,
}

impl Monotonic {
    pub(super) fn new(machines: usize) -> Monotonic {
        Monotonic {
            cores: vec![(0, Term(0), Index(0)); machines],
            disks: vec![HardState::default(); machines],
        }
    }

    /// Checks what a core says of itself in this life.
    pub(super) fn core(&mut self, place: usize, life: u64, status: &Status) -> Check {
        let (lived, term, commit) = self.cores[place];
        self.cores[place] = (life, status.term, status.commit);
        let forgot = status.term < self.disks[place].term;
        let back = lived == life && (status.term < term || status.commit < commit);
        require(!forgot && !back, "monotonic", || {
            format!("machine {} went back to {status:?}", place + 1)
        })
    }

    /// Checks what a disk holds.
    pub(super) fn disk(&mut self, place: usize, machine: &Machine) -> Check {
        let (before, now) = (self.disks[place], machine.disk.hard_state);
        self.disks[place] = now;
        let revoted = now.term == before.term && before.vote.is_some() && now.vote != before.vote;
        let back = now.term < before.term || now.commit < before.commit || revoted;
        require(!back, "monotonic", || {
            format!(
                "the disk of {} went back from {before:?} to {now:?}",
                machine.id
            )
        })
    }
}
