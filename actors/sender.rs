//! Sender: peers out. Owns the sending half of the peer port; one message may go to many, encoded once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler};
use rm_raft::MachineId;
use rm_wire::{Outbound, Peer, PeerStatus};
use slog::{crit, trace, warn};

use crate::fault::{Action, Point};
use crate::machine::{Derived, Machine};
use crate::message::{PeersChanged, Poke, Retire, Send, SendToLessor, Tick};
use crate::peer_traffic::Counted;
use crate::report::PeerRefusal;
use crate::roster::{Slot, Slots};
use crate::snapshot_sender::Sending;

/// How often to look at addresses, at dropped frames and at refusals.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// The actor.
pub(crate) struct Sender {
    pub(crate) machine: Machine,
    pub(crate) outbound: Option<Outbound>,
    pub(crate) sending: Sending,
    /// The machines that are dialled.
    peers: Arc<Vec<Peer>>,
    /// How many machines had no address at the last look.
    missing: usize,
    /// Dropped frames that were told of, by peer.
    dropped: BTreeMap<MachineId, u64>,
    /// What was posted of the traffic, by peer.
    counted: Counted,
}

impl Derived for Sender {
    fn build(machine: Machine) -> Result<Self, String> {
        let mut sender = Sender {
            machine,
            outbound: None,
            sending: Sending::default(),
            peers: Arc::default(),
            missing: 0,
            dropped: BTreeMap::new(),
            counted: Counted::new(),
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
        self.post_traffic();
        context.notify_later(Tick, LOOK_PAUSE);
    }
}

impl Sender {
    fn dial(&mut self) -> Result<(), String> {
        let resources = &self.machine.shared.resources;
        let peers = resources.addresses.peers();
        let outbound = Outbound::new(
            &resources.wire_identity,
            &peers,
            &resources.data_ids,
            &resources.credentials,
            &resources.wire_options,
        )
        .map_err(|error| error.to_string())?;
        self.peers = peers;
        self.dropped.clear();
        self.counted.clear();
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

    fn send_to_lessor(&self, request: &SendToLessor) {
        if self.machine.strike(Point::Send) == Some(Action::Lose) {
            return;
        }
        if let Some(outbound) = &self.outbound {
            outbound.send_to_lessor(request.to, &request.message);
        }
    }

    /// Dials anew where an address has changed, and tells of frames that were dropped and of refusals.
    fn look_again(&mut self, context: &mut Context<Self>) {
        let addresses = &self.machine.shared.resources.addresses;
        let (missing, changed) = (addresses.missing(), addresses.peers() != self.peers);
        if missing != self.missing {
            warn!(self.machine.log, "machines whose names have no address"; "count" => missing);
            self.missing = missing;
        }
        if changed {
            self.turn_to_peers(context);
        }
        self.post_traffic();
        self.warn_of_dropped_frames();
        self.tell_of_refusals();
        self.tell_of_moves();
        self.tidy_snapshots(context);
        context.notify_later(Tick, LOOK_PAUSE);
    }

    /// Sends to those machines that are known now. What goes on with the others goes on.
    fn turn_to_peers(&mut self, context: &mut Context<Self>) {
        let peers = self.machine.shared.resources.addresses.peers();
        // A half that was taken down said farewell for good.
        let Some(outbound) = &mut self.outbound else {
            return;
        };
        if let Err(error) = outbound.set_peers(&peers) {
            return self.give_up(context, error.to_string());
        }
        self.peers = peers;
        self.post_traffic();
    }

    fn post_traffic(&mut self) {
        let status = self.outbound.iter().flat_map(Outbound::status);
        let traffic = &self.machine.shared.board.traffic;
        traffic.post(status, &mut self.counted);
    }

    fn warn_of_dropped_frames(&mut self) {
        let status = self.outbound.iter().flat_map(Outbound::status);
        for peer in status.filter(|peer| peer.connected) {
            let told = self.dropped.entry(peer.id).or_default();
            if peer.frames_dropped > *told {
                warn!(self.machine.log, "messages were dropped on the way to a peer"; "peer" => peer.name,
                    "count" => peer.frames_dropped - *told, "queued_bytes" => peer.bytes_queued, "last_error" => peer.last_error);
            }
            *told = peer.frames_dropped;
        }
    }

    /// Posts the refusals, and tells of each once for its reason: of one that is not told, an operator only sees that machines wait
    /// for each other in vain. The board knows what was told also when this actor is built anew, unless the peer has not refused again
    /// by then: that is told twice.
    fn tell_of_refusals(&mut self) {
        let status: Vec<_> = self.outbound.iter().flat_map(Outbound::status).collect();
        let refusal = |peer: &PeerStatus| {
            let name = peer.name.clone();
            let reason = peer.refusal.clone()?;
            Some((peer.id, PeerRefusal { name, reason }))
        };
        let refusals = status.iter().filter_map(refusal).collect();
        let news = self.machine.shared.board.post_refusals(refusals);
        for peer in status.iter().filter(|peer| news.contains(&peer.id)) {
            if peer.other_era {
                crit!(self.machine.log, "A PEER IS OF ANOTHER ERA OF THIS DOMAIN, and the two hear nothing of each other"; "peer" => &peer.name,
                    "era" => %self.machine.shared.resources.era, "refusal" => &peer.refusal);
            } else {
                warn!(self.machine.log, "a peer is not spoken to, since one of the two refuses the other"; "peer" => &peer.name,
                    "refusal" => &peer.refusal);
            }
        }
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

impl Handler<SendToLessor> for Sender {
    type Result = ();
    fn handle(&mut self, message: SendToLessor, context: &mut Context<Self>) {
        self.enter(context);
        self.send_to_lessor(&message);
    }
}

impl Handler<PeersChanged> for Sender {
    type Result = ();
    fn handle(&mut self, _: PeersChanged, context: &mut Context<Self>) {
        self.enter(context);
        self.turn_to_peers(context);
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
