//! Applier of a machine: applies what is committed, answers reads, and writes the state down now and then, as actors/applier.rs
//! does.

use rm_raft::{Entry, Index, Input, Payload};

use super::action::Part;
use super::commit::Commit;
use super::coverage::State;
use super::machine::Ticket;
use super::properties::{self, Check, Violation, require};
use super::world::{Event, World};

/// The most entries that are applied before something else gets a turn.
const SLICE: usize = 32;
/// The most entries that are kept for their turn; the rest is read from the log.
const AHEAD_MAX: usize = 64;

impl World {
    /// LogicCenter has the Applier apply up to an entry.
    pub(crate) fn apply(&mut self, at: usize, up_to: Index, entries: &[Entry]) -> Check {
        let machine = &mut self.machines[at];
        require(
            machine.disk.log.last().index >= up_to,
            "state-machine safety",
            || format!("{up_to} is to be applied, and not durable here"),
        )?;
        let applier = &mut machine.applier;
        if applier.up {
            applier.target = applier.target.max(up_to);
            let room = AHEAD_MAX.saturating_sub(applier.ahead.len());
            applier.ahead.extend(entries.iter().take(room).cloned());
            self.plan_work(at);
        }
        Ok(())
    }

    /// LogicCenter hands over reads that may be answered as of `index`.
    pub(crate) fn serve(&mut self, at: usize, index: Index, tickets: Vec<Ticket>) {
        let applier = &mut self.machines[at].applier;
        if !applier.up {
            for ticket in tickets {
                self.refused(ticket.client, ticket.operation);
            }
            return;
        }
        let index = index.max(applier.floor);
        applier.parked.entry(index).or_default().extend(tickets);
        self.plan_work(at);
    }

    pub(crate) fn plan_work(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        if !machine.applier.work_is_due {
            machine.applier.work_is_due = true;
            let life = machine.applier.life;
            let due = self.now + machine.random.below(300);
            self.queue.push(due, Event::Work { at, life });
        }
    }

    /// Applies a slice of what is to be applied, and answers what waited for it.
    pub(crate) fn work(&mut self, at: usize) -> Check {
        let applier = &mut self.machines[at].applier;
        applier.work_is_due = false;
        if applier.checkpoint.is_some() {
            return Ok(()); // it goes on after the checkpoint
        }
        if applier.install.is_some() {
            self.begin_install(at);
            return Ok(());
        }
        for _ in 0..SLICE {
            let next = self.machines[at].applier.state.applied().index.next();
            let due = self.plan.even_checkpoints && self.is_checkpoint_due(at);
            if due || next > self.machines[at].applier.target {
                break;
            }
            let Some(entry) = self.next_entry(at, next)? else {
                return Ok(()); // it could not be read, and this life is over
            };
            self.apply_entry(at, &entry)?;
            // What is applied may have been shown, whatever becomes of this life.
            let machine = &mut self.machines[at];
            machine.board.applied = machine.board.applied.max(entry.id.index);
        }
        let machine = &mut self.machines[at];
        let applied = machine.applier.state.applied().index;
        let life = machine.applier.life;
        self.properties.monotonic.applied(at, life, applied)?;
        self.answer_reads(at, applied)?;
        self.checkpoint_if_due(at);
        let applier = &self.machines[at].applier;
        if applied < applier.target && applier.checkpoint.is_none() {
            self.plan_work(at);
        }
        Ok(())
    }

    /// The entry to apply next, from memory if it is there, else from the log; both must be the same. None if the log cannot be
    /// read.
    fn next_entry(&mut self, at: usize, next: Index) -> Result<Option<Entry>, Violation> {
        let machine = &mut self.machines[at];
        let durable = machine.disk.log.get(next).cloned();
        let durable = durable.ok_or_else(|| Violation {
            property: "state-machine safety",
            text: format!("entry {next} is committed, and not in the log"),
        })?;
        let ahead = &mut machine.applier.ahead;
        let mut in_memory = false;
        while ahead.front().is_some_and(|entry| entry.id.index <= next) {
            let entry = ahead.pop_front();
            if let Some(entry) = entry.filter(|entry| entry.id.index == next) {
                require(entry == durable, "state-machine safety", || {
                    format!("{} in memory is not {} on the disk", entry.id, durable.id)
                })?;
                in_memory = true;
            }
        }
        if !in_memory && self.read_fails(at, Part::Applier) {
            self.coverage.reach(State::ApplierReadFailed);
            return Ok(None);
        }
        Ok(Some(durable))
    }

    fn apply_entry(&mut self, at: usize, entry: &Entry) -> Check {
        let machine = &mut self.machines[at];
        let again = entry.id.index <= machine.applier.floor;
        let answer = machine.applier.state.apply(entry);
        let digest = machine.applier.state.digest();
        let id = machine.id;
        if again {
            self.coverage.reach(State::ReplayAfterRestart);
        }
        let properties = &mut self.properties;
        properties
            .state_machine_safety
            .applied(entry, digest, &mut properties.proposals)?;
        self.trace.mark(&[at as u64, digest]);
        let is_change = matches!(
            entry.payload,
            Payload::Configuration {
                request: Some(_),
                ..
            }
        );
        if is_change && !again && self.machines[at].board.led {
            self.coverage.reach(State::MembersChanged);
            self.note_address(at, entry.id.index);
        }
        if let (Payload::Command(proposal), Some(answer)) = (&entry.payload, answer)
            && proposal.request.machine == id
        {
            let pending = &mut self.machines[at].gate.pending;
            if let Some((client, operation)) = pending.remove(&proposal.request.number) {
                let boot = self.machines[at].boot;
                let index = entry.id.index;
                self.properties.monotonic.shows(at, boot, index);
                self.answered(client, operation, answer);
            } else if !again {
                self.coverage.reach(State::UnknownWriteApplied);
            }
        }
        Ok(())
    }

    fn answer_reads(&mut self, at: usize, applied: Index) -> Check {
        while let Some(first) = self.machines[at].applier.parked.first_entry() {
            if *first.key() > applied {
                break;
            }
            for ticket in first.remove() {
                properties::read(applied, ticket.committed)?;
                let boot = self.machines[at].boot;
                self.properties.monotonic.read(at, boot, applied)?;
                self.answer_read(at, ticket);
            }
        }
        Ok(())
    }

    /// Whether enough was applied since the state was written down, and the disk has room for it.
    fn is_checkpoint_due(&self, at: usize) -> bool {
        let machine = &self.machines[at];
        let applied = machine.applier.state.applied().index;
        let dirty = applied.0 - machine.applier.checkpointed.0;
        dirty >= self.plan.checkpoint_entries && machine.full_until <= self.now
    }

    /// Writes the state down if that is due.
    fn checkpoint_if_due(&mut self, at: usize) {
        if !self.is_checkpoint_due(at) {
            return;
        }
        let machine = &mut self.machines[at];
        let applier = &mut machine.applier;
        let begin = self.now.max(machine.stalled_until);
        let micros = 200 + machine.random.below(2 * self.plan.commit_max);
        let mut commit = Commit::new(begin, micros);
        commit.resume(begin, micros);
        let done_at = commit.done_at;
        applier.checkpoint = Some((commit, applier.state.to_bytes()));
        let life = applier.life;
        self.queue.push(done_at, Event::Checkpointed { at, life });
    }

    /// The checkpoint is done, unless the disk has stalled meanwhile.
    pub(crate) fn checkpointed(&mut self, at: usize) -> Check {
        let machine = &mut self.machines[at];
        let applier = &mut machine.applier;
        if machine.stalled_until > self.now {
            let until = machine.stalled_until;
            if let Some((commit, _)) = &mut applier.checkpoint {
                commit.resume(until, 200);
            }
            let life = applier.life;
            let event = Event::Checkpointed { at, life };
            self.queue.push(until + 200, event);
            return Ok(());
        }
        let Some((_, state)) = applier.checkpoint.take() else {
            return Ok(());
        };
        machine.disk.state = state;
        let applied = applier.state.applied();
        applier.checkpointed = applied.index;
        self.properties.monotonic.state(at, applied.index)?;
        self.input(at, Input::Checkpointed { applied })?;
        self.work(at)
    }
}
