//! The search: breadth first, so that what is found is reached in the fewest steps.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use super::bounds::Bounds;
use super::catalog::Catalog;
use super::history::History;
use super::quick::{Quick, QuickBuild};
use super::show;
use super::state::{Action, State};

/// What an exploration found.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it ended.
    pub verdict: Verdict,
    /// How many states were found.
    pub states: usize,
    /// How many steps led to them, and to states that were known.
    pub transitions: u64,
    /// How many steps from the start all states were explored.
    pub depth: usize,
    /// How many states of one machine were met.
    pub machine_states: usize,
    /// How many steps the core itself took; the rest was known from these.
    pub core_steps: usize,
    /// How long it took.
    pub took: Duration,
}

/// How an exploration ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every state within the bounds was reached, and none breaks a property.
    Complete,
    /// Every state as many steps from the start as allowed, or as there was time for, and none breaks a property.
    Stopped,
    /// A property was broken.
    Violation {
        /// Which.
        property: String,
        /// The steps that lead there.
        trace: Vec<String>,
    },
}

/// All pasts that were met, once, by number.
#[derive(Default)]
pub(crate) struct Histories {
    all: Vec<History>,
    numbers: HashMap<History, u32>,
}

impl Histories {
    pub(crate) fn add(&mut self, history: History) -> u32 {
        if let Some(&number) = self.numbers.get(&history) {
            return number;
        }
        let number = self.all.len() as u32;
        self.all.push(history.clone());
        self.numbers.insert(history, number);
        number
    }

    pub(crate) fn get(&self, number: u32) -> &History {
        &self.all[number as usize]
    }
}

/// How a state was first reached: from which, and as which of its successors.
#[derive(Clone, Copy)]
struct Origin {
    parent: u32,
    successor: u32,
}

/// Explores all states within the bounds, at most `depth_max` steps from the start and for about `patience`. `progress` hears a
/// line for each step of depth.
pub fn explore(
    bounds: &Bounds,
    depth_max: usize,
    patience: Duration,
    mut progress: impl FnMut(&str),
) -> Report {
    let began = Instant::now();
    let mut search = Search::new(bounds);
    let mut frontier = vec![(0, search.first)];
    let mut depth = 0;
    let verdict = loop {
        if frontier.is_empty() {
            break Verdict::Complete;
        }
        if depth == depth_max {
            break Verdict::Stopped;
        }
        match search.expand(&frontier, depth, began + patience) {
            Expanded::Next(next) => frontier = next,
            Expanded::OutOfTime => break Verdict::Stopped,
            Expanded::Violation(verdict) => break verdict,
        }
        depth += 1;
        progress(&format!(
            "depth {depth}: {} new states, {} in all, {} of one machine, {:.1} s",
            frontier.len(),
            search.origins.len(),
            search.catalog.machine_states(),
            began.elapsed().as_secs_f64()
        ));
    };
    Report {
        verdict,
        states: search.origins.len(),
        transitions: search.transitions,
        depth,
        machine_states: search.catalog.machine_states(),
        core_steps: search.catalog.core_steps(),
        took: began.elapsed(),
    }
}

struct Search<'a> {
    bounds: &'a Bounds,
    catalog: Catalog,
    histories: Histories,
    first: State,
    /// Hashes of all states found. Sixty-four bits: of a hundred million states, one is overlooked with a chance of 1 in 3700.
    seen: HashSet<u64, QuickBuild>,
    origins: Vec<Origin>,
    transitions: u64,
}

enum Expanded {
    Next(Vec<(u32, State)>),
    OutOfTime,
    Violation(Verdict),
}

impl<'a> Search<'a> {
    fn new(bounds: &'a Bounds) -> Search<'a> {
        let mut catalog = Catalog::new(bounds.clone());
        let mut histories = Histories::default();
        let start = if bounds.starts_led {
            State::led
        } else {
            State::first
        };
        let first = start(&mut catalog, &mut histories, bounds);
        Search {
            bounds,
            catalog,
            histories,
            first,
            seen: HashSet::from_iter([hash(&first)]),
            origins: vec![Origin {
                parent: 0,
                successor: 0,
            }],
            transitions: 0,
        }
    }

    /// Finds all states that follow on these and are new.
    fn expand(&mut self, frontier: &[(u32, State)], depth: usize, until: Instant) -> Expanded {
        let mut next = Vec::new();
        for (number, (origin, state)) in frontier.iter().enumerate() {
            if number % 1024 == 0 && Instant::now() >= until {
                return Expanded::OutOfTime;
            }
            let mut successor = 0;
            for action in state.actions(&mut self.catalog, self.bounds) {
                if depth == 0 && self.is_mirrored(action) {
                    continue;
                }
                let after =
                    state.after(action, &mut self.catalog, &mut self.histories, self.bounds);
                let after = match after {
                    Ok(after) => after,
                    Err(property) => {
                        let mut trace = self.trace(*origin);
                        trace.push(show::action(action, &self.catalog));
                        return Expanded::Violation(Verdict::Violation { property, trace });
                    }
                };
                for state in after {
                    self.transitions += 1;
                    if self.seen.insert(hash(&state)) {
                        next.push((self.origins.len() as u32, state));
                        self.origins.push(Origin {
                            parent: *origin,
                            successor,
                        });
                    }
                    successor += 1;
                }
            }
        }
        Expanded::Next(next)
    }

    /// Whether the first action has a mirror image that is explored: machines that were never run are alike, and so are the two that
    /// follow. The one that comes first may be taken for the first to act.
    fn is_mirrored(&self, action: Action) -> bool {
        action.place > usize::from(self.bounds.starts_led)
    }

    /// The steps that led to a state.
    fn trace(&mut self, mut number: u32) -> Vec<String> {
        let mut successors = Vec::new();
        while number != 0 {
            let Origin { parent, successor } = self.origins[number as usize];
            successors.push(successor);
            number = parent;
        }
        let mut state = self.first;
        let mut trace = Vec::new();
        for (depth, &wanted) in successors.iter().rev().enumerate() {
            let mut successor = 0;
            let actions = state.actions(&mut self.catalog, self.bounds);
            'found: for action in actions {
                if depth == 0 && self.is_mirrored(action) {
                    continue;
                }
                let (catalog, histories) = (&mut self.catalog, &mut self.histories);
                let after = state.after(action, catalog, histories, self.bounds);
                for next in after.expect("what was explored breaks nothing") {
                    if successor == wanted {
                        state = next;
                        trace.push(show::step(action, &state, &self.catalog));
                        break 'found;
                    }
                    successor += 1;
                }
            }
        }
        trace
    }
}

fn hash(state: &State) -> u64 {
    let mut hasher = Quick::default();
    state.hash(&mut hasher);
    hasher.finish()
}
