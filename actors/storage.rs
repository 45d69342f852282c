//! Storage: the durable half. Drains what waits for it into one durable commit, and only then lets go what promises it.

use actix::{Actor, AsyncContext, Context, Handler};
use rm_raft::{EntryId, HardState, Machines, Snapshot};
use rm_store::LogError;
use slog::{debug, error, info, trace, warn};
use std::time::{Duration, Instant};

use crate::defragment::Replacement;
use crate::fault::Point;
use crate::machine::{Derived, Machine};
use crate::message::{
    Compact, EntriesRead, Flush, Install, Installed, Load, LoadedLog, Persist, Persisted, Poke,
    ReadEntries, Replace, Retire, Send, Switch, Tick,
};
use crate::roster::{Slot, Slots};
use crate::snapshot_inbox::Installation;

/// How long to wait before a commit that found no space is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How often to look how much space is left while nothing is written.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// How long after one slice of compacted entries the next is removed while nothing is written.
const TRIM_PAUSE: Duration = Duration::from_millis(20);
/// The most requests in one commit, so that a flood cannot put it off for ever.
const BATCH_MAX: usize = 512;

/// The actor.
pub(crate) struct Storage {
    machine: Machine,
    /// The LogicCenter that is served; what an earlier one asked for late is dropped.
    served: u64,
    /// What waits for the next commit, in order.
    waiting: Vec<Task>,
    flush_is_due: bool,
    /// When to look after the space again, and to try again what found none.
    look_at: Instant,
}

/// What a commit makes durable.
enum Task {
    Persist(rm_raft::Persist),
    Compact(EntryId),
    Install(Box<Installation>),
    Replace(Box<Replacement>),
}

impl Derived for Storage {
    fn build(machine: Machine) -> Result<Self, String> {
        // An earlier life may have died between the commit that put a state in force and telling anyone.
        let resources = &machine.shared.resources;
        let generation = resources.log.generation().map_err(|e| e.to_string())?;
        let followed = resources.states.follow(&resources.directory, generation);
        followed.map_err(|error| error.to_string())?;
        Ok(Storage {
            machine,
            served: 0,
            waiting: Vec::new(),
            flush_is_due: false,
            look_at: Instant::now(),
        })
    }

    fn slot(slots: &Slots) -> &Slot<Self> {
        &slots.storage
    }

    fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }
}

impl Actor for Storage {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.machine.strike(Point::Started);
        context.notify(Tick);
    }
}

impl Storage {
    fn load(&mut self, incarnation: u64, context: &mut Context<Self>) {
        // What an earlier LogicCenter asked for comes first: it is durable before the next one learns what is.
        self.flush(context);
        if self.machine.life.verdict().is_some() {
            return; // it could not be written, and not for want of space: this life is over
        }
        if !self.waiting.is_empty() {
            info!(self.machine.log, "what an earlier LogicCenter asked for finds no space and is dropped"; "requests" => self.waiting.len());
            self.waiting.clear();
        }
        self.served = self.served.max(incarnation);
        match self.machine.shared.resources.log.load() {
            Ok(loaded) => {
                debug!(self.machine.log, "loaded"; "last" => %loaded.last, "term" => loaded.hard_state.term.0);
                let message = LoadedLog {
                    incarnation,
                    loaded,
                };
                self.machine.shared.slots.logic_center.tell(message);
            }
            Err(error) => self.give_up(context, error.to_string()),
        }
    }

    fn persist(&mut self, request: Persist, context: &mut Context<Self>) {
        self.wait(request.incarnation, Task::Persist(request.persist), context);
    }

    /// Has something done with the next commit.
    fn wait(&mut self, incarnation: u64, task: Task, context: &mut Context<Self>) {
        if incarnation == self.served {
            self.push(task, context);
        } // else a LogicCenter that was replaced
    }

    fn push(&mut self, task: Task, context: &mut Context<Self>) {
        self.waiting.push(task);
        if self.waiting.len() >= BATCH_MAX {
            self.flush(context);
        } else if !self.flush_is_due {
            self.flush_is_due = true;
            context.notify(Flush);
        }
    }

    /// Has a state put in force that was made of the present one. Whether the log allows it is seen at once: what waits before it moves no
    /// base beyond what the state holds, since the log is not compacted meanwhile.
    fn replace(&mut self, replacement: Replacement, context: &mut Context<Self>) {
        let (generation, applied) = (replacement.generation(), replacement.applied);
        let log = &self.machine.shared.resources.log;
        let allowed = log
            .begin()
            .and_then(|mut append| append.replace_state(generation, applied));
        match allowed {
            Ok(()) => self.push(Task::Replace(Box::new(replacement)), context),
            Err(error) => {
                warn!(self.machine.log, "a state that was written anew is not put in force"; "error" => %error);
                replacement.refuse(&error);
            }
        }
    }

    /// Makes all that waits durable in one commit.
    fn flush(&mut self, context: &mut Context<Self>) {
        self.flush_is_due = false;
        if self.waiting.is_empty() {
            return;
        }
        match self.commit() {
            Ok((hard_state, last)) => {
                trace!(self.machine.log, "commit"; "requests" => self.waiting.len(), "last" => %last, "term" => hard_state.term.0);
                self.let_go(hard_state, last);
            }
            Err(error) if error.is_no_space() => self.hold_back(&error, context),
            Err(error) => {
                error!(self.machine.log, "the log cannot be written"; "error" => %error);
                self.give_up(context, error.to_string());
            }
        }
    }

    fn commit(&self) -> Result<(HardState, EntryId), LogError> {
        let mut append = self.machine.shared.resources.log.begin()?;
        let mut installs = false;
        for task in &self.waiting {
            match task {
                Task::Persist(persist) => append.persist(&persist.hard_state, &persist.entries)?,
                Task::Compact(up_to) => {
                    // What is compacted is committed, which may not have been worth a commit of its own until now.
                    let mut hard_state = append.hard_state();
                    hard_state.commit = hard_state.commit.max(up_to.index);
                    append.persist(&hard_state, &[])?;
                    append.compact(*up_to)?;
                }
                Task::Install(installation) => {
                    let Snapshot { last, configured } = &installation.snapshot;
                    append.install(installation.generation(), *last, configured)?;
                    installs = true;
                }
                Task::Replace(replacement) => {
                    append.replace_state(replacement.generation(), replacement.applied)?;
                    installs = true;
                }
            }
        }
        self.machine.strike_disk(Point::Transaction)?;
        let durable = (append.hard_state(), append.last());
        self.machine.strike_disk(Point::Commit)?;
        if installs {
            self.machine.strike_disk(Point::Install)?;
        }
        let (began, written) = (Instant::now(), append.written_bytes());
        append.commit()?;
        let meters = &self.machine.shared.board.meters;
        meters.log_commits.add_time(began.elapsed());
        meters.log_written_bytes.add(written);
        if installs {
            self.machine.strike(Point::Installed);
        }
        Ok(durable)
    }

    /// Removes the next slice of compacted entries, where no other commit does.
    fn trim(&mut self, context: &mut Context<Self>) {
        let log = &self.machine.shared.resources.log;
        if let Ok(space) = log.space() {
            self.machine.shared.board.post_log_bytes(space.used_bytes);
        }
        let trimmed = log.untrimmed().and_then(|left| match left {
            0 => Ok(false),
            _ => log.begin()?.commit().map(|()| true),
        });
        match trimmed {
            Ok(true) => self.plan_look(TRIM_PAUSE, context),
            Ok(false) => self.plan_look(LOOK_PAUSE, context),
            Err(error) if error.is_no_space() => self.hold_back(&error, context),
            Err(error) => self.give_up(context, error.to_string()),
        }
    }

    /// Tells whether more than the reserve is left. With less, nothing new is taken in; what was taken in before, votes and
    /// the entries of elections are written all the same: they are what the reserve is for.
    fn look_after_space(&self) {
        let shared = &self.machine.shared;
        let reserve = shared.config.config.limits.disk_reserve_bytes;
        let free = shared.resources.free_bytes();
        let full = free < reserve;
        if !shared.board.post_log_full(full) {
            return;
        }
        if full {
            warn!(self.machine.log, "no space but the reserve: writes are refused until there is"; "free" => free, "reserve" => reserve);
        } else {
            info!(self.machine.log, "there is space again, writes are taken");
        }
    }

    /// All that waited is durable: sends what rests on it and tells LogicCenter.
    fn let_go(&mut self, hard_state: HardState, last: EntryId) {
        self.look_after_space();
        let tasks = std::mem::take(&mut self.waiting);
        let shared = &self.machine.shared;
        for task in tasks {
            match task {
                Task::Persist(persist) => {
                    for (to, message) in persist.then {
                        shared.slots.sender.tell(Send {
                            to: Machines::from_iter([to]),
                            message,
                        });
                    }
                }
                Task::Compact(up_to) => {
                    debug!(self.machine.log, "compacted"; "up_to" => %up_to);
                }
                Task::Install(installation) => self.installed(*installation),
                Task::Replace(replacement) => {
                    info!(self.machine.log, "a state that was written anew is in force"; "generation" => replacement.generation());
                    replacement.let_be_found();
                    shared.slots.applier.tell(Switch);
                }
            }
        }
        shared.slots.logic_center.tell(Persisted {
            incarnation: self.served,
            hard_state,
            last,
        });
    }

    /// A snapshot is in force. The Applier hears of it before LogicCenter does, and so before anyone asks it how far it is.
    fn installed(&self, installation: Installation) {
        let snapshot = installation.snapshot.clone();
        info!(self.machine.log, "a snapshot is in force"; "last" => %snapshot.last, "generation" => installation.generation());
        installation.let_be_found();
        let slots = &self.machine.shared.slots;
        slots.applier.tell(Switch);
        slots.logic_center.tell(Installed {
            incarnation: self.served,
            snapshot,
        });
    }

    /// The disk is full: keeps what waits, refuses more writes, and tries again. Nothing has been promised of it.
    fn hold_back(&mut self, error: &LogError, context: &mut Context<Self>) {
        if self.machine.shared.board.post_log_full(true) {
            warn!(self.machine.log, "no space: writes are refused until there is"; "error" => %error);
        }
        self.plan_look(RETRY_PAUSE, context);
    }

    /// Looks after the space once the pause is over, unless that is planned for an earlier moment.
    fn plan_look(&mut self, pause: Duration, context: &mut Context<Self>) {
        let now = Instant::now();
        if self.look_at <= now || self.look_at > now + pause {
            self.look_at = now + pause;
            context.notify_later(Tick, pause);
        }
    }

    fn look(&mut self, context: &mut Context<Self>) {
        if Instant::now() < self.look_at {
            return; // a later one was planned before an earlier one was
        }
        if self.waiting.is_empty() {
            self.look_after_space();
            self.trim(context);
        } else {
            self.flush(context);
            self.plan_look(RETRY_PAUSE, context);
        }
    }

    fn read(&mut self, request: ReadEntries, context: &mut Context<Self>) {
        let reader = self.machine.shared.resources.log.reader();
        match reader.entries(request.from, request.up_to, request.bytes_max) {
            Ok(entries) => self.machine.shared.slots.logic_center.tell(EntriesRead {
                incarnation: request.incarnation,
                entries: entries.into(),
            }),
            // Asked for by a LogicCenter that has had it compacted since, or that was replaced.
            Err(error @ LogError::Compacted { .. }) => {
                debug!(self.machine.log, "not read"; "error" => %error);
            }
            Err(error) => self.give_up(context, error.to_string()),
        }
    }
}

impl Handler<Compact> for Storage {
    type Result = ();
    fn handle(&mut self, message: Compact, context: &mut Context<Self>) {
        self.enter(context);
        self.wait(message.incarnation, Task::Compact(message.up_to), context);
    }
}

impl Handler<Install> for Storage {
    type Result = ();
    fn handle(&mut self, message: Install, context: &mut Context<Self>) {
        self.enter(context);
        let task = Task::Install(Box::new(message.installation));
        self.wait(message.incarnation, task, context);
    }
}

impl Handler<Replace> for Storage {
    type Result = ();
    fn handle(&mut self, message: Replace, context: &mut Context<Self>) {
        self.enter(context);
        self.replace(message.0, context);
    }
}

impl Handler<Load> for Storage {
    type Result = ();
    fn handle(&mut self, message: Load, context: &mut Context<Self>) {
        self.enter(context);
        self.load(message.incarnation, context);
    }
}

impl Handler<Persist> for Storage {
    type Result = ();
    fn handle(&mut self, message: Persist, context: &mut Context<Self>) {
        self.enter(context);
        self.persist(message, context);
    }
}

impl Handler<ReadEntries> for Storage {
    type Result = ();
    fn handle(&mut self, message: ReadEntries, context: &mut Context<Self>) {
        self.enter(context);
        self.read(message, context);
    }
}

impl Handler<Flush> for Storage {
    type Result = ();
    fn handle(&mut self, _: Flush, context: &mut Context<Self>) {
        self.flush(context);
    }
}

impl Handler<Tick> for Storage {
    type Result = ();
    fn handle(&mut self, _: Tick, context: &mut Context<Self>) {
        self.look(context);
    }
}

impl Handler<Poke> for Storage {
    type Result = ();
    fn handle(&mut self, _: Poke, context: &mut Context<Self>) {
        self.enter(context);
        self.machine.spawn_fault_future(context);
    }
}

impl Handler<Retire> for Storage {
    type Result = ();
    fn handle(&mut self, message: Retire, context: &mut Context<Self>) {
        self.enter(context);
        self.flush(context);
        let _ = message.0.send(());
    }
}
