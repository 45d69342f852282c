//! Listener: peers in. Owns the receiving half of the peer port and hands what comes to LogicCenter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler};
use rm_wire::{Event, Inbound, Peer};
use slog::{debug, info, trace, warn};

use crate::fault::Point;
use crate::machine::{Derived, Machine};
use crate::message::{FromLessor, Incoming, PeerGone, PeersChanged, Poke, Received, Retire, Tick};
use crate::peer_traffic::CountedHeard;
use crate::roster::{Slot, Slots};
use crate::snapshot_receiver::Sink;

/// At most one refusal in this time is logged as a warning; all are counted.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

/// How often to look whether an address has changed, and what was refused.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// The actor.
pub(crate) struct Listener {
    machine: Machine,
    inbound: Option<Inbound>,
    /// The machines that are heard.
    peers: Arc<Vec<Peer>>,
    refusal_logged_at: Option<Instant>,
    /// How many refusals of the present half were posted.
    posted: u64,
    /// What was posted of what the present half has heard, by peer.
    counted: CountedHeard,
}

impl Derived for Listener {
    fn build(machine: Machine) -> Result<Self, String> {
        let mut listener = Listener {
            machine,
            inbound: None,
            peers: Arc::default(),
            refusal_logged_at: None,
            posted: 0,
            counted: CountedHeard::new(),
        };
        listener.listen()?;
        Ok(listener)
    }

    fn slot(slots: &Slots) -> &Slot<Self> {
        &slots.listener
    }

    fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.machine.strike(Point::Started);
        context.notify_later(Tick, LOOK_PAUSE);
    }
}

impl Listener {
    fn listen(&mut self) -> Result<(), String> {
        let resources = &self.machine.shared.resources;
        // Whoever was connected with an earlier life is not with this one.
        if self.machine.shared.members.lose_sight(None) {
            self.machine.shared.turn_to_peers();
        }
        let socket = resources
            .peer_socket
            .try_clone()
            .map_err(|error| format!("the peer port's socket cannot be cloned: {error}"))?;
        let peers = resources.addresses.peers();
        let shared = self.machine.shared.clone();
        let inbound = Inbound::new(
            socket,
            &resources.wire_identity,
            &peers,
            &resources.data_ids,
            &resources.credentials,
            &resources.wire_options,
            Arc::new(move |event| shared.slots.listener.tell(Incoming(event))),
        )
        .map_err(|error| error.to_string())?;
        let shared = self.machine.shared.clone();
        inbound.set_snapshot_sink(Some(Arc::new(Sink { shared })));
        self.inbound = Some(inbound);
        self.peers = peers;
        Ok(())
    }

    /// Posts what was refused, and hears a machine whose name got an address, or another one, since the last look.
    fn look_again(&mut self, context: &mut Context<Self>) {
        let refused = self
            .inbound
            .as_ref()
            .map_or(0, |inbound| inbound.refusals().total());
        self.machine
            .shared
            .board
            .post_refused(refused.saturating_sub(self.posted));
        self.posted = refused;
        let heard = self.inbound.as_ref().map(Inbound::heard);
        let traffic = &self.machine.shared.board.traffic;
        traffic.post_heard(heard.unwrap_or_default(), &mut self.counted);
        self.hear_peers();
        context.notify_later(Tick, LOOK_PAUSE);
    }

    /// Hears those machines that are known now.
    fn hear_peers(&mut self) {
        let peers = self.machine.shared.resources.addresses.peers();
        // A half that was taken down said farewell for good.
        if let Some(inbound) = &self.inbound
            && peers != self.peers
        {
            inbound.set_peers(&peers);
            self.peers = peers;
        }
    }

    fn incoming(&mut self, event: Event) {
        let slots = &self.machine.shared.slots;
        match event {
            Event::Received { from, messages } => {
                trace!(self.machine.log, "received"; "from" => from.0, "count" => messages.len());
                slots.logic_center.tell(Received { from, messages });
            }
            Event::Stranger(identity) => {
                info!(self.machine.log, "a machine has connected that the log does not list yet: it is heard if it leads or stands";
                    "name" => &identity.name, "address" => &identity.address);
                self.machine.shared.members.meet(&identity);
                self.machine.shared.turn_to_peers();
            }
            Event::Connected { from, .. } => {
                info!(self.machine.log, "a peer has connected"; "peer" => self.machine.shared.name_of(from));
            }
            Event::Gone {
                from,
                process_gone,
                reason,
            } => {
                info!(self.machine.log, "a peer is gone"; "peer" => self.machine.shared.name_of(from),
                    "process_gone" => process_gone, "reason" => reason);
                if self.machine.shared.members.lose_sight(Some(from)) {
                    self.machine.shared.turn_to_peers();
                }
                if process_gone {
                    slots.logic_center.tell(PeerGone(from));
                }
            }
            Event::Lessor { from, message } => slots.lessor.tell(FromLessor { from, message }),
            Event::Refused { address, reason } => self.log_refusal(address, &reason),
        }
    }

    fn log_refusal(&mut self, address: std::net::SocketAddr, reason: &rm_wire::RefusedBecause) {
        let now = Instant::now();
        let quiet = |at| now.duration_since(at) < REFUSAL_PAUSE;
        if self.refusal_logged_at.is_some_and(quiet) {
            debug!(self.machine.log, "refused"; "from" => address, "reason" => %reason);
            return;
        }
        self.refusal_logged_at = Some(now);
        let refusals = self.inbound.as_ref().map(Inbound::refusals);
        warn!(self.machine.log, "refused"; "from" => address, "reason" => %reason, "so_far" => ?refusals);
    }

    fn retire(&mut self, message: Retire, context: &mut Context<Self>) {
        let Some(inbound) = self.inbound.take() else {
            return;
        };
        let farewell = actix::fut::wrap_future::<_, Self>(inbound.close_for_exit());
        context.spawn(farewell.map(move |(), _, _| {
            // Whoever asked may have stopped waiting.
            let _ = message.0.send(());
        }));
    }
}

impl Handler<Incoming> for Listener {
    type Result = ();
    fn handle(&mut self, message: Incoming, context: &mut Context<Self>) {
        self.enter(context);
        self.incoming(message.0);
    }
}

impl Handler<PeersChanged> for Listener {
    type Result = ();
    fn handle(&mut self, _: PeersChanged, context: &mut Context<Self>) {
        self.enter(context);
        self.hear_peers();
    }
}

impl Handler<Tick> for Listener {
    type Result = ();
    fn handle(&mut self, _: Tick, context: &mut Context<Self>) {
        self.look_again(context);
    }
}

impl Handler<Poke> for Listener {
    type Result = ();
    fn handle(&mut self, _: Poke, context: &mut Context<Self>) {
        self.enter(context);
        self.machine.spawn_fault_future(context);
    }
}

impl Handler<Retire> for Listener {
    type Result = ();
    fn handle(&mut self, message: Retire, context: &mut Context<Self>) {
        self.enter(context);
        self.retire(message, context);
    }
}
