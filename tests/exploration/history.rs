//! What happened on the way to a state and must never be contradicted: who led, and what was committed.

use std::collections::BTreeMap;

use rm_raft::{EntryId, Index, Role, Term};

use super::catalog::Facts;

/// The past, as far as the properties of Raft speak of it (figure 3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct History {
    /// The place of the machine that led each term.
    leaders: BTreeMap<Term, usize>,
    /// What is committed, from the first entry on.
    committed: Vec<Committed>,
}

/// An entry that some leader committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Committed {
    entry: EntryId,
    /// A hash of the entry and all before it.
    hash: u64,
    /// The term of the leader that committed it.
    in_term: Term,
}

impl History {
    /// What is to be noted of a step of the machine at `place`, which was `before` and is now among `machines`: the history after
    /// it, if that is another one.
    ///
    /// # Errors
    /// The property that the step broke.
    pub(crate) fn after(
        &self,
        place: usize,
        before: &Facts,
        machines: [&Facts; 3],
    ) -> Result<Option<History>, String> {
        let new_leader = self.new_leader(place, before, machines[place])?;
        let new = self.newly_committed(place, machines)?;
        check_logs(place, machines)?;
        if !new_leader && new.is_empty() {
            return Ok(None);
        }
        let mut next = self.clone();
        if new_leader {
            next.leaders.insert(machines[place].term, place);
        }
        next.committed.extend(new);
        Ok(Some(next))
    }

    /// Whether a leader is to be noted: election safety (§5.2) and leader completeness (§5.4).
    fn new_leader(&self, place: usize, before: &Facts, after: &Facts) -> Result<bool, String> {
        let led = before.role == Role::Leader && before.term == after.term;
        if after.role != Role::Leader || led {
            return Ok(false);
        }
        let first = self.leaders.get(&after.term).copied();
        if let Some(first) = first.filter(|&first| first != place) {
            return Err(format!(
                "election safety: machines {} and {} lead in term {}",
                first + 1,
                place + 1,
                after.term
            ));
        }
        let earlier = |committed: &&Committed| committed.in_term < after.term;
        for committed in self.committed.iter().filter(earlier) {
            committed.must_be_in(after, place)?;
        }
        Ok(first.is_none())
    }

    /// What the step commits: state-machine safety (§5.4.3), and that only what a majority holds durably is committed (§5.3).
    fn newly_committed(
        &self,
        place: usize,
        machines: [&Facts; 3],
    ) -> Result<Vec<Committed>, String> {
        let after = machines[place];
        let commit = after.commit.0 as usize;
        for (&(entry, hash), known) in after.log.iter().zip(&self.committed).take(commit) {
            if hash != known.hash {
                return Err(format!(
                    "state-machine safety: machine {} takes {entry} as committed, but {} was",
                    place + 1,
                    known.entry
                ));
            }
        }
        let new = after.log.get(self.committed.len()..commit);
        let mut newly_committed = Vec::new();
        for &(entry, hash) in new.unwrap_or_default() {
            let holds = |facts: &&&Facts| holds(&facts.durable, entry.index, hash);
            let holders = machines.iter().filter(holds).count();
            if after.role != Role::Leader || holders < 2 {
                return Err(format!(
                    "commitment: machine {} takes {entry} as committed, which {holders} of 3 hold durably",
                    place + 1
                ));
            }
            let committed = Committed {
                entry,
                hash,
                in_term: after.term,
            };
            newly_committed.push(committed);
            for (other, facts) in machines.into_iter().enumerate() {
                if facts.role == Role::Leader && facts.term > after.term {
                    committed.must_be_in(facts, other)?;
                }
            }
        }
        Ok(newly_committed)
    }
}

impl Committed {
    fn must_be_in(&self, leader: &Facts, place: usize) -> Result<(), String> {
        if holds(&leader.log, self.entry.index, self.hash) {
            return Ok(());
        }
        Err(format!(
            "leader completeness: {} was committed in term {}, and machine {} leads in term {} without it",
            self.entry,
            self.in_term,
            place + 1,
            leader.term
        ))
    }
}

fn holds(log: &[(EntryId, u64)], index: Index, hash: u64) -> bool {
    let place = index.0 as usize - 1;
    log.get(place).is_some_and(|&(_, found)| found == hash)
}

/// Log matching (§5.3): the same index and term, the same log up to it.
fn check_logs(place: usize, machines: [&Facts; 3]) -> Result<(), String> {
    for (other, facts) in machines.iter().enumerate() {
        let pairs = machines[place].log.iter().zip(&facts.log);
        let mut broken = pairs.filter(|(one, other)| one.0 == other.0 && one.1 != other.1);
        if let Some((entry, _)) = broken.next() {
            return Err(format!(
                "log matching: machines {} and {} hold {} after different logs",
                place + 1,
                other + 1,
                entry.0
            ));
        }
    }
    Ok(())
}
