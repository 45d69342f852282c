//! A state of all three machines and the network between them, in numbers of the catalog, and what may happen next.

use rm_raft::{Body, Role};

use super::bounds::{Bounds, LINK_MAX};
use super::catalog::{Catalog, Outcome};
use super::history::History;
use super::machine::{MACHINES, Machine, Step};
use super::search::Histories;

/// How many ordered pairs of machines there are.
const LINKS: usize = MACHINES.len() * (MACHINES.len() - 1);

/// Messages on their way from one machine to another, sorted, 0 for none. Two that are equal count as one.
type Link = [u32; LINK_MAX];

/// A state of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    machines: [u32; 3],
    links: [Link; LINKS],
    history: u32,
    spent: Spent,
}

/// What was used of the bounds that count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Spent {
    crashes: u8,
    repeats: u8,
    proposals: u8,
    heartbeats: u8,
    timeouts: u8,
    campaigns: u8,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Action {
    /// The place of the machine that it happens to.
    pub(crate) place: usize,
    pub(crate) step: Step,
    /// From which place a message comes, and whether it will come again.
    pub(crate) link: Option<(usize, bool)>,
}

impl State {
    /// Three machines that were never run before.
    pub(crate) fn first(
        catalog: &mut Catalog,
        histories: &mut Histories,
        bounds: &Bounds,
    ) -> State {
        State {
            machines: MACHINES.map(|id| catalog.add(Machine::new(id, bounds))),
            links: [[0; LINK_MAX]; LINKS],
            history: histories.add(History::default()),
            spent: Spent::default(),
        }
    }

    /// The first machine was elected in term 1 with both other votes; its first entry is durable on itself alone, nothing is on
    /// its way, and nothing of the bounds is used.
    pub(crate) fn led(catalog: &mut Catalog, histories: &mut Histories, bounds: &Bounds) -> State {
        let mut state = State::first(catalog, histories, bounds);
        let campaign = Action {
            place: 0,
            step: Step::Campaign,
            link: None,
        };
        let mut next = Some(campaign);
        while let Some(action) = next {
            let after = state.after(action, catalog, histories, bounds);
            state = after.expect("an election breaks nothing")[0];
            let actions = state.actions(catalog, bounds);
            next = actions.into_iter().find(|action| match action.step {
                Step::Work => true,
                Step::Receive(number) => {
                    let body = &catalog.message(number).1.body;
                    matches!(body, Body::VoteRequest { .. } | Body::VoteResponse { .. })
                }
                _ => false,
            });
        }
        state.links = Default::default();
        state.spent = Spent::default();
        state
    }

    /// All that may happen. What changes nothing is left out: a message that would is as good as lost, which it is if it
    /// never comes.
    pub(crate) fn actions(&self, catalog: &mut Catalog, bounds: &Bounds) -> Vec<Action> {
        let mut actions = Vec::new();
        for (place, &machine) in self.machines.iter().enumerate() {
            let mut may = |step| {
                if !catalog.changes_nothing(machine, step) {
                    actions.push(Action {
                        place,
                        step,
                        link: None,
                    });
                }
            };
            if self.spent.timeouts < bounds.timeouts_max {
                may(Step::Timeout);
            }
            if self.spent.campaigns < bounds.campaigns_max {
                may(Step::Campaign);
            }
            if self.spent.crashes < bounds.crashes_max {
                may(Step::Crash);
            }
            let facts = catalog.facts(machine);
            let (jobs, has_notice, role) = (facts.jobs, facts.has_notice, facts.role);
            let heartbeat = facts.acts_by_the_heartbeat();
            let mut may = |step| {
                actions.push(Action {
                    place,
                    step,
                    link: None,
                });
            };
            if jobs > 0 {
                may(Step::Work);
            }
            if has_notice {
                may(Step::Notice);
            }
            if heartbeat && self.spent.heartbeats < bounds.heartbeats_max {
                may(Step::Heartbeat);
            }
            if role == Role::Leader && self.spent.proposals < bounds.proposals_max {
                may(Step::Propose(self.spent.proposals));
            }
            for from in others(place) {
                for message in self.links[link(from, place)] {
                    let step = Step::Receive(message);
                    if message == 0 || catalog.changes_nothing(machine, step) {
                        continue;
                    }
                    let repeats = self.spent.repeats < bounds.repeats_max;
                    for again in [false, true].into_iter().take(1 + usize::from(repeats)) {
                        actions.push(Action {
                            place,
                            step,
                            link: Some((from, again)),
                        });
                    }
                }
            }
        }
        actions
    }

    /// The states that an action may lead to: several, if more messages are sent than fit, one for each way to lose some. None,
    /// if it leads beyond the bounds.
    ///
    /// # Errors
    /// The property that the action breaks.
    pub(crate) fn after(
        &self,
        action: Action,
        catalog: &mut Catalog,
        histories: &mut Histories,
        bounds: &Bounds,
    ) -> Result<Vec<State>, String> {
        let Action { place, step, link } = action;
        let outcome = catalog.outcome(self.machines[place], step).as_ref();
        let Outcome { machine, sent, .. } = outcome.map_err(String::clone)?.clone();
        let mut next = *self;
        next.spent.count(action);
        if let (Some((from, false)), Step::Receive(message)) = (link, step) {
            next.take(from, place, message);
        }
        next.machines[place] = machine;
        let before = catalog.facts(self.machines[place]);
        let facts = next.machines.map(|machine| catalog.facts(machine));
        let past = histories.get(self.history).after(place, before, facts)?;
        let after = facts[place];
        let too_far = after.term.0 > bounds.term_max
            || after.log.len() as u64 > bounds.log_max
            || after.jobs > bounds.jobs_max;
        if too_far {
            return Ok(Vec::new());
        }
        if let Some(past) = past {
            next.history = histories.add(past);
        }
        next.forget_spent(place, catalog);
        let mut states = vec![next];
        for (to, message) in sent {
            if catalog.is_spent(next.machines[to], message) {
                continue;
            }
            let sent = states
                .iter()
                .flat_map(|state| state.sending(place, to, message, bounds));
            states = sent.collect();
        }
        Ok(states)
    }

    /// Takes a message from the network.
    fn take(&mut self, from: usize, to: usize, message: u32) {
        for slot in &mut self.links[link(from, to)] {
            if *slot == message {
                *slot = 0;
            }
        }
        self.links[link(from, to)].sort_unstable();
    }

    /// Forgets the messages that the machine at `to` will never heed.
    fn forget_spent(&mut self, to: usize, catalog: &mut Catalog) {
        for from in others(to) {
            let messages = &mut self.links[link(from, to)];
            for message in messages.iter_mut() {
                if *message != 0 && catalog.is_spent(self.machines[to], *message) {
                    *message = 0;
                }
            }
            messages.sort_unstable();
        }
    }

    /// This state with one more message on its way; where it does not fit, each way to lose one.
    fn sending(&self, from: usize, to: usize, message: u32, bounds: &Bounds) -> Vec<State> {
        let messages = self.links[link(from, to)];
        if messages.contains(&message) {
            return vec![*self];
        }
        let with = |slot: usize| {
            let mut state = *self;
            let messages = &mut state.links[link(from, to)];
            messages[slot] = message;
            messages.sort_unstable();
            state
        };
        // Sorted, so that what is free comes first.
        if messages.iter().filter(|&&message| message != 0).count() < bounds.link_max {
            return vec![with(0)];
        }
        let lose_another = (LINK_MAX - bounds.link_max..LINK_MAX).map(with);
        lose_another.chain([*self]).collect()
    }

    pub(crate) fn machines(&self) -> [u32; 3] {
        self.machines
    }
}

impl Spent {
    fn count(&mut self, action: Action) {
        match action.step {
            Step::Crash => self.crashes += 1,
            Step::Propose(_) => self.proposals += 1,
            Step::Heartbeat => self.heartbeats += 1,
            Step::Timeout => self.timeouts += 1,
            Step::Campaign => self.campaigns += 1,
            Step::Receive(_) | Step::Work | Step::Notice => {}
        }
        if let Some((_, true)) = action.link {
            self.repeats += 1;
        }
    }
}

fn link(from: usize, to: usize) -> usize {
    to * (MACHINES.len() - 1) + from - usize::from(from > to)
}

/// The places of all machines but one.
fn others(place: usize) -> impl Iterator<Item = usize> {
    (0..MACHINES.len()).filter(move |&other| other != place)
}
