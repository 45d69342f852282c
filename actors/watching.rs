//! Watches, as a client's stream has them: what it may ask of the Watcher, and what it is told.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rm_kv::{Event, Span};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::machine::Shared;
use crate::message::{CloseStream, FromStream, OpenStream, StreamRequest};
use crate::port::{Port, Refusal};
use crate::watcher::{Backlog, Counted, Outbox, Sending, StreamId};

/// The most requests of one stream whose answer has not left.
const REQUESTS_MAX: usize = 128;

/// What a watcher wants to be told of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interest {
    /// The key, or the first of a range.
    pub key: Bytes,
    /// The end of the range, as in [`rm_kv::Range`].
    pub range_end: Bytes,
    /// Leave puts out.
    pub no_put: bool,
    /// Leave deletes out.
    pub no_delete: bool,
}

impl Interest {
    /// The keys.
    pub(crate) fn span(&self) -> Span<'_> {
        Span::new(&self.key, &self.range_end)
    }

    /// How many bytes the keys have.
    pub(crate) fn key_bytes(&self) -> usize {
        self.key.len() + self.range_end.len()
    }

    /// Whether it has a use for events of its keys that are puts, or deletes.
    pub(crate) fn wants(&self, event: &Event) -> bool {
        let left_out = if event.is_delete {
            self.no_delete
        } else {
            self.no_put
        };
        !left_out
    }

    /// Whether no key can lie in it.
    pub(crate) fn is_empty(&self) -> bool {
        match self.span() {
            Span::One(_) | Span::From(_, None) => false,
            Span::From(start, Some(end)) => start >= end,
        }
    }
}

/// How a watcher is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// With each key as it was before.
    pub prev_kv: bool,
    /// In several messages, where one would be too large.
    pub fragments: bool,
}

/// A watcher that a client wants (etcd's WatchCreateRequest).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewWatcher {
    /// What it wants to be told of.
    pub interest: Interest,
    /// The first revision of which it wants to be told; zero for what comes from now on.
    pub start: i64,
    /// The number that the client wants for it in its stream; zero to be given one.
    pub id: i64,
    /// Whether it wants to be told now and then that there was nothing.
    pub progress: bool,
    /// How it wants to be told.
    pub manner: Manner,
}

/// What a stream is told (etcd's WatchResponse), with the revision of the key space that goes with it.
#[derive(Debug)]
pub enum Notice {
    /// A watcher is there.
    Created {
        /// Its number in the stream.
        id: i64,
        /// The newest revision.
        revision: i64,
    },
    /// A watcher that was asked for is not made.
    Refused {
        /// Why, in etcd's words.
        reason: &'static str,
        /// The newest revision.
        revision: i64,
    },
    /// Something happened. All that a watcher is told of one revision comes in one notice.
    Happened {
        /// The watcher.
        id: i64,
        /// How it wants to be told.
        manner: Manner,
        /// What happened, oldest first; each part has at least one event.
        parts: Vec<Arc<Delivery>>,
        /// That it waits; to be held until it has left the machine.
        counted: Counted,
    },
    /// All that happened up to a revision was told.
    Progress {
        /// To this watcher; to all of the stream if there is none.
        id: Option<i64>,
        /// The revision.
        revision: i64,
    },
    /// A watcher is no more.
    Ended {
        /// Its number in the stream.
        id: i64,
        /// The newest revision.
        revision: i64,
        /// The revision that was compacted last, if the watcher wanted to be told of earlier ones.
        compacted: Option<i64>,
    },
}

/// Events for all watchers that want the same and have been told the same.
#[derive(Debug)]
pub struct Delivery {
    /// The events, oldest first; at least one.
    pub events: Vec<Arc<Event>>,
    /// Up to which revision these are all.
    pub revision: i64,
    /// How much memory they take, in bytes, about.
    pub bytes: usize,
    /// Where it waits, as part of what waits for all streams.
    counted: OnceLock<Counted>,
    /// The same as it is sent, without and with the keys as they were before.
    encoded: [OnceLock<Vec<Bytes>>; 2],
}

impl Delivery {
    /// None where there is nothing to tell.
    pub(crate) fn new(events: Vec<Arc<Event>>, revision: i64) -> Option<Arc<Delivery>> {
        let bytes = events.iter().map(|event| Delivery::bytes_of(event)).sum();
        let delivery = || Delivery {
            events,
            revision,
            bytes,
            counted: OnceLock::new(),
            encoded: Default::default(),
        };
        (bytes > 0).then(|| Arc::new(delivery()))
    }

    /// How much memory an event takes in one, in bytes, about: as it is, and as it is sent.
    pub(crate) fn bytes_of(event: &Event) -> usize {
        event.bytes() + event.data_bytes()
    }

    /// Each event as it is sent to watchers that want to be told so: encoded by whoever asks first, for all.
    pub fn encoded(&self, manner: Manner, encode: impl Fn(&Event) -> Bytes) -> &[Bytes] {
        self.encoded[usize::from(manner.prev_kv)].get_or_init(|| {
            let events = self.events.iter();
            events.map(|event| encode(event)).collect()
        })
    }

    /// It waits for a stream. However many it waits for, it is there once.
    pub(crate) fn count_in(&self, backlog: &Arc<Backlog>) {
        self.counted.get_or_init(|| backlog.count(self.bytes));
    }

    /// The part of it from a revision on.
    pub(crate) fn from(&self, revision: i64) -> Option<Arc<Delivery>> {
        let first = self
            .events
            .partition_point(|event| event.revision() < revision);
        Delivery::new(self.events[first..].to_vec(), self.revision)
    }

    /// The revision of the first event.
    pub(crate) fn first(&self) -> i64 {
        self.events.first().map_or(0, |event| event.revision())
    }
}

/// A client's stream of watchers. When it is dropped, its watchers are gone.
pub struct WatchStream {
    shared: Arc<Shared>,
    id: StreamId,
    outbox: Arc<Outbox>,
    losses: watch::Receiver<u64>,
    room: Arc<Semaphore>,
}

/// The room that a request takes until its answer has left.
pub struct Room(OwnedSemaphorePermit);

impl Port {
    /// Opens a stream of watchers on this machine's key space.
    ///
    /// # Errors
    /// The machine stops.
    pub fn watch(&self) -> Result<WatchStream, Refusal> {
        let shared = self.shared.clone();
        if shared.board.stopping() {
            return Err(Refusal::Stopped);
        }
        let outbox = Arc::new(Outbox::new(
            shared.config.config.watch.queue_bytes_max,
            shared.backlog.clone(),
            shared.board.meters.events_pending.clone(),
        ));
        let losses = shared.slots.watcher.losses();
        let id = StreamId(shared.resources.next_request_number());
        shared.slots.watcher.tell(OpenStream {
            id,
            sending: Sending(outbox.clone()),
        });
        Ok(WatchStream {
            shared,
            id,
            outbox,
            losses,
            room: Arc::new(Semaphore::new(REQUESTS_MAX)),
        })
    }
}

impl WatchStream {
    /// Room for one more request, as soon as there is some: a client that takes no answers is not heard.
    pub fn room(&self) -> impl Future<Output = Room> + Send + 'static {
        let room = self.room.clone();
        async move {
            let permit = room.acquire_owned().await;
            Room(permit.expect("the semaphore is never closed"))
        }
    }

    /// Asks for a watcher. Answered by [`Notice::Created`] or [`Notice::Refused`].
    pub fn create(&self, watcher: NewWatcher, room: Room) {
        self.tell(StreamRequest::Create(watcher, room.0));
    }

    /// Ends a watcher. Answered by [`Notice::Ended`], or not at all if there is none of this number.
    pub fn cancel(&self, id: i64, room: Room) {
        self.tell(StreamRequest::Cancel(id, room.0));
    }

    /// Asks to be told, once all watchers of the stream have been told all that happened.
    pub fn ask_progress(&self, room: Room) {
        self.tell(StreamRequest::Progress(room.0));
    }

    fn tell(&self, request: StreamRequest) {
        let stream = self.id;
        let watcher = &self.shared.slots.watcher;
        watcher.tell(FromStream { stream, request });
    }

    /// What is to be told next, as soon as there is something. Nothing is lost if the future is dropped before it is ready.
    ///
    /// # Errors
    /// The Watcher has failed, and with it the stream: the client should open another and go on after the last revision that it was
    /// told of.
    pub async fn next(&mut self) -> Result<Notice, Refusal> {
        let (notice, is_low) = tokio::select! {
            taken = self.outbox.take() => taken?,
            _ = self.losses.changed() => return Err(Refusal::Restarted),
        };
        Ok(self.taken(notice, is_low))
    }

    /// The same where something is to be told already.
    pub fn next_if_ready(&mut self) -> Option<Result<Notice, Refusal>> {
        let taken = self.outbox.try_take()?;
        Some(taken.map(|(notice, is_low)| self.taken(notice, is_low)))
    }

    fn taken(&self, notice: Notice, is_low: bool) -> Notice {
        if is_low {
            self.tell(StreamRequest::Low);
        }
        if let Notice::Happened { parts, .. } = &notice {
            let events: usize = parts.iter().map(|part| part.events.len()).sum();
            self.shared.board.meters.events.add(events as u64);
        }
        notice
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.shared.slots.watcher.tell(CloseStream(self.id));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rm_kv::KeyValue;

    use super::*;

    #[test]
    fn what_many_are_told_is_encoded_once_for_each_manner() {
        let event = Event {
            is_delete: false,
            kv: KeyValue::default(),
            prev_kv: None,
        };
        let delivery = Delivery::new(vec![Arc::new(event)], 2).expect("it has an event");
        let encoded = Cell::new(0);
        let tell = |prev_kv| {
            let manner = Manner {
                prev_kv,
                fragments: false,
            };
            let encode = |_: &Event| {
                encoded.set(encoded.get() + 1);
                Bytes::from(format!("with what was before: {prev_kv}"))
            };
            delivery.encoded(manner, encode).to_vec()
        };
        for _ in 0..3 {
            assert_eq!(tell(false), ["with what was before: false"]);
            assert_eq!(tell(true), ["with what was before: true"]);
        }
        assert_eq!(encoded.get(), 2);
    }
}
