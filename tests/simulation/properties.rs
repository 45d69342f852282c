//! What must hold at every step, whatever fails (figure 3 of the paper, and what practice added), a file a property. Each looks
//! only at what a step changed.

mod bounded;
mod committed_is_durable;
mod committed_stays;
mod configuration_safety;
mod durable_before_told;
mod election_safety;
mod in_flight;
mod leader_completeness;
mod log_matching;
mod monotonic;
mod proposals;
mod read_freshness;
mod same_log;
mod shares;
mod space;
mod state_machine_safety;
mod voters_lead;

use rm_raft::{Configuration, EntryId, Index, MachineId, Message, Payload, Persist, Status, Term};

use super::log_image::LogImage;
use super::machine::Machine;

pub(crate) use read_freshness::read;
pub(crate) use space::{proposes, took};
pub(crate) use voters_lead::elected;

/// What was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The property.
    pub property: &'static str,
    /// What was seen.
    pub text: String,
}

/// A committed entry, and the term in which it was committed, which may be later than its own (§5.4.2). A leader of an earlier
/// term that is still at work, or is elected by votes that come late, need not have it.
#[derive(Clone, Copy, Debug)]
struct Committed {
    id: EntryId,
    term: Term,
}

/// Nothing, or the property that does not hold.
pub(crate) type Check = Result<(), Violation>;

/// Fails unless it holds.
pub(crate) fn require(holds: bool, property: &'static str, text: impl FnOnce() -> String) -> Check {
    if holds {
        return Ok(());
    }
    let text = text();
    Err(Violation { property, text })
}

/// The properties that remember what they saw.
#[derive(Debug)]
pub(crate) struct Properties {
    election_safety: election_safety::ElectionSafety,
    pub(crate) monotonic: monotonic::Monotonic,
    log_matching: log_matching::LogMatching,
    leader_completeness: leader_completeness::LeaderCompleteness,
    changes: committed_stays::Changes,
    pub(crate) in_flight: in_flight::InFlight,
    pub(crate) state_machine_safety: state_machine_safety::StateMachineSafety,
    pub(crate) proposals: proposals::Proposals,
    /// All that any machine ever knew to be committed, in order.
    committed: Vec<Committed>,
    /// By which configuration it was counted: each up to which index, in order.
    counted: Vec<(Index, Configuration)>,
    /// Whether the core that hands out its effects asked to write a configuration.
    configures: bool,
}

impl Properties {
    pub(crate) fn new(machines: usize) -> Properties {
        Properties {
            election_safety: election_safety::ElectionSafety::default(),
            monotonic: monotonic::Monotonic::new(machines),
            log_matching: log_matching::LogMatching::default(),
            leader_completeness: leader_completeness::LeaderCompleteness::default(),
            changes: committed_stays::Changes::new(machines),
            in_flight: in_flight::InFlight::new(machines),
            state_machine_safety: state_machine_safety::StateMachineSafety::default(),
            proposals: proposals::Proposals::default(),
            committed: Vec::new(),
            counted: Vec::new(),
            configures: false,
        }
    }

    /// Up to where any machine ever knew the log to be committed.
    pub(crate) fn committed(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// The name of a committed entry.
    pub(crate) fn committed_at(&self, index: Index) -> Option<EntryId> {
        let place = (index.0 as usize).checked_sub(1)?;
        self.committed.get(place).map(|committed| committed.id)
    }

    /// Who led in a term, if anybody is known to have.
    pub(crate) fn leader_of(&self, term: Term) -> Option<usize> {
        self.election_safety.leader_of(term)
    }

    /// A core took an input, and its log says who takes part.
    pub(crate) fn stepped(
        &mut self,
        place: usize,
        life: u64,
        status: &Status,
        configuration: &Configuration,
    ) -> Check {
        // Whoever commits it knows it first, and goes on to another configuration only afterwards.
        match self.counted.last_mut() {
            Some((up_to, _)) if *up_to >= status.commit => {}
            Some((up_to, same)) if same == configuration => *up_to = status.commit,
            _ => self.counted.push((status.commit, configuration.clone())),
        }
        self.changes.stepped(place, life, status);
        self.in_flight.stepped(place, life, status);
        self.election_safety.check(place, status)?;
        self.monotonic.core(place, life, status)
    }

    /// A core asks to make this durable, on top of a log.
    pub(crate) fn asked(&mut self, place: usize, persist: &Persist, log: &LogImage) -> Check {
        committed_stays::check(place, persist, log, &self.changes, &self.committed)?;
        let mut payloads = persist.entries.iter().map(|entry| &entry.payload);
        if payloads.any(|each| matches!(each, Payload::Configuration { .. })) {
            self.configures = true;
            self.in_flight.configured(place);
        }
        self.log_matching.check(persist, log)
    }

    /// A core handed out all its effects; `machines[place]` is what they made of it.
    pub(crate) fn flushed(&mut self, place: usize, status: &Status, machines: &[Machine]) -> Check {
        self.changes.flushed(place, status);
        let log = &machines[place].logic.log;
        same_log::check(status, log)?;
        self.in_flight.flushed(&machines[place])?;
        self.leader_completeness
            .check(status, log, &self.committed)?;
        for index in self.committed.len() as u64 + 1..=status.commit.0 {
            let id = log.id_at(Index(index));
            let id = id.ok_or_else(|| Violation {
                property: "log matching",
                text: format!("entry {index} is committed and not in the log"),
            })?;
            // Whoever knows it first is the leader that committed it.
            let term = status.term;
            self.committed.push(Committed { id, term });
            let counted = self.counted.partition_point(|&(up_to, _)| up_to.0 < index);
            let configuration = self.counted.get(counted);
            let (_, configuration) = configuration.ok_or_else(|| Violation {
                property: "committed is durable",
                text: format!("entry {index} is committed since a core began, with no input"),
            })?;
            committed_is_durable::check(id, machines, configuration)?;
        }
        if std::mem::take(&mut self.configures) {
            configuration_safety::check(log, self.committed())?;
        }
        let known = self.committed_at(status.commit);
        let here = log.id_at(status.commit);
        require(
            status.commit == Index(0) || known == here,
            "state-machine safety",
            || format!("{here:?} is committed here, {known:?} elsewhere"),
        )
    }

    /// A message leaves a machine.
    pub(crate) fn sent(&mut self, machine: &Machine, to: MachineId, message: &Message) -> Check {
        durable_before_told::told(machine, to, message)?;
        self.in_flight.sent(machine, to, message)
    }

    /// A machine's disk changed, or may have.
    pub(crate) fn written(&mut self, place: usize, machine: &Machine) -> Check {
        self.monotonic.disk(place, machine)
    }

    /// What waits for a machine's disk has changed.
    pub(crate) fn queued(&self, machine: &Machine, persist: &Persist) -> Check {
        let last = persist.entries.last().map(|entry| entry.id.term);
        let led = last.and_then(|term| self.election_safety.leader_of(term));
        let led = led == Some(machine.id.0 as usize - 1);
        bounded::check(machine, persist, led)?;
        match machine.status().filter(|_| led) {
            Some(status) => shares::check(machine, persist, status.commit.min(status.durable)),
            None => Ok(()),
        }
    }
}
