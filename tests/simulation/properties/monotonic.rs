//! A term, a vote within a term, a commit index and an applied index never go back (rule 7): of what is durable never at all,
//! of what a core or an Applier says while it runs, and of what clients were shown while a process does.

use rm_raft::{HardState, Index, Status, Term};

use super::{Check, require};
use crate::simulation::machine::Machine;

/// What each machine said and held last.
#[derive(Debug)]
pub(crate) struct Monotonic {
    cores: Vec<(u64, Term, Index)>,
    disks: Vec<HardState>,
    /// Up to where each life of an Applier had applied.
    applied: Vec<(u64, Index)>,
    /// The latest state that each process showed to clients.
    shown: Vec<(u64, Index)>,
    /// Up to where the durable state of each machine has applied.
    states: Vec<Index>,
}

impl Monotonic {
    pub(super) fn new(machines: usize) -> Monotonic {
        Monotonic {
            cores: vec![(0, Term(0), Index(0)); machines],
            disks: vec![HardState::default(); machines],
            applied: vec![(0, Index(0)); machines],
            shown: vec![(0, Index(0)); machines],
            states: vec![Index(0); machines],
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

    /// Checks up to where a life of the Applier has applied.
    pub(crate) fn applied(&mut self, place: usize, life: u64, applied: Index) -> Check {
        let before = std::mem::replace(&mut self.applied[place], (life, applied));
        require(before.0 != life || applied >= before.1, "monotonic", || {
            let before = before.1;
            format!(
                "the Applier of {} went back from {before} to {applied}",
                place + 1
            )
        })
    }

    /// Checks that a read is answered from a state that is not older than what this process has answered from.
    pub(crate) fn read(&mut self, place: usize, boot: u64, applied: Index) -> Check {
        let (showed, shown) = self.shown[place];
        require(showed != boot || applied >= shown, "monotonic", || {
            format!(
                "machine {} answers as of {applied}, and has answered as of {shown}",
                place + 1
            )
        })?;
        self.shows(place, boot, applied);
        Ok(())
    }

    /// A client hears of an entry that is applied. One that waited may hear of it after others saw later ones.
    pub(crate) fn shows(&mut self, place: usize, boot: u64, applied: Index) {
        let (showed, shown) = &mut self.shown[place];
        if *showed != boot {
            *shown = Index(0);
        }
        (*showed, *shown) = (boot, applied.max(*shown));
    }

    /// Checks up to where the state has applied that is durable from now on.
    pub(crate) fn state(&mut self, place: usize, applied: Index) -> Check {
        let before = std::mem::replace(&mut self.states[place], applied);
        require(applied >= before, "monotonic", || {
            format!(
                "the durable state of {} went back from {before} to {applied}",
                place + 1
            )
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
