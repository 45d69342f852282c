//! Three machines in one process: their network is a queue, and their clock moves when nothing is on its way.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rm_kv::{Answer, StateMachine};
use rm_raft::{Index, Input, MachineId, Role, Time};
use tempfile::TempDir;

use crate::driver::{Machine, Outcome, Post};

/// No story needs more steps; without a bound, one that goes wrong would never end.
const STEPS_MAX: usize = 10_000;

/// The machines of a domain, and what is on its way between them.
pub(crate) struct Domain<S: StateMachine> {
    folder: TempDir,
    voters: Vec<MachineId>,
    pub(crate) machines: BTreeMap<MachineId, Machine<S>>,
    mail: VecDeque<(MachineId, MachineId, Post)>,
    now: Time,
}

impl<S: StateMachine> Domain<S> {
    /// So many machines, numbered from one.
    pub(crate) fn new(count: u64) -> Outcome<Self> {
        let mut domain = Domain {
            folder: tempfile::tempdir()?,
            voters: (1..=count).map(MachineId).collect(),
            machines: BTreeMap::new(),
            mail: VecDeque::new(),
            now: Time::default(),
        };
        for id in domain.voters.clone() {
            domain.start(id)?;
        }
        Ok(domain)
    }

    /// Starts a machine that does not run.
    pub(crate) fn start(&mut self, id: MachineId) -> Outcome<()> {
        let folder = self.folder.path().join(id.to_string());
        let machine = Machine::start(&folder, id, &self.voters, self.now)?;
        self.machines.insert(id, machine);
        Ok(())
    }

    /// Stops a machine as a crash does: nothing is saved, and what is on its way to it is lost.
    pub(crate) fn crash(&mut self, id: MachineId) {
        self.machines.remove(&id);
    }

    pub(crate) fn machine(&mut self, id: MachineId) -> Outcome<&mut Machine<S>> {
        Ok(self.machines.get_mut(&id).ok_or("it does not run")?)
    }

    /// Which machine leads, if one does.
    pub(crate) fn leader(&self) -> Option<MachineId> {
        let mut machines = self.machines.iter();
        let leader = machines.find(|(_, machine)| machine.core.status().role == Role::Leader);
        leader.map(|(&id, _)| id)
    }

    /// Lets all machines that run apply all that any of them has in its log.
    pub(crate) fn settle(&mut self) -> Outcome<Index> {
        let machines = self.machines.values();
        let last = machines.map(|machine| machine.core.status().last.index);
        let last = last.max().ok_or("no machine runs")?;
        self.run_until(|domain| {
            let mut machines = domain.machines.values();
            machines.all(|machine| machine.state_machine.applied().index >= last)
        })?;
        Ok(last)
    }

    /// Sends a command to a machine, whichever leads, and waits for the answer.
    pub(crate) fn command(&mut self, id: MachineId, command: Bytes) -> Outcome<Answer<S>> {
        let (number, input) = self.machine(id)?.propose(command);
        self.ask(id, number, input)
    }

    /// Sends a linearizable query to a machine and waits for the answer.
    pub(crate) fn query(&mut self, id: MachineId, query: S::Query) -> Outcome<Answer<S>> {
        let (number, input) = self.machine(id)?.read(query);
        self.ask(id, number, input)
    }

    fn ask(&mut self, id: MachineId, number: u64, input: Input) -> Outcome<Answer<S>> {
        self.input(id, input)?;
        self.run_until(|domain| domain.machines[&id].answers.contains_key(&number))?;
        let answer = self.machine(id)?.answers.remove(&number).flatten();
        Ok(answer.ok_or("it was turned away")?)
    }

    /// Has a machine write its state down.
    pub(crate) fn checkpoint(&mut self, id: MachineId) -> Outcome<()> {
        let input = self.machine(id)?.checkpoint()?;
        self.input(id, input)
    }

    /// Lets the machines work until something is so.
    pub(crate) fn run_until(&mut self, is_so: impl Fn(&Self) -> bool) -> Outcome<()> {
        for _ in 0..STEPS_MAX {
            if is_so(self) {
                return Ok(());
            }
            match self.mail.pop_front() {
                Some((from, to, post)) => self.deliver(from, to, post)?,
                None => self.wait()?,
            }
        }
        Err("the machines do not come to that".into())
    }

    fn deliver(&mut self, from: MachineId, to: MachineId, post: Post) -> Outcome<()> {
        let Some(machine) = self.machines.get_mut(&to) else {
            return Ok(());
        };
        let input = match post {
            Post::Message(message) => Input::Received { from, message },
            Post::Snapshot {
                term,
                snapshot,
                file,
            } => {
                machine.receive(&file)?;
                Input::SnapshotReceived {
                    from,
                    term,
                    snapshot,
                }
            }
        };
        self.input(to, input)
    }

    /// Moves the clock to the first moment at which a core wants to be told the time.
    fn wait(&mut self) -> Outcome<()> {
        let machines = self.machines.iter();
        let deadlines = machines.map(|(&id, machine)| (machine.core.next_deadline(), id));
        let (deadline, id) = deadlines.min().ok_or("no machine runs")?;
        self.now = self.now.max(deadline);
        self.input(id, Input::Elapsed)
    }

    fn input(&mut self, id: MachineId, input: Input) -> Outcome<()> {
        let now = self.now;
        let sent = self.machine(id)?.input(now, input)?;
        self.mail
            .extend(sent.into_iter().map(|(to, post)| (id, to, post)));
        Ok(())
    }
}
