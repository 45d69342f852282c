//! The cluster that a script commands: its network delivers only what it is told to, its clock moves only when it is told to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use super::clock::Clock;
use super::machine::Machine;
use super::show;
use crate::{
    Config, Effect, Entry, EntryId, Input, MachineId, Member, Message, Snapshot, Status, Term, Time,
};

/// A snapshot that a machine was told to send.
#[derive(Debug)]
pub(super) struct Shipment {
    pub(super) number: u64,
    /// The sender's term at that moment.
    pub(super) term: Term,
    pub(super) snapshot: Snapshot,
    pub(super) content: Vec<Entry>,
}

/// Machines, what is on its way between them, and what they showed.
#[derive(Default)]
pub(super) struct Cluster {
    pub(super) now: Time,
    /// With what machines are started.
    pub(super) config: Option<Config>,
    pub(super) machines: BTreeMap<MachineId, Machine>,
    /// The clocks of those machines whose clock is not right.
    pub(super) clocks: BTreeMap<MachineId, Clock>,
    /// What is on its way, by sender and receiver.
    pub(super) links: BTreeMap<(MachineId, MachineId), VecDeque<Message>>,
    /// Snapshots that are to be sent, by sender and receiver.
    pub(super) shipments: BTreeMap<(MachineId, MachineId), Shipment>,
    /// Directions in which nothing passes.
    pub(super) cut: BTreeSet<(MachineId, MachineId)>,
    /// Machines whose disk waits to be told.
    pub(super) manual: BTreeSet<MachineId>,
    /// Machines that see neither the clock nor messages.
    pub(super) paused: BTreeSet<MachineId>,
    /// Machines whose effects wait, to be handed out once for all that comes.
    pub(super) gathering: BTreeSet<MachineId>,
    /// Numbers the proposals.
    pub(super) requests: u64,
    /// What the present command shows.
    pub(super) output: String,
}

impl Cluster {
    pub(super) fn machine(&mut self, id: MachineId) -> Result<&mut Machine, String> {
        self.machines.get_mut(&id).ok_or(format!("no machine {id}"))
    }

    pub(super) fn clock(&self, id: MachineId) -> Clock {
        self.clocks.get(&id).copied().unwrap_or_default()
    }

    pub(super) fn status(&self, id: MachineId) -> Result<Status, String> {
        let machine = self.machines.get(&id);
        let core = machine.and_then(|machine| machine.core.as_ref());
        core.map(|core| core.status())
            .ok_or(format!("machine {id} does not run"))
    }

    pub(super) fn tell(&mut self, id: MachineId, what: &str) {
        writeln!(self.output, "{id} {what}").expect("a string takes all");
    }

    /// Gives a machine an input and performs what comes out.
    pub(super) fn input(&mut self, id: MachineId, input: Input) {
        self.step(id, input);
        if !self.gathering.contains(&id) {
            self.perform(id);
        }
    }

    /// Gives a machine an input; shows how its role changes.
    pub(super) fn step(&mut self, id: MachineId, input: Input) {
        let Ok(before) = self.status(id) else {
            return;
        };
        let now = self.clock(id).at(self.now);
        let Some(core) = self.machines.get_mut(&id).and_then(|m| m.core.as_mut()) else {
            return;
        };
        core.step(now, input);
        self.tell_role(id, &before);
    }

    /// Shows whether a machine's role is another than before.
    fn tell_role(&mut self, id: MachineId, before: &Status) {
        if let Ok(after) = self.status(id)
            && (before.role, before.term) != (after.role, after.term)
        {
            let role = show::role(after.role);
            self.tell(id, &format!("is {role} in term {}", after.term));
        }
    }

    pub(super) fn perform(&mut self, id: MachineId) {
        loop {
            let now = self.clock(id).at(self.now);
            let Some(core) = self.machines.get_mut(&id).and_then(|m| m.core.as_mut()) else {
                return;
            };
            let before = core.status();
            let effects = core.effects(now);
            self.tell_role(id, &before);
            for effect in effects {
                let text = show::effect(&effect);
                self.tell(id, &text);
                let machine = self.machines.get_mut(&id).expect("it runs");
                match machine.keep(effect) {
                    Some(Effect::Send { to, message }) => {
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
                        let (snapshot, content) = self.machines[&id].snapshot(at_least);
                        let shipment = Shipment {
                            number,
                            term,
                            snapshot,
                            content,
                        };
                        self.shipments.insert((id, to), shipment);
                    }
                    _ => {}
                }
            }
            if self.manual.contains(&id) || !self.work(id) {
                return;
            }
        }
    }

    /// A snapshot arrives.
    pub(super) fn unload(&mut self, from: MachineId, to: MachineId, shipment: Shipment) {
        let Shipment {
            term,
            snapshot,
            content,
            ..
        } = shipment;
        if let Some(machine) = self.machines.get_mut(&to) {
            let input = machine.receive(from, term, snapshot, content);
            self.input(to, input);
        }
    }

    /// The content of a snapshot that ends with `last`, from whoever applied it.
    pub(super) fn content(&self, last: EntryId) -> Vec<Entry> {
        let machines = self.machines.values();
        let mut prefixes =
            machines.filter_map(|machine| machine.applied.get(..last.index.0 as usize));
        prefixes.next().unwrap_or_default().to_vec()
    }

    pub(super) fn send(&mut self, from: MachineId, to: MachineId, message: Message) {
        if !self.cut.contains(&(from, to)) {
            self.links.entry((from, to)).or_default().push_back(message);
        }
    }

    /// Does the next job of a machine's disk; false if there is none.
    pub(super) fn work(&mut self, id: MachineId) -> bool {
        let Some(done) = self.machines.get_mut(&id).and_then(Machine::work) else {
            return false;
        };
        self.release(id, done.then);
        if let Some(answer) = done.answer {
            self.step(id, answer);
        }
        true
    }

    /// Sends what waited for the disk.
    pub(super) fn release(&mut self, id: MachineId, then: Vec<(MachineId, Message)>) {
        for (to, message) in then {
            self.tell(id, &format!("-> {to}: {}", show::message(&message)));
            self.send(id, to, message);
        }
    }

    pub(super) fn persist(&mut self, id: MachineId, jobs: usize) {
        for _ in 0..jobs {
            if !self.work(id) {
                break;
            }
            self.perform(id);
        }
    }

    pub(super) fn merge(&mut self, id: MachineId) {
        let mut notice = None;
        while let Some(done) = self.machines.get_mut(&id).and_then(Machine::work) {
            self.release(id, done.then);
            notice = done.answer.or(notice);
        }
        if let Some(notice) = notice {
            self.input(id, notice);
        }
    }

    pub(super) fn timeout(&mut self, id: MachineId) -> Result<(), Box<dyn Error>> {
        if self.paused.contains(&id) {
            return Err(format!("machine {id} is paused").into());
        }
        let core = self.machine(id)?.core.as_ref().ok_or("it does not run")?;
        let due = core.next_deadline();
        let due = self.clock(id).moment(due);
        self.now = self.now.max(due);
        self.input(id, Input::Elapsed);
        Ok(())
    }

    pub(super) fn run_clock(&mut self, duration: Duration, deliver: bool) {
        let end = self.now.after(duration);
        while self.now < end {
            self.now = self.now.after(Duration::from_millis(10)).min(end);
            for id in self.machines.keys().copied().collect::<Vec<_>>() {
                let core = self.machines[&id].core.as_ref();
                let due =
                    core.is_some_and(|core| core.next_deadline() <= self.clock(id).at(self.now));
                if due && !self.paused.contains(&id) {
                    self.input(id, Input::Elapsed);
                }
            }
            if deliver {
                self.deliver_all();
            }
        }
    }

    pub(super) fn deliver_all(&mut self) {
        for _ in 0..1000 {
            let paused = &self.paused;
            let link = self
                .links
                .iter_mut()
                .find(|((_, to), queue)| !queue.is_empty() && !paused.contains(to));
            let Some((&(from, to), queue)) = link else {
                return;
            };
            if let Some(message) = queue.pop_front()
                && !self.cut.contains(&(from, to))
            {
                self.input(to, Input::Received { from, message });
            }
        }
        panic!("the machines never come to rest");
    }

    pub(super) fn show_status(&mut self) {
        for id in self.machines.keys().copied().collect::<Vec<_>>() {
            let Ok(status) = self.status(id) else {
                self.tell(id, "is down");
                continue;
            };
            let member = match status.member {
                Member::Voter => String::new(),
                other => format!(" member={}", show::member(other)),
            };
            let base = match status.base {
                base if base == EntryId::default() => String::new(),
                base => format!("base={base} "),
            };
            let text = format!(
                "{} term={} leader={} {base}last={} durable={} commit={}{member}",
                show::role(status.role),
                status.term,
                show::machine(status.leader),
                status.last,
                status.durable,
                status.commit
            );
            self.tell(id, &text);
        }
    }

    pub(super) fn show_logs(&mut self, log: impl Fn(&Machine) -> Vec<Entry>) {
        for id in self.machines.keys().copied().collect::<Vec<_>>() {
            let entries = log(&self.machines[&id]);
            self.tell(id, &format!("[{}]", show::list(&entries, show::entry)));
        }
    }

    pub(super) fn show_members(&mut self) {
        for id in self.machines.keys().copied().collect::<Vec<_>>() {
            let Some(core) = self.machines[&id].core.as_ref() else {
                continue;
            };
            let (status, latest) = (core.status(), core.configured().clone());
            let mut text = format!(
                "{} by {}={}",
                show::member(status.member),
                latest.index,
                show::configuration(&latest.configuration)
            );
            for (machine, about) in &latest.configuration.about {
                write!(text, " {machine}:{}", String::from_utf8_lossy(about))
                    .expect("a string takes all");
            }
            self.tell(id, &text);
        }
    }

    pub(super) fn show_deadlines(&mut self) {
        let machines = self.machines.iter();
        let cores = machines.filter_map(|(&id, machine)| Some((id, machine.core.as_ref()?)));
        let waits: Vec<_> = cores
            .map(|(id, core)| {
                (
                    id,
                    core.next_deadline()
                        .since(self.clock(id).at(self.now))
                        .as_millis(),
                )
            })
            .collect();
        for (id, millis) in waits {
            self.tell(id, &format!("waits for {millis} ms"));
        }
    }

    pub(super) fn show_network(&mut self) {
        let links = std::mem::take(&mut self.links);
        for ((from, to), queue) in &links {
            for message in queue {
                let text = format!("-> {to}: {}", show::message(message));
                self.tell(*from, &text);
            }
        }
        self.links = links;
    }
}
