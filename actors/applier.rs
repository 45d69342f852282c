//! Applier: the key space. Applies what is committed, answers reads, and writes the state down now and then.
//!
//! The key space's write transaction stays open between two checkpoints and is the truth for reads on this thread.
//! After a failure the key space is as at the last checkpoint, and the log is applied again from there.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler};
use rm_kv::{Failure, Keyspace, KvError, Reply, RequestError};
use rm_raft::{Entry, Index, Payload};
use rm_store::LogReader;
use slog::{debug, error, info, warn};

use crate::fault::Point;
use crate::machine::{Derived, Machine};
use crate::message::{Answers, Apply, Attach, Attached, Flush, Poke, Read, Retire, Serve, Tick};
use crate::port::Refusal;
use crate::roster::{Slot, Slots};

/// The most entries that are applied before other messages get a turn.
const SLICE_ENTRIES: usize = 1_024;
/// The most bytes of entries that are read from the log at a time.
const READ_BYTES: usize = 1 << 20;
/// How often to look whether a checkpoint is due, or whether there is space again.
const TICK: Duration = Duration::from_millis(100);

/// The actor.
pub(crate) struct Applier {
    machine: Machine,
    /// None only between a failure and the next attempt to open it.
    keyspace: Option<Keyspace<'static>>,
    log_reader: LogReader,
    /// Up to where to apply.
    target: Index,
    /// Entries that are to be applied, from memory; what is missing before and between them is read from the log.
    ahead: VecDeque<Entry>,
    ahead_bytes: usize,
    /// Reads, by the index that they wait for.
    waiting: BTreeMap<Index, Vec<Read>>,
    /// What an earlier life may have shown: nothing older is served.
    floor: Index,
    checkpoint_at: Instant,
    work_is_due: bool,
}

impl Derived for Applier {
    fn build(machine: Machine) -> Result<Self, String> {
        let resources = &machine.shared.resources;
        let keyspace = Keyspace::open(resources.state).map_err(|error| error.to_string())?;
        let (log_reader, floor) = (resources.log.reader(), machine.shared.board.applied());
        let mut applier = Applier {
            machine,
            keyspace: Some(keyspace),
            log_reader,
            target: Index(0),
            ahead: VecDeque::new(),
            ahead_bytes: 0,
            waiting: BTreeMap::new(),
            floor,
            checkpoint_at: Instant::now(),
            work_is_due: false,
        };
        applier.post();
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
        context.notify(Tick);
    }
}

impl Applier {
    fn applied(&self) -> Index {
        self.keyspace
            .as_ref()
            .map_or(Index(0), |keyspace| keyspace.applied().index)
    }

    fn post(&mut self) {
        if let Some(keyspace) = &self.keyspace {
            let (applied, revision) = (keyspace.applied().index, keyspace.revision());
            self.machine.shared.board.post_applied(applied, revision);
        }
    }

    fn post_sizes(&mut self) {
        match self.machine.shared.resources.state.space() {
            Ok(space) => {
                let board = &self.machine.shared.board;
                board.post_sizes(space.file_bytes, space.used_bytes);
            }
            Err(error) => {
                debug!(self.machine.log, "the size of the state cannot be told"; "error" => %error);
            }
        }
    }

    fn attach(&mut self, incarnation: u64) {
        let applied = self.applied();
        let message = Attached {
            incarnation,
            applied,
        };
        self.machine.shared.slots.logic_center.tell(message);
    }

    fn apply(&mut self, request: Apply, context: &mut Context<Self>) {
        self.target = self.target.max(request.up_to);
        let room = self.machine.shared.config.config.limits.log_cache_bytes_max;
        for entry in request.entries {
            if self.ahead_bytes > room {
                break; // too far behind: the rest is read from the log when its turn comes
            }
            self.ahead_bytes += entry.size();
            self.ahead.push_back(entry);
        }
        self.plan_work(context);
    }

    fn plan_work(&mut self, context: &mut Context<Self>) {
        if !self.work_is_due {
            self.work_is_due = true;
            context.notify(Flush);
        }
    }

    /// Applies a slice of what is to be applied, answers, and serves the reads that waited for it.
    fn work(&mut self, context: &mut Context<Self>) {
        self.work_is_due = false;
        let mut answers = Vec::new();
        let outcome = self.apply_slice(&mut answers);
        if !answers.is_empty() {
            self.machine.shared.slots.gate.tell(Answers(answers));
        }
        if let Err(error) = outcome {
            return self.recover(error, context);
        }
        self.post();
        self.serve_waiting(context);
        self.checkpoint_if_large(context);
        if self.applied() < self.target && self.keyspace.is_some() {
            self.plan_work(context);
        }
    }

    fn apply_slice(
        &mut self,
        answers: &mut Vec<(u64, Result<Reply, RequestError>)>,
    ) -> Result<(), Trouble> {
        for _ in 0..SLICE_ENTRIES {
            let Some(entry) = self.next_entry()? else {
                return Ok(());
            };
            self.machine.strike(Point::Transaction);
            let Some(keyspace) = &mut self.keyspace else {
                return Ok(());
            };
            match &entry.payload {
                Payload::Empty => {
                    keyspace.apply(entry.id, None, false)?;
                }
                Payload::Command(proposal) => {
                    let ours = proposal.request.machine == self.machine.shared.local();
                    let reply = keyspace.apply(entry.id, Some(&proposal.command), ours)?;
                    // Another machine's request may have the number of one of ours.
                    if ours && let Some(reply) = reply {
                        answers.push((proposal.request.number, reply));
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
        while let Some(entry) = self.ahead.pop_front() {
            if entry.id.index == next {
                self.ahead_bytes -= entry.size();
                return Ok(Some(entry));
            }
            if entry.id.index > next {
                self.ahead.push_front(entry);
                break;
            }
            self.ahead_bytes -= entry.size();
        }
        let up_to = match self.ahead.front() {
            Some(entry) => entry.id.index.previous(),
            None => self.target,
        };
        let entries = self.log_reader.entries(next, up_to, READ_BYTES)?;
        let mut entries = entries.into_iter();
        let first = entries.next();
        for entry in entries.rev() {
            self.ahead_bytes += entry.size();
            self.ahead.push_front(entry);
        }
        if first.is_none() {
            return Err(Trouble::Missing(next));
        }
        Ok(first)
    }

    fn serve(&mut self, request: Serve, context: &mut Context<Self>) {
        let index = request.index.max(self.floor);
        if self.keyspace.is_some() && self.applied() >= index {
            self.answer(request.reads, context);
        } else {
            self.waiting.entry(index).or_default().extend(request.reads);
        }
    }

    fn serve_waiting(&mut self, context: &mut Context<Self>) {
        let applied = self.applied();
        while let Some(first) = self.waiting.first_entry() {
            if *first.key() > applied || self.keyspace.is_none() {
                return;
            }
            let reads = first.remove();
            self.answer(reads, context);
        }
    }

    fn answer(&mut self, reads: Vec<Read>, context: &mut Context<Self>) {
        for read in reads {
            let Some(keyspace) = &self.keyspace else {
                return;
            };
            let answer = match &read.query {
                None => Ok(None),
                Some(query) => match keyspace.query(query) {
                    Ok(reply) => Ok(Some(reply)),
                    Err(Failure::Request(error)) => Err(Refusal::Request(error)),
                    Err(Failure::Store(error)) => {
                        let text = error.to_string();
                        error!(self.machine.log, "a read found damage"; "error" => &text);
                        self.recover(error.into(), context);
                        Err(Refusal::Damaged(text))
                    }
                },
            };
            // A client that has gone away needs no answer.
            let _ = read.answer.send(answer);
        }
    }

    fn checkpoint_if_large(&mut self, context: &mut Context<Self>) {
        let most = self.machine.shared.config.config.storage.checkpoint_bytes;
        if self.dirty_bytes() >= most {
            self.checkpoint(context);
        }
    }

    fn dirty_bytes(&self) -> usize {
        self.keyspace.as_ref().map_or(0, Keyspace::dirty_bytes)
    }

    /// Whether anything was applied since the last checkpoint.
    fn is_dirty(&self) -> bool {
        let keyspace = self.keyspace.as_ref();
        keyspace.is_some_and(|keyspace| keyspace.applied() != keyspace.checkpointed())
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        if self.keyspace.is_none() {
            self.reopen(context);
        }
        let interval = self
            .machine
            .shared
            .config
            .config
            .storage
            .checkpoint_interval_ms;
        if self.is_dirty() && self.checkpoint_at.elapsed() >= Duration::from_millis(interval) {
            self.checkpoint(context);
        }
        context.notify_later(Tick, TICK);
    }

    /// Writes the state down durably. Put off while the disk has no room for it.
    fn checkpoint(&mut self, context: &mut Context<Self>) {
        let dirty = self.dirty_bytes() as u64;
        let free = self.machine.shared.resources.free_bytes();
        if free < dirty.saturating_mul(2) {
            return self.report_full();
        }
        if let Err(error) = self.machine.strike_disk(Point::Checkpoint) {
            // As if LMDB had met the error itself: the open transaction is lost.
            self.keyspace = None;
            let trouble = match error.kind() {
                std::io::ErrorKind::StorageFull => Trouble::Keyspace(KvError::NoSpace),
                _ => Trouble::Disk(error),
            };
            return self.recover(trouble, context);
        }
        let Some(keyspace) = &mut self.keyspace else {
            return;
        };
        match keyspace.checkpoint() {
            Ok(report) => {
                debug!(self.machine.log, "checkpoint"; "report" => ?report);
                self.checkpoint_at = Instant::now();
                if self.machine.shared.board.post_state_full(false) {
                    info!(self.machine.log, "there is space for the state again");
                }
                self.post_sizes();
            }
            Err(error) => self.recover(error.into(), context),
        }
    }

    fn report_full(&mut self) {
        if self.machine.shared.board.post_state_full(true) {
            warn!(
                self.machine.log,
                "no space for a checkpoint: writes are refused until there is"
            );
        }
    }

    /// After a full disk the key space is opened again as it was at the last checkpoint; nothing is lost, since the log
    /// holds the rest. Any other trouble ends this life.
    fn recover(&mut self, trouble: Trouble, context: &mut Context<Self>) {
        match trouble {
            Trouble::Keyspace(KvError::NoSpace | KvError::MapFull | KvError::GivenUp) => {
                self.report_full();
                self.keyspace = None;
                self.floor = self.machine.shared.board.applied();
                // The next tick opens it again.
            }
            trouble => {
                error!(self.machine.log, "the state cannot go on"; "error" => %trouble);
                self.give_up(context, trouble.to_string());
            }
        }
    }

    fn reopen(&mut self, context: &mut Context<Self>) {
        match Keyspace::open(self.machine.shared.resources.state) {
            Ok(keyspace) => {
                info!(self.machine.log, "the key space is open again"; "applied" => keyspace.applied().index.0);
                self.keyspace = Some(keyspace);
                self.checkpoint_at = Instant::now();
                self.plan_work(context);
            }
            Err(error) => self.recover(error.into(), context),
        }
    }

    fn retire(&mut self, context: &mut Context<Self>) {
        if self.is_dirty() {
            self.checkpoint(context);
        }
    }
}

/// What may go wrong while entries are applied.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Keyspace(#[from] KvError),
    #[error(transparent)]
    Log(#[from] rm_store::LogError),
    #[error("the disk failed: {0}; look for disk errors in the system's log")]
    Disk(std::io::Error),
    #[error("entry {0} is committed and not in the log; restore this machine from its peers")]
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
        self.attach(message.incarnation);
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

impl Handler<Retire> for Applier {
    type Result = ();
    fn handle(&mut self, message: Retire, context: &mut Context<Self>) {
        self.enter(context);
        self.retire(context);
        let _ = message.0.send(());
    }
}
