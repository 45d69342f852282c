//! Compactor: has the key space compacted as the config says, and after every compaction scrubbed, one step after the other.
//!
//! The compactor of the machine that leads does so; those of the others only watch. What is left to do stands in the key space, so that
//! a compactor that takes over, on this machine or on another, goes on from there. A step that is proposed twice removes the next
//! changes a little sooner, and nothing else. Only the revisions that are sampled for a compaction by time go with a life: that compaction
//! then comes later, by no more than its retention.

use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler};
use rm_kv::{Command, Reply, RequestError};
use rm_raft::Role;
use slog::{debug, info, warn};

use crate::auto_compaction::Schedule;
use crate::fault::Point;
use crate::machine::{Derived, Machine};
use crate::message::{CompactionMoved, LeaderKnown, Poke, Tick};
use crate::port::{Port, Refusal};
use crate::roster::{Slot, Slots};

/// How many changes one step of a scrub looks at.
const STEP_CHANGES: u32 = 1_000;
/// With how many bytes of keys and values a step is content, so that it does not take long where they are large.
const STEP_BYTES: u32 = 4 << 20;
/// The pause after a step that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The actor.
pub(crate) struct Compactor {
    machine: Machine,
    /// A door of its own, where no clients take the room.
    port: Port,
    /// None if the config wants no compactions.
    schedule: Option<Schedule>,
    /// Whether a compaction that was due is under way.
    compacts: bool,
    /// Whether a step is under way, or the pause after it.
    scrubs: bool,
}

impl Derived for Compactor {
    fn build(machine: Machine) -> Result<Self, String> {
        let config = &machine.shared.config.config.storage.auto_compaction;
        Ok(Compactor {
            port: Port::new(machine.shared.clone()),
            schedule: Schedule::new(config),
            machine,
            compacts: false,
            scrubs: false,
        })
    }

    fn slot(slots: &Slots) -> &Slot<Self> {
        &slots.compactor
    }

    fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }
}

impl Actor for Compactor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.machine.strike(Point::Started);
        // What an earlier life was told, the board still tells.
        context.notify(CompactionMoved);
        if self.schedule.is_some() {
            context.notify(Tick);
        }
    }
}

impl Compactor {
    fn leads(&self) -> bool {
        self.machine.shared.board.raft().role == Role::Leader
    }

    /// Begins the next step of the scrub, if there is one to be made.
    fn scrub(&mut self, context: &mut Context<Self>) {
        let compaction = *self.machine.shared.board.compaction().borrow();
        if self.scrubs || compaction.is_complete() || !self.leads() {
            return;
        }
        self.scrubs = true;
        let step = scrub_step(self.port.clone());
        let step = actix::fut::wrap_future(step);
        context
            .spawn(step.map(|outcome, this: &mut Self, context| this.scrubbed(outcome, context)));
    }

    fn scrubbed(&mut self, outcome: Result<Reply, Refusal>, context: &mut Context<Self>) {
        self.scrubs = false;
        match outcome {
            Ok(_) => {
                let compaction = *self.machine.shared.board.compaction().borrow();
                debug!(self.machine.log, "scrubbed"; "up_to" => compaction.scrubbed, "compacted" => compaction.revision);
            }
            Err(refusal) => {
                debug!(self.machine.log, "a step of the scrub failed"; "reason" => %refusal);
            }
        }
        self.scrub(context);
    }

    /// Looks whether a compaction is due. Machines that do not lead look too, so that whoever comes to lead knows the past.
    fn tick(&mut self, context: &mut Context<Self>) {
        let newest = self.machine.shared.board.revision();
        let Some(schedule) = &mut self.schedule else {
            return;
        };
        let due = schedule.look(Instant::now(), newest);
        context.notify_later(Tick, schedule.interval());
        if let Some(revision) = due
            && self.leads()
            && !self.compacts
        {
            self.compact(revision, context);
        }
    }

    /// Compacts, unless that would forget nothing: the key space begins with revision one.
    fn compact(&mut self, revision: i64, context: &mut Context<Self>) {
        let compacted = self.machine.shared.board.compaction().borrow().revision;
        if revision <= compacted.max(1) {
            return self.settle();
        }
        self.compacts = true;
        let port = self.port.clone();
        let compact = async move { port.compact(revision, false).await };
        let compact = actix::fut::wrap_future(compact);
        context.spawn(compact.map(move |outcome, this: &mut Self, _| {
            this.compacts = false;
            this.compacted(revision, outcome);
        }));
    }

    fn compacted(&mut self, revision: i64, outcome: Result<Reply, Refusal>) {
        match outcome {
            Ok(_) | Err(Refusal::Request(RequestError::Compacted)) => {
                info!(self.machine.log, "compacted by the config"; "revision" => revision);
                self.settle();
            }
            Err(refusal) => {
                warn!(self.machine.log, "a compaction by the config failed and is tried again"; "revision" => revision, "reason" => %refusal);
            }
        }
    }

    /// Nothing is due any more, until the schedule says so.
    fn settle(&mut self) {
        if let Some(schedule) = &mut self.schedule {
            schedule.done(Instant::now());
        }
    }
}

/// Has one step made, then pauses for as long as it took: at least half of the time is the clients'.
async fn scrub_step(port: Port) -> Result<Reply, Refusal> {
    let began = Instant::now();
    let step = Command::Scrub {
        changes: STEP_CHANGES,
        bytes: STEP_BYTES,
    };
    let outcome = port.propose(step).await;
    let pause = match outcome {
        Ok(_) => began.elapsed(),
        Err(_) => PAUSE_AFTER_FAILURE,
    };
    tokio::time::sleep(pause).await;
    outcome
}

impl Handler<CompactionMoved> for Compactor {
    type Result = ();
    fn handle(&mut self, _: CompactionMoved, context: &mut Context<Self>) {
        self.enter(context);
        self.scrub(context);
    }
}

impl Handler<LeaderKnown> for Compactor {
    type Result = ();
    fn handle(&mut self, _: LeaderKnown, context: &mut Context<Self>) {
        self.enter(context);
        self.scrub(context);
    }
}

impl Handler<Tick> for Compactor {
    type Result = ();
    fn handle(&mut self, _: Tick, context: &mut Context<Self>) {
        self.enter(context);
        self.tick(context);
    }
}

impl Handler<Poke> for Compactor {
    type Result = ();
    fn handle(&mut self, _: Poke, context: &mut Context<Self>) {
        self.enter(context);
        self.machine.spawn_fault_future(context);
    }
}
