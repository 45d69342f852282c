//! The clients: each asks for one thing at a time, asks again where it was refused or nobody can say what became of it, gives up
//! on what takes too long, and remembers what it saw.

use std::collections::BTreeMap;
use std::time::Duration;

use rm_raft::{Index, Proposal, ReadMode, RequestId, Role, Term};

use super::action::Wish;
use super::coverage::State;
use super::machine::Ticket;
use super::properties::Check;
use super::random::Random;
use super::register::{self, Key};
use super::world::{Event, World};
use crate::history::{Answer, Operation, Request, Value};

/// After how long a client that wants something else gives up on an answer, in microseconds.
const PATIENCE: u64 = 400_000;
/// How often a client asks again.
const ATTEMPTS: u32 = 6;
/// After how long a client that asks one machine only asks it again.
const PROBE_PATIENCE: u64 = 100_000;
/// The keys of those clients.
const PROBE_KEY: Key = 1 << 30;

/// All clients, and what they saw.
#[derive(Debug)]
pub(crate) struct Clients {
    clients: Vec<Client>,
    operations: u64,
    random: Random,
    /// What was asked of each key, and answered.
    history: BTreeMap<Key, Vec<Operation>>,
    pub(crate) acknowledged: u64,
}

#[derive(Debug, Default)]
struct Client {
    doing: Option<Doing>,
    /// What it saw last of each key.
    seen: BTreeMap<Key, Value>,
    acknowledged: u64,
}

/// What a client waits for.
#[derive(Clone, Copy, Debug)]
struct Doing {
    operation: u64,
    key: Key,
    request: Request,
    serializable: bool,
    mode: ReadMode,
    padding: usize,
    asked: u64,
    machine: usize,
    /// Whether it asks no other machine.
    faithful: bool,
    attempts: u32,
}

impl Clients {
    pub(crate) fn new(count: usize, seed: u64) -> Clients {
        Clients {
            clients: (0..count).map(|_| Client::default()).collect(),
            operations: 0,
            random: Random::new(seed, 5),
            history: BTreeMap::new(),
            acknowledged: 0,
        }
    }

    fn doing(&self, client: usize, operation: u64) -> Option<Doing> {
        let doing = self.clients[client].doing;
        doing.filter(|doing| doing.operation == operation)
    }

    fn note(&mut self, now: u64, doing: Doing, answer: Option<Answer>) {
        let operation = Operation {
            request: doing.request,
            answer,
            asked: Duration::from_micros(doing.asked),
            answered: Duration::from_micros(now),
        };
        self.history.entry(doing.key).or_default().push(operation);
    }

    /// What was seen of each key. What has no answer yet has none for ever.
    pub(crate) fn finish(mut self, now: u64) -> BTreeMap<Key, Vec<Operation>> {
        for client in 0..self.clients.len() {
            if let Some(doing) = self.clients[client].doing.take() {
                self.note(now, doing, None);
            }
        }
        self.history
    }
}

impl World {
    /// A client wants something, unless it still waits for something else and is patient.
    pub(crate) fn client(
        &mut self,
        client: usize,
        machine: usize,
        wish: Wish,
        key: Key,
        padding: usize,
    ) -> Check {
        let now = self.now;
        let clients = &mut self.clients;
        if let Some(doing) = clients.clients[client].doing {
            if now - doing.asked < PATIENCE {
                return Ok(());
            }
            clients.clients[client].doing = None;
            clients.note(now, doing, None);
        }
        clients.operations += 1;
        let operation = clients.operations;
        let seen = clients.clients[client].seen.get(&key).copied().flatten();
        let request = match wish {
            Wish::Read | Wish::ReadByLease | Wish::ReadSerializable => Request::Get,
            Wish::Write => Request::Put(operation),
            Wish::Swap => Request::CompareAndSwap(seen, operation),
            Wish::Delete => Request::Delete,
        };
        clients.clients[client].doing = Some(Doing {
            operation,
            key,
            request,
            serializable: wish == Wish::ReadSerializable,
            mode: match wish {
                Wish::ReadByLease => ReadMode::Lease,
                _ => ReadMode::Quorum,
            },
            padding,
            asked: now,
            machine,
            faithful: false,
            attempts: 0,
        });
        self.ask(client, operation)
    }

    /// The client that asks nobody but this machine asks it for a write, unless it has just done so.
    pub(crate) fn probe(&mut self, at: usize) -> Check {
        let now = self.now;
        let client = self.plan.clients + at;
        let clients = &mut self.clients;
        if let Some(doing) = clients.clients[client].doing {
            if now - doing.asked < PROBE_PATIENCE {
                return Ok(());
            }
            clients.note(now, doing, None);
        }
        clients.operations += 1;
        let operation = clients.operations;
        clients.clients[client].doing = Some(Doing {
            operation,
            key: PROBE_KEY + at as Key,
            request: Request::Put(operation),
            serializable: false,
            mode: ReadMode::Quorum,
            padding: 0,
            asked: now,
            machine: at,
            faithful: true,
            attempts: 0,
        });
        self.ask(client, operation)
    }

    /// Whether that client was ever served.
    pub(crate) fn probed(&self, at: usize) -> bool {
        self.clients.clients[self.plan.clients + at].acknowledged > 0
    }

    /// A client asks the machine of its choice.
    pub(crate) fn ask(&mut self, client: usize, operation: u64) -> Check {
        let Some(doing) = self.clients.doing(client, operation) else {
            return Ok(());
        };
        let at = doing.machine;
        if self.is_paused(at) {
            let event = Event::Ask { client, operation };
            self.machines[at].held.push(event);
            return Ok(());
        }
        let committed = self.properties.committed();
        let machine = &mut self.machines[at];
        if !machine.runs || !machine.logic.up {
            self.refused(client, operation);
            return Ok(());
        }
        let mut ticket = Ticket {
            client,
            operation,
            mode: doing.mode,
            committed,
            term: machine.status().map_or(Term(0), |status| status.term),
        };
        if doing.serializable {
            ticket.committed = Index(0);
            self.serve(at, Index(0), vec![ticket]);
            return Ok(());
        }
        if doing.request == Request::Get {
            machine.logic.new_reads.push(ticket);
            return self.flush(at);
        }
        if machine.has_no_space(self.now) {
            self.refused(client, operation);
            return Ok(());
        }
        if machine.gate.down_until > self.now {
            self.lost(client, operation);
            return Ok(());
        }
        machine.gate.next += 1;
        let number = machine.boot << 32 | machine.gate.next;
        machine.gate.pending.insert(number, (client, operation));
        let request = RequestId {
            machine: machine.id,
            number,
        };
        let now = self.now;
        self.trace.line(now, || {
            format!(
                "client {client} asks {} for {:?} of {} as {number:x}",
                at + 1,
                doing.request,
                doing.key
            )
        });
        let command = register::encode(doing.key, doing.request, doing.padding);
        self.propose(at, Proposal { request, command })
    }

    /// What a client asked for has not happened and will not: it asks another machine.
    pub(crate) fn refused(&mut self, client: usize, operation: u64) {
        if let Some(doing) = self.clients.doing(client, operation) {
            self.ask_again(client, doing);
        }
    }

    /// What became of a client's request nobody can say: it asks again all the same. A write that is sent again is another
    /// operation to whoever checks: both may happen, and the first of them long after the second.
    pub(crate) fn lost(&mut self, client: usize, operation: u64) {
        let Some(mut doing) = self.clients.doing(client, operation) else {
            return;
        };
        if doing.request != Request::Get {
            let clients = &mut self.clients;
            clients.note(self.now, doing, None);
            clients.operations += 1;
            doing.operation = clients.operations;
            doing.asked = self.now;
            if doing.attempts < ATTEMPTS {
                self.coverage.reach(State::WriteSentAgain);
            }
        }
        self.ask_again(client, doing);
    }

    /// A client asks another machine after a while, unless it has asked often enough.
    fn ask_again(&mut self, client: usize, mut doing: Doing) {
        doing.attempts += 1;
        let clients = &mut self.clients;
        if doing.attempts > ATTEMPTS {
            clients.clients[client].doing = None;
            return;
        }
        if !doing.faithful {
            doing.machine = (doing.machine + 1) % self.machines.len();
        }
        clients.clients[client].doing = Some(doing);
        let due = self.now + 2_000 + clients.random.below(30_000);
        let operation = doing.operation;
        self.queue.push(due, Event::Ask { client, operation });
    }

    /// A client has its answer.
    pub(crate) fn answered(&mut self, client: usize, operation: u64, answer: Answer) {
        let Some(doing) = self.clients.doing(client, operation) else {
            return;
        };
        let now = self.now;
        self.trace.line(now, || {
            format!(
                "client {client} hears {answer:?} of {} for {:?}",
                doing.key, doing.request
            )
        });
        let is_write = doing.request != Request::Get;
        if is_write && self.partitioned {
            self.coverage.reach(State::ConfirmedWhilePartitioned);
        }
        let clients = &mut self.clients;
        clients.acknowledged += 1;
        let me = &mut clients.clients[client];
        me.doing = None;
        me.acknowledged += 1;
        let saw = match (answer, doing.request) {
            (Answer::Held(value), _) => value,
            (Answer::Written, Request::Put(value) | Request::CompareAndSwap(_, value)) => {
                Some(value)
            }
            _ => None,
        };
        me.seen.insert(doing.key, saw);
        if !doing.serializable {
            clients.note(now, doing, Some(answer));
        }
    }

    /// A read is answered from the state as it is.
    pub(crate) fn answer_read(&mut self, at: usize, ticket: Ticket) {
        let Some(doing) = self.clients.doing(ticket.client, ticket.operation) else {
            return;
        };
        if let Some(status) = self.machines[at].status() {
            if status.term > ticket.term && ticket.term > Term(0) {
                self.coverage.reach(State::ReadOverLeaderChange);
            }
            if status.role == Role::Follower {
                self.coverage.reach(State::ReadOnFollower);
            }
        }
        let value = self.machines[at].applier.state.get(doing.key);
        self.answered(ticket.client, ticket.operation, Answer::Held(value));
    }

    /// What waits for an answer on this machine may have been lost: its clients are told so.
    pub(crate) fn unsettle(&mut self, at: usize) {
        let pending = std::mem::take(&mut self.machines[at].gate.pending);
        for (client, operation) in pending.into_values() {
            self.lost(client, operation);
        }
    }
}
