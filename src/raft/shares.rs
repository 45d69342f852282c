//! How the bound on what is open is shared by the machines whose clients propose, so that the clients of one cannot starve those
//! of the others.
//!
//! A proposal is taken if it still fits when what is open of its own machine is counted twice: the more is open, the less may one
//! machine hold of it (Choudhury and Hahne, "Dynamic Queue Length Thresholds", 1998). Machines that propose without rest come to hold
//! equal shares: two of them a third of the bound each, three of them a quarter. A share is left for one that comes late.

use std::collections::VecDeque;

use crate::log::Log;
use crate::{Index, MachineId, Payload};

/// What is open in a leader's log, by the machine whose clients proposed it.
///
/// Invariants: runs are in the order of the log, not empty, and do not overlap; `held` has the bytes of each machine's runs, by the
/// order of the machines, and none without any. As of the latest proposal there is at most one run for each open entry, so that the
/// bound on what is open bounds this, too.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Shares {
    runs: VecDeque<Run>,
    held: Vec<(MachineId, u64)>,
}

/// Proposals of one machine that stand side by side, by their place in the log's sum of bytes.
#[derive(Clone, Copy, Debug, Hash)]
struct Run {
    machine: MachineId,
    start: u64,
    end: u64,
}

impl Shares {
    /// The shares in a log of which all after `settled` is open, as a leader finds it when it is elected.
    pub(crate) fn in_log(log: &Log, settled: Index) -> Shares {
        let mut shares = Shares::default();
        let mut start = log.end_at(settled);
        for entry in log.in_memory_after(settled) {
            let end = start + entry.size() as u64;
            if let Payload::Command(proposal) = &entry.payload {
                shares.take(proposal.request.machine, start, end);
            }
            start = end;
        }
        shares
    }

    /// Proposals of a machine were taken; they lie in the log's sum of bytes from `start` to `end`.
    pub(crate) fn take(&mut self, machine: MachineId, start: u64, end: u64) {
        if start == end {
            return;
        }
        match self.place(machine) {
            Ok(place) => self.held[place].1 += end - start,
            Err(place) => self.held.insert(place, (machine, end - start)),
        }
        match self.runs.back_mut() {
            Some(run) if run.machine == machine && run.end == start => run.end = end,
            _ => self.runs.push_back(Run {
                machine,
                start,
                end,
            }),
        }
    }

    /// What lies before this place in the log's sum of bytes is open no more.
    pub(crate) fn settle(&mut self, up_to: u64) {
        while let Some(run) = self.runs.front_mut()
            && run.start < up_to
        {
            let Run { machine, start, .. } = *run;
            run.start = up_to.min(run.end);
            let settled = run.start - start;
            if run.start == run.end {
                self.runs.pop_front();
            }
            if let Ok(place) = self.place(machine) {
                self.held[place].1 -= settled;
                if self.held[place].1 == 0 {
                    self.held.remove(place);
                }
            }
        }
    }

    /// The bytes that are open of one machine.
    pub(crate) fn of(&self, machine: MachineId) -> usize {
        self.place(machine)
            .map_or(0, |place| self.held[place].1 as usize)
    }

    /// Where a machine stands in `held`, or would.
    fn place(&self, machine: MachineId) -> Result<usize, usize> {
        self.held.binary_search_by_key(&machine, |&(of, _)| of)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What may happen: a machine's proposals are taken, something else enters the log, or all up to a share of it is settled.
    #[derive(Clone, Debug)]
    enum Step {
        Take { machine: u64, bytes: u64 },
        Skip { bytes: u64 },
        Settle { percent: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1u64..4, 0u64..100).prop_map(|(machine, bytes)| Step::Take { machine, bytes }),
            1 => (1u64..100).prop_map(|bytes| Step::Skip { bytes }),
            2 => (0u64..=100).prop_map(|percent| Step::Settle { percent }),
        ]
    }

    proptest! {
        /// The naive twin has the machine of each byte in the log.
        #[test]
        fn shares_are_what_their_naive_twin_counts(steps in prop::collection::vec(step(), 1..60)) {
            let mut shares = Shares::default();
            let mut twin: Vec<u64> = Vec::new();
            let mut settled = 0;
            for step in steps {
                let start = twin.len() as u64;
                match step {
                    Step::Take { machine, bytes } => {
                        twin.resize((start + bytes) as usize, machine);
                        shares.take(MachineId(machine), start, start + bytes);
                    }
                    Step::Skip { bytes } => twin.resize((start + bytes) as usize, 0),
                    Step::Settle { percent } => {
                        settled += (start - settled) * percent / 100;
                        shares.settle(settled);
                    }
                }
                for machine in 1..4 {
                    let open = twin[settled as usize..].iter();
                    let bytes = open.filter(|&&each| each == machine).count();
                    prop_assert_eq!(shares.of(MachineId(machine)), bytes);
                }
                prop_assert!(shares.held.iter().all(|&(_, held)| held > 0));
                prop_assert!(shares.runs.iter().all(|run| run.start < run.end));
            }
        }
    }
}
