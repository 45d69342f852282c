//! The supervision tree: starts the actors in order, sees each of their failures, restarts who must be restarted with
//! whom, pauses between restarts in a row, and gives up when they are too many.
//!
//! The supervisor has a thread of its own, so that no actor that hangs can hold it up, and it is its own watchdog: it
//! looks at each life from outside.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use actix_rt::Arbiter;
use rm_config::{Strategy, Supervision};
use slog::{Logger, crit, info, warn};
use tokio::sync::oneshot;

use crate::applier::Applier;
use crate::board::ActorState;
use crate::compactor::Compactor;
use crate::gate::Gate;
use crate::group::{Group, Verdict};
use crate::guard::{self, Birth, End};
use crate::lessor::Lessor;
use crate::life::Life;
use crate::listener::Listener;
use crate::logic_center::LogicCenter;
use crate::machine::Shared;
use crate::sender::Sender as SenderActor;
use crate::storage::Storage;
use crate::timer::Timer;
use crate::watcher::Watcher;
use crate::{ActorName, GroupName};

/// What reaches the supervisor.
#[derive(Debug)]
pub(crate) enum Event {
    /// A life has begun: the actor is built and its slot is filled.
    Begun { actor: ActorName, incarnation: u64 },
    /// A life has ended.
    Ended {
        actor: ActorName,
        incarnation: u64,
        end: End,
    },
    /// The machine is to stop.
    Stop,
}

/// How the supervisor's work ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was told to stop, and every actor has.
    Stopped,
    /// It gave up, for this reason. What is durable is safe; the process must end.
    GaveUp(String),
}

/// The supervisor of one machine.
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    log: Logger,
    events: Receiver<Event>,
    events_to_self: Sender<Event>,
    /// Told once all actors have begun; none from then on.
    all_begun: Option<oneshot::Sender<()>>,
    groups: BTreeMap<usize, Group>,
    charges: BTreeMap<ActorName, Charge>,
    stopping: bool,
    /// When the watchdog looked last.
    looked_at: Instant,
}

/// One actor in the supervisor's charge.
struct Charge {
    arbiter: Arbiter,
    life: Option<Present>,
    incarnation: u64,
}

/// The life that an actor has now.
struct Present {
    life: Arc<Life>,
    stop: Option<oneshot::Sender<()>>,
    begun: bool,
    /// The progress that the watchdog saw last, and since when it has not changed.
    seen: (u64, Instant),
}

/// Why the supervisor stops working.
type Surrender = String;

impl Supervisor {
    pub(crate) fn new(
        shared: Arc<Shared>,
        events: Receiver<Event>,
        events_to_self: Sender<Event>,
        all_begun: oneshot::Sender<()>,
    ) -> Supervisor {
        let config = &shared.config.config.supervision;
        let groups = GroupName::ALL
            .into_iter()
            .map(|name| (name as usize, Group::new(name, restarts(config, name))))
            .collect();
        Supervisor {
            log: shared.logs.logger("supervisor"),
            shared,
            events,
            events_to_self,
            all_begun: Some(all_begun),
            groups,
            charges: BTreeMap::new(),
            stopping: false,
            looked_at: Instant::now(),
        }
    }

    /// Starts everything, then keeps it running until it is told to stop or gives up.
    pub(crate) fn run(mut self) -> Outcome {
        match self.supervise() {
            Ok(()) => Outcome::Stopped,
            Err(reason) => {
                crit!(self.log, "the supervisor gives up; what is durable is safe"; "reason" => &reason);
                Outcome::GaveUp(reason)
            }
        }
    }

    fn supervise(&mut self) -> Result<(), Surrender> {
        for name in ActorName::ALL {
            self.charges.insert(
                name,
                Charge {
                    arbiter: Arbiter::new(),
                    life: None,
                    incarnation: 0,
                },
            );
        }
        for group in GroupName::ALL {
            self.start(&group.actors())?;
        }
        while !self.stopping {
            self.tell_that_all_have_begun();
            match self.events.recv_timeout(self.patience()) {
                Ok(event) => self.handle(event)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.watch()?;
            self.restart_what_is_due()?;
        }
        self.stop_all();
        Ok(())
    }

    /// Lets whoever started the machine go on. One actor that fails to begin is restarted, and those that rest on it with it.
    fn tell_that_all_have_begun(&mut self) {
        let has_begun = |charge: &Charge| charge.life.as_ref().is_some_and(|life| life.begun);
        if self.charges.values().all(has_begun)
            && let Some(all_begun) = self.all_begun.take()
        {
            // Nobody listens where whoever started it is gone.
            let _ = all_begun.send(());
        }
    }

    /// How long to wait for an event: until the next restart is due, but no longer than the watchdog may sleep.
    fn patience(&self) -> Duration {
        let hang = Duration::from_millis(self.shared.config.config.supervision.hang_ms);
        let watch = (hang / 4).clamp(Duration::from_millis(5), Duration::from_millis(250));
        let now = Instant::now();
        self.groups
            .values()
            .filter_map(Group::due)
            .map(|due| due.saturating_duration_since(now))
            .fold(watch, Duration::min)
    }

    fn handle(&mut self, event: Event) -> Result<(), Surrender> {
        match event {
            Event::Stop => self.stopping = true,
            Event::Begun { actor, incarnation } => self.note_begun(actor, incarnation),
            Event::Ended {
                actor,
                incarnation,
                end,
            } => {
                let current = self.charges.get(&actor).map(|charge| charge.incarnation);
                let Some(life) = self.bury(actor, incarnation) else {
                    return Ok(()); // an earlier life: it was replaced long ago
                };
                debug_assert_eq!(current, Some(life.incarnation));
                match end {
                    End::Asked => {}
                    End::Failed(reason) => {
                        self.failed(actor, reason, self.shared.clock.micros())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn note_begun(&mut self, actor: ActorName, incarnation: u64) {
        if let Some(present) = self.present(actor, incarnation) {
            present.begun = true;
            self.shared
                .board
                .actor(actor)
                .post_state(ActorState::Running);
        }
    }

    fn present(&mut self, actor: ActorName, incarnation: u64) -> Option<&mut Present> {
        let present = self.charges.get_mut(&actor)?.life.as_mut()?;
        (present.life.incarnation == incarnation).then_some(present)
    }

    /// Takes note that a life is over; none if that life was not the present one.
    fn bury(&mut self, actor: ActorName, incarnation: u64) -> Option<Arc<Life>> {
        self.present(actor, incarnation)?;
        let present = self.charges.get_mut(&actor)?.life.take()?;
        self.shared.slots.clear(actor);
        self.shared.board.actor(actor).end();
        Some(present.life)
    }

    /// An actor has failed: plans the restart of all that must be restarted with it.
    fn failed(&mut self, actor: ActorName, reason: String, at_us: u64) -> Result<(), Surrender> {
        warn!(self.log, "an actor failed"; "failed" => actor.as_str(), "reason" => &reason);
        self.shared.board.actor(actor).failed(reason.clone(), at_us);
        let Some(group) = self.groups.get_mut(&(actor.group() as usize)) else {
            return Ok(());
        };
        match group.fail(actor, Instant::now()) {
            Verdict::Restart => Ok(()),
            Verdict::GiveUp => Err(format!(
                "{actor} failed and the group {} has had more than {} failures within {} ms; the last: {reason}",
                actor.group().as_str(),
                group.restarts().intensity,
                group.restarts().window_ms,
            )),
        }
    }

    fn restart_what_is_due(&mut self) -> Result<(), Surrender> {
        let now = Instant::now();
        for name in GroupName::ALL {
            let group = self.groups.get_mut(&(name as usize));
            let Some(set) = group.and_then(|group| group.take_due(now)) else {
                continue;
            };
            for actor in set.iter().rev() {
                self.stop(*actor)?;
            }
            if let Some(group) = self.groups.get_mut(&(name as usize)) {
                group.all_have_stopped();
            }
            self.start(&set)?;
        }
        Ok(())
    }

    /// Starts actors one after the other, each when the one before is there.
    fn start(&mut self, set: &[ActorName]) -> Result<(), Surrender> {
        for actor in set {
            self.begin(*actor);
            let begun = self.await_life(*actor, |present| present.begun)?;
            let group = self.groups.get(&(actor.group() as usize));
            let stands_alone =
                group.is_some_and(|group| group.restarts().strategy == Strategy::OneForOne);
            if !begun && !stands_alone {
                // Its restart is planned, and by the strategy that of the rest of the set with it.
                break;
            }
        }
        Ok(())
    }

    fn begin(&mut self, actor: ActorName) {
        let Some(charge) = self.charges.get_mut(&actor) else {
            return;
        };
        charge.incarnation += 1;
        let life = Arc::new(Life::new(actor, charge.incarnation));
        let (stop, stopped) = oneshot::channel();
        self.shared.board.actor(actor).begin(&life);
        charge.life = Some(Present {
            life: life.clone(),
            stop: Some(stop),
            begun: false,
            seen: (0, Instant::now()),
        });
        let birth = Birth {
            shared: self.shared.clone(),
            life,
            stop: stopped,
            events: self.events_to_self.clone(),
        };
        let begin = match actor {
            ActorName::Storage => guard::begin::<Storage>,
            ActorName::Applier => guard::begin::<Applier>,
            ActorName::LogicCenter => guard::begin::<LogicCenter>,
            ActorName::Timer => guard::begin::<Timer>,
            ActorName::Listener => guard::begin::<Listener>,
            ActorName::Sender => guard::begin::<SenderActor>,
            ActorName::Gate => guard::begin::<Gate>,
            ActorName::Watcher => guard::begin::<Watcher>,
            ActorName::Compactor => guard::begin::<Compactor>,
            ActorName::Lessor => guard::begin::<Lessor>,
        };
        charge.arbiter.spawn_fn(move || begin(birth));
        info!(self.log, "an actor starts"; "starts" => actor.as_str(), "incarnation" => charge.incarnation);
    }

    /// Ends an actor's life and waits until it has ended; one that hangs is left behind.
    fn stop(&mut self, actor: ActorName) -> Result<(), Surrender> {
        let Some(present) = self.charges.get_mut(&actor).and_then(|c| c.life.as_mut()) else {
            return Ok(());
        };
        if let Some(stop) = present.stop.take() {
            let _ = stop.send(());
        }
        self.await_life(actor, |_| false).map(|_| ())
    }

    /// Handles events until the actor's life is as wished (true) or over (false). An actor that hangs meanwhile is
    /// given up as any that hangs.
    fn await_life(
        &mut self,
        actor: ActorName,
        wish: impl Fn(&Present) -> bool,
    ) -> Result<bool, Surrender> {
        loop {
            match self.charges.get(&actor).and_then(|c| c.life.as_ref()) {
                None => return Ok(false),
                Some(present) if wish(present) => return Ok(true),
                Some(_) => {}
            }
            match self
                .events
                .recv_timeout(self.patience().max(Duration::from_millis(1)))
            {
                Ok(event) => self.handle(event)?,
                Err(_) => self.watch()?,
            }
        }
    }

    /// The watchdog: an actor hangs when it is in one poll for longer than its limit and gets nowhere meanwhile.
    ///
    /// Where the watchdog itself looks late, the whole process was paused, and what stood still meanwhile proves nothing.
    fn watch(&mut self) -> Result<(), Surrender> {
        const LATE: Duration = Duration::from_secs(1);
        let now = Instant::now();
        let paused = now.duration_since(self.looked_at) > LATE;
        self.looked_at = now;
        let mut hung = Vec::new();
        for (actor, charge) in &mut self.charges {
            let Some(present) = &mut charge.life else {
                continue;
            };
            let progress = present.life.progress();
            let idle = present.life.busy_since().is_none();
            if paused || idle || progress != present.seen.0 {
                present.seen = (progress, now);
            } else if now.duration_since(present.seen.1) > self.shared.hang_limit(*actor) {
                hung.push((*actor, present.life.busy_since()));
            }
        }
        for (actor, since) in hung {
            self.replace_hung(actor, since)?;
        }
        Ok(())
    }

    fn replace_hung(&mut self, actor: ActorName, since_us: Option<u64>) -> Result<(), Surrender> {
        let limit = self.shared.hang_limit(actor);
        let reason = format!(
            "hung: busy with one message for more than {} ms",
            limit.as_millis()
        );
        self.shared.board.actor(actor).post_state(ActorState::Hung);
        if actor.holds_writer_lock() {
            return Err(format!(
                "{actor} {reason}; it holds the writer's lock of its data file, so nothing can take its place in this process"
            ));
        }
        let Some(charge) = self.charges.get_mut(&actor) else {
            return Ok(());
        };
        let Some(present) = &charge.life else {
            return Ok(());
        };
        present.life.fence();
        let incarnation = present.life.incarnation;
        // Its thread may never come back: the next life gets a new one.
        let abandoned = std::mem::replace(&mut charge.arbiter, Arbiter::new());
        abandoned.stop();
        self.bury(actor, incarnation);
        self.shared.slots.leave_behind(actor);
        let at_us = since_us.unwrap_or_else(|| self.shared.clock.micros());
        self.failed(actor, reason, at_us)
    }

    /// Stops every actor, last started first. An actor that hangs cannot stop the machine from stopping.
    fn stop_all(&mut self) {
        for actor in ActorName::ALL.into_iter().rev() {
            if let Err(reason) = self.stop(actor) {
                warn!(self.log, "an actor did not stop"; "actor_left" => actor.as_str(), "reason" => reason);
            }
        }
        info!(self.log, "all actors have stopped");
    }
}

impl Shared {
    /// How long an actor may be busy with one message.
    fn hang_limit(&self, actor: ActorName) -> Duration {
        let config = &self.config.config.supervision;
        Duration::from_millis(if actor.holds_writer_lock() {
            config.storage_hang_ms
        } else {
            config.hang_ms
        })
    }
}

fn restarts(config: &Supervision, group: GroupName) -> rm_config::Restarts {
    match group {
        GroupName::Brain => config.brain.clone(),
        GroupName::Net => config.net.clone(),
        GroupName::Front => config.front.clone(),
    }
}
