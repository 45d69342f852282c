//! Every machine's state and every message that was met, once, by a number; and what each step made of them.
//!
//! Machines meet each other in many ways, but what one does in a step depends on its own state alone: so the core runs once for
//! each state of one machine and each step, and the search over all three puts numbers together.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use rm_raft::{Body, EntryId, Index, MachineId, Message, Role, Term};

use super::bounds::Bounds;
use super::machine::{MACHINES, Machine, Step, acts_by_the_heartbeat};
use super::quick::QuickBuild;

/// What the search needs to know of a machine's state.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) role: Role,
    pub(crate) term: Term,
    pub(crate) commit: Index,
    /// The log, durable or not, each entry with a hash of itself and all before it.
    pub(crate) log: Vec<(EntryId, u64)>,
    /// The same of the durable log.
    pub(crate) durable: Vec<(EntryId, u64)>,
    pub(crate) jobs: usize,
    pub(crate) has_notice: bool,
    durable_term: Term,
}

/// What a step makes of one machine.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) machine: u32,
    /// The messages that it sent, each with the place of its receiver.
    pub(crate) sent: Vec<(usize, u32)>,
    /// Whether it made any difference.
    changes: bool,
}

/// A message, from whom, and what must be known of it often.
struct Known {
    from: MachineId,
    message: Message,
    is_response: bool,
}

/// All that was met so far.
pub(crate) struct Catalog {
    bounds: Bounds,
    machines: Vec<(Machine, Facts)>,
    machine_numbers: HashMap<u128, u32>,
    messages: Vec<Known>,
    message_numbers: HashMap<(MachineId, Message), u32>,
    outcomes: Vec<Result<Outcome, String>>,
    outcome_numbers: HashMap<(u32, Step), u32, QuickBuild>,
}

impl Catalog {
    pub(crate) fn new(bounds: Bounds) -> Catalog {
        Catalog {
            bounds,
            machines: Vec::new(),
            machine_numbers: HashMap::new(),
            messages: Vec::new(),
            message_numbers: HashMap::new(),
            outcomes: Vec::new(),
            outcome_numbers: HashMap::default(),
        }
    }

    /// How many steps of the core itself were taken.
    pub(crate) fn core_steps(&self) -> usize {
        self.outcomes.len()
    }

    /// How many states of one machine were met.
    pub(crate) fn machine_states(&self) -> usize {
        self.machines.len()
    }

    pub(crate) fn machine(&self, number: u32) -> &Machine {
        &self.machines[number as usize].0
    }

    pub(crate) fn facts(&self, number: u32) -> &Facts {
        &self.machines[number as usize].1
    }

    /// A message, after its sender.
    pub(crate) fn message(&self, number: u32) -> (MachineId, &Message) {
        let known = self.known(number);
        (known.from, &known.message)
    }

    /// Messages are numbered from 1.
    fn known(&self, number: u32) -> &Known {
        &self.messages[number as usize - 1]
    }

    /// The number of a machine's state.
    pub(crate) fn add(&mut self, machine: Machine) -> u32 {
        let next = self.machines.len() as u32;
        let number = *self.machine_numbers.entry(digest(&machine)).or_insert(next);
        if number == next {
            let facts = facts(&machine);
            self.machines.push((machine, facts));
        }
        number
    }

    /// What a step makes of a machine.
    pub(crate) fn outcome(&mut self, machine: u32, step: Step) -> &Result<Outcome, String> {
        let number = match self.outcome_numbers.get(&(machine, step)) {
            Some(&number) => number,
            None => self.find_outcome(machine, step),
        };
        &self.outcomes[number as usize]
    }

    fn find_outcome(&mut self, machine: u32, step: Step) -> u32 {
        let received = match step {
            Step::Receive(number) => {
                let (from, message) = self.message(number);
                Some((from, message.clone()))
            }
            _ => None,
        };
        let before = self.machine(machine);
        let from = before.local();
        let after = before.after(step, received, &self.bounds);
        let outcome = after.map(|(after, sent)| {
            let sent: Vec<(usize, u32)> = sent
                .into_iter()
                .map(|(to, message)| (place_of(to), self.add_message(from, message)))
                .collect();
            let after = self.add(after);
            Outcome {
                machine: after,
                changes: after != machine || !sent.is_empty(),
                sent,
            }
        });
        let number = self.outcomes.len() as u32;
        self.outcomes.push(outcome);
        self.outcome_numbers.insert((machine, step), number);
        number
    }

    /// Whether a machine will never heed this message: a response of an earlier term than is durable on it (§5.1), which changes
    /// nothing now.
    pub(crate) fn is_spent(&mut self, machine: u32, message: u32) -> bool {
        let known = self.known(message);
        known.is_response
            && known.message.term < self.facts(machine).durable_term
            && self.changes_nothing(machine, Step::Receive(message))
    }

    /// Whether a step leaves a machine as it is, and sends nothing.
    pub(crate) fn changes_nothing(&mut self, machine: u32, step: Step) -> bool {
        let outcome = self.outcome(machine, step);
        outcome.as_ref().is_ok_and(|outcome| !outcome.changes)
    }

    fn add_message(&mut self, from: MachineId, message: Message) -> u32 {
        let next = self.messages.len() as u32 + 1;
        let key = (from, message);
        if let Some(&number) = self.message_numbers.get(&key) {
            return number;
        }
        self.message_numbers.insert(key.clone(), next);
        let (from, message) = key;
        let is_response = matches!(
            message.body,
            Body::VoteResponse { .. }
                | Body::Appended { .. }
                | Body::AppendRejected { .. }
                | Body::HeartbeatResponse { .. }
                | Body::PreVoteResponse { granted: false }
        );
        self.messages.push(Known {
            from,
            message,
            is_response,
        });
        next
    }
}

impl Facts {
    /// Whether a heartbeat interval that passes makes this machine act.
    pub(crate) fn acts_by_the_heartbeat(&self) -> bool {
        acts_by_the_heartbeat(self.role)
    }
}

fn facts(machine: &Machine) -> Facts {
    let status = machine.status();
    Facts {
        role: status.role,
        term: status.term,
        commit: status.commit,
        log: chain(&machine.log()),
        durable: chain(&machine.disk.log),
        jobs: machine.jobs.len(),
        has_notice: machine.has_notice(),
        durable_term: machine.disk.hard_state.term,
    }
}

/// Each entry with a hash of itself and all before it.
fn chain(log: &[rm_raft::Entry]) -> Vec<(EntryId, u64)> {
    let mut hasher = DefaultHasher::new();
    let link = |entry: &rm_raft::Entry| {
        entry.hash(&mut hasher);
        (entry.id, hasher.finish())
    };
    log.iter().map(link).collect()
}

/// A hash so long that two states never share it by chance.
pub(crate) fn digest(value: &impl Hash) -> u128 {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        seed.hash(&mut hasher);
        value.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

fn place_of(machine: MachineId) -> usize {
    let place = MACHINES.iter().position(|&known| known == machine);
    place.expect("messages go to machines that there are")
}
