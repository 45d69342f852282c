//! Watcher: tells clients what happens to the keys that they watch, in order, each event once, and from any revision on that is
//! not compacted.
//!
//! It asks the Applier for what happens next, and tells it at once to the watchers that have been told all before: the *audience*.
//! A watcher that begins in the past, or whose client is slow, is *late*. It is told what it missed in turns with the others: from
//! memory, where that reaches back far enough, else from the state on disk, which a thread of its own reads. So a watcher is never
//! more than the next revision that it is to be told of, whatever its client does, and nothing is lost with this actor: the streams
//! end, and the clients open others and go on after the last revision that they heard of.

mod audience;
mod backlog;
mod late;
mod missed;
mod outbox;
mod progress;
mod recent;
mod spans;
mod stream;
mod turns;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler};
use rm_kv::Event;
use slog::debug;
use tokio::sync::OwnedSemaphorePermit;

use self::audience::Audience;
pub(crate) use self::backlog::Backlog;
pub use self::backlog::Counted;
pub(crate) use self::outbox::{Outbox, Sending};
use self::recent::Recent;
use self::stream::Stream;
use self::turns::Turns;
use crate::fault::Point;
use crate::machine::{Derived, Machine};
use crate::message::{
    Ask, CloseStream, Flush, Follow, FromStream, Happened, OpenStream, Poke, StreamRequest, Tick,
};
use crate::roster::{Slot, Slots};
use crate::watching::{Delivery, Interest, Manner, NewWatcher, Notice};

/// How often to look whether a notice of progress is due, and whether the Applier lives that was asked.
const TICK: Duration = Duration::from_millis(100);

/// Up to so many bytes the keys of a watcher are small.
const SMALL_KEYS_BYTES: usize = 4 << 10;

/// One of so many parts of the room for keys there is once more, for small ones alone: whoever watches a few large keys keeps nobody from
/// watching.
const SMALL_KEYS_SHARE: usize = 8;

/// A client's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(pub(crate) u64);

/// A watcher of any stream. In their order those of one stream stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WatcherId {
    stream: StreamId,
    number: u64,
}

/// The actor.
pub(crate) struct Watcher {
    machine: Machine,
    streams: HashMap<StreamId, Stream>,
    watchers: HashMap<WatcherId, Watch>,
    /// How many bytes the keys have that these watch.
    keys_bytes: usize,
    /// Those who have been told all that happened.
    audience: Audience<WatcherId>,
    /// The late watchers for whom memory reaches back far enough, or did when they came to wait.
    from_memory: Turns,
    /// The others.
    from_disk: Turns,
    /// What happened last; none until the Applier has told how far it is.
    recent: Option<Recent>,
    next_watcher: u64,
    /// The question to the Applier that waits for an answer, and when it was asked; none while nobody watches.
    asked: Option<(Ask, Instant)>,
    questions: u64,
    /// The streams that wait to be told of progress.
    asking: BTreeSet<StreamId>,
    /// Whether a thread reads for late watchers.
    reading: bool,
    /// Whether the last read found nothing for anybody: what they want is not on the disk yet, nor in memory. Then none follows at once.
    found_nothing: bool,
    turn_is_due: bool,
}

struct Watch {
    id: i64,
    interest: Interest,
    manner: Manner,
    /// The first revision that the client wants; zero if it did not say.
    start: i64,
    /// Of those before it the client was told; of later ones too, while it is in the audience.
    next: i64,
    is_late: bool,
    wants_progress: bool,
    /// Whether it was told nothing since the last notice of progress.
    quiet: bool,
}

impl Derived for Watcher {
    fn build(machine: Machine) -> Result<Self, String> {
        Ok(Watcher {
            machine,
            streams: HashMap::new(),
            watchers: HashMap::new(),
            keys_bytes: 0,
            audience: Audience::default(),
            from_memory: Turns::default(),
            from_disk: Turns::default(),
            recent: None,
            next_watcher: 0,
            asked: None,
            questions: 0,
            asking: BTreeSet::new(),
            reading: false,
            found_nothing: false,
            turn_is_due: false,
        })
    }

    fn slot(slots: &Slots) -> &Slot<Self> {
        &slots.watcher
    }

    fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }
}

impl Actor for Watcher {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.machine.strike(Point::Started);
        context.notify_later(Tick, TICK);
    }
}

impl Watcher {
    fn open(&mut self, message: OpenStream) {
        let stream = Stream {
            sending: message.sending,
            watchers: BTreeMap::new(),
            next_id: 0,
            asks_progress: None,
            progress_at: Instant::now() + self.progress_pause(),
        };
        self.streams.insert(message.id, stream);
    }

    fn close(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        self.asking.remove(&id);
        self.from_memory.close(id);
        self.from_disk.close(id);
        for watcher in stream.watchers.into_values() {
            self.machine.life.progresses();
            self.forget(watcher);
        }
        self.rest();
    }

    fn request(&mut self, message: FromStream, context: &mut Context<Self>) {
        if !self.streams.contains_key(&message.stream) {
            return; // of an earlier life
        }
        match message.request {
            StreamRequest::Create(watcher, room) => self.create(message.stream, watcher, room),
            StreamRequest::Cancel(id, room) => self.cancel(message.stream, id, room),
            StreamRequest::Progress(room) => {
                if let Some(stream) = self.streams.get_mut(&message.stream) {
                    // Asked twice before it could be told, it is told once.
                    stream.asks_progress = Some(room);
                    self.asking.insert(message.stream);
                }
                self.tell_progress(message.stream);
            }
            StreamRequest::Low => self.line_up(message.stream),
        }
        self.plan_turn(context);
    }

    fn create(&mut self, stream: StreamId, wanted: NewWatcher, room: OwnedSemaphorePermit) {
        let revision = self.machine.shared.board.revision();
        let refused = self.refusal(stream, &wanted);
        let Some(client) = self.streams.get_mut(&stream) else {
            return;
        };
        if let Some(reason) = refused {
            let notice = Notice::Refused { reason, revision };
            return client.sending.tell(notice, Some(room));
        }
        let id = client.number(wanted.id);
        let created = Notice::Created { id, revision };
        client.sending.tell(created, Some(room));
        let next = match wanted.start {
            0 => revision + 1,
            start => start,
        };
        let compacted = self.machine.shared.board.compaction().borrow().revision;
        if next < compacted {
            let ended = Notice::Ended {
                id,
                revision,
                compacted: Some(compacted),
            };
            return client.sending.tell(ended, None);
        }
        let watch = Watch {
            id,
            interest: wanted.interest,
            manner: wanted.manner,
            start: wanted.start,
            next,
            is_late: true,
            wants_progress: wanted.progress,
            quiet: true,
        };
        self.add(stream, watch);
    }

    /// Why a watcher cannot be made, in etcd's words, if so.
    fn refusal(&self, stream: StreamId, wanted: &NewWatcher) -> Option<&'static str> {
        let is_taken = |client: &Stream| client.watchers.contains_key(&wanted.id);
        if wanted.start < 0 {
            Some("etcdserver: mvcc: required revision has been compacted")
        } else if wanted.interest.is_empty() {
            Some("mvcc: watcher range is empty")
        } else if wanted.id != 0 && self.streams.get(&stream).is_some_and(is_taken) {
            Some("mvcc: duplicate watch ID provided on the WatchStream")
        } else if !self.has_room_for(&wanted.interest) {
            Some("etcdserver: too many requests")
        } else {
            None
        }
    }

    fn has_room_for(&self, interest: &Interest) -> bool {
        let config = &self.machine.shared.config.config;
        let bytes = interest.key_bytes();
        let room = config.limits.requests_bytes_max;
        let room = match bytes <= SMALL_KEYS_BYTES {
            true => room.saturating_add(room / SMALL_KEYS_SHARE),
            false => room,
        };
        self.watchers.len() < config.watch.watchers_max && self.keys_bytes + bytes <= room
    }

    fn add(&mut self, stream: StreamId, watch: Watch) {
        let watcher = WatcherId {
            stream,
            number: self.next_watcher,
        };
        self.next_watcher += 1;
        if let Some(client) = self.streams.get_mut(&stream) {
            client.watchers.insert(watch.id, watcher);
        }
        let next = watch.next;
        self.keys_bytes += watch.interest.key_bytes();
        self.watchers.insert(watcher, watch);
        match &self.recent {
            Some(recent) if recent.next() <= next => self.join(watcher),
            _ => self.lag(watcher, next),
        }
        if self.asked.is_none() {
            self.follow();
        }
        self.found_nothing = false;
    }

    fn cancel(&mut self, stream: StreamId, id: i64, room: OwnedSemaphorePermit) {
        let ended = Notice::Ended {
            id,
            revision: self.machine.shared.board.revision(),
            compacted: None,
        };
        self.end(stream, ended, Some(room));
        // It may have been the one that progress waited for.
        self.tell_progress(stream);
        self.rest();
    }

    /// Ends a watcher of a stream, if there is one of that number.
    fn end(&mut self, stream: StreamId, ended: Notice, room: Option<OwnedSemaphorePermit>) {
        let Notice::Ended { id, .. } = ended else {
            return;
        };
        let Some(client) = self.streams.get_mut(&stream) else {
            return;
        };
        if let Some(watcher) = client.watchers.remove(&id) {
            client.sending.tell(ended, room);
            self.forget(watcher);
        }
    }

    fn forget(&mut self, watcher: WatcherId) {
        let Some(watch) = self.watchers.remove(&watcher) else {
            return;
        };
        self.keys_bytes -= watch.interest.key_bytes();
        // One that is late is left out when its turn comes.
        if !watch.is_late {
            self.audience.leave(&watch.interest, watcher);
        }
    }

    /// Where nobody watches, the Applier is not asked.
    fn rest(&mut self) {
        if self.watchers.is_empty() {
            self.recent = None;
            self.asked = None;
        }
    }

    /// Asks the Applier for what happens next. Only the first answer to the latest question counts.
    fn follow(&mut self) {
        self.questions += 1;
        let ask = Ask {
            watcher: self.machine.incarnation(),
            number: self.questions,
        };
        self.ask(ask);
    }

    fn ask(&mut self, ask: Ask) {
        self.asked = Some((ask, Instant::now()));
        let from = self.recent.as_ref().map(Recent::next);
        self.machine.shared.slots.applier.tell(Follow { ask, from });
    }

    /// Takes what the Applier told.
    fn hear(&mut self, happened: Happened, context: &mut Context<Self>) {
        if self.asked.is_none_or(|(ask, _)| ask != happened.ask) {
            return;
        }
        let expected = self.recent.as_ref().map(Recent::next);
        if let Some(expected) = expected.filter(|&expected| expected < happened.from) {
            // What lies between is compacted, as in the state of a snapshot.
            debug!(self.machine.log, "the history goes on further ahead"; "expected" => expected, "from" => happened.from);
            self.fall_behind(expected);
            self.recent = None;
        }
        let bytes_max = self.machine.shared.config.config.watch.recent_bytes_max;
        let recent = self
            .recent
            .get_or_insert_with(|| Recent::new(&happened, bytes_max));
        recent.extend(&happened);
        self.tell_audience(&happened.events);
        self.found_nothing = false;
        self.follow();
        self.plan_turn(context);
        self.tell_progress_that_waits();
    }

    /// Tells what just happened to all who have been told everything before.
    fn tell_audience(&mut self, events: &[Arc<Event>]) {
        let mut wanted: BTreeMap<usize, Vec<Arc<Event>>> = BTreeMap::new();
        for event in events {
            for group in self.audience.groups_of(event) {
                wanted.entry(group).or_default().push(event.clone());
            }
        }
        for (group, events) in wanted {
            let newest = events.last().map_or(0, |event| event.revision());
            let Some(delivery) = Delivery::new(events, newest) else {
                continue;
            };
            let members = &self.audience.group(group).members;
            let members: Vec<WatcherId> = members.iter().copied().collect();
            for members in members.chunk_by(|one, other| one.stream == other.stream) {
                self.tell_members(members[0].stream, members, &delivery);
            }
        }
    }

    /// Tells members of the audience who are of one stream.
    fn tell_members(&mut self, stream: StreamId, members: &[WatcherId], delivery: &Arc<Delivery>) {
        self.machine.life.progresses();
        let Some(stream) = self.streams.get(&stream) else {
            return;
        };
        let told = members.iter().filter_map(|watcher| {
            let watch = self.watchers.get_mut(watcher)?;
            let own = match watch.next <= delivery.first() {
                true => delivery.clone(),
                false => delivery.from(watch.next)?,
            };
            watch.quiet = false;
            Some((*watcher, watch.id, watch.manner, own))
        });
        let life = &self.machine.life;
        let refused = stream.sending.happened(told, || life.progresses());
        for watcher in refused {
            self.machine.life.progresses();
            if let Some(watch) = self.watchers.get(&watcher) {
                self.audience.leave(&watch.interest, watcher);
                let next = watch.next.max(delivery.first());
                self.lag(watcher, next);
            }
        }
    }

    /// A watcher has been told all that happened.
    fn join(&mut self, watcher: WatcherId) {
        if let Some(watch) = self.watchers.get_mut(&watcher) {
            watch.is_late = false;
            self.audience.join(&watch.interest, watcher);
        }
    }

    /// The Applier may be another than the one that was asked. One that has the question, or has answered it, takes no notice.
    fn ask_again(&mut self) {
        let newest = self.machine.shared.board.revision();
        let is_news = self
            .recent
            .as_ref()
            .is_none_or(|recent| recent.next() <= newest);
        if let Some((ask, asked)) = self.asked
            && asked.elapsed() >= TICK
            && is_news
        {
            self.ask(ask);
        }
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        self.tell_progress_that_is_due();
        self.ask_again();
        self.found_nothing = false;
        self.plan_turn(context);
        self.post_numbers();
        context.notify_later(Tick, TICK);
    }
}

impl Handler<OpenStream> for Watcher {
    type Result = ();
    fn handle(&mut self, message: OpenStream, context: &mut Context<Self>) {
        self.enter(context);
        self.open(message);
    }
}

impl Handler<CloseStream> for Watcher {
    type Result = ();
    fn handle(&mut self, message: CloseStream, context: &mut Context<Self>) {
        self.enter(context);
        self.close(message.0);
    }
}

impl Handler<FromStream> for Watcher {
    type Result = ();
    fn handle(&mut self, message: FromStream, context: &mut Context<Self>) {
        self.enter(context);
        self.request(message, context);
    }
}

impl Handler<Happened> for Watcher {
    type Result = ();
    fn handle(&mut self, message: Happened, context: &mut Context<Self>) {
        self.enter(context);
        self.hear(message, context);
    }
}

impl Handler<Flush> for Watcher {
    type Result = ();
    fn handle(&mut self, _: Flush, context: &mut Context<Self>) {
        self.take_turn(context);
    }
}

impl Handler<Tick> for Watcher {
    type Result = ();
    fn handle(&mut self, _: Tick, context: &mut Context<Self>) {
        self.tick(context);
    }
}

impl Handler<Poke> for Watcher {
    type Result = ();
    fn handle(&mut self, _: Poke, context: &mut Context<Self>) {
        self.enter(context);
        self.machine.spawn_fault_future(context);
    }
}
