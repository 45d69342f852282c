//! Who lives in a machine: the ten actors, the groups they are restarted in, and the slots by which they reach each
//! other across restarts.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message};
use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use crate::applier::Applier;
use crate::compactor::Compactor;
use crate::gate::Gate;
use crate::lessor::Lessor;
use crate::life::Life;
use crate::listener::Listener;
use crate::logic_center::LogicCenter;
use crate::message::Poke;
use crate::sender::Sender;
use crate::storage::Storage;
use crate::timer::Timer;
use crate::watcher::Watcher;

/// One of the actors of a machine. The order is the order in which they are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActorName {
    /// The durable log.
    Storage,
    /// The key space.
    Applier,
    /// The Raft core.
    LogicCenter,
    /// The clock.
    Timer,
    /// Peers in.
    Listener,
    /// Peers out.
    Sender,
    /// Clients' writes.
    Gate,
    /// Clients' watches.
    Watcher,
    /// Compactions of the key space.
    Compactor,
    /// The time of leases.
    Lessor,
}

impl ActorName {
    /// All of them, in the order in which they are started.
    pub const ALL: [ActorName; 10] = [
        ActorName::Storage,
        ActorName::Applier,
        ActorName::LogicCenter,
        ActorName::Timer,
        ActorName::Listener,
        ActorName::Sender,
        ActorName::Gate,
        ActorName::Watcher,
        ActorName::Compactor,
        ActorName::Lessor,
    ];

    /// The name in the config, in the logs and in `rmctl`.
    pub fn as_str(self) -> &'static str {
        match self {
            ActorName::Storage => "storage",
            ActorName::Applier => "applier",
            ActorName::LogicCenter => "logic_center",
            ActorName::Timer => "timer",
            ActorName::Listener => "listener",
            ActorName::Sender => "sender",
            ActorName::Gate => "gate",
            ActorName::Watcher => "watcher",
            ActorName::Compactor => "compactor",
            ActorName::Lessor => "lessor",
        }
    }

    /// The group that it is restarted in.
    pub fn group(self) -> GroupName {
        match self {
            ActorName::Storage | ActorName::Applier | ActorName::LogicCenter | ActorName::Timer => {
                GroupName::Brain
            }
            ActorName::Listener | ActorName::Sender => GroupName::Net,
            ActorName::Gate | ActorName::Watcher | ActorName::Compactor | ActorName::Lessor => {
                GroupName::Front
            }
        }
    }

    /// Whether it holds LMDB's writer lock, so that it cannot be replaced while it hangs.
    pub fn holds_writer_lock(self) -> bool {
        matches!(self, ActorName::Storage | ActorName::Applier)
    }
}

impl fmt::Display for ActorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ActorName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        ActorName::ALL
            .into_iter()
            .find(|name| name.as_str() == text)
            .ok_or_else(|| {
                let names = ActorName::ALL.map(ActorName::as_str).join(", ");
                format!("there is no actor {text:?}; the actors are {names}")
            })
    }
}

/// A group of actors that share a restart strategy and an intensity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupName {
    /// Storage, Applier, LogicCenter, Timer: each rests on those before it.
    Brain,
    /// Listener and Sender.
    Net,
    /// Gate, Watcher, Compactor and Lessor.
    Front,
}

impl GroupName {
    /// All of them, in the order in which they are started.
    pub const ALL: [GroupName; 3] = [GroupName::Brain, GroupName::Net, GroupName::Front];

    /// Its name in the config and in `rmctl`.
    pub fn as_str(self) -> &'static str {
        match self {
            GroupName::Brain => "brain",
            GroupName::Net => "net",
            GroupName::Front => "front",
        }
    }

    /// Its actors, in the order in which they are started.
    pub fn actors(self) -> Vec<ActorName> {
        ActorName::ALL
            .into_iter()
            .filter(|name| name.group() == self)
            .collect()
    }
}

/// Where an actor is reached. It outlives the actor: what is told to an empty slot, or to an actor that has died, is
/// lost, which Raft endures and clients see as an error.
pub(crate) struct Slot<A: Actor> {
    present: ArcSwapOption<(Addr<A>, Arc<Life>)>,
    /// Counts the incarnations that hung and were left behind with all that they hold.
    left_behind: watch::Sender<u64>,
}

impl<A: Actor> Default for Slot<A> {
    fn default() -> Self {
        Slot {
            present: ArcSwapOption::empty(),
            left_behind: watch::Sender::new(0),
        }
    }
}

impl<A: Actor> Slot<A> {
    /// Tells the present incarnation, if there is one.
    pub(crate) fn tell<M>(&self, message: M)
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        if let Some((address, life)) = self.present.load().as_deref() {
            life.queued.fetch_add(1, Ordering::Relaxed);
            address.do_send(message);
        }
    }

    /// Tells of incarnations that are left behind from now on: what they hold is never dropped, so whoever waits for an answer
    /// would wait for ever.
    pub(crate) fn losses(&self) -> watch::Receiver<u64> {
        self.left_behind.subscribe()
    }

    fn leave_behind(&self) {
        self.left_behind.send_modify(|count| *count += 1);
    }

    /// Whether there is a present incarnation.
    pub(crate) fn is_filled(&self) -> bool {
        self.present.load().is_some()
    }

    /// Lets an incarnation be reached here, unless a later one already is.
    pub(crate) fn fill(&self, address: Addr<A>, life: Arc<Life>) {
        let filled = Arc::new((address, life));
        self.present.rcu(|present| match present {
            Some(present) if present.1.incarnation > filled.1.incarnation => Some(present.clone()),
            _ => Some(filled.clone()),
        });
    }

    fn clear(&self) {
        self.present.store(None);
    }
}

/// The slots of all actors.
#[derive(Default)]
pub(crate) struct Slots {
    pub(crate) storage: Slot<Storage>,
    pub(crate) applier: Slot<Applier>,
    pub(crate) logic_center: Slot<LogicCenter>,
    pub(crate) timer: Slot<Timer>,
    pub(crate) listener: Slot<Listener>,
    pub(crate) sender: Slot<Sender>,
    pub(crate) gate: Slot<Gate>,
    pub(crate) watcher: Slot<Watcher>,
    pub(crate) compactor: Slot<Compactor>,
    pub(crate) lessor: Slot<Lessor>,
}

impl Slots {
    /// Gives an actor something to handle; false if it is not there.
    pub(crate) fn poke(&self, actor: ActorName) -> bool {
        fn poke<A>(slot: &Slot<A>) -> bool
        where
            A: Actor + Handler<Poke>,
            A::Context: ToEnvelope<A, Poke>,
        {
            slot.tell(Poke);
            slot.is_filled()
        }
        match actor {
            ActorName::Storage => poke(&self.storage),
            ActorName::Applier => poke(&self.applier),
            ActorName::LogicCenter => poke(&self.logic_center),
            ActorName::Timer => poke(&self.timer),
            ActorName::Listener => poke(&self.listener),
            ActorName::Sender => poke(&self.sender),
            ActorName::Gate => poke(&self.gate),
            ActorName::Watcher => poke(&self.watcher),
            ActorName::Compactor => poke(&self.compactor),
            ActorName::Lessor => poke(&self.lessor),
        }
    }

    /// Tells whoever waits for an actor that it hung and was left behind.
    pub(crate) fn leave_behind(&self, actor: ActorName) {
        match actor {
            ActorName::LogicCenter => self.logic_center.leave_behind(),
            ActorName::Gate => self.gate.leave_behind(),
            ActorName::Watcher => self.watcher.leave_behind(),
            ActorName::Lessor => self.lessor.leave_behind(),
            // Nobody waits for an answer from the others; Storage and Applier end the process.
            _ => {}
        }
    }

    /// Empties an actor's slot.
    pub(crate) fn clear(&self, actor: ActorName) {
        match actor {
            ActorName::Storage => self.storage.clear(),
            ActorName::Applier => self.applier.clear(),
            ActorName::LogicCenter => self.logic_center.clear(),
            ActorName::Timer => self.timer.clear(),
            ActorName::Listener => self.listener.clear(),
            ActorName::Sender => self.sender.clear(),
            ActorName::Gate => self.gate.clear(),
            ActorName::Watcher => self.watcher.clear(),
            ActorName::Compactor => self.compactor.clear(),
            ActorName::Lessor => self.lessor.clear(),
        }
    }
}
