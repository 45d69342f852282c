//! Sender: peers out. Owns the sending half of the peer port; one message may go to many, encoded once.

use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler};
use rm_wire::Outbound;
use slog::{info, trace, warn};

use crate::fault::{Action, Point};
use crate::machine::{Derived, Machine};
use crate::message::{Poke, Retire, Send, Tick};
use crate::roster::{Slot, Slots};

/// How long to wait before the names of peers that could not be resolved are tried again.
const RESOLVE_PAUSE: Duration = Duration::from_secs(1);

/// The actor.
pub(crate) struct Sender {
    machine: Machine,
    outbound: Option<Outbound>,
    peers: usize,
}

impl Derived for Sender {
    fn build(machine: Machine) -> Result<Self, String> {
        let mut sender = Sender {
            machine,
            outbound: None,
            peers: 0,
        };
        sender.dial()?;
        Ok(sender)
    }

    fn slot(slots: &Slots) -> &Slot<Self> {
        &slots.sender
    }

    fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }
}

impl Actor for Sender {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.machine.strike(Point::Started);
        self.look_again_later(context);
    }
}

impl Sender {
    fn dial(&mut self) -> Result<(), String> {
        let resources = &self.machine.shared.resources;
        let peers = resources.peers();
        let outbound = Outbound::new(
            &resources.wire_identity,
            &peers,
            &resources.credentials,
            &resources.wire_options,
        )
        .map_err(|error| error.to_string())?;
        self.peers = peers.len();
        self.outbound = Some(outbound);
        Ok(())
    }

    fn send(&mut self, request: Send) {
        if self.machine.strike(Point::Send) == Some(Action::Lose) {
            return;
        }
        trace!(self.machine.log, "send"; "to" => ?request.to, "message" => ?request.message);
        if let Some(outbound) = &self.outbound {
            outbound.send(&request.to, &request.message);
        }
    }

    /// A peer whose name has no address yet may get one.
    fn look_again_later(&self, context: &mut Context<Self>) {
        let missing = self.machine.shared.identity.members.len() - 1 - self.peers;
        if missing > 0 {
            warn!(self.machine.log, "peers whose names cannot be resolved yet"; "count" => missing);
            context.notify_later(Tick, RESOLVE_PAUSE);
        }
    }

    fn look_again(&mut self, context: &mut Context<Self>) {
        if self.machine.shared.resources.peers().len() > self.peers {
            info!(self.machine.log, "a peer's name can be resolved now");
            if let Err(reason) = self.dial() {
                return self.give_up(context, reason);
            }
        }
        self.look_again_later(context);
    }

    fn retire(&mut self, message: Retire, context: &mut Context<Self>) {
        let Some(outbound) = self.outbound.take() else {
            return;
        };
        let farewell = actix::fut::wrap_future::<_, Self>(outbound.close_for_exit());
        context.spawn(farewell.map(move |(), _, _| {
            // Whoever asked may have stopped waiting.
            let _ = message.0.send(());
        }));
    }
}

impl Handler<Send> for Sender {
    type Result = ();
    fn handle(&mut self, message: Send, context: &mut Context<Self>) {
        self.enter(context);
        self.send(message);
    }
}

impl Handler<Tick> for Sender {
    type Result = ();
    fn handle(&mut self, _: Tick, context: &mut Context<Self>) {
        self.look_again(context);
    }
}

impl Handler<Poke> for Sender {
    type Result = ();
    fn handle(&mut self, _: Poke, context: &mut Context<Self>) {
        self.enter(context);
        self.machine.spawn_fault_future(context);
    }
}

impl Handler<Retire> for Sender {
    type Result = ();
    fn handle(&mut self, message: Retire, context: &mut Context<Self>) {
        self.enter(context);
        self.retire(message, context);
    }
}
