//! Applier: the key space. Applies what is committed, answers reads, and writes the state down now and then.
//!
//! The key space's write transaction stays open between two checkpoints and is the truth for reads on this thread.
//! After a failure the key space is as at the last checkpoint, and the log is applied again from there.

use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler};
use rm_kv::{Keyspace, KvError, ReplyMemory, RequestError, StateMachine};
use rm_raft::{Entry, Index, Payload, Proposal, RequestId};
use rm_store::LogError;
use slog::{debug, error, info, trace};

use crate::ahead::Ahead;
use crate::fault::Point;
use crate::machine::{Derived, Machine};
use crate::message::{
    Answers, Apply, Ask, Attach, Attached, Changed, Flush, Follow, KeyspaceOpened, Poke, Retire,
    Serve, Switch, Tick, WriteDown,
};
use crate::reads::Reads;
use crate::replies::Answered;
use crate::roster::{Slot, Slots};
use crate::work_done::WorkDone;

/// The most messages before work is done, so that a flood cannot put it off for ever.
const BATCH_MAX: usize = 256;
/// The most entries that are applied before other messages get a turn.
const SLICE_ENTRIES: usize = 1_024;
/// How often to look whether a checkpoint is due, or whether there is space again.
const TICK: Duration = Duration::from_millis(100);

/// The actor.
pub(crate) struct Applier {
    pub(crate) machine: Machine,
    /// None only between a failure and the next attempt to open it.
    pub(crate) keyspace: Option<Keyspace>,
    /// Which state that is or was.
    generation: u64,
    /// Up to where to apply.
    target: Index,
    ahead: Ahead,
    pub(crate) reads: Reads,
    /// What an earlier life, or this one with an earlier key space, may have shown: nothing older is served.
    pub(crate) floor: Index,
    pub(crate) checkpoint_at: Instant,
    /// When to look whether there is space for a checkpoint again; none while there is.
    pub(crate) look_at: Option<Instant>,
    /// The LogicCenter that waits to be told how far the key space is.
    asked_by: Option<u64>,
    /// Messages since the last work.
    batched: usize,
    work_is_due: bool,
    /// What the Watcher wants to be told, once there is something to tell.
    pub(crate) question: Option<Follow>,
    /// The question that was answered last.
    pub(crate) answered: Option<Ask>,
    /// A change of members that a client of this machine waits for, and that has not left the joint state.
    change: Option<RequestId>,
    pub(crate) work_done: WorkDone,
}

impl Derived for Applier {
    fn build(machine: Machine) -> Result<Self, String> {
        let resources = &machine.shared.resources;
        let (keyspace, generation) = open(&machine).map_err(|error| error.to_string())?;
        let room = machine.shared.config.config.limits.log_cache_bytes_max;
        let ahead = Ahead::new(resources.log.reader(), room);
        let floor = machine.shared.board.applied();
        let work_done = WorkDone::new(&machine.shared);
        let mut applier = Applier {
            machine,
            keyspace: Some(keyspace),
            generation,
            target: Index(0),
            ahead,
            reads: Reads::default(),
            floor,
            checkpoint_at: Instant::now(),
            look_at: None,
            asked_by: None,
            batched: 0,
            work_is_due: false,
            question: None,
            answered: None,
            change: None,
            work_done,
        };
        applier.post();
        applier.know_auth_again();
        applier.post_sizes();
        Ok(applier)
    }

    fn slot(slots: &Slots) -> &Slot<Self> {
        &slots.applier
    }

    fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }
}

impl Actor for Applier {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.machine.strike(Point::Started);
        self.machine.shared.slots.lessor.tell(KeyspaceOpened);
        context.notify(Tick);
    }
}

impl Applier {
    pub(crate) fn applied(&self) -> Index {
        self.keyspace
            .as_ref()
            .map_or(Index(0), |keyspace| keyspace.applied().index)
    }

    /// LogicCenter asks only once it has the log from Storage, so that the state is no older than that; the notice of a new one
    /// may have died with an earlier life.
    fn attach(&mut self, incarnation: u64, context: &mut Context<Self>) {
        self.asked_by = Some(incarnation);
        self.switch(context);
        self.tell_attached();
    }

    /// Tells LogicCenter how far the key space is, which it asked, as soon as there is one.
    fn tell_attached(&mut self) {
        let Some(keyspace) = &self.keyspace else {
            return;
        };
        let applied = keyspace.applied().index;
        if let Some(incarnation) = self.asked_by.take() {
            let message = Attached {
                incarnation,
                applied,
            };
            self.machine.shared.slots.logic_center.tell(message);
            self.tell_checkpoint();
        }
    }

    /// Goes over to the state that is in force. The earlier one is closed, and its space given back, when its last reader is gone.
    fn switch(&mut self, context: &mut Context<Self>) {
        if self.machine.shared.resources.states.present().generation == self.generation {
            return;
        }
        self.keyspace = None;
        self.ahead.clear();
        // One that was written anew may lack the last of what was shown.
        self.floor = self.machine.shared.board.applied();
        self.reads.hold(self.floor);
        self.reopen(context);
        self.post();
        self.post_sizes();
        self.tell_checkpoint();
    }

    fn apply(&mut self, request: Apply, context: &mut Context<Self>) {
        self.target = self.target.max(request.up_to);
        self.ahead.keep(&request.entries);
        self.plan_work(context);
    }

    /// Has the work done when the mailbox is empty, or now if it does not get empty.
    fn plan_work(&mut self, context: &mut Context<Self>) {
        self.batched += 1;
        if self.batched >= BATCH_MAX {
            self.work(context);
        } else if !self.work_is_due {
            self.work_is_due = true;
            context.notify(Flush);
        }
    }

    /// Applies a slice of what is to be applied, answers, and serves the reads that waited for it.
    fn work(&mut self, context: &mut Context<Self>) {
        self.work_is_due = false;
        self.batched = 0;
        self.machine.life.progresses();
        if self.keyspace.is_none() {
            return; // the next tick opens it again and goes on from there
        }
        let mut answers = Vec::new();
        let outcome = self.apply_slice(&mut answers);
        // Before anyone learns of it: whatever was shown, no later life may fall behind it.
        self.tell_of_tokens();
        self.work_done.post(self.keyspace.as_ref());
        self.post();
        self.tell_news();
        trace!(self.machine.log, "applied"; "up_to" => self.applied().0, "target" => self.target.0, "answers" => answers.len());
        if !answers.is_empty() {
            self.machine.shared.slots.gate.tell(Answers(answers));
        }
        if let Err(error) = outcome {
            return self.recover(error, context);
        }
        self.reads.free(self.applied());
        self.answer_slice(context);
        self.tell_what_happened(context);
        self.checkpoint_if_large(context);
        let behind = self.applied() < self.target || self.reads.any_ready();
        if behind && self.keyspace.is_some() {
            // A backlog is no reason not to hear a stop, or to let a timer wait.
            context.wait(actix::fut::wrap_future(tokio::task::yield_now()));
            self.plan_work(context);
        }
    }

    /// Before anybody can have heard of them.
    fn tell_of_tokens(&mut self) {
        let news = self.keyspace.as_mut().map(Keyspace::take_auth_news);
        if let Some(news) = news.filter(|news| !news.is_empty()) {
            let shared = &self.machine.shared;
            shared.tokens.learn(news);
        }
    }

    fn apply_slice(
        &mut self,
        answers: &mut Vec<(u64, Result<Answered, RequestError>)>,
    ) -> Result<(), Trouble> {
        for _ in 0..SLICE_ENTRIES {
            let Some(entry) = self.next_entry()? else {
                return Ok(());
            };
            self.machine.strike(Point::Transaction);
            self.machine.life.progresses();
            let Some(keyspace) = &mut self.keyspace else {
                return Ok(());
            };
            let local = self.machine.shared.local();
            let asked_here = match &entry.payload {
                Payload::Command(Proposal { request, .. }) if request.machine == local => {
                    Some(request.number)
                }
                _ => None,
            };
            let replies = &self.machine.shared.replies;
            let making = asked_here.map(|number| replies.take_promised(number));
            let memory = making.as_ref().map(|making| making as &dyn ReplyMemory);
            let reply = self.work_done.apply(keyspace, &entry, memory, self.floor)?;
            match &entry.payload {
                Payload::Empty => {}
                Payload::Configuration {
                    request,
                    configuration,
                } => {
                    // A change is complete when it has left the joint state, whoever led it there.
                    let ours = request.filter(|request| request.machine == local);
                    self.change = ours.or(self.change);
                    if !configuration.is_joint()
                        && let Some(request) = self.change.take()
                    {
                        self.machine.shared.slots.gate.tell(Changed(request));
                    }
                }
                Payload::Command(proposal) => {
                    // Another machine's request may have the number of one of ours.
                    if let Some(making) = making
                        && let Some(reply) = reply
                    {
                        let room = making.finish();
                        let answered = reply.map(|reply| Answered { reply, room });
                        answers.push((proposal.request.number, answered));
                    }
                }
            }
        }
        Ok(())
    }

    /// The entry after the last applied one, from memory if it is there, else from the log.
    fn next_entry(&mut self) -> Result<Option<Entry>, Trouble> {
        let next = self.applied().next();
        if next > self.target {
            return Ok(None);
        }
        let entry = self.ahead.take(next, self.target)?;
        entry.map(Some).ok_or(Trouble::Missing(next))
    }

    fn serve(&mut self, request: Serve, context: &mut Context<Self>) {
        let index = request.index.max(self.floor);
        self.reads.park(index, request.reads);
        self.plan_work(context);
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        self.sweep_reads();
        if self.keyspace.is_none() {
            self.reopen(context);
        }
        self.checkpoint_if_due(context);
        context.notify_later(Tick, TICK);
    }

    /// After a full disk the key space is opened again as it was at the last checkpoint; nothing is lost, since the log
    /// holds the rest. Any other trouble ends this life.
    pub(crate) fn recover(&mut self, trouble: Trouble, context: &mut Context<Self>) {
        match trouble {
            Trouble::Keyspace(error) if Keyspace::is_no_space(&error) => {
                self.report_full();
                self.look_later();
                self.keyspace = None;
                self.floor = self.machine.shared.board.applied();
                self.reads.hold(self.floor);
                // The next tick opens it again.
            }
            // Only a snapshot takes away what is not applied: its state is in force, and the notice of that is on its way.
            Trouble::Log(LogError::Compacted { .. }) => {
                debug!(self.machine.log, "the log is compacted beyond this state");
            }
            trouble => {
                error!(self.machine.log, "the state cannot go on"; "error" => %trouble);
                self.give_up(context, trouble.to_string());
            }
        }
    }

    fn reopen(&mut self, context: &mut Context<Self>) {
        match open(&self.machine) {
            Ok((keyspace, generation)) => {
                self.generation = generation;
                info!(self.machine.log, "the key space is open again"; "applied" => keyspace.applied().index.0);
                self.keyspace = Some(keyspace);
                self.checkpoint_at = Instant::now();
                self.machine.shared.slots.lessor.tell(KeyspaceOpened);
                self.tell_attached();
                self.plan_work(context);
            }
            Err(error) => self.recover(error.into(), context),
        }
    }
}

/// Opens the key space as of its last checkpoint. However long one command or query takes, its steps show that the actor
/// gets on.
fn open(machine: &Machine) -> Result<(Keyspace, u64), KvError> {
    let state = machine.shared.resources.states.present();
    let mut keyspace = Keyspace::open(&state.environment)?;
    // What it holds beyond that was not applied here: a snapshot brought it. What became of anybody in it was told to nobody.
    if keyspace.applied().index > machine.shared.board.applied() {
        machine.shared.tokens.clear();
    }
    keyspace.bound_replies(machine.shared.replies.reply_bytes_max());
    let life = machine.life.clone();
    keyspace.on_progress(Box::new(move || life.progresses()));
    Ok((keyspace, state.generation))
}

/// What may go wrong while entries are applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Keyspace(#[from] KvError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the disk failed: {0}; look for disk errors in the system's log")]
    Disk(std::io::Error),
    #[error(
        "entry {0} is committed and not in the log, which is damaged: keep the folder and leave this machine down, the others go on"
    )]
    Missing(Index),
}

impl Handler<Apply> for Applier {
    type Result = ();
    fn handle(&mut self, message: Apply, context: &mut Context<Self>) {
        self.enter(context);
        self.apply(message, context);
    }
}

impl Handler<Serve> for Applier {
    type Result = ();
    fn handle(&mut self, message: Serve, context: &mut Context<Self>) {
        self.enter(context);
        self.serve(message, context);
    }
}

impl Handler<Attach> for Applier {
    type Result = ();
    fn handle(&mut self, message: Attach, context: &mut Context<Self>) {
        self.enter(context);
        self.attach(message.incarnation, context);
    }
}

impl Handler<Switch> for Applier {
    type Result = ();
    fn handle(&mut self, _: Switch, context: &mut Context<Self>) {
        self.enter(context);
        self.switch(context);
    }
}

impl Handler<Flush> for Applier {
    type Result = ();
    fn handle(&mut self, _: Flush, context: &mut Context<Self>) {
        self.work(context);
    }
}

impl Handler<Tick> for Applier {
    type Result = ();
    fn handle(&mut self, _: Tick, context: &mut Context<Self>) {
        self.tick(context);
    }
}

impl Handler<Poke> for Applier {
    type Result = ();
    fn handle(&mut self, _: Poke, context: &mut Context<Self>) {
        self.enter(context);
        self.machine.spawn_fault_future(context);
    }
}

impl Handler<Follow> for Applier {
    type Result = ();
    fn handle(&mut self, message: Follow, context: &mut Context<Self>) {
        self.enter(context);
        self.follow(message, context);
    }
}

impl Handler<WriteDown> for Applier {
    type Result = ();
    fn handle(&mut self, message: WriteDown, context: &mut Context<Self>) {
        self.enter(context);
        self.write_down(message.0, context);
    }
}

impl Handler<Retire> for Applier {
    type Result = ();
    fn handle(&mut self, message: Retire, context: &mut Context<Self>) {
        self.enter(context);
        self.retire(context);
        let _ = message.0.send(());
    }
}
