//! A stream of watchers at one member, read as fast as it tells, and what it told each watcher.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use rm_proto::etcdserverpb::watch_request::RequestUnion;
use rm_proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use rm_proto::mvccpb::{Event, KeyValue};
use rm_tests::Client;
use rm_tests::watching::{Watching, header_revision, revision};
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

/// How long may take what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// The number that stands for no watcher, or for all of a stream.
pub(crate) const NO_WATCHER: i64 = -1;

/// The longest value that is kept as it is.
const VALUE_BYTES_MAX: usize = 64;

/// What a watcher was told, but for what is particular to one cluster.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    Created {
        at: i64,
    },
    Refused {
        at: i64,
        reason: String,
    },
    Event(Event),
    Ended {
        at: i64,
        reason: String,
    },
    /// In etcd without a revision of its own.
    Compacted {
        revision: i64,
        reason: String,
    },
    Progress {
        at: i64,
    },
    /// What no stream may tell.
    Wrong(String),
}

/// What a stream has told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// By the watchers' numbers, since the last look.
    pub(crate) told: BTreeMap<i64, Vec<Told>>,
    /// How often a watcher was made or refused.
    pub(crate) answers: usize,
    /// The watcher that was made or refused last.
    pub(crate) answered: i64,
    /// How often a watcher ended.
    pub(crate) ends: usize,
    /// How often all of the stream was told of progress.
    pub(crate) notices: usize,
    /// How often one watcher was told of progress without asking.
    pub(crate) own_notices: usize,
    /// How many responses were fragments with more to come.
    pub(crate) fragments: usize,
    /// The watchers that were told something in fragments, and that are there.
    pub(crate) fragmented: BTreeSet<i64>,
    /// How far each watcher was told.
    progress: BTreeMap<i64, Progress>,
    /// What has ended the stream.
    end: Option<Status>,
}

/// How far a watcher was told.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// All up to this revision, by a notice of progress.
    noticed: i64,
    /// The revision of the last event.
    event: i64,
    /// Whether more of that revision may come.
    goes_on: bool,
}

impl Log {
    /// The revision of the last event that a watcher was told.
    pub(crate) fn newest(&self, id: i64) -> i64 {
        self.progress.get(&id).map_or(0, |it| it.event)
    }

    fn take(&mut self, response: WatchResponse) {
        let (id, at) = (response.watch_id, header_revision(&response));
        let reason = response.cancel_reason.clone();
        match (response.created, response.canceled) {
            (true, false) => {
                self.progress.insert(id, Progress::default());
                self.fragmented.remove(&id);
                self.answer(id, Told::Created { at });
            }
            (true, true) => self.answer(id, Told::Refused { at, reason }),
            (false, true) => {
                let told = match response.compact_revision {
                    0 => Told::Ended { at, reason },
                    revision => Told::Compacted { revision, reason },
                };
                self.add(id, told);
                self.fragmented.remove(&id);
                self.ends += 1;
            }
            (false, false) if response.events.is_empty() => self.progress(id, at),
            (false, false) => self.events(id, at, response),
        }
    }

    fn add(&mut self, id: i64, told: Told) {
        self.told.entry(id).or_default().push(told);
    }

    fn answer(&mut self, id: i64, told: Told) {
        self.add(id, told);
        self.answers += 1;
        self.answered = id;
    }

    fn progress(&mut self, id: i64, at: i64) {
        if id == NO_WATCHER {
            self.add(id, Told::Progress { at });
            self.notices += 1;
            for progress in self.progress.values_mut() {
                progress.noticed = progress.noticed.max(at);
            }
        } else {
            // When these come is a matter of time, and so no step.
            self.own_notices += 1;
            let progress = self.progress.entry(id).or_default();
            progress.noticed = progress.noticed.max(at);
        }
    }

    fn events(&mut self, id: i64, at: i64, response: WatchResponse) {
        let progress = self.progress.entry(id).or_default();
        let revisions = response.events.iter().map(revision);
        let (first, last) = revisions.fold((i64::MAX, 0), |(first, last), revision| {
            (first.min(revision), last.max(revision))
        });
        let wrong = if first <= progress.noticed {
            Some("after a notice of progress")
        } else if first < progress.event || (first == progress.event && !progress.goes_on) {
            Some("after events that are not older")
        } else if at < last {
            Some("in a response of an earlier revision")
        } else {
            None
        };
        progress.event = last;
        progress.goes_on = response.fragment;
        if response.fragment {
            self.fragmented.insert(id);
            self.fragments += 1;
        }
        if let Some(wrong) = wrong {
            self.add(id, Told::Wrong(format!("revision {first} {wrong}")));
        }
        for event in response.events {
            self.add(id, Told::Event(brief(event)));
        }
    }
}

/// The same with large values cut short, so that they can be kept and printed.
fn brief(event: Event) -> Event {
    let brief = |kv: KeyValue| KeyValue {
        value: brief_value(kv.value),
        ..kv
    };
    Event {
        kv: event.kv.map(brief),
        prev_kv: event.prev_kv.map(brief),
        ..event
    }
}

pub(crate) fn brief_value(value: Bytes) -> Bytes {
    if value.len() <= VALUE_BYTES_MAX {
        return value;
    }
    let (length, sum) = (value.len(), crc32c::crc32c(&value));
    format!("{length} bytes with checksum {sum:08x}").into()
}

/// A stream of watchers at one member.
pub(crate) struct Stream {
    requests: mpsc::Sender<WatchRequest>,
    log: watch::Sender<Log>,
    reader: tokio::task::JoinHandle<()>,
}

impl Stream {
    /// Opens a stream to a member with a watcher, whose number is 0, and waits until that is there.
    pub(crate) async fn open(client: &Client, member: usize, first: WatchCreateRequest) -> Stream {
        let watching = Watching::open_for(client, member, first).await;
        let (requests, responses) = watching.expect("the member runs").into_halves();
        let log = watch::Sender::new(Log::default());
        let reader = tokio::spawn(read(responses, log.clone()));
        let stream = Stream {
            requests,
            log,
            reader,
        };
        stream
            .until("a watcher is made", |log| log.answers == 1)
            .await;
        stream
    }

    async fn ask(&self, request: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(request),
        };
        // A stream that has ended has the end in its log.
        let _ = self.requests.send(request).await;
    }

    /// Asks for a watcher, and waits until that is made or refused.
    pub(crate) async fn create(&self, request: WatchCreateRequest) {
        let answers = self.log.borrow().answers;
        self.ask(RequestUnion::CreateRequest(request)).await;
        let is_answered = |log: &Log| log.answers > answers;
        self.until("a watcher is made or refused", is_answered)
            .await;
    }

    /// Asks for the end of a watcher.
    pub(crate) async fn cancel(&self, watch_id: i64) {
        let request = WatchCancelRequest { watch_id };
        self.ask(RequestUnion::CancelRequest(request)).await;
    }

    /// Asks for the end of a watcher that is there, and waits for it.
    pub(crate) async fn end(&self, watch_id: i64) {
        let ends = self.log.borrow().ends;
        self.cancel(watch_id).await;
        self.until("a watcher ends", |log| log.ends > ends).await;
    }

    /// Asks for a notice of progress, and waits for it.
    pub(crate) async fn progress(&self) {
        let notices = self.log.borrow().notices;
        self.ask(RequestUnion::ProgressRequest(WatchProgressRequest {}))
            .await;
        let is_told = |log: &Log| log.notices > notices;
        self.until("a stream is told of progress", is_told).await;
    }

    /// Waits until the log is so.
    ///
    /// # Panics
    /// When it is not in time, or the stream ends.
    pub(crate) async fn until(&self, what: &str, mut is_so: impl FnMut(&Log) -> bool) {
        let mut log = self.log.subscribe();
        let is_over = |log: &Log| log.end.is_some() || is_so(log);
        let log = tokio::time::timeout(PATIENCE, log.wait_for(is_over)).await;
        match log {
            Ok(Ok(log)) => assert!(
                log.end.is_none(),
                "the stream has ended before {what}: {log:#?}"
            ),
            Ok(Err(_)) => unreachable!("this stream holds the other end"),
            Err(_) => panic!("waited in vain until {what}: {:#?}", *self.log.borrow()),
        }
    }

    /// Looks at the log as it is.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&Log) -> T) -> T {
        at(&self.log.borrow())
    }

    /// Takes what was told since the last time.
    pub(crate) fn take(&self) -> BTreeMap<i64, Vec<Told>> {
        let mut taken = BTreeMap::new();
        self.log
            .send_modify(|log| taken = std::mem::take(&mut log.told));
        taken
    }

    /// Takes back what a watcher was told last, which is no part of the comparison.
    pub(crate) fn take_back(&self, id: i64) {
        self.log.send_modify(|log| {
            log.told.entry(id).or_default().pop();
        });
    }

    /// Takes back all that a watcher was told that is no part of the comparison, and forgets that it was there.
    pub(crate) fn forget(&self, id: i64) {
        self.log.send_modify(|log| {
            log.told.remove(&id);
            log.progress.remove(&id);
        });
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(mut responses: Streaming<WatchResponse>, log: watch::Sender<Log>) {
    loop {
        let response = responses.message().await;
        let end = match response {
            Ok(Some(response)) => {
                log.send_modify(|log| log.take(response));
                continue;
            }
            Ok(None) => Status::unavailable("the stream ended without a word"),
            Err(status) => status,
        };
        return log.send_modify(|log| log.end = Some(end));
    }
}
