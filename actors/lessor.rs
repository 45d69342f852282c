//! Lessor: counts the time of leases where this machine leads, and has its clients' leases renewed where another does.
//!
//! Which leases there are stands in the key space; when they end is known to the lessor of the machine that leads alone, and goes with
//! it: the next one gives every lease what was noted to be left of it, its whole time by default, and an election timeout more. So none
//! ends early, whoever dies. Nothing is decided by a clock alone: a lease ends by an entry of the log that names the reign
//! of the leader, which an entry began too, and the grants that end.
//!
//! A client is told that its lease was renewed once a quorum has confirmed, after it asked, that this machine leads (dissertation, 6.4)
//! and the lease was there by then. Whoever leads later begins to count later.

mod asking;
mod book;
mod clock;
mod counting;
mod errands;
mod looking;
#[cfg(test)]
mod model;
mod reign;

use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler};
use rm_kv::LeaseNews;
use rm_raft::{MachineId, Role, Term};
use rm_wire::{LessorBody, LessorMessage};
use slog::debug;

use self::asking::{Asking, BATCH_MAX};
pub(crate) use self::asking::{Question, Wish};
use self::counting::Counting;
use self::errands::look_up;
use self::reign::{Measures, Reign};
use crate::fault::Point;
use crate::machine::{Derived, Machine};
use crate::message::{
    AskLessor, Flush, FromLessor, KeyspaceOpened, LeaderKnown, LeasesChanged, Poke, SendToLessor,
    Tick,
};
use crate::port::Port;
use crate::roster::{Slot, Slots};

/// How often to look which leases end, and what is to be asked again.
const TICK: Duration = Duration::from_millis(100);

/// The most questions that are answered at a time; whoever asks one more asks again.
const SERVED_MAX: usize = 64;

/// The actor.
pub(crate) struct Lessor {
    machine: Machine,
    /// A door of its own, where no clients take the room.
    port: Port,
    asking: Asking,
    counting: Counting,
    /// How many questions are being answered.
    served: usize,
    flush_is_due: bool,
}

impl Derived for Lessor {
    fn build(machine: Machine) -> Result<Self, String> {
        // Answers to an earlier life, or process, must not be taken for answers to this one.
        let (boot, life) = (machine.shared.resources.boot, machine.incarnation());
        let number = (boot & 0xffff) << 48 | (life & 0xffff) << 32;
        let config = &machine.shared.config.config;
        let note_ms = config.leases.checkpoint_interval_seconds;
        let note_ms = note_ms.saturating_mul(1_000);
        let extension_ms = config.timings.election_timeout_ms;
        Ok(Lessor {
            port: Port::new(machine.shared.clone()),
            asking: Asking::new(number),
            counting: Counting::new(Instant::now(), Measures::new(note_ms, extension_ms)),
            machine,
            served: 0,
            flush_is_due: false,
        })
    }

    fn slot(slots: &Slots) -> &Slot<Self> {
        &slots.lessor
    }

    fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }
}

impl Actor for Lessor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.machine.strike(Point::Started);
        context.notify(Tick);
    }
}

impl Lessor {
    /// The term in which this machine leads, if it does.
    fn leads_in(&self) -> Option<Term> {
        let raft = self.machine.shared.board.raft();
        (raft.role == Role::Leader).then_some(raft.term)
    }

    /// The reign of this number, if it is the present one, and this machine leads still.
    fn present(&mut self, number: u64) -> Option<&mut Reign> {
        let leads_in = self.leads_in();
        self.counting.present(number, leads_in)
    }

    fn now_ms(&mut self) -> u64 {
        self.counting.look(Instant::now())
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        self.machine.life.progresses();
        self.now_ms();
        self.asking.wake(Instant::now());
        if self.machine.shared.board.stopping() {
            self.asking.refuse();
        }
        self.look_who_leads(context);
        self.go_on(context);
        self.note(context);
        let leases = self.counting.reign().map_or(0, |reign| reign.book.len());
        self.machine.shared.board.meters.leases.set(leases);
        context.notify_later(Tick, TICK);
    }

    fn look_who_leads(&mut self, context: &mut Context<Self>) {
        let leads_in = self.leads_in();
        if self.counting.leads_in(leads_in) {
            self.go_on(context);
        }
        let leader = self.machine.shared.board.raft().leader;
        self.asking.leader_is(leader);
        self.flush(context);
    }

    fn ask(&mut self, question: Question, context: &mut Context<Self>) {
        self.asking.add(question);
        if !self.flush_is_due {
            self.flush_is_due = true;
            context.notify(Flush);
        }
    }

    /// Asks whoever leads what this machine's clients want.
    fn flush(&mut self, context: &mut Context<Self>) {
        self.flush_is_due = false;
        let shared = self.machine.shared.clone();
        let Some(leader) = shared.board.raft().leader else {
            return; // it is asked as soon as there is one
        };
        let patience = Duration::from_millis(shared.config.config.timings.election_timeout_ms);
        for message in self.asking.batches(leader, Instant::now(), patience) {
            if leader == shared.local() {
                self.serve(leader, message, context);
            } else {
                let to = leader;
                shared.slots.sender.tell(SendToLessor { to, message });
            }
        }
    }

    fn hear(&mut self, from: MachineId, message: LessorMessage, context: &mut Context<Self>) {
        match &message.body {
            LessorBody::Renew(_) | LessorBody::Look(_) => self.serve(from, message, context),
            LessorBody::Standing(standings) => self.asking.answered(message.number, standings),
            LessorBody::NotNow => self.asking.answered(message.number, &[]),
        }
    }

    /// Answers a question of another machine's lessor, or of this one.
    fn serve(&mut self, from: MachineId, message: LessorMessage, context: &mut Context<Self>) {
        let LessorMessage { number, body } = message;
        let (wish, ids) = match body {
            LessorBody::Renew(ids) => (Wish::Renew, ids),
            LessorBody::Look(ids) => (Wish::Look, ids),
            LessorBody::Standing(_) | LessorBody::NotNow => return,
        };
        let has_room = self.served < SERVED_MAX && ids.len() <= BATCH_MAX;
        let reign = self.counting.reign_mut().filter(|_| has_room);
        let begun = reign.and_then(|reign| Some((reign.number, reign.look(wish, ids)?)));
        let Some((reign, looking)) = begun else {
            return self.reply(from, number, LessorBody::NotNow);
        };
        self.served += 1;
        let port = self.port.clone();
        let look = async move { (look_up(port, &looking).await, looking) };
        let look = actix::fut::wrap_future::<_, Self>(look);
        context.spawn(look.map(move |(found, looking), this, _| {
            this.served -= 1;
            let now_ms = this.now_ms();
            let settled = this.present(reign);
            let settled = settled.map(|reign| reign.settle(&looking, found, now_ms));
            let body = settled.map_or(LessorBody::NotNow, |settled| {
                let meters = &this.machine.shared.board.meters;
                meters.leases_renewed.add(settled.renewed);
                settled.body
            });
            this.reply(from, number, body);
        }));
    }

    fn reply(&mut self, to: MachineId, number: u64, body: LessorBody) {
        let shared = &self.machine.shared;
        match body {
            LessorBody::Standing(standings) if to == shared.local() => {
                self.asking.answered(number, &standings);
            }
            _ if to == shared.local() => self.asking.answered(number, &[]),
            body => shared.slots.sender.tell(SendToLessor {
                to,
                message: LessorMessage { number, body },
            }),
        }
    }

    fn learn(&mut self, news: &LeaseNews) {
        let now_ms = self.now_ms();
        // Whoever comes to lead reads them all.
        if let Some(reign) = self.counting.reign_mut() {
            for change in &news.changes {
                reign.learn(change, now_ms);
            }
        }
    }

    /// The key space was opened again, and what became of leases in the meantime may have been told to nobody; or it is not known what
    /// became of a proposal. The next tick goes on.
    fn begin_anew(&mut self) {
        if let Some(term) = self.counting.begin_anew() {
            debug!(self.machine.log, "counts the time of leases anew"; "term" => term.0);
        }
    }
}

impl Handler<AskLessor> for Lessor {
    type Result = ();
    fn handle(&mut self, message: AskLessor, context: &mut Context<Self>) {
        self.enter(context);
        self.ask(message.0, context);
    }
}

impl Handler<FromLessor> for Lessor {
    type Result = ();
    fn handle(&mut self, message: FromLessor, context: &mut Context<Self>) {
        self.enter(context);
        self.hear(message.from, message.message, context);
    }
}

impl Handler<LeasesChanged> for Lessor {
    type Result = ();
    fn handle(&mut self, message: LeasesChanged, context: &mut Context<Self>) {
        self.enter(context);
        self.learn(&message.0);
    }
}

impl Handler<KeyspaceOpened> for Lessor {
    type Result = ();
    fn handle(&mut self, _: KeyspaceOpened, context: &mut Context<Self>) {
        self.enter(context);
        self.begin_anew();
    }
}

impl Handler<LeaderKnown> for Lessor {
    type Result = ();
    fn handle(&mut self, _: LeaderKnown, context: &mut Context<Self>) {
        self.enter(context);
        self.look_who_leads(context);
    }
}

impl Handler<Flush> for Lessor {
    type Result = ();
    fn handle(&mut self, _: Flush, context: &mut Context<Self>) {
        self.flush(context);
    }
}

impl Handler<Tick> for Lessor {
    type Result = ();
    fn handle(&mut self, _: Tick, context: &mut Context<Self>) {
        self.enter(context);
        self.tick(context);
    }
}

impl Handler<Poke> for Lessor {
    type Result = ();
    fn handle(&mut self, _: Poke, context: &mut Context<Self>) {
        self.enter(context);
        self.machine.spawn_fault_future(context);
    }
}
