//! All that a run is at one moment, and the loop that moves it on: one clock, one queue of events.

use std::collections::{BTreeMap, VecDeque};

use rm_raft::{EntryId, Message, Role, Term};

use super::action::{Blow, Move};
use super::clients::Clients;
use super::clock::Clock;
use super::coverage::{Coverage, State};
use super::machine::Machine;
use super::network::{Network, Way};
use super::plan::Plan;
use super::properties::{Check, Properties, Violation};
use super::queue::Queue;
use super::random::Random;
use super::snapshots::Journey;
use super::trace::Trace;

/// What happens at a moment. Those that belong to a life of a part are void when it is over.
#[derive(Debug)]
pub(crate) enum Event {
    /// The action at this place of the plan.
    Action(usize),
    /// A message arrives.
    Deliver {
        from: usize,
        to: usize,
        way: Way,
        message: Message,
    },
    /// LogicCenter hands out its effects.
    Flush { at: usize, life: u64 },
    /// LogicCenter looks at the clock.
    Tick { at: usize, life: u64 },
    /// Storage looks for what waits.
    Pump { at: usize, life: u64 },
    /// A commit of the log may be done.
    Committed { at: usize, life: u64 },
    /// LogicCenter hears what is durable.
    Persisted {
        at: usize,
        logic: u64,
        input: Box<rm_raft::Input>,
    },
    /// LogicCenter hears of something else that it asked for.
    Told {
        at: usize,
        logic: u64,
        input: Box<rm_raft::Input>,
    },
    /// Storage reads entries back.
    ReadBack {
        at: usize,
        life: u64,
        from: rm_raft::Index,
        up_to: rm_raft::Index,
        bytes_max: usize,
    },
    /// The Applier goes on.
    Work { at: usize, life: u64 },
    /// A checkpoint may be done.
    Checkpointed { at: usize, life: u64 },
    /// The parts of a machine that are down are built anew.
    Rebuild { at: usize, boot: u64, life: u64 },
    /// A process starts.
    Boot { at: usize, boot: u64 },
    /// A snapshot has travelled.
    Snapshot {
        from: usize,
        to: usize,
        journey: Box<Journey>,
    },
    /// A stopped process goes on.
    Resume { at: usize, boot: u64 },
    /// A leader is struck.
    Strike {
        at: usize,
        blow: Blow,
        asked: Option<Move>,
    },
    /// A client asks, for the first time or again.
    Ask { client: usize, operation: u64 },
}

/// A run.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) now: u64,
    pub(crate) steps: u64,
    pub(crate) queue: Queue<Event>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) network: Network,
    pub(crate) clients: Clients,
    pub(crate) properties: Properties,
    pub(crate) coverage: Coverage,
    pub(crate) trace: Trace,
    /// Whether there are faults yet.
    pub(crate) hostile: bool,
    /// Whether any link is cut.
    pub(crate) partitioned: bool,
    /// Entries of an earlier term that were on a majority and not committed.
    pub(crate) figure8: VecDeque<EntryId>,
    /// What befalls the next leader.
    pub(crate) ambush: Option<(u64, Blow, Option<Move>)>,
    /// What a crash found broken.
    pub(crate) broken: Option<Violation>,
    /// The one that stays down.
    pub(crate) dead_for_good: Option<usize>,
    /// The terms whose leader told a machine to stand for election, so as to hand over to it, and when it did so last.
    pub(crate) handed_over: BTreeMap<Term, u64>,
    lives: u64,
}

impl World {
    /// The machines of a plan, all of them starting, and all its actions waiting.
    pub(crate) fn new(plan: Plan, text: bool) -> World {
        let mut world = World {
            now: 0,
            steps: 0,
            queue: Queue::default(),
            machines: Vec::new(),
            network: Network::new(plan.machines, plan.seed, plan.wild),
            // Each machine has a client besides that asks nobody else: at the end all must be served.
            clients: Clients::new(plan.clients + plan.machines, plan.seed),
            properties: Properties::new(plan.machines),
            coverage: Coverage::default(),
            trace: Trace::new(text),
            hostile: true,
            partitioned: false,
            figure8: VecDeque::new(),
            ambush: None,
            broken: None,
            dead_for_good: None,
            handed_over: BTreeMap::new(),
            lives: 0,
            plan,
        };
        for place in 0..world.plan.machines {
            let id = rm_raft::MachineId(place as u64 + 1);
            let (offset, percent) = world.plan.clocks[place];
            let config = world.plan.config(id, 0);
            let random = Random::new(world.plan.seed, 100 + place as u64);
            let begun_with = world.plan.begun_with(place);
            let machine = Machine::new(config, begun_with, Clock::new(offset, percent), random);
            world.machines.push(machine);
            let boot = Event::Boot { at: place, boot: 0 };
            world.queue.push(0, boot);
        }
        for (place, &(at, _)) in world.plan.actions.iter().enumerate() {
            world.queue.push(at, Event::Action(place));
        }
        world
    }

    /// Runs until this moment.
    pub(crate) fn run_until(&mut self, end: u64) -> Check {
        while let Some((at, event)) = self.queue.pop_before(end) {
            self.now = at.max(self.now);
            self.steps += 1;
            self.happen(event)?;
            if let Some(violation) = self.broken.take() {
                return Err(violation);
            }
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Check {
        match event {
            Event::Action(place) => self.act(self.plan.actions[place].1),
            Event::Deliver {
                from,
                to,
                way,
                message,
            } => self.deliver(from, to, way, message),
            Event::Flush { at, life } if self.logic_lives(at, life) => {
                self.unless_paused(at, Event::Flush { at, life }, |world| world.flush(at))
            }
            Event::Tick { at, life } if self.logic_lives(at, life) => {
                self.unless_paused(at, Event::Tick { at, life }, |world| world.tick(at))
            }
            Event::Persisted { at, logic, input } if self.logic_lives(at, logic) => {
                if self.is_paused(at) {
                    let event = Event::Persisted { at, logic, input };
                    self.machines[at].held.push(event);
                    return Ok(());
                }
                self.machines[at].storage.unheard.pop_front();
                self.hear(at, *input)
            }
            Event::Told { at, logic, input } if self.logic_lives(at, logic) => {
                if self.is_paused(at) {
                    let event = Event::Told { at, logic, input };
                    self.machines[at].held.push(event);
                    return Ok(());
                }
                self.input(at, *input)
            }
            Event::Pump { at, life } if self.storage_lives(at, life) => {
                self.unless_paused(at, Event::Pump { at, life }, |world| world.pump(at))
            }
            Event::Committed { at, life } if self.storage_lives(at, life) => {
                self.unless_paused(at, Event::Committed { at, life }, |world| {
                    world.committed(at)
                })
            }
            Event::ReadBack {
                at,
                life,
                from,
                up_to,
                bytes_max,
            } if self.logic_lives(at, life) => {
                let event = Event::ReadBack {
                    at,
                    life,
                    from,
                    up_to,
                    bytes_max,
                };
                self.unless_paused(at, event, |world| {
                    world.read_back(at, from, up_to, bytes_max)
                })
            }
            Event::Work { at, life } if self.applier_lives(at, life) => {
                self.unless_paused(at, Event::Work { at, life }, |world| world.work(at))
            }
            Event::Checkpointed { at, life } if self.applier_lives(at, life) => {
                self.unless_paused(at, Event::Checkpointed { at, life }, |world| {
                    world.checkpointed(at)
                })
            }
            Event::Rebuild { at, boot, life } => {
                self.unless_paused(at, Event::Rebuild { at, boot, life }, |world| {
                    world.rebuild(at, boot, life)
                })
            }
            Event::Boot { at, boot } => self.boot(at, boot),
            Event::Snapshot { from, to, journey } => self.snapshot_arrives(from, to, *journey),
            Event::Resume { at, boot } => {
                self.resume(at, boot);
                Ok(())
            }
            Event::Strike { at, blow, asked } if self.hostile => self.strike(at, blow, asked),
            Event::Ask { client, operation } => self.ask(client, operation),
            Event::Flush { .. }
            | Event::Tick { .. }
            | Event::Persisted { .. }
            | Event::Told { .. }
            | Event::Pump { .. }
            | Event::Committed { .. }
            | Event::ReadBack { .. }
            | Event::Work { .. }
            | Event::Checkpointed { .. }
            | Event::Strike { .. } => Ok(()),
        }
    }

    /// A stopped process does it when it goes on.
    fn unless_paused(
        &mut self,
        at: usize,
        event: Event,
        act: impl FnOnce(&mut World) -> Check,
    ) -> Check {
        if self.is_paused(at) {
            self.machines[at].held.push(event);
            return Ok(());
        }
        act(self)
    }

    /// Whether a process is stopped.
    pub(crate) fn is_paused(&self, at: usize) -> bool {
        self.machines[at].paused_until > self.now
    }

    fn logic_lives(&self, at: usize, life: u64) -> bool {
        self.machines[at].logic.up && self.machines[at].logic.life == life
    }

    fn storage_lives(&self, at: usize, life: u64) -> bool {
        self.machines[at].storage.up && self.machines[at].storage.life == life
    }

    fn applier_lives(&self, at: usize, life: u64) -> bool {
        self.machines[at].applier.up && self.machines[at].applier.life == life
    }

    /// The number of a new life.
    pub(crate) fn new_life(&mut self) -> u64 {
        self.lives += 1;
        self.lives
    }

    /// The machine that leads the latest term, if any does.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |place: usize| {
            let status = self.machines[place].status()?;
            (status.role == Role::Leader).then_some((status.term, place))
        };
        let leaders = (0..self.machines.len()).filter_map(leads);
        leaders.max().map(|(_, place)| place)
    }

    /// A message leaves a machine.
    pub(crate) fn send(&mut self, from: usize, to: rm_raft::MachineId, message: Message) -> Check {
        self.properties.sent(&self.machines[from], to, &message)?;
        let to = to.0 as usize - 1;
        if message.body == rm_raft::Body::CampaignNow {
            self.handed_over.insert(message.term, self.now);
        }
        let (mut arrivals, way) = self.network.send(self.now, from, to, &message.body);
        let now = self.now;
        if self.machines[from].mute_until > now {
            arrivals.clear();
        }
        self.trace.line(now, || {
            let fate = if arrivals.is_empty() { " (lost)" } else { "" };
            format!("{} -> {}: {message:?}{fate}", from + 1, to + 1)
        });
        let Some((&last, copies)) = arrivals.split_last() else {
            return Ok(());
        };
        for &at in copies {
            let message = message.clone();
            let event = Event::Deliver {
                from,
                to,
                way,
                message,
            };
            self.queue.push(at, event);
        }
        let event = Event::Deliver {
            from,
            to,
            way,
            message,
        };
        self.queue.push(last, event);
        Ok(())
    }

    fn deliver(&mut self, from: usize, to: usize, way: Way, message: Message) -> Check {
        if !self.network.arrives(from, to, way) {
            if let Way::Connection(_) = way {
                self.coverage.reach(State::ConnectionBroken);
            }
            return Ok(());
        }
        let machine = &self.machines[to];
        let is_halted = way == Way::Datagram && machine.halted_until > self.now;
        if is_halted || machine.deaf_until > self.now {
            return Ok(());
        }
        if self.is_paused(to) {
            let event = Event::Deliver {
                from,
                to,
                way,
                message,
            };
            self.machines[to].held.push(event);
            return Ok(());
        }
        let Some(status) = self.machines[to].status() else {
            return Ok(());
        };
        if message.term < status.term {
            self.coverage.reach(State::StaleTermDelivered);
        }
        let is_append = matches!(message.body, rm_raft::Body::AppendRequest { .. });
        if is_append && self.machines[to].applier.is_installing() {
            self.coverage.reach(State::SnapshotRacedWithAppend);
        }
        let from_id = self.machines[from].id;
        let now = self.now;
        self.trace
            .line(now, || format!("{} <- {}: {:?}", to + 1, from + 1, message));
        let input = rm_raft::Input::Received {
            from: from_id,
            message,
        };
        self.input(to, input)
    }
}
