//! LogicCenter: drains what waits for it into the Raft core, steps the core once, and performs its effects.

mod handlers;

use std::collections::HashMap;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context};
use rm_raft::{
    Configured, Durable, Effect, Entries, Index, Input, Raft, ReadId, ReadMode, Role, Time,
};
use rm_store::Loaded;
use slog::{debug, info, trace};

use crate::fault::Point;
use crate::finds::Finds;
use crate::machine::{Derived, Machine};
use crate::message::{
    Apply, Attach, Attached, Change, ChangeRefused, EntriesRead, Flush, LeaderKnown, Load,
    LoadedLog, Persist, Persisted, Propose, Read, ReadEntries, ReadLinearizable, Received, Refused,
    Send, Serve, StopSnapshots, Transfer, Transferred, Unsettled,
};
use crate::participation;
use crate::port::Refusal;
use crate::refusal::refusal;
use crate::roster::{Slot, Slots};
use crate::silence::Silence;
use crate::transfers::Transfers;

/// The most messages in one batch, so that a flood cannot put its effects off for ever.
const BATCH_MAX: usize = 1_024;
/// The most entries that the Applier may be behind and still be told them from memory.
const APPLY_AHEAD_MAX: u64 = 16_384;

/// The actor.
pub(crate) struct LogicCenter {
    pub(crate) machine: Machine,
    core: Core,
    /// Reads that came since the last flush, by what may confirm them.
    new_reads: HashMap<ReadMode, Vec<Read>>,
    /// Reads that the core is asked about.
    reads: HashMap<ReadId, Vec<Read>>,
    next_read: u64,
    /// Whether the core was last told that the disk is full.
    told_full: bool,
    transfers: Transfers,
    /// The configuration that the other actors know.
    configured: Option<Configured>,
    /// The entry of the latest configuration that was told as committed.
    committed: Option<Index>,
    data_ids: Finds,
    /// Those of the leader that it follows.
    silence: Option<Silence>,
    /// When the Timer was heard last.
    elapsed_at: Option<Time>,
    /// Whether it was told that this machine takes part no more.
    left: bool,
    batched: usize,
    flush_is_due: bool,
    /// Empty: its memory is used again for each batch's effects.
    effects: Vec<Effect>,
}

/// The core, or what is known while it cannot be made yet.
enum Core {
    Loading {
        log: Option<Loaded>,
        applied: Option<Index>,
        /// What came meanwhile from clients of this machine; bounded by what the machine holds at a time.
        proposals: Vec<Propose>,
    },
    Running(Box<Raft>),
}

impl Derived for LogicCenter {
    fn build(machine: Machine) -> Result<Self, String> {
        // Answers to the reads of an earlier life, or of an earlier process, must not be taken for answers to this one's.
        let (boot, life) = (machine.shared.resources.boot, machine.incarnation());
        let next_read = (boot & 0xffff) << 48 | (life & 0xffff) << 32;
        Ok(LogicCenter {
            machine,
            core: Core::Loading {
                log: None,
                applied: None,
                proposals: Vec::new(),
            },
            new_reads: HashMap::new(),
            reads: HashMap::new(),
            next_read,
            told_full: false,
            transfers: Transfers::default(),
            configured: None,
            committed: None,
            data_ids: Finds::default(),
            silence: None,
            elapsed_at: None,
            left: false,
            batched: 0,
            flush_is_due: false,
            effects: Vec::new(),
        })
    }

    fn slot(slots: &Slots) -> &Slot<Self> {
        &slots.logic_center
    }

    fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }
}

impl Actor for LogicCenter {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.machine.strike(Point::Started);
        let incarnation = self.machine.incarnation();
        let slots = &self.machine.shared.slots;
        slots.storage.tell(Load { incarnation });
    }
}

impl LogicCenter {
    fn loaded_log(&mut self, message: LoadedLog, context: &mut Context<Self>) {
        if message.incarnation != self.machine.incarnation() {
            return;
        }
        if let Core::Loading { log, .. } = &mut self.core {
            *log = Some(message.loaded);
            // Not before: Storage has told the Applier by now of the state that goes with this log.
            let incarnation = message.incarnation;
            self.machine
                .shared
                .slots
                .applier
                .tell(Attach { incarnation });
            self.start_core(context);
        }
    }

    fn attached(&mut self, message: Attached, context: &mut Context<Self>) {
        if message.incarnation != self.machine.incarnation() {
            return;
        }
        if let Core::Loading { applied, .. } = &mut self.core {
            *applied = Some(message.applied);
            self.start_core(context);
        }
    }

    /// Makes the core as soon as Storage and Applier have told what they hold.
    fn start_core(&mut self, context: &mut Context<Self>) {
        let Core::Loading {
            log: Some(log),
            applied: Some(applied),
            proposals,
        } = &mut self.core
        else {
            return;
        };
        let proposals = std::mem::take(proposals);
        // An earlier life of this process may have known more than it had written down: what was applied is committed.
        let mut hard_state = log.hard_state;
        hard_state.commit = hard_state.commit.max(self.machine.shared.board.applied());
        let configurations = participation::configurations(&self.machine.shared, log);
        let durable = Durable {
            hard_state,
            base: log.base,
            terms: log.terms.clone(),
            last: log.last,
            applied: *applied,
            configurations,
        };
        let config = self.machine.shared.core_config(self.machine.incarnation());
        let now = self.machine.shared.clock.now();
        match Raft::new(config, durable, now) {
            Ok(raft) => self.core = Core::Running(Box::new(raft)),
            Err(error) => return self.give_up(context, error.to_string()),
        }
        self.take_up_where_the_last_life_ended();
        for message in proposals {
            self.step(Input::Propose(message.0), context);
        }
        self.plan_flush(context);
    }

    /// A leader that died a moment ago campaigns at once: the only lease that this can break is its own.
    fn take_up_where_the_last_life_ended(&mut self) {
        if self.machine.incarnation() == 1 {
            return;
        }
        let shared = &self.machine.shared;
        shared.slots.gate.tell(Unsettled {
            reason: Refusal::Restarted,
        });
        if shared.board.raft().role == Role::Leader
            && let Core::Running(raft) = &mut self.core
        {
            raft.step(shared.clock.now(), Input::Campaign);
        }
    }

    fn propose(&mut self, message: Propose, context: &mut Context<Self>) {
        match &mut self.core {
            Core::Loading { proposals, .. } => proposals.push(message),
            Core::Running(_) => self.step(Input::Propose(message.0), context),
        }
    }

    fn change(&mut self, message: Change, context: &mut Context<Self>) {
        let Change { request, change } = message;
        match self.core {
            // As a core without a leader would, and soon may.
            Core::Loading { .. } => {
                let reason = rm_raft::ChangeRefused::NotLeader;
                let refused = ChangeRefused { request, reason };
                self.machine.shared.slots.gate.tell(refused);
            }
            Core::Running(_) => self.step(Input::Change { request, change }, context),
        }
    }

    fn received(&mut self, message: Received, context: &mut Context<Self>) {
        let now = self.machine.shared.clock.now();
        for each in message.messages {
            if let Some(silence) = &mut self.silence {
                silence.heard(message.from, each.term, now);
            }
            trace!(self.machine.log, "received"; "from" => message.from.0, "message" => ?each);
            let from = message.from;
            self.step(
                Input::Received {
                    from,
                    message: each,
                },
                context,
            );
        }
    }

    fn elapsed(&mut self, context: &mut Context<Self>) {
        let shared = &self.machine.shared;
        let now = shared.clock.now();
        let heartbeat = Duration::from_millis(shared.config.config.timings.heartbeat_ms);
        let before = self.elapsed_at.replace(now);
        // Whatever was due since is late by an interval at least.
        if before.is_some_and(|before| now.since(before) > 2 * heartbeat)
            && shared.board.raft().role == Role::Leader
            && !shared.board.followers().is_empty()
        {
            shared.board.meters.late_heartbeats.add(1);
        }
        self.step(Input::Elapsed, context);
    }

    fn persisted(&mut self, message: Persisted, context: &mut Context<Self>) {
        if message.incarnation != self.machine.incarnation() {
            return;
        }
        let input = Input::Persisted {
            hard_state: message.hard_state,
            last: message.last,
        };
        self.step(input, context);
    }

    fn entries_read(&mut self, message: EntriesRead, context: &mut Context<Self>) {
        if message.incarnation == self.machine.incarnation() {
            let entries = message.entries;
            self.step(Input::EntriesRead { entries }, context);
        }
    }

    fn read(&mut self, message: ReadLinearizable, context: &mut Context<Self>) {
        let ReadLinearizable { read, mode } = message;
        self.new_reads.entry(mode).or_default().push(read);
        self.plan_flush(context);
    }

    /// A core that is not there yet leads nothing; the answer that is dropped says so.
    fn transfer(&mut self, message: Transfer, context: &mut Context<Self>) {
        if let Core::Running(_) = self.core
            && self.transfers.wait(message.to, message.answer)
        {
            self.step(Input::Transfer { to: message.to }, context);
        }
    }

    /// Gives the core an input; its effects follow at the end of the batch. A core that is not there yet hears nothing,
    /// as if the message had been lost.
    pub(crate) fn step(&mut self, input: Input, context: &mut Context<Self>) {
        let now = self.machine.shared.clock.now();
        if let Core::Running(raft) = &mut self.core {
            raft.step(now, input);
            self.plan_flush(context);
        }
    }

    fn plan_flush(&mut self, context: &mut Context<Self>) {
        self.batched += 1;
        if self.batched >= BATCH_MAX {
            self.flush();
        } else if !self.flush_is_due {
            self.flush_is_due = true;
            context.notify(Flush);
        }
    }

    /// Ends the batch: asks the core about the new reads and performs its effects.
    fn flush(&mut self) {
        self.flush_is_due = false;
        self.batched = 0;
        let Core::Running(raft) = &mut self.core else {
            return; // the reads wait until there is a core
        };
        // The clock is read after the reads came: a lease that holds now held when they did, however long this process was
        // stopped in between, and whatever stops it from here on (docs/decisions/lease-reads.md).
        let now = self.machine.shared.clock.now();
        let full = self.machine.shared.board.no_space();
        if full != self.told_full {
            self.told_full = full;
            raft.step(now, Input::Space { full });
        }
        for mode in [ReadMode::Quorum, ReadMode::Lease] {
            if let Some(reads) = self.new_reads.remove(&mode) {
                self.next_read += 1;
                let read = ReadId(self.next_read);
                self.reads.insert(read, reads);
                raft.step(now, Input::Read { read, mode });
            }
        }
        let wish = self.data_ids.wish(&self.machine.shared, raft);
        if let Some(input) = wish {
            raft.step(now, input);
        }
        let mut effects = std::mem::take(&mut self.effects);
        raft.effects_into(now, &mut effects);
        let (status, configured) = (raft.status(), raft.configured());
        if self.configured.as_ref() != Some(configured)
            && !configured.configuration.voters.is_empty()
        {
            info!(self.machine.log, "members"; "index" => configured.index.0, "configuration" => ?configured.configuration.members());
            self.configured = Some(configured.clone());
            // Before what is to be sent to them.
            self.machine
                .shared
                .take_configuration(&configured.configuration);
            // The names of the config may stand for other numbers now.
            raft.step(now, Input::Prefer(self.machine.shared.priorities()));
        }
        let committed = raft.committed();
        if self.committed != Some(committed.index) && !committed.configuration.voters.is_empty() {
            self.committed = Some(committed.index);
            // Before what is to be applied, for which clients wait.
            self.machine.shared.members.set_committed(committed);
        }
        self.machine.shared.board.post_followers(raft.followers());
        self.note_leader(&status, now);
        // Before what is to be applied: whoever learns what became of a later term must find that this machine does not lead any more.
        let leader_is_new = self.post(&status);
        for effect in effects.drain(..) {
            self.perform(effect);
        }
        self.effects = effects;
        // After the effects, among which may be what the last leader refused.
        if leader_is_new {
            self.machine.shared.slots.gate.tell(LeaderKnown);
            self.machine.shared.slots.compactor.tell(LeaderKnown);
            self.machine.shared.slots.lessor.tell(LeaderKnown);
        }
    }

    /// Begins to listen for silences anew when there is another leader to follow, and shows them. A machine that leads hears none.
    fn note_leader(&mut self, status: &rm_raft::Status, now: Time) {
        self.silence = match status.role {
            Role::Leader => None,
            _ => Silence::next(self.silence, status.leader, status.term, now),
        };
        self.machine.shared.board.post_silence(self.silence);
    }

    /// Shows the status; tells whether it names another leader than before.
    fn post(&mut self, status: &rm_raft::Status) -> bool {
        let board = &self.machine.shared.board;
        let before = board.raft();
        if (before.role, before.term, before.leader) != (status.role, status.term, status.leader) {
            info!(self.machine.log, "role"; "role" => ?status.role, "term" => status.term.0,
                "leader" => status.leader.map(|id| self.machine.shared.name_of(id)), "last" => %status.last);
            if before.role == Role::Leader && status.role != Role::Leader {
                self.machine.shared.slots.sender.tell(StopSnapshots);
            }
            if before.leader.is_some() && before.leader != status.leader {
                self.machine.shared.slots.gate.tell(Unsettled {
                    reason: Refusal::LeaderLost,
                });
            }
        }
        board.post_raft(status);
        if status.member == rm_raft::Member::Removed && !self.left {
            self.left = true;
            participation::leave(&self.machine.shared, &self.machine.log);
        }
        status.leader.is_some() && status.leader != before.leader
    }

    fn perform(&mut self, effect: Effect) {
        trace!(self.machine.log, "effect"; "effect" => ?effect);
        let incarnation = self.machine.incarnation();
        let slots = &self.machine.shared.slots;
        match effect {
            Effect::Persist(persist) => slots.storage.tell(Persist {
                incarnation,
                persist,
            }),
            Effect::Send { to, message } => slots.sender.tell(Send { to, message }),
            Effect::ReadEntries {
                from,
                up_to,
                bytes_max,
            } => slots.storage.tell(ReadEntries {
                incarnation,
                from,
                up_to,
                bytes_max,
            }),
            Effect::Apply { up_to, entries } => {
                // An Applier that is far behind reads them from the log when their turn comes.
                let behind = up_to
                    .0
                    .saturating_sub(self.machine.shared.board.applied().0);
                let entries = if behind > APPLY_AHEAD_MAX {
                    Entries::default()
                } else {
                    entries
                };
                slots.applier.tell(Apply { up_to, entries });
            }
            effect @ (Effect::Compact { .. }
            | Effect::SendSnapshot { .. }
            | Effect::Install(_)
            | Effect::Discard(_)) => self.perform_compaction(effect),
            Effect::Readable { read, index } => {
                if let Some(reads) = self.reads.remove(&read) {
                    slots.applier.tell(Serve { index, reads });
                }
            }
            Effect::ReadRefused { read, reason } => {
                debug!(self.machine.log, "reads refused"; "reason" => ?reason);
                for read in self.reads.remove(&read).unwrap_or_default() {
                    // A client that has gone away needs no answer.
                    let _ = read.answer.send(Err(refusal(reason)));
                }
            }
            Effect::ChangeRefused { request, reason } => {
                slots.gate.tell(ChangeRefused { request, reason });
            }
            Effect::Refused { requests, reason } => slots.gate.tell(Refused { requests, reason }),
            Effect::Transferred { to, outcome } => {
                info!(self.machine.log, "transfer of leadership";
                    "to" => to.map(|id| self.machine.shared.name_of(id)), "outcome" => ?outcome);
                self.transfers.answer(Transferred { to, outcome });
            }
        }
    }
}
