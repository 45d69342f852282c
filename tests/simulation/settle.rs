//! The end of a run: the faults end, but for one that a majority can live with, and the machines must get on soon.

use std::collections::BTreeSet;

use rm_raft::{Role, Term};

use super::coverage::State;
use super::plan::ELECTION_TIMEOUT;
use super::properties::{Check, Violation, require};
use super::residual::Residual;
use super::world::{Event, World};

/// Within so many of the shortest election timeouts after the last fault every machine that reaches a majority must
/// acknowledge a write.
pub const PROGRESS_TIMEOUTS: u64 = 40;
/// By how much longer it may take for each entry that a machine lacks.
const LAG: u64 = 8_000;
/// The slowest commit once the faults have ended.
const COMMIT_MAX: u64 = 3_000;
/// So many later nothing of the faults is left: a leader whose disk does nothing has lost patience with it, on the slowest clock.
const SETTLING_TIMEOUTS: u64 = 12;
/// By then the last packet that went astray has arrived, and what came of it is over, in microseconds.
const STRAYS_ARRIVE: u64 = 2_400_000;
/// For so many there must be no new term after that.
const CALM_TIMEOUTS: u64 = 15;
/// The end of a hand-over comes no later after its target was told.
const TRANSFER_TIMEOUTS: u64 = 2;
/// How long a change of members may still be on its way, in microseconds.
const CHANGES_ARRIVE: u64 = 300_000;
/// How often to look.
const LOOK: u64 = 20_000;

impl World {
    /// Lets the run come to its end.
    pub(crate) fn settle(&mut self) -> Check {
        self.heal()?;
        let healed = self.now;
        if self.plan.changes_members {
            // No change is asked for from now on; those that are on their way arrive.
            self.run_until(self.now + CHANGES_ARRIVE)?;
        }
        let residual = self.afflict();
        let mut afflicted = residual.afflicts();
        let healthy = match self.require_progress(&afflicted) {
            // One that has no vote by its own log may be ahead of those who need its vote by theirs, if two leaders that nobody
            // could commit with asked for different members: no rule of the election helps then, but only the end of the fault.
            Err(violation) if violation.property == "liveness" && self.nobody_can_win(residual) => {
                self.coverage.reach(State::NobodyCanWin);
                self.dead_for_good = None;
                self.heal()?;
                afflicted.clear();
                self.require_progress(&afflicted)?
            }
            outcome => outcome?,
        };
        let settled = self.now + SETTLING_TIMEOUTS * ELECTION_TIMEOUT;
        self.run_until(settled.max(healed + STRAYS_ARRIVE))?;
        let (term, since) = (self.latest_term(), self.now);
        self.run_until(self.now + CALM_TIMEOUTS * ELECTION_TIMEOUT)?;
        self.require_calm(term, since)?;
        self.require_peace(&afflicted)?;
        self.require_agreement(&healthy)
    }

    /// Ends all faults, and starts what does not run.
    fn heal(&mut self) -> Check {
        let now = self.now;
        self.trace.line(now, || "!! all faults end".into());
        self.partitioned = false;
        self.hostile = false;
        self.plan.commit_max = self.plan.commit_max.min(COMMIT_MAX);
        self.ambush = None;
        self.network.behave();
        for at in 0..self.machines.len() {
            let percent = self.plan.clocks[at].1;
            let machine = &mut self.machines[at];
            machine.stalled_until = machine.stalled_until.min(now);
            machine.full_until = machine.full_until.min(now);
            machine.low_until = machine.low_until.min(now);
            machine.gate.down_until = machine.gate.down_until.min(now);
            machine.paused_until = machine.paused_until.min(now);
            machine.halted_until = machine.halted_until.min(now);
            machine.clock.go_on(now);
            machine.read_fails = false;
            machine.clock.set_rate(now, percent);
            let (boot, life) = (machine.boot, machine.logic.life);
            self.queue.push(now, Event::Resume { at, boot });
            self.queue.push(now, Event::Boot { at, boot });
            if self.machines[at].runs {
                self.queue.push(now, Event::Rebuild { at, boot, life });
                // What waited for the fault to end need not wait any longer.
                let life = self.machines[at].storage.life;
                self.queue.push(now, Event::Committed { at, life });
                self.queue.push(now, Event::Pump { at, life });
            }
            self.prefer(at, self.plan.priorities())?;
        }
        Ok(())
    }

    /// Brings about the fault that stays, if a majority can live with it.
    fn afflict(&mut self) -> Residual {
        let now = self.now;
        let mut residual = self.plan.residual;
        if !self.can_live_with(residual) {
            residual = Residual::Nothing; // a member among too few
        }
        self.trace.line(now, || format!("!! {residual:?} stays"));
        match residual {
            Residual::Nothing => {}
            Residual::Dead(at) => {
                self.crash(at, 0);
                self.dead_for_good = Some(at);
            }
            Residual::Deaf(at) => self.network.cut_where(|_, to| to == at),
            Residual::Mute(at) => self.network.cut_where(|from, _| from == at),
            Residual::Parted(one, other) => {
                self.network.cut(one, other);
                self.network.cut(other, one);
            }
            Residual::Stalled(at) => self.machines[at].stalled_until = u64::MAX / 4,
            Residual::Low(at) => self.machines[at].low_until = u64::MAX / 4,
        }
        residual
    }

    /// Whether those who remain are a quorum, whichever configuration turns out to be in force.
    fn can_live_with(&self, residual: Residual) -> bool {
        let mut out = residual.afflicts().into_iter();
        out.all(|out| self.quorum_remains(|place| place != out))
    }

    /// Whether nobody leads, and nobody can be elected as long as this fault stays.
    fn nobody_can_win(&self, residual: Residual) -> bool {
        let lets_vote = |candidate, voter| residual.lets_vote(candidate, voter);
        self.leader().is_none() && !self.anybody_can_win(lets_vote)
    }

    /// Every member of whom something can be expected must acknowledge a write in time; who they are.
    fn require_progress(&mut self, afflicted: &BTreeSet<usize>) -> Result<Vec<usize>, Violation> {
        // A machine that was away for long must first be sent what it lacks, perhaps an entry at a time.
        let members = self.members().into_iter().flatten();
        let durable = members.map(|at| self.machines[at].disk.log.last().index);
        let least = durable.min().unwrap_or_default();
        let lag = self.properties.committed().0.saturating_sub(least.0);
        let deadline = self.now + PROGRESS_TIMEOUTS * ELECTION_TIMEOUT + lag * LAG;
        loop {
            // Who leads may be stuck in a state that nobody else can end: all are asked until somebody does.
            let members = self.members();
            let all = || (0..self.machines.len()).collect();
            let mut healthy = members.clone().unwrap_or_else(all);
            healthy.retain(|at| !afflicted.contains(at));
            let waits = |at: &usize| !self.probed(*at);
            let waiting: Vec<usize> = healthy.iter().copied().filter(waits).collect();
            if members.is_some() && waiting.is_empty() {
                return Ok(healthy);
            }
            require(self.now < deadline, "liveness", || {
                let numbers =
                    |places: &[usize]| -> Vec<usize> { places.iter().map(|at| at + 1).collect() };
                format!(
                    "of the machines {:?} {:?} acknowledged no write within {PROGRESS_TIMEOUTS} election timeouts",
                    numbers(&healthy),
                    numbers(&waiting)
                )
            })?;
            for at in waiting {
                self.probe(at)?;
            }
            self.run_until(self.now + LOOK)?;
        }
    }

    /// The latest term of all machines: it does not grow without a chance to win, whatever fault remains (dissertation 9.6).
    fn latest_term(&self) -> Term {
        let statuses = self.machines.iter().filter_map(|machine| machine.status());
        statuses.map(|status| status.term).max().unwrap_or_default()
    }

    /// Since then, when this was the term, nobody but a preferred voter was elected, to whom a leader handed over, and so each leader is preferred to the
    /// one before. That may happen at any time, since a leader whose attempts failed waits ever longer.
    fn require_calm(&self, term: Term, since: u64) -> Check {
        let later = self.latest_term();
        let since = since.saturating_sub(TRANSFER_TIMEOUTS * ELECTION_TIMEOUT);
        let handed_over = self.handed_over.range(term..);
        let wanted = handed_over.filter(|&(_, &told)| told >= since).count() as u64;
        require(later.0 <= term.0 + wanted, "liveness", || {
            format!("nothing new goes wrong, and yet term {term} gives way to {later}")
        })?;
        let priorities = self.plan.priorities();
        let leaders = (term.0..=later.0).filter_map(|term| self.properties.leader_of(Term(term)));
        let ranks: Vec<u8> = leaders
            .filter_map(|at| priorities.get(&self.machines[at].id).copied())
            .collect();
        require(ranks.is_sorted_by(|a, b| a < b), "liveness", || {
            format!("nothing new goes wrong, and leadership goes through the priorities {ranks:?}")
        })
    }

    /// Nobody leads whose disk does nothing, and none who was removed and can learn of it stands for election.
    fn require_peace(&self, afflicted: &BTreeSet<usize>) -> Check {
        let members = self.members().unwrap_or_default();
        for (at, machine) in self.machines.iter().enumerate() {
            let Some(status) = machine.status() else {
                continue;
            };
            let stalled = machine.stalled_until > self.now;
            require(!stalled || status.role != Role::Leader, "liveness", || {
                format!("machine {} leads, whose disk does nothing", at + 1)
            })?;
            let stands = matches!(status.role, Role::PreCandidate | Role::Candidate);
            let is_stranger = !members.contains(&at) && !afflicted.contains(&at);
            // It asks those who have a vote by its own log; of others it can learn nothing.
            let known = machine.logic.log.configured().configuration;
            let asks = members
                .iter()
                .any(|&place| known.has_vote(self.machines[place].id));
            require(!stands || !is_stranger || !asks, "liveness", || {
                format!("machine {} stands for election and is no member", at + 1)
            })?;
        }
        Ok(())
    }

    /// All that can must have the same log and the same state, and no read may still wait.
    fn require_agreement(&mut self, healthy: &[usize]) -> Check {
        let committed = self.properties.committed();
        for &at in healthy {
            let machine = &self.machines[at];
            let applied = machine.applier.state.applied().index;
            let last = machine.disk.log.last().index;
            require(
                applied == committed && last == committed,
                "liveness",
                || {
                    format!(
                        "machine {} has applied {applied} and holds {last}; {committed} is committed",
                        at + 1
                    )
                },
            )?;
            let waiting = machine.logic.reads.len();
            require(waiting == 0, "liveness", || {
                format!("{waiting} reads of machine {} have no answer", at + 1)
            })?;
        }
        Ok(())
    }
}
