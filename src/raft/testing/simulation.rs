//! A cluster under a hostile network, slow disks and crashes, driven by a seed, with every safety property checked at every
//! step; then everything heals, and the cluster must move on.
//!
//! `RAFT_SEEDS=1000..5000 cargo test -p rm-raft simulation` runs these seeds instead of the few of every day.

mod clients;
mod faults;
mod members;
mod snapshots;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;

use self::faults::Comeback;
use self::members::members as leader_members;
use super::clock::Clock;
use super::cluster::Shipment;
use super::machine::Machine;
use super::properties::{Properties, Proposals, Reads};
use crate::random::Random;
use crate::{
    Body, Config, Configuration, Effect, Input, MachineId, Message, Proposal, ReadId, ReadMode,
    RequestId, Role, Time,
};

/// How long the network and the machines misbehave.
const HOSTILE: Duration = Duration::from_secs(8);
/// How many machines wait to be added.
const JOINERS: u64 = 2;
/// How long the cluster then has to come to rest.
const HEALING: Duration = Duration::from_secs(3);

/// What happens at a moment.
#[derive(Debug)]
enum Event {
    Deliver {
        from: MachineId,
        to: MachineId,
        message: Message,
    },
    /// A snapshot arrives.
    Snapshot {
        from: MachineId,
        to: MachineId,
        shipment: Shipment,
    },
    /// A machine's disk may do its next jobs.
    Disk(MachineId),
    /// A machine looks at the clock.
    Tick(MachineId),
    /// Clients come.
    Client,
    /// The environment changes.
    Fault,
}

struct Simulation {
    now: Time,
    random: Random,
    machines: BTreeMap<MachineId, Machine>,
    clocks: BTreeMap<MachineId, Clock>,
    /// When a machine that does not run comes back, and as what.
    down: BTreeMap<MachineId, (Time, Comeback)>,
    /// When a machine's process goes on that is stopped: it does nothing, and what comes waits for it.
    paused_until: BTreeMap<MachineId, Time>,
    /// When a machine's disk goes on.
    stalled_until: BTreeMap<MachineId, Time>,
    /// Directions in which nothing passes.
    cut: BTreeSet<(MachineId, MachineId)>,
    /// Messages lost and doubled, out of a hundred.
    loss: u64,
    events: BTreeMap<u64, Event>,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    numbers: u64,
    hostile: bool,
    properties: Properties,
    proposals: Proposals,
    reads: Reads,
    /// Of every effect that any core handed out, in order.
    history: DefaultHasher,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut random = Random::new(seed);
        let count = [1, 2, 3, 3, 3, 5, 5][(random.next() % 7) as usize];
        let voters: Vec<MachineId> = (1..=count).map(MachineId).collect();
        // Some machines know of no configuration, and may be added.
        let all: Vec<MachineId> = (1..=count + JOINERS).map(MachineId).collect();
        let small = random.next().is_multiple_of(2);
        // Half of the clusters have leases; of those some have machines that know nothing of them.
        let without = |local: MachineId| seed.is_multiple_of(5) && local.0.is_multiple_of(2);
        let leased = |local: MachineId| !seed.is_multiple_of(2) && !without(local);
        let config = |local: MachineId| Config {
            local,
            election_timeout: Duration::from_millis(100),
            heartbeat_interval: Duration::from_millis(20),
            disk_patience: Duration::from_millis(400),
            seed: seed ^ 0x5EED,
            inflight_requests_max: if small { 2 } else { 16 },
            inflight_entries_max: if small { 3 } else { 1 << 16 },
            inflight_bytes_max: if small { 300 } else { 1 << 20 },
            append_bytes_max: if small { 120 } else { 1 << 16 },
            uncommitted_bytes_max: if small { 1000 } else { 1 << 20 },
            log_cache_bytes_max: if small { 200 } else { 1 << 12 },
            reads_max: 16,
            trust_peer_gone: !leased(local),
            // A clock that moves 140 while another moves 70 leaves half of an election timeout for a lease.
            lease_drift_percent: leased(local).then_some(50),
            may_have_promised: leased(local),
            priorities: if seed.is_multiple_of(3) {
                BTreeMap::from([(MachineId(1), 1)])
            } else {
                BTreeMap::new()
            },
            compaction_keep_entries: if small { 10 } else { 200 },
            compaction_keep_bytes: if small { 1000 } else { 1 << 14 },
            compaction_wait_entries: if small { 1_000 } else { 20_000 },
            compaction_wait_bytes: if small { 10_000 } else { 1 << 20 },
            compaction_step_entries: 1 + seed as usize % 20,
            snapshot_timeout: Duration::from_millis(300),
        };
        // The election timeout is five heartbeats: clocks that differ by a factor of two leave a cluster able to work.
        let clocks: BTreeMap<MachineId, Clock> = all
            .iter()
            .map(|&id| {
                let offset = Duration::from_micros(random.next() % 1_000_000_000);
                let percent = 70 + random.next() % 71;
                (id, Clock { offset, percent })
            })
            .collect();
        let first = Configuration::of_voters(voters.iter().copied());
        let machines = all.iter().map(|&id| {
            let now = clocks[&id].at(Time::default());
            let begun = if voters.contains(&id) {
                first.clone()
            } else {
                Configuration::default()
            };
            (id, Machine::new(config(id), begun, now))
        });
        let mut simulation = Simulation {
            now: Time::default(),
            machines: machines.collect(),
            clocks,
            random,
            down: BTreeMap::new(),
            paused_until: BTreeMap::new(),
            stalled_until: BTreeMap::new(),
            cut: BTreeSet::new(),
            loss: 0,
            events: BTreeMap::new(),
            queue: BinaryHeap::new(),
            numbers: 0,
            hostile: true,
            properties: Properties::default(),
            proposals: Proposals::default(),
            reads: Reads::default(),
            history: DefaultHasher::new(),
        };
        for &id in &all {
            simulation.schedule(0, Event::Tick(id));
        }
        simulation.schedule(0, Event::Client);
        simulation.schedule(0, Event::Fault);
        simulation
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random.next() % 100 < percent
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next() % bound
    }

    fn schedule(&mut self, delay_micros: u64, event: Event) {
        self.numbers += 1;
        let at = self.now.after(Duration::from_micros(delay_micros));
        self.events.insert(self.numbers, event);
        self.queue.push(Reverse((at, self.numbers)));
    }

    fn run_until(&mut self, end: Time) {
        while let Some(&Reverse((at, number))) = self.queue.peek()
            && at < end
        {
            self.queue.pop();
            self.now = at;
            let event = self.events.remove(&number).expect("each event is once");
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, message } => {
                if self.cut.contains(&(from, to)) {
                    return;
                }
                if let Some(delay) = self.paused_for(to) {
                    self.schedule(delay, Event::Deliver { from, to, message });
                    return;
                }
                self.input(to, Input::Received { from, message });
            }
            Event::Snapshot { from, to, shipment } => self.snapshot_arrives(from, to, shipment),
            Event::Disk(id) => self.disk(id),
            Event::Tick(id) => self.tick(id),
            Event::Client => self.client(),
            Event::Fault => self.fault(),
        }
    }

    /// For how many microseconds a machine is still paused.
    fn paused_for(&self, id: MachineId) -> Option<u64> {
        let until = self.paused_until.get(&id)?;
        let left = until.since(self.now).as_micros() as u64;
        (left > 0).then_some(left)
    }

    /// What a machine's clock shows.
    fn clock(&self, id: MachineId) -> Time {
        self.clocks[&id].at(self.now)
    }

    /// Gives a machine an input, and mostly performs the effects at once; now and then they wait for the next input.
    fn input(&mut self, id: MachineId, input: Input) {
        if self.paused_for(id).is_some() {
            return;
        }
        let now = self.clock(id);
        let Some(core) = self.machine(id).core.as_mut() else {
            return;
        };
        core.step(now, input);
        let status = core.status();
        self.reads.committed(status.commit);
        self.properties.check_core(&self.machines[&id]);
        if !self.chance(20) {
            self.perform(id);
        }
    }

    fn machine(&mut self, id: MachineId) -> &mut Machine {
        self.machines.get_mut(&id).expect("the machine is listed")
    }

    fn perform(&mut self, id: MachineId) {
        let now = self.clock(id);
        let Some(core) = self.machine(id).core.as_mut() else {
            return;
        };
        for effect in core.effects(now) {
            (id, format!("{effect:?}")).hash(&mut self.history);
            let jobs = self.machine(id).jobs.len();
            let rest = self.machine(id).keep(effect);
            for _ in jobs..self.machine(id).jobs.len() {
                let delay = 100 + self.below(3000);
                self.schedule(delay, Event::Disk(id));
            }
            match rest {
                Some(Effect::Send { to, message }) => {
                    assert!(to.is_sorted(), "receivers are sorted");
                    for to in to {
                        self.send(id, to, message.clone());
                    }
                }
                Some(Effect::SendSnapshot {
                    to,
                    number,
                    term,
                    at_least,
                }) => {
                    let (snapshot, content) = self.machine(id).snapshot(at_least);
                    let shipment = Shipment {
                        number,
                        term,
                        snapshot,
                        content,
                    };
                    self.send_snapshot(id, to, shipment);
                }
                Some(Effect::Readable { read, index }) => self.reads.readable(id, read, index),
                Some(Effect::ReadRefused { read, .. }) => self.reads.refused(id, read),
                Some(Effect::Refused { requests, .. }) => self.proposals.refused(requests),
                Some(Effect::ChangeRefused { .. } | Effect::Transferred { .. }) => {}
                Some(other) => panic!("{other:?} concerns the machine alone"),
                None => {}
            }
        }
        let status = self.machine(id).core.as_ref().map(|core| core.status());
        if let Some(status) = status {
            self.reads.committed(status.commit);
        }
        self.properties.check(&self.machines[&id]);
    }

    fn send(&mut self, from: MachineId, to: MachineId, message: Message) {
        assert_ne!(from, to, "no machine writes to itself");
        if self.chance(self.loss) {
            return;
        }
        // Proposals travel on an ordered stream, which repeats nothing.
        let is_propose = matches!(message.body, Body::Propose { .. });
        let copies = if !is_propose && self.chance(self.loss) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let slow = self.hostile && self.chance(3);
            let delay = 50 + self.below(if slow { 200_000 } else { 2_000 });
            let message = message.clone();
            self.schedule(delay, Event::Deliver { from, to, message });
        }
    }

    /// Does some of the jobs that wait, in one commit: then all messages leave, and often only the last notice is given.
    fn disk(&mut self, id: MachineId) {
        if let Some(delay) = self.paused_for(id) {
            self.schedule(delay, Event::Disk(id));
            return;
        }
        if let Some(&until) = self.stalled_until.get(&id)
            && until > self.now
        {
            let delay = until.since(self.now).as_micros() as u64;
            self.schedule(delay, Event::Disk(id));
            return;
        }
        let merged = 1 + self.below(4);
        let only_last = self.chance(50);
        let (mut messages, mut notices) = (Vec::new(), Vec::new());
        for _ in 0..merged {
            let Some(done) = self.machine(id).work() else {
                break;
            };
            messages.extend(done.then);
            let Some(answer) = done.answer else {
                continue;
            };
            if matches!(answer, Input::Persisted { .. }) && only_last {
                notices.retain(|notice| !matches!(notice, Input::Persisted { .. }));
            }
            let may_be_lost = matches!(answer, Input::EntriesRead { .. });
            if !may_be_lost || !self.hostile || !self.chance(10) {
                notices.push(answer);
            }
        }
        for (to, message) in messages {
            self.send(id, to, message);
        }
        for notice in notices {
            self.input(id, notice);
        }
    }

    fn tick(&mut self, id: MachineId) {
        if let Some(delay) = self.paused_for(id) {
            self.schedule(delay, Event::Tick(id));
            return;
        }
        let now = self.now;
        if let Some(&(until, comeback)) = self.down.get(&id)
            && until <= now
        {
            self.down.remove(&id);
            self.come_back(id, comeback);
        }
        let core = self.machines[&id].core.as_ref();
        if core.is_some_and(|core| core.next_deadline() <= self.clock(id)) {
            self.input(id, Input::Elapsed);
        }
        if self.chance(2) {
            self.save(id);
        }
        self.perform(id);
        let delay = 1_000 + self.below(4_000);
        self.schedule(delay, Event::Tick(id));
    }

    /// Ends all misbehaviour, and requires progress.
    fn heal(&mut self) {
        self.hostile = false;
        self.loss = 0;
        self.cut.clear();
        self.stalled_until.clear();
        self.paused_until.clear();
        self.space_for_all(false);
        self.run_until(self.now.after(HEALING));
        let leaders: Vec<MachineId> = self.machines.values().filter_map(leads).collect();
        assert_eq!(leaders.len(), 1, "one leader after healing");
        self.input(leaders[0], Input::Propose(vec![last_proposal(leaders[0])]));
        for id in self.machines.keys().copied().collect::<Vec<_>>() {
            self.numbers += 1;
            let read = ReadId(self.numbers);
            self.reads.came(id, read);
            let mode = ReadMode::Quorum;
            self.input(id, Input::Read { read, mode });
        }
        // Whoever takes no part finds no leader, and has its reads refused in time.
        self.run_until(self.now.after(Duration::from_secs(1)));
        assert_eq!(self.reads.open(), 0, "every read has an answer");
        let leader = &self.machines[&leaders[0]];
        let done = leader.applied.iter().any(|entry| {
            matches!(&entry.payload, crate::Payload::Command(proposal) if *proposal == last_proposal(leaders[0]))
        });
        assert!(done, "a proposal is applied after healing");
        let members = leader_members(leader);
        for machine in self.machines.values() {
            if !members.contains(&machine.config.local) {
                assert!(
                    leader.applied.starts_with(&machine.applied),
                    "whoever left applied no other"
                );
                continue;
            }
            assert!(
                machine.applied == leader.applied,
                "all machines applied the same"
            );
            assert_eq!(
                machine.disk.last(),
                leader.disk.last(),
                "all logs end with the same entry"
            );
            let held = machine.disk.log.len().min(leader.disk.log.len());
            let tail =
                |machine: &Machine| machine.disk.log[machine.disk.log.len() - held..].to_vec();
            assert!(tail(machine) == tail(leader), "all logs are the same");
            self.proposals.check(&machine.applied);
        }
    }
}

fn leads(machine: &Machine) -> Option<MachineId> {
    let status = machine.core.as_ref()?.status();
    (status.role == Role::Leader).then_some(machine.config.local)
}

fn last_proposal(machine: MachineId) -> Proposal {
    let number = u64::MAX;
    Proposal {
        request: RequestId { machine, number },
        command: Bytes::from_static(b"the last one"),
    }
}

fn run(seed: u64) -> Simulation {
    let mut simulation = Simulation::new(seed);
    simulation.run_until(Time::default().after(HOSTILE));
    simulation.heal();
    simulation
}

#[test]
fn simulation_keeps_every_property() {
    let range = std::env::var("RAFT_SEEDS").unwrap_or_else(|_| "0..20".into());
    let (from, to) = range.split_once("..").expect("RAFT_SEEDS is FROM..TO");
    let number = |text: &str| text.parse::<u64>().expect("a seed is a number");
    for seed in number(from)..number(to) {
        let outcome = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = outcome {
            eprintln!(
                "seed {seed} failed: RAFT_SEEDS={seed}..{} repeats it",
                seed + 1
            );
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let (first, second) = (run(7), run(7));
    assert_eq!(first.history.finish(), second.history.finish());
    assert_ne!(first.history.finish(), run(8).history.finish());
}
