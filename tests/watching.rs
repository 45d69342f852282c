//! A client that watches: one stream to one machine, and one that goes on elsewhere when its stream ends, as etcd's clients do.

use std::time::Duration;

use bytes::Bytes;
use rm_proto::etcdserverpb::watch_client::WatchClient;
use rm_proto::etcdserverpb::watch_request::RequestUnion;
use rm_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, WatchCancelRequest, WatchCreateRequest,
    WatchProgressRequest, WatchRequest, WatchResponse, request_op::Request,
};
use rm_proto::mvccpb::Event;
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

use crate::client::Client;

/// How long an event may take that must come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many requests may be on their way.
const REQUESTS: usize = 64;
/// The largest response that is taken, in bytes.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// One stream of watchers.
#[derive(Debug)]
pub struct Watching {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Watching {
    /// Opens a stream to one machine.
    ///
    /// # Errors
    /// The machine's refusal, or the transport's failure.
    pub async fn open(client: &Client, machine: usize) -> Result<Watching, Status> {
        Watching::open_with(client, machine, None).await
    }

    /// The same, to be ended when the machine knows no leader (etcd's WithRequireLeader).
    ///
    /// # Errors
    /// As [`Watching::open`].
    pub async fn open_with_leader(client: &Client, machine: usize) -> Result<Watching, Status> {
        Watching::open_with(client, machine, Some(("hasleader", "true"))).await
    }

    /// The same, on behalf of the user for whom a token stands.
    ///
    /// # Errors
    /// As [`Watching::open`].
    pub async fn open_by(client: &Client, machine: usize, token: &str) -> Result<Watching, Status> {
        Watching::open_with(client, machine, Some(("token", token))).await
    }

    /// Opens a stream whose first request is for this watcher: etcd says nothing on one before it is asked.
    ///
    /// # Errors
    /// As [`Watching::open`].
    ///
    /// # Panics
    /// When the channel to it is closed, which it is not.
    pub async fn open_for(
        client: &Client,
        machine: usize,
        request: WatchCreateRequest,
    ) -> Result<Watching, Status> {
        let (requests, taken) = mpsc::channel(REQUESTS);
        let first = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(request)),
        };
        requests.send(first).await.expect("the other end is here");
        Watching::over(client, machine, requests, taken, None).await
    }

    async fn open_with(
        client: &Client,
        machine: usize,
        header: Option<(&'static str, &str)>,
    ) -> Result<Watching, Status> {
        let (requests, taken) = mpsc::channel(REQUESTS);
        Watching::over(client, machine, requests, taken, header).await
    }

    async fn over(
        client: &Client,
        machine: usize,
        requests: mpsc::Sender<WatchRequest>,
        taken: mpsc::Receiver<WatchRequest>,
        header: Option<(&'static str, &str)>,
    ) -> Result<Watching, Status> {
        let taken = tokio_stream::wrappers::ReceiverStream::new(taken);
        // Nothing else bounds what one response tells that may not come in fragments.
        let mut watch =
            WatchClient::new(client.channel(machine)).max_decoding_message_size(RESPONSE_BYTES_MAX);
        let mut request = tonic::Request::new(taken);
        if let Some((name, value)) = header {
            let value = value.parse().expect("it makes a header");
            request.metadata_mut().insert(name, value);
        }
        let responses = watch.watch(request).await?.into_inner();
        Ok(Watching {
            requests,
            responses,
        })
    }

    /// Its two halves: where requests go, and where the responses come from.
    pub fn into_halves(self) -> (mpsc::Sender<WatchRequest>, Streaming<WatchResponse>) {
        (self.requests, self.responses)
    }

    async fn ask(&self, request: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(request),
        };
        // A stream that has ended says so to whoever listens.
        let _ = self.requests.send(request).await;
    }

    /// Asks for a watcher.
    pub async fn create(&self, request: WatchCreateRequest) {
        self.ask(RequestUnion::CreateRequest(request)).await;
    }

    /// Ends a watcher.
    pub async fn cancel(&self, watch_id: i64) {
        self.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }))
            .await;
    }

    /// Asks for a notice of progress.
    pub async fn progress(&self) {
        self.ask(RequestUnion::ProgressRequest(WatchProgressRequest {}))
            .await;
    }

    /// The next response.
    ///
    /// # Errors
    /// What ended the stream.
    pub async fn response(&mut self) -> Result<WatchResponse, Status> {
        let response = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        let response = response.map_err(|_| Status::deadline_exceeded("nothing is told"))??;
        response.ok_or_else(|| Status::unavailable("the stream ended without a word"))
    }

    /// The next response, which must come.
    ///
    /// # Panics
    /// When the stream ends first.
    pub async fn told(&mut self) -> WatchResponse {
        self.response().await.expect("the stream goes on")
    }

    /// So many events, whichever watcher they are for; what else comes is passed over.
    ///
    /// # Panics
    /// When the stream ends first.
    pub async fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            events.extend(self.told().await.events);
        }
        events
    }
}

/// All keys there are.
pub fn everything() -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        ..WatchCreateRequest::default()
    }
}

/// All keys that begin so.
pub fn prefix(key: &'static str) -> WatchCreateRequest {
    let mut end = key.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1; // no key of a test ends with the greatest byte
    }
    WatchCreateRequest {
        key: Bytes::from_static(key.as_bytes()),
        range_end: end.into(),
        ..WatchCreateRequest::default()
    }
}

/// The revision of an event.
///
/// # Panics
/// When it has no key.
pub fn revision(event: &Event) -> i64 {
    event.kv.as_ref().expect("an event has a key").mod_revision
}

/// Watches from a revision on until an event of the revision `last` was told, going on at the next machine after the last revision
/// that it heard of whenever its stream ends; all that it was told, and how many streams it took.
///
/// # Panics
/// When it is told something twice, out of order, or that it missed something.
pub async fn follow(
    client: &Client,
    first_machine: usize,
    request: WatchCreateRequest,
    last: i64,
) -> (Vec<Event>, usize) {
    let mut events: Vec<Event> = Vec::new();
    let mut streams = 0;
    let mut next = request.start_revision;
    while next <= last {
        let machine = (first_machine + streams) % client.machines();
        streams += 1;
        let Ok(mut watching) = Watching::open(client, machine).await else {
            tokio::time::sleep(Duration::from_millis(20)).await; // it is down: try the next
            continue;
        };
        let request = WatchCreateRequest {
            start_revision: next,
            ..request.clone()
        };
        watching.create(request).await;
        while next <= last
            && let Ok(response) = watching.response().await
        {
            assert!(!response.canceled, "{response:?}");
            for event in response.events {
                assert!(revision(&event) >= next, "{next}: {event:?}");
                events.push(event);
            }
            next = next.max(events.last().map_or(next, |last| revision(last) + 1));
        }
    }
    (events, streams)
}

/// The same from a revision on.
pub fn from(start_revision: i64, request: WatchCreateRequest) -> WatchCreateRequest {
    WatchCreateRequest {
        start_revision,
        ..request
    }
}

/// An event in short: the revision, the key, and the value or a minus.
fn short(event: &Event) -> String {
    let kv = event.kv.as_ref().expect("an event has a key");
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let now = match event.r#type {
        0 => format!("{} {}={}", kv.mod_revision, text(&kv.key), text(&kv.value)),
        _ => format!("{} {}-", kv.mod_revision, text(&kv.key)),
    };
    match &event.prev_kv {
        Some(before) => format!("{now} was {}", text(&before.value)),
        None => now,
    }
}

/// Events in short: the revision, the key, and the value or a minus, and what was before if that was told.
pub fn shorts(events: &[Event]) -> Vec<String> {
    events.iter().map(short).collect()
}

/// Deletes a key.
///
/// # Panics
/// When there is no leader.
pub async fn delete(client: &Client, key: &'static str) {
    let request = DeleteRangeRequest {
        key: key.into(),
        ..Default::default()
    };
    let deleted = client.kv(0).delete_range(request).await;
    deleted.expect("there is a leader");
}

/// Revision 2 puts `a`, 3 puts `b` and changes `a`, 4 deletes `a`, 5 puts `c`.
///
/// # Panics
/// When there is no leader.
pub async fn some_history(client: &Client) {
    client.put("a", "1").await;
    let put = |key: &'static str, value: &'static str| RequestOp {
        request: Some(Request::RequestPut(PutRequest {
            key: key.into(),
            value: value.into(),
            ..Default::default()
        })),
    };
    let both = TxnRequest {
        success: vec![put("b", "1"), put("a", "2")],
        ..Default::default()
    };
    client.kv(1).txn(both).await.expect("there is a leader");
    delete(client, "a").await;
    client.put("c", "1").await;
}

/// The revision that a response tells.
///
/// # Panics
/// When it has no header.
pub fn header_revision(response: &WatchResponse) -> i64 {
    response
        .header
        .as_ref()
        .expect("every response has one")
        .revision
}

/// Writes one key again and again, through one machine after the other, until it has this revision. A write whose answer is lost
/// may have happened. Tells each revision that was acknowledged.
pub async fn write_up_to(client: Client, last: i64, written: watch::Sender<i64>) {
    for turn in 0.. {
        let machine = turn % client.machines();
        match client.put_on(machine, "k", turn.to_string()).await {
            Ok(put) => {
                let revision = put.header.map_or(0, |it| it.revision);
                written.send_replace(revision);
                if revision >= last {
                    return;
                }
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
