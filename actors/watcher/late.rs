//! Late watchers: each is told what it missed when its turn comes, from memory or from the disk, until it is one of the audience.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context};
use rm_kv::Event;
use slog::error;

use super::catch_up::{self, Caught, Late, Missed};
use super::recent::Recent;
use super::{Watch, Watcher, WatcherId};
use crate::machine::Derived;
use crate::message::Flush;
use crate::watching::{Delivery, Notice};

/// How many late watchers are told something in one turn.
const TURN_WATCHERS: usize = 512;
/// How many bytes of events a late watcher is told from memory in one turn.
const TURN_BYTES: usize = 1 << 20;

impl Watcher {
    /// All of the audience have missed something from a revision on.
    pub(super) fn fall_behind(&mut self, from: i64) {
        for watcher in self.audience.take_all() {
            self.machine.life.progresses();
            if let Some(watch) = self.watchers.get_mut(&watcher) {
                watch.next = watch.next.max(from);
                watch.is_late = true;
                self.late.push_back(watcher);
            }
        }
    }

    pub(super) fn plan_turn(&mut self, context: &mut Context<Self>) {
        let is_wanted = !self.late.is_empty() && !self.stuck && !self.reading;
        if is_wanted && !self.turn_is_due && self.recent.is_some() {
            self.turn_is_due = true;
            context.notify(Flush);
        }
    }

    /// Tells some late watchers what they missed, as far as memory goes, and has the rest read from the disk.
    pub(super) fn take_turn(&mut self, context: &mut Context<Self>) {
        self.turn_is_due = false;
        let Some(recent) = self.recent.take() else {
            return;
        };
        let mut from_disk = Vec::new();
        let mut told = HashMap::new();
        for _ in 0..self.late.len().min(TURN_WATCHERS) {
            let Some(watcher) = self.late.pop_front() else {
                break;
            };
            let Some(watch) = self.watchers.get(&watcher) else {
                continue;
            };
            let stream = self.streams.get(&watch.stream);
            if stream.is_none_or(|it| it.sending.is_full()) {
                self.blocked += 1;
                self.late.push_back(watcher);
                continue;
            }
            self.blocked = 0;
            if !recent.covers(watch.next) {
                from_disk.push(watch.late(watcher));
                self.late.push_back(watcher);
                continue;
            }
            let key = (watch.interest.clone(), watch.next);
            let part = told.entry(key).or_insert_with(|| watch.part(&recent));
            let (delivery, next) = part.clone();
            self.tell_late(watcher, delivery, next, recent.next());
        }
        self.recent = Some(recent);
        // Only when a whole round has found nobody.
        self.stuck = from_disk.is_empty() && self.blocked >= self.late.len();
        self.tell_progress_that_waits();
        if from_disk.is_empty() {
            self.plan_turn(context);
        } else {
            self.read(from_disk, context);
        }
    }

    /// Tells a late watcher what it missed up to a revision, if there is room for that.
    fn tell_late(
        &mut self,
        watcher: WatcherId,
        missed: Option<Arc<Delivery>>,
        next: i64,
        newest: i64,
    ) {
        self.machine.life.progresses();
        let Some(watch) = self.watchers.get_mut(&watcher) else {
            return;
        };
        let Some(stream) = self.streams.get(&watch.stream) else {
            return;
        };
        if let Some(delivery) = missed {
            if !stream.sending.happened(watch.id, watch.manner, &delivery) {
                self.late.push_back(watcher);
                return;
            }
            watch.quiet = false;
        }
        watch.next = watch.next.max(next);
        if watch.next >= newest {
            self.join(watcher);
        } else {
            self.late.push_back(watcher);
        }
    }

    /// Has what late watchers missed read from the disk. They keep their turns.
    fn read(&mut self, late: Vec<Late>, context: &mut Context<Self>) {
        self.reading = true;
        let state = self.machine.shared.resources.states.present();
        let read = tokio::task::spawn_blocking(move || catch_up::catch_up(&state, late));
        let read = actix::fut::wrap_future::<_, Self>(read);
        context.spawn(read.map(|read, watcher, context| match read {
            Ok(Ok(caught)) => watcher.caught(caught, context),
            Ok(Err(error)) => {
                error!(watcher.machine.log, "the history cannot be read"; "error" => %error);
                watcher.give_up(context, error.to_string());
            }
            Err(_) => watcher.give_up(context, "the thread that reads the history panicked".into()),
        }));
    }

    fn caught(&mut self, caught: Vec<Caught>, context: &mut Context<Self>) {
        self.reading = false;
        let newest = self.recent.as_ref().map_or(i64::MAX, Recent::next);
        let is_caught = |it: &Caught| !matches!(it.missed, Missed::Elsewhere);
        let moved: HashSet<WatcherId> = caught
            .iter()
            .filter(|it| is_caught(it))
            .map(|it| it.watcher)
            .collect();
        self.late.retain(|watcher| !moved.contains(watcher));
        self.stuck = moved.is_empty();
        for Caught {
            watcher,
            from,
            missed,
        } in caught
        {
            let is_there = self
                .watchers
                .get(&watcher)
                .is_some_and(|it| it.next == from);
            match missed {
                Missed::Elsewhere => {}
                _ if !is_there => {}
                Missed::Events { events, next } => {
                    self.tell_late(watcher, events, next, newest);
                }
                Missed::Compacted(revision) => self.tell_compacted(watcher, revision),
            }
        }
        self.rest();
        self.tell_progress_that_waits();
        self.plan_turn(context);
    }

    fn tell_compacted(&mut self, watcher: WatcherId, compacted: i64) {
        let Some(watch) = self.watchers.get(&watcher) else {
            return;
        };
        let ended = Notice::Ended {
            id: watch.id,
            revision: self.machine.shared.board.revision(),
            compacted: Some(compacted),
        };
        self.end(watch.stream, ended, None);
    }
}

impl Watch {
    fn late(&self, watcher: WatcherId) -> Late {
        Late {
            watcher,
            interest: self.interest.clone(),
            next: self.next,
        }
    }

    /// What it is told next of what is in memory, and up to which revision that goes.
    fn part(&self, recent: &Recent) -> (Option<Arc<Delivery>>, i64) {
        let span = self.interest.span();
        let mut part: Vec<Arc<Event>> = Vec::new();
        let mut bytes = 0;
        for event in recent.from(self.next) {
            let is_new = part.last().map(|last| last.revision()) != Some(event.revision());
            if bytes >= TURN_BYTES && is_new {
                return (Delivery::new(part, event.revision() - 1), event.revision());
            }
            if span.contains(&event.kv.key) && self.interest.wants(event) {
                bytes += event.bytes();
                part.push(event.clone());
            }
        }
        (Delivery::new(part, recent.next() - 1), recent.next())
    }
}
