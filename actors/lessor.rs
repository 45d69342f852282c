//! Lessor: counts the time of leases where this machine leads, and has its clients' leases renewed where another does.
//!
//! Which leases there are stands in the key space; when they end is known to the lessor of the machine that leads alone, and goes with
//! it: the next one gives every lease what was noted to be left of it, its whole time by default, and an election timeout more. So none
//! ends early, whoever dies. Nothing is decided by a clock alone: a lease ends by an entry of the log that names the leader's term.
//!
//! A client is told that its lease was renewed once a quorum has confirmed, after it asked, that this machine leads (dissertation, 6.4)
//! and the lease was there by then. Whoever leads later begins to count later.

mod asking;
mod book;
mod clock;
mod counting;

use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler};
use rm_kv::{Command, Lease, LeaseChange, LeaseNews, LeaseTime, Query, ReplyBody};
use rm_raft::{MachineId, Role, Term};
use rm_wire::{LeaseStanding, LessorBody, LessorMessage};
use slog::debug;

use self::asking::{Asking, BATCH_MAX};
pub(crate) use self::asking::{Question, Wish};
use self::clock::LeaseClock;
use self::counting::Reign;
use crate::fault::Point;
use crate::machine::{Derived, Machine};
use crate::message::{
    AskLessor, Flush, FromLessor, KeyspaceOpened, LeaderKnown, LeasesChanged, Poke, SendToLessor,
    Tick,
};
use crate::port::{Consistency, Port, Refusal};
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
    clock: LeaseClock,
    asking: Asking,
    /// None while another machine leads.
    reign: Option<Reign>,
    /// How many reigns there were in this life: by that, what was begun in an earlier one is known.
    reigns: u64,
    /// How many questions are being answered.
    served: usize,
    flush_is_due: bool,
}

impl Derived for Lessor {
    fn build(machine: Machine) -> Result<Self, String> {
        // Answers to an earlier life, or process, must not be taken for answers to this one.
        let (boot, life) = (machine.shared.resources.boot, machine.incarnation());
        let number = (boot & 0xffff) << 48 | (life & 0xffff) << 32;
        Ok(Lessor {
            port: Port::new(machine.shared.clone()),
            clock: LeaseClock::new(Instant::now()),
            asking: Asking::new(number),
            machine,
            reign: None,
            reigns: 0,
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

    /// Whether this is the present reign, and this machine leads still.
    fn reigns(&self, number: u64) -> bool {
        let is_present =
            |reign: &Reign| reign.number == number && self.leads_in() == Some(reign.term);
        self.reign.as_ref().is_some_and(is_present)
    }

    fn now_ms(&mut self) -> u64 {
        self.clock.look(Instant::now())
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        self.machine.life.progresses();
        self.now_ms();
        self.asking.wake(Instant::now());
        if self.machine.shared.board.stopping() {
            self.asking.refuse();
        }
        self.look_who_leads(context);
        self.count(context);
        let leases = self.reign.as_ref().map_or(0, |reign| reign.book.len());
        self.machine.shared.board.meters.leases.set(leases);
        context.notify_later(Tick, TICK);
    }

    fn look_who_leads(&mut self, context: &mut Context<Self>) {
        let leads_in = self.leads_in();
        if self.reign.as_ref().map(|reign| reign.term) != leads_in {
            self.reign = None;
            if let Some(term) = leads_in {
                self.begin_reign(term);
                self.count(context);
            }
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
        let reign = self.reign.as_mut().filter(|_| has_room);
        let begun = reign.and_then(|reign| reign.entry().map(|entry| (reign, entry)));
        let Some((reign, entry)) = begun else {
            return self.reply(from, number, LessorBody::NotNow);
        };
        let reserved = match wish {
            Wish::Renew => reign.book.reserve(&ids),
            Wish::Look => vec![true; ids.len()],
        };
        let reign = reign.number;
        self.served += 1;
        let asked = ids.iter().zip(&reserved).filter(|(_, reserved)| **reserved);
        let asked = asked.map(|(id, _)| *id).collect();
        let look = look_up(self.port.clone(), entry, wish, asked);
        let look = actix::fut::wrap_future::<_, Self>(look);
        context.spawn(look.map(move |found, this, _| {
            this.served -= 1;
            let body = match this.reigns(reign) {
                true => this.settle(wish, &ids, &reserved, found),
                false => LessorBody::NotNow,
            };
            this.reply(from, number, body);
        }));
    }

    /// What becomes of leases that were asked about. Those that are to be renewed are, and nothing keeps them from ending any more.
    fn settle(
        &mut self,
        wish: Wish,
        ids: &[i64],
        reserved: &[bool],
        found: Option<Found>,
    ) -> LessorBody {
        let now_ms = self.now_ms();
        let Some(reign) = &mut self.reign else {
            return LessorBody::NotNow;
        };
        let is_told = found.as_ref().is_some_and(|found| found.is_told);
        let leases = found.map(|found| found.leases).unwrap_or_default();
        // They come in the order of the ids that were asked about, without those that are not there.
        let mut leases = leases.iter().peekable();
        let mut standings = Vec::with_capacity(ids.len());
        let mut renewed = 0;
        for (id, reserved) in ids.iter().zip(reserved) {
            let lease = leases.next_if(|lease| *reserved && lease.grant.id == *id);
            let left_ms = lease.map(|lease| match wish {
                Wish::Renew => reign.book.renew(lease, now_ms),
                Wish::Look => Ok(reign.book.left(lease, now_ms)),
            });
            if wish == Wish::Renew && *reserved {
                reign.book.unreserve(*id);
                renewed += u64::from(matches!(left_ms, Some(Ok(_))));
            }
            standings.push(match (reserved, lease, left_ms) {
                (true, Some(lease), Some(Ok(left_ms))) => LeaseStanding::Held {
                    ttl: lease.ttl,
                    left_ms,
                },
                (true, None, _) => LeaseStanding::None,
                _ => LeaseStanding::Unsettled,
            });
        }
        self.machine.shared.board.meters.leases_renewed.add(renewed);
        match is_told {
            true => LessorBody::Standing(standings),
            false => LessorBody::NotNow,
        }
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
        let Some(reign) = &mut self.reign else {
            return; // whoever comes to lead reads them all
        };
        for change in &news.changes {
            match change {
                LeaseChange::Granted(lease) => reign.book.add(lease, now_ms, 0),
                LeaseChange::Ended(grant) => reign.book.strike(*grant),
            }
        }
    }

    /// The key space was opened again, and what became of leases in the meantime may have been told to nobody; or it is not known what
    /// became of a proposal. The next tick goes on.
    fn begin_anew(&mut self) {
        if let Some(reign) = self.reign.take() {
            debug!(self.machine.log, "counts the time of leases anew"; "term" => reign.term.0);
            self.begin_reign(reign.term);
        }
    }
}

/// What a look at leases has come to.
struct Found {
    leases: Vec<Lease>,
    /// Whether that may be told.
    is_told: bool,
}

/// Which of these leases are there, once a quorum has confirmed who leads; none if that is not known. Where they are to be renewed,
/// nothing is noted to be left of them any more: the next leader gives them their whole time. Where that cannot be written, they have
/// their time again while this leader leads, and it is told to nobody.
async fn look_up(port: Port, reign: u64, wish: Wish, ids: Vec<i64>) -> Option<Found> {
    let known = port.query(Query::KnownLeases(ids), Consistency::Quorum);
    let ReplyBody::Leases(mut leases) = known.await.ok()?.body else {
        return None;
    };
    let is_noted = |lease: &&mut Lease| wish == Wish::Renew && lease.remaining.is_some();
    let renewed = |lease: &mut Lease| {
        lease.remaining = None;
        LeaseTime {
            grant: lease.grant,
            remaining: None,
        }
    };
    let times: Vec<LeaseTime> = leases.iter_mut().filter(is_noted).map(renewed).collect();
    let is_told = match times.is_empty() {
        true => true,
        false => {
            let note = port.propose(Command::NoteLeases { reign, times }).await;
            match note.map(|reply| reply.body) {
                Ok(ReplyBody::LeasesCounted(Some(_))) => true,
                Ok(_) => return None,
                Err(_) => false,
            }
        }
    };
    Some(Found { leases, is_told })
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
