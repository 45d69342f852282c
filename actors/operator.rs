//! What an operator may do to a machine: make its actors fail, and set the levels of its logs.

use std::collections::BTreeMap;

use rm_config::Level;

use crate::ActorName;
use crate::fault::{Action, Point};
use crate::port::{Port, Refusal};

/// How an actor is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It panics in a handler.
    Panic,
    /// It stops.
    Stop,
    /// It never comes back from a handler.
    Hang,
}

/// A fault to arm: at which point of which actor, what happens, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The actor's name.
    pub actor: String,
    /// The point's name: `handler`, `started`, `future`, `transaction`, `commit`, `checkpoint`, `send`, `history`, or one of those on a
    /// snapshot's way: `copy`, `send_snapshot`, `receive`, `received`, `prepare`, `install`, `installed`.
    pub point: String,
    /// `panic`, `stop`, `hang`, `delay:MS`, `io_error`, `no_space` or `lose`.
    pub action: String,
    /// How many times it strikes; zero disarms it.
    pub times: u64,
}

/// The levels of the actors' logs, by actor.
pub type Levels = BTreeMap<String, Level>;

impl Port {
    /// Makes an actor fail.
    ///
    /// # Errors
    /// Fault injection is off, or there is no such actor, or it is just being restarted.
    pub fn kill_actor(&self, name: &str, how: Failure) -> Result<(), Refusal> {
        let action = match how {
            Failure::Panic => Action::Panic,
            Failure::Stop => Action::Stop,
            Failure::Hang => Action::Hang,
        };
        let actor = self.fault_target(name)?;
        self.shared.faults.arm(actor, Point::Handler, action, 1);
        // If it was not there to be poked, the fault may still have struck it a moment before.
        let absent = !self.shared.slots.poke(actor);
        if absent && self.shared.faults.disarm(actor, Point::Handler) {
            let text = format!("{actor} is being restarted at the moment: try again");
            return Err(Refusal::Operator(text));
        }
        Ok(())
    }

    /// Arms a fault point, or disarms it.
    ///
    /// # Errors
    /// Fault injection is off, or there is no such actor, point or action.
    pub fn arm_fault(&self, fault: Fault) -> Result<(), Refusal> {
        let actor = self.fault_target(&fault.actor)?;
        let point: Point = fault.point.parse().map_err(Refusal::Operator)?;
        let action: Action = fault.action.parse().map_err(Refusal::Operator)?;
        if !action.strikes_at(point, actor) {
            let text = format!(
                "the fault {} does nothing at the point {point} of {actor}",
                fault.action
            );
            return Err(Refusal::Operator(text));
        }
        self.shared.faults.arm(actor, point, action, fault.times);
        if point == Point::Future && fault.times > 0 {
            self.shared.slots.poke(actor);
        }
        Ok(())
    }

    fn fault_target(&self, name: &str) -> Result<ActorName, Refusal> {
        if !self.shared.config.config.fault_injection {
            let text = "fault injection is off: set fault_injection to true in the config and start the machine again";
            return Err(Refusal::Operator(text.into()));
        }
        name.parse().map_err(Refusal::Operator)
    }

    /// The level of each log.
    pub fn levels(&self) -> Levels {
        self.shared.logs.levels()
    }

    /// Sets the level of one log, or of all.
    ///
    /// # Errors
    /// There is no such log.
    pub fn set_level(&self, actor: Option<&str>, level: Level) -> Result<(), Refusal> {
        let set = self.shared.logs.set_level(actor, level);
        set.map_err(Refusal::Operator)
    }
}
