//! Late watchers: each is told what it missed when its turn comes, from memory or from the disk, until it is one of the audience.
//!
//! The turns are the streams': one whose client takes nothing has none until there is room again, and holds up nobody. What is in memory is
//! told while a thread reads the disk for others, and each read begins where the first in line wants to go on: whom it passes over, since
//! what they missed lies elsewhere, have their turn next.

use std::collections::HashMap;

use actix::{ActorFutureExt, AsyncContext, Context};
use slog::error;

use super::missed::{self, Found, Late, Part};
use super::recent::Recent;
use super::stream::Stream;
use super::turns::Turns;
use super::{StreamId, Watch, Watcher, WatcherId};
use crate::ActorName;
use crate::fault::Point;
use crate::machine::Derived;
use crate::message::Flush;
use crate::watching::Notice;

impl Watcher {
    /// A watcher is late: it is to be told what happened from a revision on.
    pub(super) fn lag(&mut self, watcher: WatcherId, next: i64) {
        let Some(watch) = self.watchers.get_mut(&watcher) else {
            return;
        };
        (watch.next, watch.is_late) = (next, true);
        let reaches_back = |recent: &Recent| recent.start() <= next;
        match self.recent.as_ref().is_none_or(reaches_back) {
            true => self.from_memory.wait(watcher),
            false => self.from_disk.wait(watcher),
        }
        self.line_up(watcher.stream);
    }

    /// A stream takes its place in line, if any of its watchers is late and there is room to tell them; the outbox says when there
    /// is again.
    pub(super) fn line_up(&mut self, id: StreamId) {
        for turns in [&mut self.from_memory, &mut self.from_disk] {
            turns.line_up(id, || has_room(&self.streams, id));
        }
    }

    /// All of the audience have missed something from a revision on.
    pub(super) fn fall_behind(&mut self, from: i64) {
        for watcher in self.audience.take_all() {
            self.machine.life.progresses();
            let next = self.watchers.get(&watcher).map_or(from, |it| it.next);
            self.lag(watcher, next.max(from));
        }
    }

    /// Posts how many watch, and how many of them are late.
    pub(super) fn post_numbers(&self) {
        let meters = &self.machine.shared.board.meters;
        meters.streams.set(self.streams.len());
        meters.watchers.set(self.watchers.len());
        let late = self.from_memory.len() + self.from_disk.len();
        meters.watchers_late.set(late);
    }

    pub(super) fn plan_turn(&mut self, context: &mut Context<Self>) {
        let is_wanted = self.from_memory.is_due() || self.may_read();
        if is_wanted && !self.turn_is_due && self.recent.is_some() {
            self.turn_is_due = true;
            context.notify(Flush);
        }
    }

    fn may_read(&self) -> bool {
        self.from_disk.is_due() && !self.reading && !self.found_nothing
    }

    /// Tells some late watchers what they missed, as far as memory goes, and has what others missed read from the disk.
    pub(super) fn take_turn(&mut self, context: &mut Context<Self>) {
        self.turn_is_due = false;
        self.tell_from_memory();
        self.tell_progress_that_waits();
        if self.recent.is_some() && self.may_read() {
            self.read(context);
        }
        self.plan_turn(context);
        if self.turn_is_due {
            // One after the other they would let nothing else of this actor come to its turn.
            context.wait(actix::fut::wrap_future(tokio::task::yield_now()));
        }
    }

    fn tell_from_memory(&mut self) {
        let Some(recent) = &self.recent else {
            return;
        };
        let bytes_max = self.part_bytes();
        let turns = &mut self.from_memory;
        let late = next_in_line(turns, &self.streams, &self.watchers, bytes_max);
        let reaches_back = |late: &Late| late.next >= recent.start();
        let (late, too_late): (Vec<Late>, Vec<Late>) = late.into_iter().partition(reaches_back);
        let from = late.iter().map(|late| late.next).min();
        let compacted = self.machine.shared.board.compaction().borrow().revision;
        let parts = match from {
            Some(from) => missed::parts(recent.from(from), recent.next(), compacted, &late),
            None => Vec::new(),
        };
        let mut left = self.machine.shared.backlog.turn_bytes();
        let mut passed_over = Vec::new();
        for (late, part) in late.iter().zip(parts) {
            match left {
                0 => passed_over.push(late.watcher),
                _ => self.tell_late(late.watcher, part, &mut left),
            }
        }
        if let Some(first) = late.first() {
            let has_room = |id| has_room(&self.streams, id);
            self.from_memory
                .pass_over(&passed_over, first.watcher.stream, has_room);
        }
        // Memory reached back to them when they came to wait.
        for late in too_late {
            self.machine.life.progresses();
            self.lag(late.watcher, late.next);
        }
    }

    /// About how much a watcher is told in one turn: no more than may wait for a stream.
    fn part_bytes(&self) -> usize {
        let shared = &self.machine.shared;
        let bytes_max = shared.config.config.watch.queue_bytes_max;
        let bytes_max = bytes_max.min(shared.backlog.share_bytes());
        bytes_max.min(missed::PART_BYTES)
    }

    /// Tells a late watcher what it missed, if there is room for that. It stays late if that was not all. What it is told is taken from what
    /// is left for this turn.
    fn tell_late(&mut self, watcher: WatcherId, part: Part, left: &mut usize) {
        self.machine.life.progresses();
        let Some(watch) = self.watchers.get_mut(&watcher) else {
            return;
        };
        let Some(stream) = self.streams.get(&watcher.stream) else {
            return;
        };
        if let Some(events) = part.events {
            *left = left.saturating_sub(events.bytes);
            let told = std::iter::once((watcher, watch.id, watch.manner, events));
            if !stream.sending.happened(told, || {}).is_empty() {
                let next = watch.next;
                return self.lag(watcher, next);
            }
            watch.quiet = false;
        }
        let newest = self.recent.as_ref().map(Recent::next);
        if newest.is_some_and(|newest| part.next >= newest) {
            watch.next = part.next;
            self.join(watcher);
        } else {
            self.lag(watcher, part.next);
        }
    }

    /// Has what late watchers missed read from the disk.
    fn read(&mut self, context: &mut Context<Self>) {
        let bytes_max = self.part_bytes();
        let turns = &mut self.from_disk;
        let late = next_in_line(turns, &self.streams, &self.watchers, bytes_max);
        if late.is_empty() {
            return;
        }
        self.reading = true;
        let shared = self.machine.shared.clone();
        let read = tokio::task::spawn_blocking(move || {
            let strike = shared.strike_disk_of(ActorName::Watcher, Point::History);
            strike.map_err(|error| error.to_string())?;
            let state = shared.resources.states.present();
            missed::read(&state, late).map_err(|error| error.to_string())
        });
        let read = actix::fut::wrap_future::<_, Self>(read);
        context.spawn(read.map(|read, watcher, context| match read {
            Ok(Ok(found)) => watcher.was_read(found, context),
            Ok(Err(error)) => {
                error!(watcher.machine.log, "the history cannot be read"; "error" => &error);
                watcher.give_up(context, error);
            }
            Err(_) => watcher.give_up(context, "the thread that reads the history panicked".into()),
        }));
    }

    fn was_read(&mut self, mut found: Vec<(WatcherId, Found)>, context: &mut Context<Self>) {
        self.reading = false;
        self.add_recent(&mut found);
        let is_nothing = |(_, found): &(WatcherId, Found)| matches!(found, Found::Elsewhere);
        self.found_nothing = found.iter().all(is_nothing);
        let first = found.first().map(|(watcher, _)| *watcher);
        let mut passed_over = Vec::new();
        let mut left = self.machine.shared.backlog.turn_bytes();
        for (watcher, found) in found {
            match found {
                Found::Part(_) if left == 0 => passed_over.push(watcher),
                Found::Part(part) => self.tell_late(watcher, part, &mut left),
                Found::Compacted(revision) => self.tell_compacted(watcher, revision),
                // It has had its turn, and the next read begins with another.
                Found::Elsewhere if Some(watcher) == first => {
                    let next = self.watchers.get(&watcher).map_or(0, |watch| watch.next);
                    self.lag(watcher, next);
                }
                Found::Elsewhere => passed_over.push(watcher),
            }
        }
        passed_over.retain(|watcher| self.watchers.contains_key(watcher));
        if let Some(first) = first {
            let has_room = |id| has_room(&self.streams, id);
            self.from_disk
                .pass_over(&passed_over, first.stream, has_room);
        }
        self.rest();
        self.tell_progress_that_waits();
        self.plan_turn(context);
    }

    fn add_recent(&self, found: &mut [(WatcherId, Found)]) {
        let Some(recent) = &self.recent else {
            return;
        };
        let bytes_max = self.part_bytes();
        let read = found.iter_mut().filter_map(|(watcher, found)| {
            let Found::Part(part) = found else {
                return None;
            };
            let late = Late {
                watcher: *watcher,
                interest: self.watchers.get(watcher)?.interest.clone(),
                next: part.next,
                bytes_max,
            };
            Some((late, part))
        });
        let compacted = self.machine.shared.board.compaction().borrow().revision;
        missed::add_recent(read.collect(), recent, compacted);
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
        self.end(watcher.stream, ended, None);
    }
}

/// Whether a stream takes events. If not, its outbox says when it does again.
fn has_room(streams: &HashMap<StreamId, Stream>, id: StreamId) -> bool {
    let stream = streams.get(&id);
    stream.is_some_and(|stream| !stream.sending.is_full())
}

/// The late watchers whose turn it is, each to be told about so many bytes.
fn next_in_line(
    turns: &mut Turns,
    streams: &HashMap<StreamId, Stream>,
    watchers: &HashMap<WatcherId, Watch>,
    bytes_max: usize,
) -> Vec<Late> {
    let next = turns.next(
        |watcher| watchers.contains_key(watcher),
        |id| has_room(streams, id),
    );
    let late = next.into_iter().filter_map(|watcher| {
        let watch = watchers.get(&watcher)?;
        Some(Late {
            watcher,
            interest: watch.interest.clone(),
            next: watch.next,
            bytes_max,
        })
    });
    late.collect()
}
