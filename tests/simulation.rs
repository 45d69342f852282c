//! The simulator: whole machines under one virtual clock and one seed, a hostile network, disks that lose what was not synced,
//! and clients that remember what they saw. Every safety property is checked at every step, linearizability and progress at
//! the end.
//!
//! The core is rm-raft itself, through its public interface; what surrounds it models the actors (`actors/*.rs`) and their
//! disks. A seed decides everything: [`Plan::draw`] draws settings and actions before a run begins, so that [`shrink`] can leave
//! actions out.

mod action;
mod applier;
mod clients;
mod clock;
mod commit;
mod coverage;
mod faults;
mod lives;
mod log_image;
mod logic;
mod machine;
mod members;
mod network;
mod observe;
mod panics;
mod plan;
mod properties;
mod queue;
mod random;
mod register;
mod residual;
mod settle;
mod shrink;
mod snapshots;
mod storage;
mod theme;
mod trace;
mod world;

pub use action::{Action, Blow, Halt, Move, Part, Target, Wish};
pub use coverage::Coverage;
pub use panics::SIMULATOR_ITSELF;
pub use plan::{Plan, Scale};
pub use properties::Violation;
pub use residual::Residual;
pub use settle::PROGRESS_TIMEOUTS;
pub use shrink::shrink;

use crate::checker::linearizable;
use world::World;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was broken, if anything was.
    pub violation: Option<Violation>,
    /// How many events happened.
    pub steps: u64,
    /// How long it took on the virtual clock, in microseconds.
    pub micros: u64,
    /// A hash of all that happened.
    pub hash: u64,
    /// Which states it reached.
    pub coverage: Coverage,
    /// How many operations of clients were answered.
    pub acknowledged: u64,
    /// What happened, if text was asked for: the last lines.
    pub lines: Vec<String>,
}

/// Runs a plan to its end, or to the first violation. With `text`, keeps a trace that can be read.
pub fn run(plan: &Plan, text: bool) -> Outcome {
    let mut world = World::new(plan.clone(), text);
    let violation = panics::caught(|| world.play()).err();
    let (now, steps) = (world.now, world.steps);
    if let Some(violation) = &violation {
        world.trace.line(now, || {
            format!("** {}: {}", violation.property, violation.text)
        });
    }
    let acknowledged = world.clients.acknowledged;
    let hash = world.trace.hash();
    let violation = violation.or_else(|| unexplained(world.clients, now));
    Outcome {
        violation,
        steps,
        micros: now,
        hash,
        coverage: world.coverage,
        acknowledged,
        lines: world.trace.into_lines(),
    }
}

impl World {
    fn play(&mut self) -> properties::Check {
        self.run_until(self.plan.duration)?;
        self.settle()
    }
}

/// The first key whose history nothing explains.
fn unexplained(clients: clients::Clients, now: u64) -> Option<Violation> {
    let keys = clients.finish(now);
    let (key, operations) = keys
        .iter()
        .find(|(_, operations)| !linearizable(operations))?;
    let lines: Vec<String> = operations.iter().map(|each| format!("{each:?}")).collect();
    Some(Violation {
        property: "linearizability",
        text: format!(
            "nothing explains what was seen of key {key}:\n{}",
            lines.join("\n")
        ),
    })
}
