//! How processes and their parts end and begin: what dies with what, and what the next life finds.

use rm_raft::Index;

use super::action::Part;
use super::commit::Fate;
use super::coverage::State;
use super::machine::{Board, Gate, Logic, Storage};
use super::properties::Check;
use super::register::Registers;
use super::world::{Event, World};

impl World {
    /// A process starts, if it is still the one that was to start.
    pub(crate) fn boot(&mut self, at: usize, boot: u64) -> Check {
        if self.machines[at].boot != boot
            || self.machines[at].runs
            || self.dead_for_good == Some(at)
        {
            return Ok(());
        }
        let now = self.now;
        self.trace.line(now, || format!("{} starts", at + 1));
        let life = self.new_life();
        let machine = &mut self.machines[at];
        machine.boot += 1;
        machine.runs = true;
        machine.logic.first = true;
        machine.logic.next_read = machine.boot << 48;
        let boot = machine.boot;
        self.rebuild_all(at, boot, life)
    }

    fn rebuild_all(&mut self, at: usize, boot: u64, life: u64) -> Check {
        let machine = &mut self.machines[at];
        machine.storage.life = life;
        machine.applier.life = life;
        machine.logic.life = life;
        self.rebuild(at, boot, life)
    }

    /// The parts that wait for this life are built: each from what is durable, and the next rests on the one before.
    pub(crate) fn rebuild(&mut self, at: usize, boot: u64, life: u64) -> Check {
        let machine = &mut self.machines[at];
        if !machine.runs || machine.boot != boot || machine.logic.life != life || machine.logic.up {
            return Ok(());
        }
        if !machine.storage.up {
            machine.storage.up = true;
        }
        if !machine.applier.up {
            let state = Registers::from_bytes(machine.disk.state.clone());
            let applied = state.applied().index;
            machine.board.applied = machine.board.applied.max(applied);
            let applier = &mut machine.applier;
            applier.up = true;
            applier.checkpointed = applied;
            applier.target = applied;
            applier.state = state;
            applier.floor = machine.board.applied;
        }
        machine.logic.up = true;
        machine.storage.load = true;
        self.pump(at)
    }

    /// A part of a process fails, with all that rests on it, and is built anew after so many microseconds.
    pub(crate) fn fail(&mut self, at: usize, part: Part, down: u64) {
        if !self.machines[at].runs || self.is_paused(at) {
            return;
        }
        let now = self.now;
        self.trace
            .line(now, || format!("{part:?} of {} fails", at + 1));
        let life = self.new_life();
        match part {
            Part::Gate => return self.fail_gate(at, down),
            Part::Sender => return self.fail_sender(at, down),
            Part::Listener => return self.fail_listener(at, down),
            Part::LogicCenter => {
                self.coverage.reach(State::LogicCenterFailed);
                self.drop_logic(at, life);
            }
            Part::Applier => {
                self.coverage.reach(State::ApplierFailed);
                self.drop_logic(at, life);
                self.drop_applier(at, life);
            }
            Part::Storage => {
                self.coverage.reach(State::StorageFailed);
                self.drop_logic(at, life);
                self.drop_applier(at, life);
                self.drop_storage(at, life);
            }
        }
        let boot = self.machines[at].boot;
        self.queue
            .push(now + down, Event::Rebuild { at, boot, life });
    }

    /// Gate fails alone: whoever waits for an answer learns that nobody can say what became of the request.
    fn fail_gate(&mut self, at: usize, down: u64) {
        let gate = &mut self.machines[at].gate;
        gate.down_until = self.now + down;
        if !gate.pending.is_empty() {
            self.coverage.reach(State::GateFailed);
        }
        self.unsettle(at);
    }

    /// Sender fails alone: what is on its way from it is lost, and so is what it is told to send until there is another.
    fn fail_sender(&mut self, at: usize, down: u64) {
        self.coverage.reach(State::SenderFailed);
        let machine = &mut self.machines[at];
        machine.mute_until = self.now + down;
        machine.sending.clear();
        self.network.reset_all_from(at);
    }

    /// Listener fails alone: what is on its way to it is lost, and so is what comes until there is another.
    fn fail_listener(&mut self, at: usize, down: u64) {
        self.coverage.reach(State::ListenerFailed);
        self.machines[at].deaf_until = self.now + down;
        self.network.reset_all_to(at);
    }

    fn drop_logic(&mut self, at: usize, life: u64) {
        let logic = std::mem::take(&mut self.machines[at].logic);
        self.machines[at].logic = Logic {
            life,
            next_read: logic.next_read + (1 << 32),
            ..Logic::default()
        };
        // Whoever waits for a read learns that it is lost, and asks again.
        let reads = logic.reads.into_values().flatten();
        for ticket in reads.chain(logic.new_reads).collect::<Vec<_>>() {
            self.refused(ticket.client, ticket.operation);
        }
        // Storage serves the next LogicCenter once it has done what the last one asked.
        let storage = &mut self.machines[at].storage;
        storage.load = false;
        storage.unheard.clear();
        storage.heard_at = 0;
    }

    fn drop_applier(&mut self, at: usize, life: u64) {
        let applier = std::mem::take(&mut self.machines[at].applier);
        self.machines[at].applier.life = life;
        for ticket in applier.parked.into_values().flatten() {
            self.refused(ticket.client, ticket.operation);
        }
        if let Some((commit, state)) = applier.checkpoint {
            let machine = &mut self.machines[at];
            if commit.crash(self.now, &mut machine.random) == Fate::Kept {
                let applied = Registers::from_bytes(state.clone()).applied();
                machine.disk.state = state;
                let kept = self.properties.monotonic.state(at, applied.index);
                self.broken = self.broken.take().or(kept.err());
            }
        }
    }

    /// What waits is lost. A commit that is under way goes on on its thread, or fails; nobody hears of it.
    fn drop_storage(&mut self, at: usize, life: u64) {
        let storage = std::mem::take(&mut self.machines[at].storage);
        self.machines[at].storage = Storage {
            life,
            ..Storage::default()
        };
        self.settle_commit(at, storage);
    }

    fn settle_commit(&mut self, at: usize, storage: Storage) {
        if !storage.waiting.is_empty() {
            self.coverage.reach(State::CrashWithUnsynced);
        }
        let Some((commit, batch)) = storage.commit else {
            return;
        };
        let fate = commit.crash(self.now, &mut self.machines[at].random);
        self.coverage.reach(match fate {
            Fate::Lost => State::CrashWithUnsynced,
            Fate::Torn => State::CrashTorn,
            Fate::Kept => State::CrashKeptUntold,
        });
        if fate == Fate::Kept
            && let Err(violation) = self.write(at, &batch)
        {
            self.broken = Some(violation);
        }
    }

    /// A process dies, and starts again after so many microseconds.
    pub(crate) fn crash(&mut self, at: usize, down: u64) {
        if !self.machines[at].runs {
            return;
        }
        let now = self.now;
        self.trace.line(now, || format!("{} crashes", at + 1));
        let life = self.new_life();
        self.drop_logic(at, life);
        self.drop_applier(at, life);
        self.drop_storage(at, life);
        let gate = std::mem::take(&mut self.machines[at].gate);
        let machine = &mut self.machines[at];
        machine.gate = Gate {
            next: gate.next,
            ..Gate::default()
        };
        machine.board = Board {
            applied: Index(0),
            ..Board::default()
        };
        machine.runs = false;
        machine.received.clear();
        machine.sending.clear();
        machine.paused_until = 0;
        if machine.halted_until > now {
            machine.stalled_until = now; // the machine was reset
        }
        machine.halted_until = 0;
        machine.mute_until = 0;
        machine.deaf_until = 0;
        machine.clock.go_on(now);
        machine.held.clear();
        let boot = machine.boot;
        for (client, operation) in gate.pending.into_values() {
            self.lost(client, operation);
        }
        self.network.reset_all_to(at);
        self.queue.push(now + down, Event::Boot { at, boot });
    }
}
