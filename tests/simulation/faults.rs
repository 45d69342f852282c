//! Performs the actions of a plan.

use rm_raft::Input;

use super::action::{Action, Blow, Halt, Move, Target};
use super::coverage::State;
use super::properties::Check;
use super::world::{Event, World};

impl World {
    fn place(&self, target: Target) -> usize {
        match target {
            Target::Machine(place) => place,
            Target::Leader(other) => self.leader().unwrap_or(other),
        }
    }

    pub(crate) fn act(&mut self, action: Action) -> Check {
        let now = self.now;
        if !matches!(action, Action::Client { .. }) {
            self.trace.line(now, || format!("!! {action:?}"));
        }
        match action {
            Action::Client {
                client,
                machine,
                wish,
                key,
                padding,
            } => return self.client(client, machine, wish, key, padding),
            Action::Crash(target, down) => self.crash(self.place(target), down),
            Action::CrashAll(down) => (0..self.machines.len()).for_each(|at| self.crash(at, down)),
            Action::Fail(target, part, down) => self.fail(self.place(target), part, down),
            Action::Pause(target, span) => self.pause(self.place(target), span),
            Action::Halt(target, halt) => self.halt(self.place(target), halt),
            Action::Stall(target, span) => {
                let at = self.place(target);
                self.machines[at].stalled_until = now + span;
            }
            Action::Fill(target, span) => {
                let at = self.place(target);
                self.machines[at].full_until = now + span;
            }
            Action::RunLow(target, span) => {
                let at = self.place(target);
                self.machines[at].low_until = now + span;
            }
            Action::Transfer(target, to) => {
                let at = self.place(target);
                let to = to.map(|place| self.machines[place].id);
                if !self.is_paused(at) {
                    return self.input(at, Input::Transfer { to });
                }
            }
            Action::Prefer(target, place) => {
                let at = self.place(target);
                let priorities = [(self.machines[place].id, 1)].into();
                if !self.is_paused(at) {
                    return self.prefer(at, priorities);
                }
            }
            Action::Change {
                asked,
                moves,
                force,
            } => return self.change_members(self.place(asked), moves, force),
            Action::Ambush(delay, blow, asked) => self.ambush = Some((delay, blow, asked)),
            Action::ReadError(target) => {
                let at = self.place(target);
                self.machines[at].read_fails = true;
            }
            Action::ClockRate(target, percent) => {
                let at = self.place(target);
                self.machines[at].clock.set_rate(now, percent);
            }
            Action::ClockJump(target, micros) => {
                let at = self.place(target);
                self.machines[at].clock.jump(now, micros);
            }
            Action::Gone(target) => return self.gone(self.place(target)),
            _ => self.act_on_network(action),
        }
        Ok(())
    }

    fn act_on_network(&mut self, action: Action) {
        let all = self.machines.len();
        self.partitioned = !matches!(action, Action::Heal);
        match action {
            Action::CutOneWay(from, to) => self.network.cut(self.place(from), self.place(to)),
            Action::Cut(one, other) => {
                let (one, other) = (self.place(one), self.place(other));
                self.network.cut(one, other);
                self.network.cut(other, one);
            }
            Action::Deafen(target) => {
                let deaf = self.place(target);
                self.network.cut_where(|_, to| to == deaf);
            }
            Action::Isolate(target) => {
                let alone = self.place(target);
                self.split(|place| place == alone);
            }
            Action::Minority(target, other) => {
                let one = self.place(target);
                self.split(|place| place == one || place == other);
            }
            Action::Split(bits) => self.split(|place| bits >> place & 1 == 1),
            Action::Bridge(target) => {
                let bridge = self.place(target);
                let half = |place: usize| (place + all - bridge) % all <= all / 2;
                self.network.heal();
                self.network
                    .cut_where(|from, to| from != bridge && to != bridge && half(from) != half(to));
            }
            Action::Heal => self.network.heal(),
            Action::Loss(permille) => self.network.set_loss(permille),
            Action::Latency(micros) => self.network.set_latency(micros),
            Action::Reset(one, other) => {
                let (one, other) = (self.place(one), self.place(other));
                self.network.reset(one, other);
                self.network.reset(other, one);
            }
            _ => {}
        }
    }

    /// Two sides, and nothing between them.
    fn split(&mut self, side: impl Fn(usize) -> bool) {
        self.network.heal();
        self.network.cut_where(|from, to| side(from) != side(to));
    }

    fn pause(&mut self, at: usize, span: u64) {
        if !self.machines[at].runs {
            return;
        }
        if self.machines[at].board.led {
            self.coverage.reach(State::PausedLeaderResumed);
        }
        let until = self.now + span;
        let machine = &mut self.machines[at];
        machine.paused_until = machine.paused_until.max(until);
        let boot = machine.boot;
        self.queue.push(until, Event::Resume { at, boot });
    }

    /// Nothing on a machine runs for a while.
    fn halt(&mut self, at: usize, halt: Halt) {
        if !self.machines[at].runs {
            return;
        }
        if self.machines[at].board.led {
            self.coverage.reach(match halt.counted {
                true => State::LeaderSlept,
                false => State::LeaderFrozen,
            });
        }
        let (now, until) = (self.now, self.now + halt.span);
        self.pause(at, halt.span);
        let machine = &mut self.machines[at];
        machine.halted_until = machine.halted_until.max(until);
        machine.stalled_until = machine.stalled_until.max(until);
        if !halt.counted {
            machine.clock.stop(now, until);
        }
    }

    /// A stopped process goes on with what came meanwhile.
    pub(crate) fn resume(&mut self, at: usize, boot: u64) {
        let machine = &mut self.machines[at];
        if machine.boot == boot && machine.paused_until <= self.now {
            for event in std::mem::take(&mut machine.held) {
                self.queue.push(self.now, event);
            }
        }
    }

    /// What waited for the next leader befalls it.
    pub(crate) fn strike(&mut self, at: usize, blow: Blow, asked: Option<Move>) -> Check {
        let now = self.now;
        self.trace
            .line(now, || format!("!! {} is struck: {blow:?}", at + 1));
        if asked.is_some() {
            self.change_members(at, [asked, None], true)?;
        }
        self.partitioned = true;
        match blow {
            Blow::Isolate => self.split(|place| place == at),
            Blow::Minority(other) => self.split(|place| place == at || place == other),
            Blow::Crash(down) => self.crash(at, down),
            Blow::Pause(span) => self.pause(at, span),
            Blow::Halt(halt) => self.halt(at, halt),
        }
        Ok(())
    }

    /// All others hear that the process of a machine is gone, truly or falsely.
    fn gone(&mut self, gone: usize) -> Check {
        let id = self.machines[gone].id;
        for at in (0..self.machines.len()).filter(|&at| at != gone) {
            if !self.is_paused(at) {
                self.input(at, Input::PeerGone(id))?;
            }
        }
        Ok(())
    }
}
