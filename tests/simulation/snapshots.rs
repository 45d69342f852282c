//! Snapshots: made from the last checkpoint, sent beside the messages, and put in the place of the state and of the log.

use bytes::Bytes;
use rm_raft::{EntryId, Index, Input, MachineId, Snapshot, Term};

use super::coverage::State;
use super::machine::Request;
use super::properties::{Check, require};
use super::register::Registers;
use super::world::{Event, World};

/// A snapshot on its way.
#[derive(Debug)]
pub(crate) struct Journey {
    /// The sender's process, and which of all snapshots it is.
    boot: u64,
    ticket: u64,
    /// The LogicCenter that asked for it, and the number that it gave it.
    logic: u64,
    number: u64,
    /// The term in which the sender led.
    term: Term,
    snapshot: Snapshot,
    content: Bytes,
}

impl World {
    /// A core wants a snapshot sent. It may be slow, and fail; and of that, too, the sender may never hear.
    pub(crate) fn send_snapshot(
        &mut self,
        at: usize,
        to: MachineId,
        at_least: Index,
        number: u64,
        term: Term,
    ) -> Check {
        let now = self.machines[at].clock.at(self.now);
        let sending = &mut self.properties.in_flight;
        sending.snapshot(&self.machines[at], now, to, number, at_least)?;
        let ticket = self.new_life();
        let machine = &mut self.machines[at];
        let content = machine.disk.state.clone();
        let last = Registers::from_bytes(content.clone()).applied();
        require(
            last.index >= at_least,
            "a snapshot has what is compacted",
            || format!("the state is durable up to {last}, and a snapshot of {at_least} is wanted"),
        )?;
        let snapshot = Snapshot {
            last,
            configured: machine.disk.log.configured_at(last.index),
        };
        machine.sending.insert(to, ticket);
        let journey = Box::new(Journey {
            boot: machine.boot,
            ticket,
            logic: machine.logic.life,
            number,
            term,
            snapshot,
            content,
        });
        let longest = if self.hostile { 200_000 } else { 10_000 };
        let due = self.now + 1_000 + machine.random.below(longest);
        let (from, to) = (at, to.0 as usize - 1);
        self.trace.line(self.now, || {
            format!("{} sends {} a snapshot up to {last}", from + 1, to + 1)
        });
        if due - self.now > 50_000 {
            let to = self.machines[to].id;
            let event = Event::Told {
                at,
                logic: journey.logic,
                input: Box::new(Input::SnapshotMoves { to, number }),
            };
            self.queue.push(due - 50_000, event);
        }
        self.queue.push(due, Event::Snapshot { from, to, journey });
        Ok(())
    }

    /// The whole content of a snapshot is there, if the way is free and no other took its place.
    pub(crate) fn snapshot_arrives(&mut self, from: usize, to: usize, journey: Journey) -> Check {
        let Journey {
            boot,
            ticket,
            logic,
            number,
            term,
            snapshot,
            content,
        } = journey;
        let last = snapshot.last;
        let (sender, receiver) = (self.machines[from].id, self.machines[to].id);
        if self.machines[from].boot != boot {
            return Ok(());
        }
        let is_latest = self.machines[from].sending.get(&receiver) == Some(&ticket);
        let way_is_free = self.network.passes(from, to) && self.network.passes(to, from);
        let arrives = is_latest
            && way_is_free
            && self.machines[to].logic.core.is_some()
            && !self.is_paused(to);
        if arrives {
            self.machines[to].received.insert(last, content);
            let input = Input::SnapshotReceived {
                from: sender,
                term,
                snapshot,
            };
            self.input(to, input)?;
        } else {
            self.coverage.reach(State::SnapshotFailed);
        }
        if self.machines[from].random.chance(200) {
            return Ok(()); // the sender never hears of it
        }
        let to = receiver;
        let told = Input::SnapshotEnded { to, number };
        let late = self.hostile && self.machines[from].random.chance(200);
        let longest = if late { 400_000 } else { 500 };
        let due = self.now + self.machines[from].random.below(longest);
        let event = Event::Told {
            at: from,
            logic,
            input: Box::new(told),
        };
        self.queue.push(due, event);
        Ok(())
    }

    /// The Applier has done all that it was asked before: it has Storage put the snapshot in force.
    pub(crate) fn begin_install(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let applier = &mut machine.applier;
        let Some(snapshot) = applier.install.clone() else {
            return;
        };
        if applier.install_is_asked {
            return;
        }
        applier.install_is_asked = true;
        self.ask_storage(at, Request::Install(snapshot));
    }

    /// The state is the snapshot's, and the log begins after it: the Applier opens it.
    pub(crate) fn end_install(&mut self, at: usize, last: EntryId) -> Check {
        let machine = &mut self.machines[at];
        let state = Registers::from_bytes(machine.disk.state.clone());
        self.properties
            .state_machine_safety
            .installed(last, state.digest())?;
        self.coverage.reach(State::SnapshotInstalled);
        let applier = &mut machine.applier;
        if !applier.up {
            return Ok(());
        }
        applier.install = None;
        applier.install_is_asked = false;
        applier.checkpoint = None;
        applier.checkpointed = last.index;
        applier.target = applier.target.max(last.index);
        applier.state = state;
        let life = applier.life;
        self.properties.monotonic.applied(at, life, last.index)?;
        applier.ahead.clear();
        machine.board.applied = machine.board.applied.max(last.index);
        self.plan_work(at);
        Ok(())
    }

    /// LogicCenter hears what Storage has done.
    pub(crate) fn hear(&mut self, at: usize, input: Input) -> Check {
        if let Input::Installed(snapshot) = &input {
            self.machines[at].logic.log.install(snapshot);
        }
        self.input(at, input)
    }
}
