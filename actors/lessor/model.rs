//! A model of three machines that count the time of leases, and a naive twin that knows what holders were promised.
//!
//! Time is a number. Leaders change, and who is replaced may not know it for long; clocks pause and leap; entries are written late, also
//! those of earlier reigns, or never, or nobody learns of it; what is told to a lessor comes late; lessors and key spaces start anew. A run
//! is a function of its seed: `LEASE_SEEDS=0..10000 cargo test -p rm-actors --lib lessor::model` for more of them.

mod errands;
mod faults;
mod machine;
mod promises;
mod table;

use std::ops::Range;
use std::time::Instant;

use fastrand::Rng;
use rm_kv::{Command, Lease, LeaseChange, ReplyBody};
use rm_raft::Term;

use self::machine::{Asker, Machine, News, Page, Wait};
use self::promises::Promises;
use self::table::Table;
use super::asking::Wish;
use super::reign::{Fate, Measures, Proposal, Want};

const MACHINES: usize = 3;
/// How long a lease is not renewed until what is left of it is noted.
const NOTE_MS: u64 = 3_000;
/// What a new leader adds.
const EXTENSION_MS: u64 = 1_000;
/// Parts so small that it takes several to read, end or note what there is.
const MEASURES: Measures = Measures {
    note_ms: NOTE_MS,
    extension_ms: EXTENSION_MS,
    page: 3,
    ends_max: 3,
    notes_max: 2,
};
/// The longest time of a lease, in seconds: some are noted, some are too short for that.
const TTL_MAX: i64 = 12;
/// The ids that are granted, so few that they are granted again and again.
const IDS: i64 = 8;
/// How often a machine looks at what is to be done.
const TICK_MS: u64 = 100;
/// How many steps a run has before nothing fails any more.
const STEPS: usize = 1_500;
/// The runs by default.
const SEEDS: Range<u64> = 0..600;

/// An entry of the log.
struct Entry {
    term: Term,
    command: Command,
    asker: Option<Asker>,
}

struct World {
    rng: Rng,
    /// One in so many times a lessor hears something: else it waits.
    deaf: u32,
    /// One in so many times something becomes of what is proposed.
    slow: u32,
    /// One in so many times something fails.
    calm: u32,
    now_ms: u64,
    term: u64,
    leader: usize,
    machines: Vec<Machine>,
    log: Vec<Entry>,
    /// What was proposed and is not written yet.
    proposed: Vec<(Command, Option<Asker>)>,
    /// What nobody waits for any more, and when it is written all the same.
    late: Vec<(u64, Command)>,
    /// The table after all of the log.
    truth: Table,
    promises: Promises,
    /// How many looks at leases there were.
    looks: usize,
    /// How many reigns were given up.
    given_up: usize,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::with_seed(seed);
        let began = Instant::now();
        let mut world = World {
            deaf: rng.u32(1..4),
            slow: rng.u32(1..12),
            calm: rng.u32(20..120),
            rng,
            now_ms: 0,
            term: 1,
            leader: 0,
            machines: (0..MACHINES).map(|_| Machine::new(began)).collect(),
            log: Vec::new(),
            proposed: Vec::new(),
            late: Vec::new(),
            truth: Table::default(),
            promises: Promises::default(),
            looks: 0,
            given_up: 0,
        };
        world.lead(0);
        world
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.rng.u32(0..count) == 0
    }

    fn is_stopped(&self, machine: usize) -> bool {
        self.machines[machine].stopped_until_ms > self.now_ms
    }

    /// A machine leads in the present term, and knows it.
    fn lead(&mut self, machine: usize) {
        self.leader = machine;
        self.machines[machine].leads_in = Some(Term(self.term));
        self.look_who_leads(machine);
    }

    fn look_who_leads(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        machine.clock(self.now_ms);
        if machine.counting.leads_in(machine.leads_in) {
            self.go_on(number);
        }
    }

    fn tick(&mut self, number: usize) {
        self.machines[number].ticked_ms = self.now_ms;
        self.look_who_leads(number);
        self.go_on(number);
        let machine = &mut self.machines[number];
        let now_ms = machine.clock(self.now_ms);
        let reign = machine.counting.reign_mut();
        let want = reign.and_then(|reign| reign.wants_noted(now_ms));
        self.carry_out(number, want);
    }

    fn go_on(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        let now_ms = machine.clock(self.now_ms);
        let reign = machine.counting.reign_mut();
        let want = reign.and_then(|reign| reign.wants(now_ms));
        self.carry_out(number, want);
    }

    fn carry_out(&mut self, number: usize, want: Option<Want>) {
        let machine = &mut self.machines[number];
        let Some(reign) = machine.counting.reign().map(|reign| reign.number) else {
            return;
        };
        match want {
            Some(Want::Read { after, count }) => {
                let page = Page { after, count };
                machine.pages.push((reign, page));
            }
            Some(Want::Propose(proposal)) => {
                let life = machine.life;
                match &proposal {
                    Proposal::Begin => {}
                    Proposal::End { grants, .. } => assert!(grants.len() <= MEASURES.ends_max),
                    Proposal::Note { times, .. } => {
                        assert!(times.len() <= MEASURES.notes_max);
                        let now = self.promises.moment(self.now_ms);
                        self.promises.noted((number, life, reign), times, now);
                    }
                }
                let command = proposal.command();
                let asker = Asker {
                    machine: number,
                    life,
                    wait: Wait::Decision(reign, proposal),
                };
                self.proposed.push((command, Some(asker)));
            }
            None => {}
        }
    }

    /// Writes an entry, whoever led when it was proposed.
    fn write(&mut self, command: Command, asker: Option<Asker>) {
        let entry = self.log.len() as u64 + 1;
        let (reply, changes) = self.truth.apply(entry, &command);
        if let ReplyBody::GrantLease(lease) = reply {
            let now = self.promises.moment(self.now_ms);
            self.promises.granted(lease.grant, now, lease.ttl);
        }
        for change in changes {
            if let (Command::ExpireLeases { .. }, LeaseChange::Ended(grant)) = (&command, change) {
                self.promises.ended(grant, self.now_ms);
            }
        }
        let term = Term(self.term);
        self.log.push(Entry {
            term,
            command,
            asker,
        });
    }

    /// A machine applies the next entry; whether there was one. It knows of the term of that by then, and so that it does not lead in an
    /// earlier one: what a machine shows of itself is shown before what is to be applied is told (`actors/logic_center.rs`).
    fn apply(&mut self, number: usize) -> bool {
        let machine = &mut self.machines[number];
        let Some(entry) = self.log.get(machine.applied) else {
            return false;
        };
        let is_later = |leads_in: &Term| *leads_in >= entry.term;
        machine.leads_in = machine.leads_in.filter(is_later);
        machine.applied += 1;
        let (reply, changes) = machine.table.apply(machine.applied as u64, &entry.command);
        machine.news.extend(changes.into_iter().map(News::Changed));
        if machine.applied <= machine.shown {
            return true; // it was answered before
        }
        machine.shown = machine.applied;
        let is_own = |asker: &&Asker| asker.machine == number && asker.life == machine.life;
        if let Some(asker) = entry.asker.as_ref().filter(is_own) {
            machine.answer(asker.wait.clone(), Fate::Applied(reply));
        }
        true
    }

    fn apply_all(&mut self, number: usize) {
        while self.apply(number) {}
    }

    /// What holders do.
    fn hold(&mut self) {
        let machine = self.rng.usize(0..MACHINES);
        let (id, ttl) = (self.rng.i64(1..=IDS), self.rng.i64(1..=TTL_MAX));
        match self.rng.u32(0..40) {
            0..5 => self.proposed.push((Command::GrantLease { id, ttl }, None)),
            5 => self.proposed.push((Command::RevokeLease { id }, None)),
            6..12 if !self.is_stopped(machine) => self.ask(machine, Wish::Renew),
            12 if !self.is_stopped(machine) => self.ask(machine, Wish::Look),
            _ => {}
        }
    }

    /// A while passes, in which each machine that runs does some of what it may do.
    fn pass(&mut self, is_quiet: bool) {
        self.now_ms += self.rng.u64(1..TICK_MS);
        if is_quiet || self.one_in(self.slow) {
            for _ in 0..self.rng.usize(0..4) {
                self.decide(is_quiet);
            }
        }
        self.write_late(self.now_ms);
        for number in 0..MACHINES {
            if !self.is_stopped(number) {
                self.pass_at(number, is_quiet);
            }
        }
    }

    fn pass_at(&mut self, number: usize, is_quiet: bool) {
        // Whoever does not lead any more learns it at some time.
        if number != self.leader && (is_quiet || self.one_in(30)) {
            self.machines[number].leads_in = None;
        }
        if self.now_ms - self.machines[number].ticked_ms >= TICK_MS {
            self.tick(number);
        }
        for _ in 0..self.rng.usize(0..5) {
            self.apply(number);
        }
        if is_quiet || self.one_in(self.deaf) {
            for _ in 0..self.rng.usize(0..12) {
                self.hear(number);
            }
        }
        if self.rng.bool() {
            self.read(number);
            self.look_up(number);
        }
        if self.one_in(50) {
            self.machines[number].checkpoint();
        }
    }

    /// Nothing fails any more, and nobody renews: all leases end, and not long after their time.
    fn come_to_an_end(&mut self) {
        for machine in &mut self.machines {
            machine.stopped_until_ms = 0;
        }
        // Sometimes with a reign that has seen it all.
        if self.rng.bool() {
            self.elect(self.leader);
        }
        for (command, asker) in std::mem::take(&mut self.proposed) {
            self.write(command, asker);
        }
        self.write_late(u64::MAX);
        // The last that fails: the news of all that is lost.
        if self.rng.bool() {
            self.apply_all(self.leader);
            self.reopen(self.leader);
        }
        let patience_ms = (TTL_MAX as u64 + 1) * 1_000 + EXTENSION_MS + 5_000;
        let end_ms = self.now_ms + patience_ms;
        while self.now_ms < end_ms {
            self.pass(true);
        }
        let left: Vec<&Lease> = self.truth.leases.values().collect();
        assert!(left.is_empty(), "{left:?} are left after {patience_ms} ms");
        let books = self.machines.iter().filter_map(|it| it.counting.reign());
        let counted: usize = books.map(|reign| reign.book.len()).sum();
        assert_eq!(counted, 0, "what has ended is in no book");
    }
}

/// Says which seed it was when a run panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("LEASE_SEEDS={}..{} repeats it", self.0, self.0 + 1);
        }
    }
}

fn run(seed: u64) -> World {
    let _named = Named(seed);
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.hold();
        if world.one_in(world.calm) {
            world.fail();
        }
        world.pass(false);
    }
    world.come_to_an_end();
    world
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("LEASE_SEEDS") else {
        return SEEDS;
    };
    let range = text.split_once("..");
    let range = range.and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.unwrap_or_else(|| panic!("LEASE_SEEDS={text:?} is no range: say 0..1000"))
}

#[test]
fn no_lease_ends_early_and_all_end_whatever_fails() {
    let mut seen = [0; 4];
    for seed in seeds() {
        let World {
            promises, given_up, ..
        } = run(seed);
        let counts = [promises.renewed, promises.ended, promises.noted, given_up];
        (0..4).for_each(|number| seen[number] += counts[number]);
    }
    println!("renewals, ends, notes and reigns given up: {seen:?}");
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

/// Each reign notes what is left, and the next begins with that.
#[test]
fn changes_of_leader_renew_no_lease_for_ever() {
    const TTL: i64 = 60;
    const REIGN_MS: u64 = 8_000;
    // By what a lease is older after a reign: without what passed since the last note, a rounding, and what the next leader adds.
    const OLDER_MS: u64 = REIGN_MS - NOTE_MS - 1_000 - EXTENSION_MS - 1_000;
    const REIGNS_MAX: u64 = TTL as u64 * 1_000 / OLDER_MS + 1;
    for seed in 0..20 {
        let _named = Named(seed);
        let mut world = World::new(seed);
        for id in 1..=IDS {
            world.write(Command::GrantLease { id, ttl: TTL }, None);
        }
        let mut reigns = 0;
        while !world.truth.leases.is_empty() {
            reigns += 1;
            assert!(reigns <= REIGNS_MAX, "{REIGNS_MAX} reigns are not enough");
            world.elect(reigns as usize % MACHINES);
            let end_ms = world.now_ms + REIGN_MS;
            while world.now_ms < end_ms {
                world.pass(true);
            }
        }
        assert!(world.now_ms >= TTL as u64 * 1_000);
        assert!(reigns > 2, "the leader changed");
    }
}
