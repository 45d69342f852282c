//! Gate: clients' writes in. Numbers each, parks its answer with a deadline, and answers when this machine has applied it.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler};
use bytes::Bytes;
use rm_raft::{Proposal, Refusal as RaftRefusal, RequestId};
use slog::trace;

use crate::changes::Changes;
use crate::fault::Point;
use crate::machine::{Derived, Machine};
use crate::message::{
    Answer, Answers, Change, ChangeRefused, Changed, Flush, LeaderKnown, Poke, Propose, Refused,
    Submit, SubmitChange, Tick, Unsettled,
};
use crate::port::Refusal;
use crate::refusal::refusal;
use crate::replies::{Answered, Promise};
use crate::roster::{Slot, Slots};

/// The most commands in one message to LogicCenter.
const BATCH_MAX: usize = 256;

/// The most moments of possible loss that are remembered; what is lost in further ones is told at its deadline.
const UNSETTLED_MAX: usize = 64;

/// The actor.
pub(crate) struct Gate {
    machine: Machine,
    /// The requests that wait for their answer, by number.
    parked: HashMap<u64, Parked>,
    /// The same in the order of their deadlines, which all lie the same time after the request came.
    deadlines: VecDeque<(Instant, u64)>,
    /// What goes to LogicCenter at the end of the batch.
    batch: Vec<Proposal>,
    /// Requests that were refused for want of a leader, which may be proposed again.
    again: Vec<u64>,
    /// The moments at which requests may have been lost, oldest first.
    unsettled: VecDeque<Unsettlement>,
    changes: Changes,
    flush_is_due: bool,
    tick_is_due: bool,
}

struct Parked {
    command: Bytes,
    _promise: Option<Promise>,
    answer: Answer<Answered>,
}

/// A moment at which what was under way may have been lost.
struct Unsettlement {
    /// Requests with lower numbers were under way.
    before: u64,
    /// When those that are not answered by then are given up.
    until: Instant,
    /// What they are told.
    reason: Refusal,
}

impl Derived for Gate {
    fn build(machine: Machine) -> Result<Self, String> {
        Ok(Gate {
            machine,
            parked: HashMap::new(),
            deadlines: VecDeque::new(),
            batch: Vec::new(),
            again: Vec::new(),
            unsettled: VecDeque::new(),
            changes: Changes::default(),
            flush_is_due: false,
            tick_is_due: false,
        })
    }

    fn slot(slots: &Slots) -> &Slot<Self> {
        &slots.gate
    }

    fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }
}

impl Actor for Gate {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.machine.strike(Point::Started);
        self.post_pending();
    }
}

impl Gate {
    fn submit(&mut self, request: Submit, context: &mut Context<Self>) {
        let shared = &self.machine.shared;
        if shared.board.no_space() {
            let _ = request.answer.send(Err(Refusal::NoSpace));
            return;
        }
        let number = shared.resources.next_request_number();
        let deadline = Instant::now() + shared.request_timeout();
        self.batch.push(Proposal {
            request: RequestId {
                machine: shared.local(),
                number,
            },
            command: request.command.clone(),
        });
        let parked = Parked {
            command: request.command,
            _promise: shared.replies.promise(number, request.room, request.weight),
            answer: request.answer,
        };
        self.parked.insert(number, parked);
        self.deadlines.push_back((deadline, number));
        self.plan_flush(context);
        self.plan_tick(context);
    }

    /// A change of members goes to LogicCenter at once. Unlike a write it is never proposed again: whoever wants it should look
    /// what has become of the members meanwhile.
    fn submit_change(&mut self, submitted: SubmitChange, context: &mut Context<Self>) {
        let SubmitChange { change, answer } = submitted;
        let shared = &self.machine.shared;
        let number = shared.resources.next_request_number();
        let deadline = Instant::now() + shared.request_timeout();
        if self.changes.park(number, deadline, answer) {
            let machine = shared.local();
            let request = RequestId { machine, number };
            shared.slots.logic_center.tell(Change { request, change });
        }
        self.plan_tick(context);
    }

    fn plan_flush(&mut self, context: &mut Context<Self>) {
        if self.batch.len() >= BATCH_MAX {
            self.flush();
        } else if !self.flush_is_due {
            self.flush_is_due = true;
            context.notify(Flush);
        }
    }

    fn flush(&mut self) {
        self.flush_is_due = false;
        if !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            trace!(self.machine.log, "propose"; "count" => batch.len(), "parked" => self.parked.len());
            self.machine.shared.slots.logic_center.tell(Propose(batch));
            self.post_pending();
        }
    }

    fn post_pending(&self) {
        let meters = &self.machine.shared.board.meters;
        meters.writes_pending.set(self.parked.len());
    }

    fn answer(&mut self, answers: Answers) {
        for (number, reply) in answers.0 {
            self.settle(number, reply.map_err(Refusal::Request));
        }
        self.post_pending();
    }

    /// Answers a request, unless it was answered before.
    fn settle(&mut self, number: u64, outcome: Result<Answered, Refusal>) {
        if let Some(parked) = self.parked.remove(&number) {
            // A client that has gone away needs no answer.
            let _ = parked.answer.send(outcome);
        }
    }

    /// The core has refused: for certain these are not in the log. For want of a leader they are proposed again until
    /// their deadline, as soon as another one is known and now and then; the client only sees that it took longer.
    fn refused(&mut self, message: Refused, context: &mut Context<Self>) {
        for request in message.requests {
            match message.reason {
                RaftRefusal::NoLeader | RaftRefusal::NotLeader | RaftRefusal::Transferring => {
                    self.again.push(request.number);
                }
                RaftRefusal::Overloaded | RaftRefusal::NoSpace => {
                    self.settle(request.number, Err(refusal(message.reason)));
                }
            }
        }
        self.plan_tick(context);
    }

    /// What is under way may be lost. What is not is answered soon after there is a leader again; the rest need not
    /// wait for its whole deadline.
    fn unsettle(&mut self, reason: Refusal, context: &mut Context<Self>) {
        let timings = &self.machine.shared.config.config.timings;
        let patience = Duration::from_millis(timings.election_timeout_ms * 3);
        if self.unsettled.len() < UNSETTLED_MAX && !self.parked.is_empty() {
            self.unsettled.push_back(Unsettlement {
                before: self.machine.shared.resources.peek_request_number(),
                until: Instant::now() + patience,
                reason,
            });
        }
        self.plan_tick(context);
    }

    fn plan_tick(&mut self, context: &mut Context<Self>) {
        if !self.tick_is_due {
            self.tick_is_due = true;
            let heartbeat = self.machine.shared.config.config.timings.heartbeat_ms;
            context.notify_later(Tick, Duration::from_millis(heartbeat));
        }
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        self.tick_is_due = false;
        // Whoever has gone away takes up no room.
        self.parked.retain(|_, parked| !parked.answer.is_closed());
        if self.machine.shared.board.stopping() {
            self.refuse_what_is_not_in_the_log();
        }
        self.propose_again(context);
        self.expire();
        self.post_pending();
        if !self.parked.is_empty() || !self.changes.is_empty() {
            self.plan_tick(context);
        }
    }

    /// A machine that stops does not wait for a leader.
    fn refuse_what_is_not_in_the_log(&mut self) {
        for number in std::mem::take(&mut self.again) {
            self.settle(number, Err(Refusal::Stopped));
        }
    }

    fn propose_again(&mut self, context: &mut Context<Self>) {
        if self.again.is_empty() {
            return;
        }
        let machine = self.machine.shared.local();
        for number in std::mem::take(&mut self.again) {
            if let Some(parked) = self.parked.get(&number) {
                let request = RequestId { machine, number };
                let command = parked.command.clone();
                self.batch.push(Proposal { request, command });
            }
        }
        self.plan_flush(context);
    }

    /// Answers what was under way then and is under way still, but for what is known not to be in the log.
    fn give_up_lost(&mut self, unsettled: &Unsettlement) {
        let numbers = self.parked.keys().copied();
        let lost: Vec<u64> = numbers
            .filter(|number| *number < unsettled.before && !self.again.contains(number))
            .collect();
        for number in lost {
            self.settle(number, Err(unsettled.reason.clone()));
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        self.changes.expire(now);
        while self
            .unsettled
            .front()
            .is_some_and(|first| first.until <= now)
        {
            if let Some(unsettled) = self.unsettled.pop_front() {
                self.give_up_lost(&unsettled);
            }
        }
        while let Some((deadline, number)) = self.deadlines.front().copied() {
            let answered = !self.parked.contains_key(&number);
            if !answered && deadline > now {
                return;
            }
            self.deadlines.pop_front();
            self.settle(number, Err(Refusal::TimedOut));
        }
    }
}

impl Handler<Submit> for Gate {
    type Result = ();
    fn handle(&mut self, message: Submit, context: &mut Context<Self>) {
        self.enter(context);
        self.submit(message, context);
    }
}

impl Handler<SubmitChange> for Gate {
    type Result = ();
    fn handle(&mut self, message: SubmitChange, context: &mut Context<Self>) {
        self.enter(context);
        self.submit_change(message, context);
    }
}

impl Handler<ChangeRefused> for Gate {
    type Result = ();
    fn handle(&mut self, message: ChangeRefused, context: &mut Context<Self>) {
        self.enter(context);
        let refusal = Refusal::Change(message.reason);
        self.changes.settle(message.request.number, Err(refusal));
    }
}

impl Handler<Changed> for Gate {
    type Result = ();
    fn handle(&mut self, message: Changed, context: &mut Context<Self>) {
        self.enter(context);
        self.changes.settle(message.0.number, Ok(()));
    }
}

impl Handler<Answers> for Gate {
    type Result = ();
    fn handle(&mut self, message: Answers, context: &mut Context<Self>) {
        self.enter(context);
        self.answer(message);
    }
}

impl Handler<Refused> for Gate {
    type Result = ();
    fn handle(&mut self, message: Refused, context: &mut Context<Self>) {
        self.enter(context);
        self.refused(message, context);
    }
}

impl Handler<Unsettled> for Gate {
    type Result = ();
    fn handle(&mut self, message: Unsettled, context: &mut Context<Self>) {
        self.enter(context);
        self.unsettle(message.reason, context);
    }
}

impl Handler<LeaderKnown> for Gate {
    type Result = ();
    fn handle(&mut self, _: LeaderKnown, context: &mut Context<Self>) {
        self.enter(context);
        self.propose_again(context);
    }
}

impl Handler<Flush> for Gate {
    type Result = ();
    fn handle(&mut self, _: Flush, _: &mut Context<Self>) {
        self.flush();
    }
}

impl Handler<Tick> for Gate {
    type Result = ();
    fn handle(&mut self, _: Tick, context: &mut Context<Self>) {
        self.tick(context);
    }
}

impl Handler<Poke> for Gate {
    type Result = ();
    fn handle(&mut self, _: Poke, context: &mut Context<Self>) {
        self.enter(context);
        self.machine.spawn_fault_future(context);
    }
}
