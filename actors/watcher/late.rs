//! Late watchers: each is told what it missed when its turn comes, from memory or from the disk, until it is one of the audience.
//!
//! The turns are the streams': one whose client takes nothing has none until there is room again, and holds up nobody.

use actix::{ActorFutureExt, AsyncContext, Context};
use slog::error;

use super::missed::{self, Found, Late, Part};
use super::recent::Recent;
use super::{StreamId, Watcher, WatcherId};
use crate::machine::Derived;
use crate::message::Flush;
use crate::watching::Notice;

/// How many late watchers are told something in one turn.
const TURN_WATCHERS: usize = 512;
/// How many of one stream before another stream has its share.
const SHARE_WATCHERS: usize = 64;

impl Watcher {
    /// A watcher is late: it is to be told what happened from a revision on.
    pub(super) fn lag(&mut self, watcher: WatcherId, next: i64) {
        let Some(watch) = self.watchers.get_mut(&watcher) else {
            return;
        };
        (watch.next, watch.is_late) = (next, true);
        let id = watcher.stream;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.late.push_back(watcher);
        }
        self.line_up(id);
    }

    /// A stream takes its place in the line, if any of its watchers is late and there is room to tell them; the outbox says when there
    /// is again.
    pub(super) fn line_up(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if !stream.in_line && !stream.late.is_empty() && !stream.sending.is_full() {
            stream.in_line = true;
            self.line.push_back(id);
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
        let late = self.streams.values().map(|stream| stream.late.len());
        meters.watchers_late.set(late.sum());
    }

    pub(super) fn plan_turn(&mut self, context: &mut Context<Self>) {
        let is_wanted = !self.line.is_empty() && !self.reading && !self.found_nothing;
        if is_wanted && !self.turn_is_due && self.recent.is_some() {
            self.turn_is_due = true;
            context.notify(Flush);
        }
    }

    /// Tells some late watchers what they missed, as far as memory goes, and has the rest read from the disk.
    pub(super) fn take_turn(&mut self, context: &mut Context<Self>) {
        self.turn_is_due = false;
        let Some(recent) = &self.recent else {
            return;
        };
        let (covers, end) = (recent.start(), recent.next());
        let compacted = self.machine.shared.board.compaction().borrow().revision;
        let late = self.next_in_line();
        let (recently, long_ago): (Vec<Late>, Vec<Late>) =
            late.into_iter().partition(|late| late.next >= covers);
        if let Some(recent) = &self.recent
            && let Some(from) = recently.iter().map(|late| late.next).min()
        {
            let parts = missed::parts(
                recent.from(from),
                end,
                compacted,
                &recently,
                self.part_bytes(),
            );
            for (late, part) in recently.iter().zip(parts) {
                self.tell_late(late.watcher, part);
            }
        }
        self.tell_progress_that_waits();
        if long_ago.is_empty() {
            self.plan_turn(context);
        } else {
            self.read(long_ago, context);
        }
    }

    /// About how much a watcher is told in one turn: no more than may wait for a stream.
    fn part_bytes(&self) -> usize {
        let share = self.machine.shared.backlog.share_bytes();
        share.min(missed::PART_BYTES)
    }

    /// The watchers whose turn it is. They leave their places.
    fn next_in_line(&mut self) -> Vec<Late> {
        let mut late = Vec::new();
        while late.len() < TURN_WATCHERS
            && let Some(id) = self.line.pop_front()
        {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue; // it was closed
            };
            stream.in_line = false;
            let count = stream.late.len().min(SHARE_WATCHERS);
            late.extend(stream.late.drain(..count).filter_map(|watcher| {
                // One that is no more was cancelled.
                let watch = self.watchers.get(&watcher)?;
                Some(Late {
                    watcher,
                    interest: watch.interest.clone(),
                    next: watch.next,
                })
            }));
            self.line_up(id);
        }
        late
    }

    /// Tells a late watcher what it missed, if there is room for that. It stays late if that was not all.
    fn tell_late(&mut self, watcher: WatcherId, part: Part) {
        self.machine.life.progresses();
        let Some(watch) = self.watchers.get_mut(&watcher) else {
            return;
        };
        let Some(stream) = self.streams.get(&watcher.stream) else {
            return;
        };
        if let Some(events) = part.events {
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
    fn read(&mut self, late: Vec<Late>, context: &mut Context<Self>) {
        self.reading = true;
        let state = self.machine.shared.resources.states.present();
        let bytes_max = self.part_bytes();
        let read = tokio::task::spawn_blocking(move || missed::read(&state, late, bytes_max));
        let read = actix::fut::wrap_future::<_, Self>(read);
        context.spawn(read.map(|read, watcher, context| match read {
            Ok(Ok(found)) => watcher.was_read(found, context),
            Ok(Err(error)) => {
                error!(watcher.machine.log, "the history cannot be read"; "error" => %error);
                watcher.give_up(context, error.to_string());
            }
            Err(_) => watcher.give_up(context, "the thread that reads the history panicked".into()),
        }));
    }

    fn was_read(&mut self, mut found: Vec<(WatcherId, Found)>, context: &mut Context<Self>) {
        self.reading = false;
        self.add_recent(&mut found);
        let is_nothing = |(_, found): &(WatcherId, Found)| matches!(found, Found::Elsewhere);
        self.found_nothing = found.iter().all(is_nothing);
        for (watcher, found) in found {
            match found {
                Found::Part(part) => self.tell_late(watcher, part),
                Found::Compacted(revision) => self.tell_compacted(watcher, revision),
                Found::Elsewhere => {
                    let next = self.watchers.get(&watcher).map_or(0, |watch| watch.next);
                    self.lag(watcher, next);
                }
            }
        }
        self.rest();
        self.tell_progress_that_waits();
        self.plan_turn(context);
    }

    fn add_recent(&self, found: &mut [(WatcherId, Found)]) {
        let Some(recent) = &self.recent else {
            return;
        };
        let read = found.iter_mut().filter_map(|(watcher, found)| {
            let Found::Part(part) = found else {
                return None;
            };
            let late = Late {
                watcher: *watcher,
                interest: self.watchers.get(watcher)?.interest.clone(),
                next: part.next,
            };
            Some((late, part))
        });
        let compacted = self.machine.shared.board.compaction().borrow().revision;
        missed::add_recent(read.collect(), recent, compacted, self.part_bytes());
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
