//! The base from which every actor derives: who the machine is, what its actors share, and what each life of an actor
//! carries with it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context};
use rm_config::Effective;
use rm_raft::{Configuration, MachineId, Time};
use slog::Logger;

use crate::ActorName;
use crate::board::Board;
use crate::fault::{Action, Faults, Point};
use crate::life::Life;
use crate::logs::Logs;
use crate::members::Members;
use crate::message::PeersChanged;
use crate::participation::Departure;
use crate::port::Identity;
use crate::replies::Replies;
use crate::resources::Resources;
use crate::roster::{Slot, Slots};
use crate::tokens::Tokens;
use crate::watcher::Backlog;

/// What all actors of a machine share, and what outlives each of them.
pub(crate) struct Shared {
    pub(crate) config: Effective,
    pub(crate) identity: Identity,
    pub(crate) clock: Clock,
    pub(crate) slots: Slots,
    pub(crate) board: Board,
    pub(crate) faults: Faults,
    pub(crate) logs: Logs,
    pub(crate) resources: Resources,
    pub(crate) members: Members,
    pub(crate) tokens: Tokens,
    pub(crate) replies: Arc<Replies>,
    /// What waits for clients' streams of watchers.
    pub(crate) backlog: Arc<Backlog>,
    /// How this machine learnt that it takes part no more; none while it does.
    pub(crate) departure: tokio::sync::watch::Sender<Option<Departure>>,
}

impl Shared {
    /// This machine's number.
    pub(crate) fn local(&self) -> MachineId {
        self.identity.machine
    }

    /// Another configuration is in force: from now on it decides whom this machine sends to and hears.
    pub(crate) fn take_configuration(&self, configuration: &Configuration) {
        self.members.set(configuration);
        self.turn_to_peers();
    }

    /// Sends to, and hears, those whom [`Members::peers`] tells now.
    pub(crate) fn turn_to_peers(&self) {
        self.resources
            .addresses
            .set(self.local(), || self.members.peers());
        self.slots.sender.tell(PeersChanged);
        self.slots.listener.tell(PeersChanged);
    }

    /// Lets a fault of an actor strike in what is done for it on a thread that may block.
    ///
    /// # Errors
    /// The error that the fault stands for.
    pub(crate) fn strike_disk_of(&self, actor: ActorName, point: Point) -> io::Result<()> {
        match self.faults.strike(actor, point) {
            Some(Action::Panic) => panic!("a fault was injected at the point {point}"),
            Some(Action::Delay(span)) => std::thread::sleep(span),
            Some(action) => return action.io_error().map_or(Ok(()), Err),
            None => {}
        }
        Ok(())
    }
}

/// The machine's monotonic clock. It goes on while the host sleeps, as the leases that others hold do; `Instant`, which is
/// Linux's CLOCK_MONOTONIC, does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin_us: u64,
}

#[cfg(target_os = "linux")]
const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
/// No config gives leases to a machine that reads this one (`src/config/numbers.rs`).
#[cfg(not(target_os = "linux"))]
const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock {
            origin_us: host_micros(),
        }
    }

    /// Microseconds since the machine was made.
    pub(crate) fn micros(&self) -> u64 {
        host_micros().saturating_sub(self.origin_us)
    }

    /// The same as the Raft core's time.
    pub(crate) fn now(&self) -> Time {
        Time {
            micros: self.micros(),
        }
    }
}

/// Microseconds since some moment before this process.
fn host_micros() -> u64 {
    let time = rustix::time::clock_gettime(CLOCK);
    let micros = time.tv_sec * 1_000_000 + time.tv_nsec / 1_000;
    u64::try_from(micros).expect("the clock counts from the start of the host")
}

/// An actor that derives from the base.
///
/// A life begins with `build`, on the actor's own thread, from nothing but the config and what is durable: no state
/// of an earlier life survives in it.
pub(crate) trait Derived: Actor<Context = Context<Self>> {
    /// Makes a new one. An error is a failure of the actor, with this text as the reason.
    fn build(machine: Machine) -> Result<Self, String>;

    /// Its slot among the slots of the machine.
    fn slot(slots: &Slots) -> &Slot<Self>;

    /// The base that it was built with.
    fn machine(&mut self) -> &mut Machine;

    /// Says that a message is about to be handled: counts it, lets others run now and then, and lets faults strike.
    fn enter(&mut self, context: &mut Context<Self>) {
        let machine = self.machine();
        machine.count_message();
        if machine.owes_a_yield() {
            // A mailbox is otherwise polled until it is empty, and nothing else on this thread would run.
            context.wait(actix::fut::wrap_future(tokio::task::yield_now()));
        }
        match machine.strike(Point::Handler) {
            None => {}
            Some(Action::Stop) => self.give_up(context, "stopped by a fault".into()),
            Some(_) => {}
        }
    }

    /// Ends this life, with the reason; the supervisor decides what follows.
    fn give_up(&mut self, context: &mut Context<Self>, reason: String) {
        use actix::ActorContext;
        self.machine().life.condemn(reason);
        context.terminate();
    }
}

/// What one life of an actor carries with it.
pub(crate) struct Machine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) life: Arc<Life>,
    pub(crate) log: Logger,
    handled_since_yield: usize,
}

impl Machine {
    pub(crate) fn new(shared: Arc<Shared>, life: Arc<Life>) -> Machine {
        let log = shared.logs.logger(life.actor.as_str());
        Machine {
            shared,
            life,
            log,
            handled_since_yield: 0,
        }
    }

    /// The number of this life.
    pub(crate) fn incarnation(&self) -> u64 {
        self.life.incarnation
    }

    fn count_message(&mut self) {
        if self.life.count_message() {
            let now_us = self.shared.clock.micros();
            self.shared.board.actor(self.life.actor).works_again(now_us);
        }
    }

    fn owes_a_yield(&mut self) -> bool {
        self.handled_since_yield += 1;
        let owes =
            self.handled_since_yield >= self.shared.config.config.limits.messages_per_poll_max;
        if owes {
            self.handled_since_yield = 0;
        }
        owes
    }

    /// Lets an armed fault strike here. A panic, a hang and a delay happen; the rest is the caller's to carry out.
    pub(crate) fn strike(&self, point: Point) -> Option<Action> {
        let action = self.shared.faults.strike(self.life.actor, point)?;
        match action {
            Action::Panic => panic!("a fault was injected at the point {point}"),
            Action::Hang => self.hang(),
            Action::Delay(span) => std::thread::sleep(span),
            _ => {}
        }
        Some(action)
    }

    /// Lets an armed fault strike where the disk is used.
    ///
    /// # Errors
    /// The error that the fault stands for.
    pub(crate) fn strike_disk(&self, point: Point) -> io::Result<()> {
        match self.strike(point).and_then(Action::io_error) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Lets an armed fault strike in a future of the actor's own.
    pub(crate) fn spawn_fault_future<A: Derived>(&self, context: &mut Context<A>) {
        let (shared, actor) = (self.shared.clone(), self.life.actor);
        let future = async move {
            if let Some(Action::Panic) = shared.faults.strike(actor, Point::Future) {
                panic!("a fault was injected at the point {}", Point::Future);
            }
        };
        context.spawn(actix::fut::wrap_future(future));
    }

    /// Does not come back until long after this life was replaced, and then as a failure, so that its thread ends.
    fn hang(&self) -> ! {
        const BEYOND: Duration = Duration::from_secs(10);
        while !self.life.is_fenced() {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(BEYOND);
        panic!("this life was replaced while it hung");
    }
}
