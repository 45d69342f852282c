//! The time of leases on this machine: its clock, and its reign while it leads. No actor and no clock of the host is in it: a model of three
//! machines tries it (`model.rs`).

use std::time::Instant;

use rm_raft::Term;

use super::clock::LeaseClock;
use super::reign::{Measures, Reign};

/// A machine's count.
pub(super) struct Counting {
    clock: LeaseClock,
    /// None while another machine leads.
    reign: Option<Reign>,
    /// How many reigns there were in this life: by that, what was begun in an earlier one is known.
    reigns: u64,
    measures: Measures,
}

impl Counting {
    /// Begins to count at zero, without a reign.
    pub(super) fn new(now: Instant, measures: Measures) -> Counting {
        Counting {
            clock: LeaseClock::new(now),
            reign: None,
            reigns: 0,
            measures,
        }
    }

    /// The time by the clock of leases, in milliseconds.
    pub(super) fn look(&mut self, now: Instant) -> u64 {
        self.clock.look(now)
    }

    /// The term in which this machine leads, if it does, may be another than before. Whether a reign begins.
    pub(super) fn leads_in(&mut self, term: Option<Term>) -> bool {
        if self.reign.as_ref().map(|reign| reign.term) == term {
            return false;
        }
        self.reign = None;
        term.map(|term| self.begin(term)).is_some()
    }

    /// Ends the reign, if there is one, and begins another in its term: all leases are read again, and have their time again. Which term
    /// that is.
    pub(super) fn begin_anew(&mut self) -> Option<Term> {
        let term = self.reign.take()?.term;
        self.begin(term);
        Some(term)
    }

    fn begin(&mut self, term: Term) {
        self.reigns += 1;
        self.reign = Some(Reign::new(self.reigns, term, self.measures));
    }

    pub(super) fn reign(&self) -> Option<&Reign> {
        self.reign.as_ref()
    }

    pub(super) fn reign_mut(&mut self) -> Option<&mut Reign> {
        self.reign.as_mut()
    }

    /// The reign of this number, if it is the present one and this machine leads in its term still.
    pub(super) fn present(&mut self, number: u64, leads_in: Option<Term>) -> Option<&mut Reign> {
        let is_present =
            |reign: &&mut Reign| reign.number == number && leads_in == Some(reign.term);
        self.reign.as_mut().filter(is_present)
    }
}
