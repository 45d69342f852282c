//! What waits to be told to a client's stream: the one thing that the Watcher and the stream share.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::backlog::{Backlog, Counted};
use crate::meters::Meter;
use crate::port::Refusal;
use crate::watching::{Delivery, Manner, Notice};

/// What one waiting notice takes in memory, in bytes, about.
const ITEM_BYTES: usize = 96;
/// So many bytes of events that wait for one watcher become one notice.
const NOTICE_BYTES: usize = 1 << 20;
/// After so many watchers that are told something, the stream can take what waits before more are told.
const TOLD_AT_ONCE: usize = 1_024;
/// The number under which notices wait that are no watcher's.
const NOBODY: i64 = -1;

/// Notices in the order in which they came. What waits for one watcher is told together, in its own order.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    changed: Notify,
    /// From so many bytes on no more events are taken, or from fewer where much waits for all.
    bytes_max: usize,
    /// What waits, here and for all other streams.
    backlog: Arc<Backlog>,
    /// How many events wait, here and for all other streams.
    pending: Arc<Meter>,
}

/// The Watcher's end: when it is gone, nothing more is told.
#[derive(Debug)]
pub(crate) struct Sending(pub(crate) Arc<Outbox>);

#[derive(Debug, Default)]
struct State {
    /// Those for whom something waits, in the order in which they are told.
    turns: VecDeque<i64>,
    items: HashMap<i64, VecDeque<Item>>,
    /// Progress of all, which waits until all that came before it is told: else it would overtake events (etcd #15220).
    barrier: Option<Item>,
    /// What came after that.
    later: VecDeque<(i64, Item)>,
    /// What all of it takes in memory, about.
    bytes: usize,
    /// The delivery that was added last: those that wait for the same one share its memory.
    last: Option<Arc<Delivery>>,
    /// Whether events were refused since it was last told that there is room again.
    starved: bool,
    closed: bool,
}

/// What waits for one watcher or for all.
#[derive(Debug)]
struct Item {
    what: What,
    /// What it takes in memory, about.
    bytes: usize,
    /// What of that no other stream has in memory, as part of what waits for all.
    _counted: Counted,
}

#[derive(Debug)]
enum What {
    Events(Arc<Delivery>, Manner),
    /// With the room of the request that it answers, which it gives back when it is taken.
    Other {
        notice: Notice,
        _room: Option<OwnedSemaphorePermit>,
    },
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize, backlog: Arc<Backlog>, pending: Arc<Meter>) -> Outbox {
        Outbox {
            state: Mutex::default(),
            changed: Notify::new(),
            bytes_max,
            backlog,
            pending,
        }
    }

    /// From how many bytes on no more events are taken now.
    fn bytes_max(&self) -> usize {
        self.bytes_max.min(self.backlog.share_bytes())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the stream take what was added, so many events among it, which count as pending before they can be taken.
    fn show(&self, events: u64, state: MutexGuard<'_, State>) {
        self.pending.add(events);
        drop(state);
        self.changed.notify_one();
    }

    /// The next notice, and whether there is room again after there was none. Dropped before it is ready, it takes nothing.
    ///
    /// # Errors
    /// The Watcher's end is gone, and all was told.
    pub(crate) async fn take(&self) -> Result<(Notice, bool), Refusal> {
        loop {
            let changed = self.changed.notified();
            if let Some(taken) = self.try_take() {
                return taken;
            }
            changed.await;
        }
    }

    /// The same, or none where nothing waits.
    pub(crate) fn try_take(&self) -> Option<Result<(Notice, bool), Refusal>> {
        let mut state = self.state();
        match state.take(&self.backlog) {
            Some(notice) => {
                if let Notice::Happened { parts, .. } = &notice {
                    self.pending.take_away(events(parts));
                }
                let is_low = state.starved && state.bytes <= self.bytes_max() / 2;
                state.starved &= !is_low;
                Some(Ok((notice, is_low)))
            }
            None => state.closed.then_some(Err(Refusal::Restarted)),
        }
    }
}

impl Sending {
    /// Has watchers told what happened, and pauses now and then, so that the client's stream can take what waits meanwhile. Those that
    /// are returned are not told, since too much waits already.
    pub(crate) fn happened<W>(
        &self,
        watchers: impl Iterator<Item = (W, i64, Manner, Arc<Delivery>)>,
        mut pause: impl FnMut(),
    ) -> Vec<W> {
        let mut told = 0;
        let mut refused = Vec::new();
        let mut state = self.0.state();
        for (place, (watcher, id, manner, events)) in watchers.enumerate() {
            if place > 0 && place % TOLD_AT_ONCE == 0 {
                self.0.show(std::mem::take(&mut told), state);
                pause();
                state = self.0.state();
            }
            if state.bytes >= self.0.bytes_max() {
                state.starved = true;
                refused.push(watcher);
            } else {
                told += events.events.len() as u64;
                state.happened(id, manner, events, &self.0.backlog);
            }
        }
        self.0.show(told, state);
        refused
    }

    /// Has anything else told. It always finds room: of answers there are no more than requests, and a watcher has one
    /// of the others at most.
    pub(crate) fn tell(&self, notice: Notice, room: Option<OwnedSemaphorePermit>) {
        let id = match &notice {
            Notice::Created { id, .. }
            | Notice::Happened { id, .. }
            | Notice::Ended { id, .. }
            | Notice::Progress { id: Some(id), .. } => *id,
            Notice::Refused { .. } | Notice::Progress { id: None, .. } => NOBODY,
        };
        self.0.state().add(
            id,
            What::Other {
                notice,
                _room: room,
            },
            0,
            &self.0.backlog,
        );
        self.0.changed.notify_one();
    }

    /// Whether events would be refused. If so, whoever takes the notices is told when there is room again.
    pub(crate) fn is_full(&self) -> bool {
        let mut state = self.0.state();
        let full = state.bytes >= self.0.bytes_max();
        state.starved |= full;
        full
    }

    /// Whether anything waits for a watcher.
    pub(crate) fn is_pending(&self, id: i64) -> bool {
        let state = self.0.state();
        let is_later = state.later.iter().any(|(later, _)| *later == id);
        is_later || state.items.contains_key(&id)
    }
}

impl Drop for Outbox {
    /// What nobody takes any more waits no longer.
    fn drop(&mut self) {
        let state = self.state();
        let later = state.later.iter().map(|(_, item)| item);
        let items = state.items.values().flatten().chain(later);
        let left = items.map(Item::events).sum();
        self.pending.take_away(left);
    }
}

/// How many events there are in deliveries.
fn events(parts: &[Arc<Delivery>]) -> u64 {
    parts.iter().map(|part| part.events.len() as u64).sum()
}

impl Item {
    fn events(&self) -> u64 {
        match &self.what {
            What::Events(events, _) => events.events.len() as u64,
            What::Other { .. } => 0,
        }
    }

    fn is_progress_of_all(&self) -> bool {
        let notice = match &self.what {
            What::Other { notice, .. } => notice,
            What::Events(..) => return false,
        };
        matches!(notice, Notice::Progress { id: None, .. })
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.changed.notify_one();
    }
}

impl State {
    fn happened(&mut self, id: i64, manner: Manner, events: Arc<Delivery>, backlog: &Arc<Backlog>) {
        events.count_in(backlog);
        let is_same = |last: &Arc<Delivery>| Arc::ptr_eq(last, &events);
        let shared = self.last.as_ref().is_some_and(is_same);
        let bytes = if shared { 0 } else { events.bytes };
        if !shared {
            self.last = Some(events.clone());
        }
        self.add(id, What::Events(events, manner), bytes, backlog);
    }

    fn add(&mut self, id: i64, what: What, bytes: usize, backlog: &Arc<Backlog>) {
        // One notice for each watcher is no more than the watcher itself is.
        let is_first = self.barrier.is_none() && !self.items.contains_key(&id);
        let bytes = if is_first { bytes } else { bytes + ITEM_BYTES };
        self.bytes += bytes;
        let _counted = backlog.count(ITEM_BYTES);
        self.queue(
            id,
            Item {
                what,
                bytes,
                _counted,
            },
        );
    }

    fn queue(&mut self, id: i64, item: Item) {
        if self.barrier.is_some() {
            self.later.push_back((id, item));
        } else if item.is_progress_of_all() {
            self.barrier = Some(item);
        } else {
            let items = self.items.entry(id).or_default();
            if items.is_empty() {
                self.turns.push_back(id);
            }
            items.push_back(item);
        }
    }

    fn take(&mut self, backlog: &Arc<Backlog>) -> Option<Notice> {
        if let Some(id) = self.turns.pop_front() {
            return self.take_of(id, backlog);
        }
        let item = self.barrier.take()?;
        self.bytes -= item.bytes;
        for (id, item) in std::mem::take(&mut self.later) {
            self.queue(id, item);
        }
        match item.what {
            What::Other { notice, .. } => Some(notice),
            What::Events(..) => None, // only progress is a barrier
        }
    }

    fn take_of(&mut self, id: i64, backlog: &Arc<Backlog>) -> Option<Notice> {
        let items = self.items.get_mut(&id)?;
        let first = items.pop_front()?;
        self.bytes -= first.bytes;
        let notice = match first.what {
            What::Other { notice, .. } => notice,
            What::Events(events, manner) => {
                let mut bytes = events.bytes;
                let mut parts = vec![events];
                while let Some(item) = items.front()
                    && let What::Events(more, _) = &item.what
                    && bytes + more.bytes <= NOTICE_BYTES
                {
                    bytes += more.bytes;
                    parts.push(more.clone());
                    self.bytes -= item.bytes;
                    items.pop_front();
                }
                Notice::Happened {
                    id,
                    manner,
                    parts,
                    counted: backlog.count(bytes),
                }
            }
        };
        if items.is_empty() {
            self.items.remove(&id);
        } else {
            self.turns.push_back(id);
        }
        if self.items.is_empty() {
            self.last = None;
        }
        Some(notice)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use rm_kv::{Event, KeyValue};

    use super::*;

    fn delivery(revision: i64, bytes: usize) -> Arc<Delivery> {
        let kv = KeyValue {
            key: "k".into(),
            value: vec![0; bytes].into(),
            mod_revision: revision,
            ..KeyValue::default()
        };
        let event = Event {
            is_delete: false,
            kv,
            prev_kv: None,
        };
        Delivery::new(vec![Arc::new(event)], revision).expect("it has an event")
    }

    fn outbox(bytes_max: usize) -> (Arc<Outbox>, Sending) {
        outbox_in(&Backlog::new(1 << 40), bytes_max)
    }

    fn outbox_in(backlog: &Arc<Backlog>, bytes_max: usize) -> (Arc<Outbox>, Sending) {
        let outbox = Outbox::new(bytes_max, backlog.clone(), Arc::default());
        let outbox = Arc::new(outbox);
        (outbox.clone(), Sending(outbox))
    }

    /// Has one watcher told; whether there was room.
    fn happened(sending: &Sending, id: i64, delivery: &Arc<Delivery>) -> bool {
        let told = std::iter::once(((), id, Manner::default(), delivery.clone()));
        sending.happened(told, || {}).is_empty()
    }

    /// The next notice in short: what, whose, and the revisions.
    fn next(outbox: &Outbox) -> Option<String> {
        let (notice, is_low) = outbox.take().now_or_never()?.ok()?;
        let text = match notice {
            Notice::Created { id, revision } => format!("created {id} at {revision}"),
            Notice::Refused { reason, .. } => format!("refused: {reason}"),
            Notice::Happened { id, parts, .. } => {
                let revisions: Vec<i64> = parts.iter().map(|part| part.revision).collect();
                format!("{id} hears {revisions:?}")
            }
            Notice::Progress { id, revision } => format!("progress of {id:?} to {revision}"),
            Notice::Ended { id, .. } => format!("{id} ends"),
        };
        Some(if is_low { text + ", low" } else { text })
    }

    #[test]
    fn what_waits_for_one_watcher_is_told_together_and_in_order() {
        let (outbox, sending) = outbox(1 << 20);
        sending.tell(Notice::Created { id: 1, revision: 1 }, None);
        happened(&sending, 1, &delivery(2, 1));
        happened(&sending, 2, &delivery(2, 1));
        happened(&sending, 1, &delivery(3, 1));
        let ended = Notice::Ended {
            id: 1,
            revision: 3,
            compacted: None,
        };
        sending.tell(ended, None);
        let told: Vec<String> = std::iter::from_fn(|| next(&outbox)).collect();
        assert_eq!(
            told,
            ["created 1 at 1", "2 hears [2]", "1 hears [2, 3]", "1 ends"]
        );
    }

    #[test]
    fn etcd_15220_progress_of_all_is_told_between_what_came_before_and_after() {
        let (outbox, sending) = outbox(16 << 20);
        for revision in 2..=4 {
            happened(&sending, 1, &delivery(revision, NOTICE_BYTES * 2 / 3));
        }
        let progress = Notice::Progress {
            id: None,
            revision: 4,
        };
        sending.tell(progress, None);
        happened(&sending, 2, &delivery(5, 1));
        let told: Vec<String> = std::iter::from_fn(|| next(&outbox)).collect();
        let expected = [
            "1 hears [2]",
            "1 hears [3]",
            "1 hears [4]",
            "progress of None to 4",
            "2 hears [5]",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn those_for_whom_there_is_no_room_are_named_and_the_others_told() {
        let (outbox, sending) = outbox(3_000);
        let one = |id, revision| (id, id, Manner::default(), delivery(revision, 1_300));
        let all = [one(1, 2), one(2, 3), one(3, 4), one(4, 5)];
        let refused = sending.happened(all.into_iter(), || {});
        assert_eq!(refused, [3, 4]);
        let told: Vec<String> = std::iter::from_fn(|| next(&outbox)).collect();
        assert_eq!(told, ["1 hears [2]", "2 hears [3], low"]);
    }

    #[test]
    fn too_much_is_refused_until_half_of_it_is_told() {
        let (outbox, sending) = outbox(3_000);
        assert!(happened(&sending, 1, &delivery(2, 1_300)));
        assert!(happened(&sending, 2, &delivery(3, 1_300)));
        assert!(sending.is_full());
        assert!(!happened(&sending, 3, &delivery(4, 1)));
        assert_eq!(next(&outbox).as_deref(), Some("1 hears [2]"));
        assert_eq!(next(&outbox).as_deref(), Some("2 hears [3], low"));
        assert!(happened(&sending, 3, &delivery(4, 1)));
        assert_eq!(next(&outbox).as_deref(), Some("3 hears [4]"));
    }

    #[test]
    fn events_are_pending_until_they_are_taken_or_nobody_takes_them() {
        let (outbox, sending) = outbox(1 << 20);
        let pending = outbox.pending.clone();
        for (id, revision) in [(1, 2), (2, 2), (1, 3)] {
            happened(&sending, id, &delivery(revision, 1));
        }
        let progress = Notice::Progress {
            id: None,
            revision: 3,
        };
        sending.tell(progress, None);
        happened(&sending, 2, &delivery(4, 1));
        assert_eq!(pending.read(), 4);
        assert_eq!(next(&outbox).as_deref(), Some("1 hears [2, 3]"));
        assert_eq!(pending.read(), 2, "what waits behind the progress, too");
        drop((outbox, sending));
        assert_eq!(pending.read(), 0);
    }

    #[test]
    fn the_stream_can_take_what_waits_while_many_watchers_are_told() {
        let (outbox, sending) = outbox(1 << 30);
        let shared = delivery(2, 1);
        let many = 3 * TOLD_AT_ONCE as i64;
        let told = (1..=many).map(|id| (id, id, Manner::default(), shared.clone()));
        let mut pauses = 0;
        let refused = sending.happened(told, || {
            pauses += 1;
            assert!(outbox.state.try_lock().is_ok(), "it is not held up");
            assert!(next(&outbox).is_some());
        });
        assert_eq!((refused.len(), pauses), (0, 2));
        let rest = std::iter::from_fn(|| next(&outbox)).count();
        assert_eq!(rest + pauses, 3 * TOLD_AT_ONCE, "each is told once");
    }

    #[test]
    fn a_delivery_to_many_is_counted_once() {
        let (_, sending) = outbox(20_000);
        let shared = delivery(2, 5_000);
        let told = (1..=40)
            .filter(|&id| happened(&sending, id, &shared))
            .count();
        assert_eq!(told, 40);
    }

    #[test]
    fn what_many_streams_wait_for_counts_once_until_the_last_has_taken_it() {
        let backlog = Backlog::new(1 << 40);
        let (outboxes, sendings): (Vec<_>, Vec<_>) =
            (0..10).map(|_| outbox_in(&backlog, 1 << 20)).unzip();
        let shared = delivery(2, 5_000);
        let bytes = shared.bytes;
        assert!(sendings.iter().all(|it| happened(it, 1, &shared)));
        drop(shared);
        assert_eq!(backlog.bytes(), bytes + 10 * ITEM_BYTES);
        for outbox in &outboxes[1..] {
            assert_eq!(next(outbox).as_deref(), Some("1 hears [2]"));
        }
        assert_eq!(backlog.bytes(), bytes + ITEM_BYTES);
        drop((outboxes, sendings));
        assert_eq!(backlog.bytes(), 0);
    }

    #[test]
    fn streams_that_take_nothing_leave_room_for_the_others() {
        let backlog = Backlog::new(16 << 20);
        let fill = |sending: &Sending| {
            let mut revisions = 2..;
            while happened(
                sending,
                1,
                &delivery(revisions.next().expect("it is endless"), 9_000),
            ) {}
            revisions.start - 3
        };
        let deaf: Vec<_> = (0..100).map(|_| outbox_in(&backlog, 4 << 20)).collect();
        let told: Vec<i64> = deaf.iter().map(|(_, sending)| fill(sending)).collect();
        assert!(
            told.is_sorted_by(|before, after| before >= after),
            "{told:?}"
        );
        assert!(told[0] > 50, "{told:?}");
        // However many there are, whoever comes is told something, and more when that is taken.
        let bytes = backlog.bytes();
        assert!(bytes <= 17 << 20, "{bytes}");
        let (outbox, sending) = outbox_in(&backlog, 4 << 20);
        for _ in 0..3 {
            assert_eq!(fill(&sending), 1);
            assert_eq!(next(&outbox).as_deref(), Some("1 hears [2], low"));
            assert_eq!(backlog.bytes(), bytes);
        }
    }

    #[test]
    fn the_end_of_the_watcher_is_told_after_all_else() {
        let (outbox, sending) = outbox(1 << 20);
        happened(&sending, 1, &delivery(2, 1));
        drop(sending);
        assert_eq!(next(&outbox).as_deref(), Some("1 hears [2]"));
        let end = outbox.take().now_or_never().expect("ready");
        assert!(matches!(end, Err(Refusal::Restarted)));
    }
}
