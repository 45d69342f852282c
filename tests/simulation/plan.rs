//! What a run is made of: settings, and the actions in order, all drawn from the seed before it begins.
//!
//! Each seed draws which faults it has and how often ("swarm testing", Groce and others, 2012): a run that has every fault
//! all the time reaches fewer states than many runs that each have a few.

use std::collections::BTreeMap;
use std::time::Duration;

use rm_raft::{Config, Configuration, MachineId};

use super::action::{Action, Blow, Halt, Move, Part, Target, Wish};
use super::random::Random;
use super::residual::Residual;
use super::theme::Theme;

/// The shortest election timeout in a run, in microseconds.
pub(crate) const ELECTION_TIMEOUT: u64 = 100_000;
/// How often a leader makes itself heard.
const HEARTBEAT: u64 = 20_000;

/// What is asked of a run, whatever its seed.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// For how many virtual seconds there are faults.
    pub seconds: u64,
    /// Whether it has every kind of fault, rather than some.
    pub all_faults: bool,
}

/// Everything that decides a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it was drawn from.
    pub seed: u64,
    /// How many machines.
    pub machines: usize,
    /// How many of them begin as voters; the others are to join.
    pub founders: usize,
    /// Whether the members change.
    pub changes_members: bool,
    /// Its rhythm.
    theme: Theme,
    /// Whether it has every kind of fault.
    all_faults: bool,
    /// How many clients.
    pub clients: usize,
    /// How long the faults go on, in microseconds.
    pub duration: u64,
    /// What is done, and when.
    pub actions: Vec<(u64, Action)>,
    /// The fault that stays when all others have ended.
    pub residual: Residual,
    /// Whether appends and answers too may overtake each other and come twice, as no connection of ours would let them.
    pub wild: bool,
    /// How many machines' clocks differ: offset and rate in percent of each.
    pub clocks: Vec<(u64, u64)>,
    /// The slowest commit of a healthy disk, in microseconds.
    pub commit_max: u64,
    /// The longest that word of a commit may take to reach the core, in microseconds; others may hear of it sooner.
    pub notice_max: u64,
    /// How many entries are applied before the state is written down.
    pub checkpoint_entries: u64,
    /// Whether it is written down after just so many, and so after the same on all machines.
    pub even_checkpoints: bool,
    /// Out of a thousand, how often what a core has to do waits for its next input.
    pub late: u64,
    /// How much each machine is preferred as leader.
    priorities: Vec<u8>,
    limits: Limits,
}

/// The bounds in the config.
#[derive(Clone, Copy, Debug)]
struct Limits {
    inflight_requests: usize,
    inflight_entries: usize,
    inflight_bytes: usize,
    append_bytes: usize,
    uncommitted_bytes: usize,
    cache_bytes: usize,
    trust_peer_gone: bool,
    /// By how many percent a clock may be slower than another, where leaders hold leases.
    drift_percent: Option<u8>,
    /// How many entries stay when the log is compacted, and how many at least go.
    compaction: (usize, usize),
    /// For how many election timeouts a leader's disk may do nothing.
    disk_patience: u32,
    /// How many batches of reads may wait.
    reads: usize,
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64, scale: Scale) -> Plan {
        let Scale {
            seconds,
            all_faults,
        } = scale;
        let mut random = Random::new(seed, 1);
        let theme = Theme::draw(&mut random, all_faults);
        let founders = match theme {
            Theme::Voters => 4,
            Theme::Leases => random.pick(&[3, 3, 5]),
            _ if all_faults => random.pick(&[3, 4, 5]),
            _ => random.pick(&[1, 3, 3, 3, 3, 4, 5, 5, 5]),
        };
        let changes_members = match theme {
            Theme::Voters => true,
            Theme::Leases => all_faults || random.chance(150),
            _ => all_faults || random.chance(500),
        };
        let joiners = match theme {
            _ if !changes_members => 0,
            Theme::Voters => random.pick(&[0, 0, 1]),
            _ => random.pick(&[0, 1, 2, 2]),
        };
        let machines = founders + joiners;
        let clients = match theme {
            Theme::Leases => 4 * machines,
            _ => random.between(2, 6) as usize,
        };
        let duration = seconds * 1_000_000;
        let small = random.chance(600);
        let drift_percent = match theme {
            Theme::Leases => Some(random.pick(&[10, 30, 30])),
            _ => random.chance(300).then(|| random.pick(&[10, 30])),
        };
        let limits = Limits {
            inflight_requests: if small { random.pick(&[1, 2, 4]) } else { 16 },
            inflight_entries: draw_inflight_entries(seed),
            inflight_bytes: if small {
                random.pick(&[100, 300, 1000])
            } else {
                1 << 20
            },
            append_bytes: if small {
                random.pick(&[70, 120, 400])
            } else {
                1 << 16
            },
            uncommitted_bytes: if small {
                random.pick(&[400, 2000, 8000])
            } else {
                1 << 20
            },
            cache_bytes: if small { 200 } else { 1 << 12 },
            trust_peer_gone: drift_percent.is_none() && random.chance(500),
            drift_percent,
            compaction: random.pick(&[(0, 1), (5, 5), (30, 10), (1 << 20, 1)]),
            disk_patience: random.pick(&[1, 2, 4, 4, 6]),
            reads: random.pick(&[2, 16]),
        };
        // The shortest election timeout is five heartbeats: clocks whose rates differ by a factor of two leave a cluster able
        // to work.
        let (slowest, fastest) = rates(drift_percent).unwrap_or((70, 140));
        let clock = |random: &mut Random| {
            let percent = match theme {
                Theme::Leases => random.pick(&[slowest, fastest]),
                _ => random.between(slowest, fastest + 1),
            };
            (random.below(1_000_000_000), percent)
        };
        let clocks = (0..machines).map(|_| clock(&mut random)).collect();
        let mut plan = Plan {
            seed,
            machines,
            founders,
            changes_members,
            theme,
            all_faults,
            clients,
            duration,
            actions: Vec::new(),
            residual: Residual::draw(&mut random, machines),
            wild: random.chance(300),
            clocks,
            commit_max: match theme {
                Theme::Leases => random.pick(&[500, 3_000]),
                _ => random.pick(&[500, 3_000, 3_000, 30_000]),
            },
            notice_max: random.pick(&[50, 50, 3_000, 600_000]),
            checkpoint_entries: random.pick(&[5, 30, 200]),
            late: random.pick(&[0, 100, 300]),
            even_checkpoints: random.chance(500),
            priorities: priorities(&mut random, machines),
            limits,
        };
        plan.draw_clients();
        plan.draw_faults();
        plan.draw_theme();
        plan.draw_members();
        plan.actions.sort_by_key(|&(at, _)| at);
        plan
    }

    /// The config of a machine. `life` tells its lives apart.
    pub(crate) fn config(&self, local: MachineId, life: u64) -> Config {
        Config {
            local,
            election_timeout: Duration::from_micros(ELECTION_TIMEOUT),
            heartbeat_interval: Duration::from_micros(HEARTBEAT),
            disk_patience: Duration::from_micros(ELECTION_TIMEOUT) * self.limits.disk_patience,
            seed: self.seed ^ (life << 40),
            inflight_requests_max: self.limits.inflight_requests,
            inflight_entries_max: self.limits.inflight_entries,
            inflight_bytes_max: self.limits.inflight_bytes,
            append_bytes_max: self.limits.append_bytes,
            uncommitted_bytes_max: self.limits.uncommitted_bytes,
            log_cache_bytes_max: self.limits.cache_bytes,
            reads_max: self.limits.reads,
            trust_peer_gone: self.limits.trust_peer_gone,
            lease_drift_percent: self.limits.drift_percent,
            may_have_promised: self.limits.drift_percent.is_some(),
            compaction_keep_entries: self.limits.compaction.0,
            compaction_keep_bytes: 1 << 20,
            // Sometimes too few for a snapshot to be of use when it arrives.
            compaction_wait_entries: self.limits.compaction.0.saturating_mul(100),
            compaction_wait_bytes: 1 << 16,
            compaction_step_entries: self.limits.compaction.1,
            snapshot_timeout: Duration::from_micros(3 * ELECTION_TIMEOUT),
            priorities: self.priorities(),
        }
    }

    /// The configuration with which a machine begins: none if it is to join.
    pub(crate) fn begun_with(&self, place: usize) -> Configuration {
        match place < self.founders {
            true => Configuration::of_voters((1..=self.founders as u64).map(MachineId)),
            false => Configuration::default(),
        }
    }

    /// Which machines are preferred as leaders when nothing is wrong.
    pub(crate) fn priorities(&self) -> BTreeMap<MachineId, u8> {
        (1..)
            .map(MachineId)
            .zip(self.priorities.iter().copied())
            .collect()
    }

    /// Where leaders hold leases, clocks keep to the bound on which these rest.
    fn within_the_bound(&self, action: Action) -> Option<Action> {
        let Some((slowest, fastest)) = rates(self.limits.drift_percent) else {
            return Some(action);
        };
        // A clock that stands still is beyond any bound: leases are off where machines may be frozen.
        let seen = |halt: Halt| Halt {
            counted: true,
            ..halt
        };
        match action {
            Action::ClockJump(..) => None,
            Action::Halt(target, halt) => Some(Action::Halt(target, seen(halt))),
            Action::Ambush(delay, Blow::Halt(halt), asked) => {
                Some(Action::Ambush(delay, Blow::Halt(seen(halt)), asked))
            }
            Action::ClockRate(target, percent) => {
                let percent = slowest + percent % (fastest + 1 - slowest);
                Some(Action::ClockRate(target, percent))
            }
            action => Some(action),
        }
    }

    fn draw_clients(&mut self) {
        let mut random = Random::new(self.seed, 2);
        let (pace, writes) = match self.theme {
            Theme::Leases => (3_000, 100),
            _ => (
                random.pick(&[2_000, 8_000, 8_000, 40_000]),
                random.pick(&[300, 500, 800]),
            ),
        };
        let mut at = 0;
        loop {
            at += random.between(pace / 4, pace * 2);
            if at >= self.duration {
                return;
            }
            // New keys each second, so that the history of a key stays small enough to check.
            let key = (at / 1_000_000) as u32 * 4 + random.below(3) as u32;
            let wish = match random.below(1000) {
                dice if dice < writes => random.pick(&[Wish::Write, Wish::Write, Wish::Swap]),
                dice if dice < writes + 30 => Wish::Delete,
                dice if dice < writes + 60 => Wish::ReadSerializable,
                dice if dice % 2 == 0 => Wish::ReadByLease,
                _ if self.theme == Theme::Leases => Wish::ReadByLease,
                _ => Wish::Read,
            };
            let client = random.below(self.clients as u64) as usize;
            let action = Action::Client {
                client,
                machine: match self.theme {
                    // Whoever waits for a machine that cannot answer keeps nobody from asking the others.
                    Theme::Leases => client % self.machines,
                    _ => random.below(self.machines as u64) as usize,
                },
                wish,
                key,
                padding: random.pick(&[0, 0, 0, 40, 300]),
            };
            self.actions.push((at, action));
        }
    }

    fn draw_faults(&mut self) {
        let mut random = Random::new(self.seed, 3);
        let pace = random.pick(&[30_000, 80_000, 200_000, 200_000, 600_000]);
        let kinds: Vec<u64> = (0..KINDS)
            .filter(|_| random.chance(self.theme.kinds()) || self.all_faults)
            .collect();
        if kinds.is_empty() {
            return;
        }
        let mut at = 0;
        loop {
            at += random.between(pace / 4, pace * 2);
            if at >= self.duration {
                return;
            }
            let kind = random.pick(&kinds);
            let action = fault(kind, &mut random, self.machines);
            if let Some(action) = self.within_the_bound(action) {
                self.actions.push((at, action));
            }
        }
    }

    fn draw_theme(&mut self) {
        let mut random = Random::new(self.seed, 4);
        if self.theme == Theme::Leaders && random.chance(600) {
            self.limits.append_bytes = 70;
            self.limits.inflight_requests = random.pick(&[1, 2]);
        }
        let actions = self.theme.actions(random, self.machines, self.duration);
        for (at, action) in actions {
            let action = self.within_the_bound(action);
            self.actions.extend(action.map(|action| (at, action)));
        }
    }

    /// Some runs change their members all the time.
    fn draw_members(&mut self) {
        if !self.changes_members || (self.theme == Theme::Voters && !self.all_faults) {
            return;
        }
        let mut random = Random::new(self.seed, 6);
        let pace = random.pick(&[30_000, 100_000, 100_000, 400_000]);
        let forces = random.pick(&[0, 100]);
        let mut at = 0;
        loop {
            at += random.between(pace / 4, pace * 2);
            if at >= self.duration {
                return;
            }
            let second = random.chance(400).then(|| draw_move(&mut random));
            let change = Action::Change {
                asked: match random.chance(800) {
                    true => Target::Leader(0),
                    false => Target::Machine(random.below(self.machines as u64) as usize),
                },
                moves: [Some(draw_move(&mut random)), second],
                force: random.chance(forces),
            };
            self.actions.push((at, change));
        }
    }
}

/// In some runs the entries on their way are what is few, whatever the other limits are.
fn draw_inflight_entries(seed: u64) -> usize {
    let mut random = Random::new(seed, 7);
    match random.chance(400) {
        true => random.pick(&[1, 2, 3, 5, 10]),
        false => 1 << 16,
    }
}

fn draw_move(random: &mut Random) -> Move {
    let number = random.below(1 << 10) as usize;
    match random.below(12) {
        0..=2 => Move::Join(number),
        3 => Move::JoinAsVoter(number),
        4..=6 => Move::Promote(number),
        7 => Move::Demote(number),
        8 | 9 => Move::Leave(number),
        10 => Move::Moves(number),
        _ => Move::LeaderLeaves,
    }
}

/// The slowest and the fastest clock that a bound allows, in percent.
fn rates(drift_percent: Option<u8>) -> Option<(u64, u64)> {
    drift_percent.map(|drift| (100 - u64::from(drift), 100))
}

/// In most runs no machine is preferred, in some one, in some they are all compared.
fn priorities(random: &mut Random, machines: usize) -> Vec<u8> {
    let mut priorities = vec![0; machines];
    match random.below(20) {
        0 | 1 => priorities.fill_with(|| random.below(4) as u8),
        2..5 => priorities[random.below(machines as u64) as usize] = 1,
        _ => {}
    }
    priorities
}

/// What befalls a leader matters most.
fn target(random: &mut Random, machines: usize) -> Target {
    let machine = random.below(machines as u64) as usize;
    match random.chance(500) {
        true => Target::Leader(machine),
        false => Target::Machine(machine),
    }
}

/// How many kinds of faults there are to draw from.
const KINDS: u64 = 28;

fn fault(kind: u64, random: &mut Random, machines: usize) -> Action {
    let one = target(random, machines);
    let other = Target::Machine(random.below(machines as u64) as usize);
    let short = random.between(5_000, 60_000);
    let long = random.between(20_000, 700_000);
    match kind {
        0 => Action::Crash(one, random.pick(&[short, long])),
        1 => Action::CrashAll(short),
        2 => Action::Fail(one, Part::LogicCenter, short),
        3 => Action::Fail(one, Part::Applier, short),
        4 => Action::Fail(one, Part::Storage, short),
        5 => Action::Pause(one, long),
        6 | 7 => Action::Stall(one, long),
        8 => match random.chance(500) {
            true => Action::Fill(one, long),
            false => Action::RunLow(one, 2 * long),
        },
        9 => Action::ReadError(one),
        10 => Action::CutOneWay(one, other),
        11 => Action::Cut(one, other),
        12 => Action::Isolate(one),
        13 => Action::Deafen(one),
        14 => Action::Minority(one, random.below(machines as u64) as usize),
        15 => Action::Split(random.next()),
        16 => Action::Bridge(one),
        17 => Action::Loss(random.pick(&[0, 20, 100, 300])),
        18 => Action::Latency(random.pick(&[50, 500, 5_000, 20_000])),
        19 => Action::Reset(one, other),
        20 => match random.chance(500) {
            true => Action::ClockRate(one, random.between(50, 200)),
            false => Action::ClockJump(one, random.pick(&[short, long, 10 * long])),
        },
        21 => match random.chance(300) {
            true => Action::Gone(one),
            false => Action::Heal,
        },
        22 => {
            let span = random.pick(&[short, long]);
            let counted = random.chance(400);
            Action::Halt(one, Halt { span, counted })
        }
        23 => Action::Fail(one, Part::Gate, short),
        24 => Action::Fail(one, Part::Sender, short),
        25 => Action::Fail(one, Part::Listener, short),
        26 => Action::Prefer(one, random.below(machines as u64) as usize),
        _ => {
            let place = random.below(machines as u64) as usize;
            let named = random.chance(600).then_some(place);
            Action::Transfer(one, named)
        }
    }
}
