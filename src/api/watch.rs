//! etcd's Watch service: streams of watchers.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{Stream, stream};
use prost::Message;
use rm_actors::port::{
    Counted, Deed, Delivery, Event, Interest, Manner, NewWatcher, Notice, Port, Refusal,
    RequestError, Room, WatchStream,
};
use rm_proto::etcdserverpb as pb;
use rm_proto::etcdserverpb::watch_create_request::FilterType;
use rm_proto::etcdserverpb::watch_request::RequestUnion;
use rm_proto::mvccpb;
use rm_proto::told;
use rm_proto::told::watch_server::Watch;
use tokio::sync::watch;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::calls::{Broken, Calls};
use crate::error::{invalid, refused};
use crate::header::header;
use crate::lookout::{Leaderless, Lookout};
use crate::recognition::Caller;
use crate::reply::{Held, OnTheWay};
use crate::response;
use crate::size::unread;
use crate::visitor::PAUSE;

/// How many notices are told in a row before requests are looked at.
const NOTICES_IN_A_ROW: usize = 64;

/// By how much a response of which fragments are wanted may be larger than a request, as in etcd.
const FRAGMENT_MORE: usize = 512 << 10;

/// The number that stands for no watcher, or for all of a stream (etcd's InvalidWatchID).
const NO_WATCHER: i64 = -1;

/// Tells of changes.
pub(crate) struct WatchService {
    port: Port,
    calls: Arc<Calls>,
    /// True once the server stops; its sender lives as long as the server.
    draining: watch::Receiver<bool>,
    leaderless: Leaderless,
}

impl WatchService {
    pub(crate) fn new(
        port: Port,
        calls: Arc<Calls>,
        draining: watch::Receiver<bool>,
        leaderless: Leaderless,
    ) -> WatchService {
        WatchService {
            port,
            calls,
            draining,
            leaderless,
        }
    }
}

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = BoxStream<told::WatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let lookout = Lookout::new(&self.leaderless, request.metadata());
        let conversation = Conversation {
            watching: self.port.watch().map_err(refused)?,
            caller: Caller::new(&self.port, request.extensions()),
            port: self.port.clone(),
            calls: self.calls.clone(),
            draining: self.draining.clone(),
            requests: Some(request.into_inner()),
            judging: None,
            ready: VecDeque::new(),
            in_a_row: 0,
            lookout,
        };
        Ok(OnTheWay::response(conversation.responses()))
    }
}

/// One client's stream, in both directions.
struct Conversation {
    port: Port,
    calls: Arc<Calls>,
    caller: Caller,
    watching: WatchStream,
    draining: watch::Receiver<bool>,
    /// None once the client asks for nothing more. It may go on to listen.
    requests: Option<Streaming<pb::WatchRequest>>,
    /// The watcher that is looked at, if there is one. The next request is read after that; what happens is told meanwhile.
    judging: Option<BoxFuture<'static, Judged>>,
    /// What is to be sent next, and what it holds until it has left.
    ready: VecDeque<(told::WatchResponse, Held)>,
    /// How many notices were told since something else could be heard.
    in_a_row: usize,
    lookout: Lookout,
}

/// A watcher that was asked for, and whether it may be made.
struct Judged {
    watcher: NewWatcher,
    room: Room,
    outcome: Result<(), Refusal>,
}

/// What a conversation waits for.
enum Next {
    Request(Room, Option<pb::WatchRequest>),
    Judged(Judged),
    Notice(Notice),
}

impl Conversation {
    /// All that the client is told, up to the error that ends it.
    fn responses(self) -> impl Stream<Item = Result<(told::WatchResponse, Held), Status>> {
        stream::unfold(Some(self), |conversation| async move {
            let mut conversation = conversation?;
            match conversation.response().await {
                Ok(response) => Some((Ok(response), Some(conversation))),
                Err(status) => Some((Err(status), None)),
            }
        })
    }

    async fn response(&mut self) -> Result<(told::WatchResponse, Held), Status> {
        loop {
            if let Some(response) = self.ready.pop_front() {
                return Ok(response);
            }
            if self.in_a_row < NOTICES_IN_A_ROW
                && let Some(notice) = self.watching.next_if_ready()
            {
                self.in_a_row += 1;
                self.tell(notice.map_err(refused)?);
                continue;
            }
            self.in_a_row = 0;
            match self.next().await? {
                Next::Request(room, Some(request)) => self.ask(request, room),
                Next::Request(_, None) => self.requests = None,
                Next::Judged(judged) => self.settle(judged)?,
                Next::Notice(notice) => self.tell(notice),
            }
        }
    }

    async fn next(&mut self) -> Result<Next, Status> {
        let room = self.watching.room();
        let (requests, judging) = (&mut self.requests, &mut self.judging);
        let calls = &self.calls;
        let asked = async {
            if let Some(judged) = judging {
                let judged = judged.await;
                *judging = None;
                return Ok(Next::Judged(judged));
            }
            match requests {
                Some(requests) => {
                    let room = room.await;
                    let request = requests.message().await.map_err(|error| {
                        calls.broke(Broken::Watch, &error);
                        unread(error)
                    })?;
                    Ok(Next::Request(room, request))
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            asked = asked => asked,
            notice = self.watching.next() => notice.map(Next::Notice).map_err(refused),
            // An error says that the server is gone.
            _ = self.draining.wait_for(|draining| *draining) => Err(refused(Refusal::Stopped)),
            status = self.lookout.lost() => Err(status),
        }
    }

    fn ask(&mut self, request: pb::WatchRequest, room: Room) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => {
                let watcher = new_watcher(request);
                let caller = self.caller.clone();
                self.judging = Some(Box::pin(async move {
                    let outcome = may_watch(&caller, &watcher.interest).await;
                    Judged {
                        watcher,
                        room,
                        outcome,
                    }
                }));
            }
            Some(RequestUnion::CancelRequest(request)) => {
                self.watching.cancel(request.watch_id, room);
            }
            Some(RequestUnion::ProgressRequest(_)) => self.watching.ask_progress(room),
            // What a later etcd may ask is passed over, as etcd does.
            None => {}
        }
    }

    /// Makes a watcher that may be made. That this cannot be told here and now ends the stream, so that the client goes on elsewhere: a
    /// watcher that is refused is refused for good.
    fn settle(&mut self, judged: Judged) -> Result<(), Status> {
        match judged.outcome {
            Ok(()) => self.watching.create(judged.watcher, judged.room),
            Err(Refusal::Request(refusal)) => self.refuse(refusal),
            Err(refusal) => return Err(refused(refusal)),
        }
        Ok(())
    }

    /// A watcher that may not be made ends at once, as in etcd; the stream goes on.
    fn refuse(&mut self, refusal: RequestError) {
        let revision = self.port.report().revision;
        let status = invalid(refusal);
        let (code, text) = (status.code(), status.message());
        let refused = told::WatchResponse {
            header: Some(header(&self.port, revision)),
            watch_id: NO_WATCHER,
            created: true,
            canceled: true,
            cancel_reason: format!("rpc error: code = {code:?} desc = {text}"),
            ..told::WatchResponse::default()
        };
        self.ready.push_back((refused, Held::default()));
    }

    fn tell(&mut self, notice: Notice) {
        let at = |id, revision| told::WatchResponse {
            header: Some(header(&self.port, revision)),
            watch_id: id,
            ..told::WatchResponse::default()
        };
        let response = match notice {
            Notice::Created { id, revision } => told::WatchResponse {
                created: true,
                ..at(id, revision)
            },
            Notice::Refused { reason, revision } => told::WatchResponse {
                created: true,
                canceled: true,
                cancel_reason: reason.to_owned(),
                ..at(NO_WATCHER, revision)
            },
            Notice::Progress { id, revision } => at(id.unwrap_or(NO_WATCHER), revision),
            Notice::Ended {
                id,
                revision,
                compacted,
            } => told::WatchResponse {
                canceled: true,
                compact_revision: compacted.unwrap_or_default(),
                ..at(id, revision)
            },
            Notice::Happened {
                id,
                manner,
                parts,
                counted,
            } => {
                let whole = told::WatchResponse {
                    events: events(&parts, manner),
                    ..at(id, parts.last().map_or(0, |part| part.revision))
                };
                return self.tell_events(whole, manner, counted);
            }
        };
        self.ready.push_back((response, Held::default()));
    }

    /// They count until the last of them has left.
    fn tell_events(&mut self, whole: told::WatchResponse, manner: Manner, counted: Counted) {
        if !manner.fragments {
            self.ready.push_back((whole, Held::as_events(counted)));
            return;
        }
        let bytes_max = self.port.config().limits.request_bytes_max + FRAGMENT_MORE;
        let parts = fragments(whole, bytes_max).into_iter();
        let parts = parts.map(|part| (part, Held::default()));
        self.ready.extend(parts);
        if let Some((_, held)) = self.ready.back_mut() {
            *held = Held::as_events(counted);
        }
    }
}

/// Whether a client may watch this. While too many requests are under way to find that out it waits: a stream that ends since something
/// is exhausted ends all watchers of etcd's Go client for good.
async fn may_watch(caller: &Caller, interest: &Interest) -> Result<(), Refusal> {
    let watch = Deed::Watch {
        key: interest.key.clone(),
        range_end: interest.range_end.clone(),
    };
    let judge = |port: Port| {
        let watch = watch.clone();
        async move { port.may(watch).await }
    };
    loop {
        match caller.act(judge).await {
            Err(Refusal::TooManyRequests) => tokio::time::sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
}

fn new_watcher(request: pb::WatchCreateRequest) -> NewWatcher {
    let filters = |filter: FilterType| request.filters.contains(&filter.into());
    let (no_put, no_delete) = (filters(FilterType::Noput), filters(FilterType::Nodelete));
    // The smallest key there is.
    let key = match request.key.is_empty() {
        true => Bytes::from_static(&[0]),
        // What is decoded holds all of the request in memory, and a watcher lives long.
        false => Bytes::copy_from_slice(&request.key),
    };
    NewWatcher {
        interest: Interest {
            key,
            range_end: Bytes::copy_from_slice(&request.range_end),
            no_put,
            no_delete,
        },
        start: request.start_revision,
        id: request.watch_id,
        progress: request.progress_notify,
        manner: Manner {
            prev_kv: request.prev_kv,
            fragments: request.fragment,
        },
    }
}

/// The events as they are sent.
fn events(parts: &[Arc<Delivery>], manner: Manner) -> Vec<Bytes> {
    let encode = |it: &Event| event(it, manner).encode_to_vec().into();
    let parts = parts.iter().map(|part| part.encoded(manner, encode));
    parts.flatten().cloned().collect()
}

fn event(event: &Event, manner: Manner) -> mvccpb::Event {
    let kind = match event.is_delete {
        true => mvccpb::event::EventType::Delete,
        false => mvccpb::event::EventType::Put,
    };
    let before = event.prev_kv.as_ref().filter(|_| manner.prev_kv);
    mvccpb::Event {
        r#type: kind.into(),
        kv: Some(response::key_value(event.kv.clone())),
        prev_kv: before.cloned().map(response::key_value),
    }
}

/// The same in several responses, each about as large as one may be, where it is larger.
fn fragments(whole: told::WatchResponse, bytes_max: usize) -> Vec<told::WatchResponse> {
    if whole.encoded_len() < bytes_max || whole.events.len() < 2 {
        return vec![whole];
    }
    let empty = told::WatchResponse {
        events: Vec::new(),
        ..whole.clone()
    };
    let mut fragments = Vec::new();
    let mut bytes = 0;
    for event in whole.events {
        let more = event.len();
        if fragments.is_empty() || bytes + more > bytes_max {
            fragments.push(empty.clone());
            bytes = 0;
        }
        bytes += more;
        if let Some(fragment) = fragments.last_mut() {
            fragment.events.push(event);
        }
    }
    let last = fragments.len() - 1;
    for fragment in &mut fragments[..last] {
        fragment.fragment = true;
    }
    fragments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_events(count: i64) -> told::WatchResponse {
        let event = |revision| mvccpb::Event {
            kv: Some(mvccpb::KeyValue {
                key: "key".into(),
                value: vec![0; 100].into(),
                mod_revision: revision,
                ..mvccpb::KeyValue::default()
            }),
            ..mvccpb::Event::default()
        };
        told::WatchResponse {
            watch_id: 7,
            events: (1..=count)
                .map(|revision| event(revision).encode_to_vec().into())
                .collect(),
            ..told::WatchResponse::default()
        }
    }

    #[test]
    fn a_response_that_is_too_large_goes_in_fragments_that_are_not() {
        let whole = with_events(10);
        let parts = fragments(whole.clone(), 350);
        assert!(parts.len() > 2);
        assert!(parts.iter().all(|part| part.encoded_len() <= 350 + 50));
        assert!(parts.iter().all(|part| part.watch_id == 7));
        let marks: Vec<bool> = parts.iter().map(|part| part.fragment).collect();
        assert!(!marks[marks.len() - 1] && marks[..marks.len() - 1].iter().all(|mark| *mark));
        let events: Vec<_> = parts.into_iter().flat_map(|part| part.events).collect();
        assert_eq!(events, whole.events);
    }

    #[test]
    fn a_response_that_fits_or_has_one_event_goes_whole() {
        for (whole, bytes_max) in [(with_events(10), 1 << 20), (with_events(1), 10)] {
            assert_eq!(fragments(whole.clone(), bytes_max), [whole]);
        }
    }

    #[test]
    fn a_watcher_is_what_the_request_says() {
        let request = pb::WatchCreateRequest {
            filters: vec![FilterType::Nodelete.into()],
            start_revision: 5,
            watch_id: 3,
            prev_kv: true,
            ..pb::WatchCreateRequest::default()
        };
        let watcher = new_watcher(request);
        assert_eq!(&watcher.interest.key[..], [0]);
        assert!(watcher.interest.no_delete && !watcher.interest.no_put);
        assert_eq!((watcher.start, watcher.id, watcher.progress), (5, 3, false));
        assert!(watcher.manner.prev_kv && !watcher.manner.fragments);
    }
}
