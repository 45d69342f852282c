//! LogicCenter of a machine: gives the core what comes, and performs its effects, as actors/logic_center.rs does.

use std::collections::BTreeMap;

use rm_raft::{
    Durable, Effect, Input, MachineId, Member, Proposal, Raft, ReadId, ReadMode, Role,
    TransferOutcome,
};

use super::coverage::State;
use super::machine::{Request, Ticket};
use super::properties::{self, Check, Violation};
use super::world::{Event, World};

/// How long the Timer may be late, in microseconds.
const TIMER_STEP: u64 = 5_000;

impl World {
    /// LogicCenter knows what is durable: it makes the core.
    pub(crate) fn load(&mut self, at: usize) -> Check {
        let life = self.machines[at].logic.life;
        let config = self.plan.config(self.machines[at].id, life);
        let machine = &mut self.machines[at];
        machine.config = config.clone();
        let now = machine.clock.at(self.now);
        let applied = machine.applier.state.applied().index;
        let mut hard_state = machine.disk.hard_state;
        // An earlier life may have known more than it had written down: what was applied is committed.
        hard_state.commit = hard_state.commit.max(machine.board.applied);
        let durable = Durable {
            hard_state,
            base: machine.disk.log.base(),
            terms: machine.disk.log.terms(),
            last: machine.disk.log.last(),
            applied,
            configurations: machine.disk.log.configurations(),
        };
        machine.logic.log = machine.disk.log.clone();
        let core = Raft::new(config, durable, now).map_err(|error| Violation {
            property: "what a machine wrote it can load",
            text: error.to_string(),
        })?;
        machine.logic.core = Some(core);
        machine.logic.tick_at = u64::MAX;
        let proposals = std::mem::take(&mut machine.logic.proposals);
        let took_over = !machine.logic.first;
        let led = machine.board.led;
        if took_over {
            self.unsettle(at);
            if led {
                self.coverage.reach(State::CampaignedAfterFailure);
                self.input(at, Input::Campaign)?;
            }
        }
        if !proposals.is_empty() {
            self.input(at, Input::Propose(proposals))?;
        }
        self.flush(at)
    }

    /// Gives a core an input. Its effects follow at once, or a little later with those of what comes meanwhile.
    pub(crate) fn input(&mut self, at: usize, input: Input) -> Check {
        let machine = &mut self.machines[at];
        let now = machine.clock.at(self.now);
        let Some(core) = &mut machine.logic.core else {
            return Ok(());
        };
        let before = core.status();
        let proposes = properties::proposes(&input);
        let in_flight = &mut self.properties.in_flight;
        in_flight.given(at, core, &machine.config, now, &input);
        core.step(now, input);
        let status = core.status();
        if proposes && machine.logic.told_full {
            properties::took(&before, &status)?;
        }
        let life = machine.logic.life;
        let configuration = &core.configured().configuration;
        self.properties.stepped(at, life, &status, configuration)?;
        if before.role == Role::Leader && status.role != Role::Leader {
            self.coverage.reach(match before.term == status.term {
                true => State::CheckQuorum,
                false => State::LeaderDeposed,
            });
        }
        let machine = &mut self.machines[at];
        if machine.random.chance(self.plan.late) && !machine.logic.flush_is_due {
            machine.logic.flush_is_due = true;
            let at_time = self.now + machine.random.below(1_500);
            self.queue.push(at_time, Event::Flush { at, life });
            return Ok(());
        }
        if machine.logic.flush_is_due {
            return Ok(());
        }
        self.flush(at)
    }

    /// The timer: time has passed.
    pub(crate) fn tick(&mut self, at: usize) -> Check {
        let machine = &mut self.machines[at];
        if machine.logic.tick_at > self.now {
            return Ok(());
        }
        machine.logic.tick_at = u64::MAX;
        self.input(at, Input::Elapsed)?;
        self.plan_tick(at);
        Ok(())
    }

    fn plan_tick(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let Some(core) = &machine.logic.core else {
            return;
        };
        let due = machine.clock.when(core.next_deadline(), self.now);
        if due < machine.logic.tick_at {
            let due = due.max(self.now + 500) + machine.random.below(TIMER_STEP);
            if due < machine.logic.tick_at {
                machine.logic.tick_at = due;
                let life = machine.logic.life;
                self.queue.push(due, Event::Tick { at, life });
            }
        }
    }

    /// Hands out the effects of all that came.
    pub(crate) fn flush(&mut self, at: usize) -> Check {
        let machine = &mut self.machines[at];
        machine.logic.flush_is_due = false;
        let now = machine.clock.at(self.now);
        let Some(core) = &mut machine.logic.core else {
            return Ok(());
        };
        for mode in [ReadMode::Quorum, ReadMode::Lease] {
            let new_reads = &mut machine.logic.new_reads;
            let tickets: Vec<Ticket> = new_reads.extract_if(.., |each| each.mode == mode).collect();
            if !tickets.is_empty() {
                machine.logic.next_read += 1;
                let read = ReadId(machine.logic.next_read);
                machine.logic.reads.insert(read, tickets);
                core.step(now, Input::Read { read, mode });
            }
        }
        let full = self.now < machine.full_until || self.now < machine.low_until;
        if full != machine.logic.told_full {
            machine.logic.told_full = full;
            core.step(now, Input::Space { full });
        }
        let effects = core.effects(now);
        let status = core.status();
        self.trace.mark(&[
            self.now,
            at as u64,
            status.role as u64,
            status.term.0,
            status.last.index.0,
            status.last.term.0,
            status.commit.0,
            status.durable.0,
            effects.len() as u64,
        ]);
        self.post(at, &status)?;
        for effect in effects {
            self.perform(at, effect)?;
        }
        self.properties.flushed(at, &status, &self.machines)?;
        self.plan_tick(at);
        Ok(())
    }

    /// Tells the process what the core says of itself.
    fn post(&mut self, at: usize, status: &rm_raft::Status) -> Check {
        let board = &mut self.machines[at].board;
        let lost = board.leader.is_some() && board.leader != status.leader;
        let elected = !board.led && status.role == Role::Leader;
        let changed = board.leader != status.leader;
        let left = !matches!(status.member, Member::Voter | Member::Outgoing);
        if board.led && status.role == Role::Follower && left {
            self.coverage.reach(State::LeaderRemovedItself);
        }
        board.leader = status.leader;
        board.led = status.role == Role::Leader;
        let now = self.now;
        if changed {
            self.trace.line(now, || format!("{} is {status:?}", at + 1));
        }
        if elected {
            properties::elected(&self.machines[at], status)?;
            self.elected(at, status);
        }
        if lost {
            self.unsettle(at);
        }
        Ok(())
    }

    fn elected(&mut self, at: usize, status: &rm_raft::Status) {
        self.coverage.reach(State::LeaderElected);
        let configured = self.machines[at].logic.log.configured();
        if configured.configuration.is_joint() {
            self.coverage.reach(State::ElectedWhileJoint);
        }
        if let Some((delay, blow, asked)) = self.ambush.take() {
            let strike = Event::Strike { at, blow, asked };
            self.queue.push(self.now + delay, strike);
        }
        let committed = self.properties.committed();
        let lasts = self.machines.iter().map(|machine| machine.logic.log.last());
        if lasts.max().is_some_and(|last| last.index > committed) && at < self.machines.len() {
            self.coverage.reach(State::LeaderChangeWithUncommitted);
        }
        let rivals = self.machines.iter().enumerate().filter(|(place, machine)| {
            let hard_state = machine.disk.hard_state;
            *place != at && hard_state.term == status.term && hard_state.vote == Some(machine.id)
        });
        if rivals.count() > 0 {
            self.coverage.reach(State::SplitVote);
        }
    }

    fn perform(&mut self, at: usize, effect: Effect) -> Check {
        match effect {
            Effect::Persist(persist) => self.persist(at, persist),
            Effect::Send { to, message } => {
                for to in to {
                    self.send(at, to, message.clone())?;
                }
                Ok(())
            }
            Effect::ReadEntries {
                from,
                up_to,
                bytes_max,
            } => {
                self.coverage.reach(State::ReadBack);
                let machine = &mut self.machines[at];
                let life = machine.logic.life;
                let due = self.now + 50 + machine.random.below(2_000);
                let event = Event::ReadBack {
                    at,
                    life,
                    from,
                    up_to,
                    bytes_max,
                };
                self.queue.push(due, event);
                Ok(())
            }
            Effect::Apply { up_to, entries } => self.apply(at, up_to, &entries),
            Effect::Compact { up_to } => {
                self.coverage.reach(State::Compacted);
                self.machines[at].logic.log.compact(up_to);
                self.ask_storage(at, Request::Compact(up_to));
                Ok(())
            }
            Effect::SendSnapshot {
                to,
                number,
                term,
                at_least,
            } => self.send_snapshot(at, to, at_least, number, term),
            Effect::Install(snapshot) => {
                self.machines[at].applier.install = Some(snapshot);
                self.plan_work(at);
                Ok(())
            }
            Effect::Discard(snapshot) => {
                self.coverage.reach(State::SnapshotDiscarded);
                self.machines[at].received.remove(&snapshot.last);
                Ok(())
            }
            Effect::Transferred { to, outcome } => {
                if outcome == TransferOutcome::Done {
                    self.coverage.reach(State::Transferred);
                    let machine = &self.machines[at];
                    let priority = |id| machine.config.priorities.get(&id);
                    if to.is_some_and(|to| priority(to) > priority(machine.id)) {
                        self.coverage.reach(State::TransferredToPreferred);
                    }
                }
                Ok(())
            }
            Effect::Readable { read, index } => {
                let tickets = self.machines[at].logic.reads.remove(&read);
                if let Some(tickets) = tickets {
                    self.serve(at, index, tickets);
                }
                Ok(())
            }
            Effect::ReadRefused { read, .. } => {
                let tickets = self.machines[at].logic.reads.remove(&read);
                for ticket in tickets.unwrap_or_default() {
                    self.refused(ticket.client, ticket.operation);
                }
                Ok(())
            }
            Effect::ChangeRefused { .. } => {
                self.coverage.reach(State::ChangeRefused);
                Ok(())
            }
            Effect::Refused { requests, .. } => {
                self.coverage.reach(State::ProposalRefused);
                for request in requests {
                    self.properties.proposals.refused(request)?;
                    let pending = &mut self.machines[at].gate.pending;
                    if let Some((client, operation)) = pending.remove(&request.number) {
                        self.refused(client, operation);
                    }
                }
                Ok(())
            }
        }
    }

    /// From now on, until it starts anew, a machine prefers these voters as leaders.
    pub(crate) fn prefer(&mut self, at: usize, priorities: BTreeMap<MachineId, u8>) -> Check {
        self.machines[at].config.priorities = priorities.clone();
        self.input(at, Input::Prefer(priorities))
    }

    /// A client's proposal comes to LogicCenter.
    pub(crate) fn propose(&mut self, at: usize, proposal: Proposal) -> Check {
        let logic = &mut self.machines[at].logic;
        if logic.core.is_none() {
            logic.proposals.push(proposal);
            return Ok(());
        }
        self.input(at, Input::Propose(vec![proposal]))
    }
}
