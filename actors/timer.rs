//! Timer: the only clock that anyone waits for. Tells LogicCenter at short, even steps that time has passed.

use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler};
use slog::trace;

use crate::fault::Point;
use crate::machine::{Derived, Machine};
use crate::message::{Elapsed, Poke, Tick};
use crate::roster::{Slot, Slots};

/// The actor.
pub(crate) struct Timer {
    machine: Machine,
    step: Duration,
}

impl Derived for Timer {
    fn build(machine: Machine) -> Result<Self, String> {
        let heartbeat = machine.shared.config.config.timings.heartbeat_ms;
        // A quarter of the shortest interval that anyone counts: what is late is late by no more.
        let step = Duration::from_micros(heartbeat * 1_000 / 4);
        Ok(Timer { machine, step })
    }

    fn slot(slots: &Slots) -> &Slot<Self> {
        &slots.timer
    }

    fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }
}

impl Actor for Timer {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.machine.strike(Point::Started);
        context.notify_later(Tick, self.step);
    }
}

impl Timer {
    /// One step. The next is counted from now: steps that were missed are not made up for.
    fn tick(&mut self, context: &mut Context<Self>) {
        trace!(self.machine.log, "tick");
        self.machine.shared.slots.logic_center.tell(Elapsed);
        context.notify_later(Tick, self.step);
    }
}

impl Handler<Tick> for Timer {
    type Result = ();
    fn handle(&mut self, _: Tick, context: &mut Context<Self>) {
        self.enter(context);
        self.tick(context);
    }
}

impl Handler<Poke> for Timer {
    type Result = ();
    fn handle(&mut self, _: Poke, context: &mut Context<Self>) {
        self.enter(context);
        self.machine.spawn_fault_future(context);
    }
}
