//! How many calls of each method there were, and how they ended: what gRPC's own monitors count, under the same names.
//!
//! A call costs a look-up, two looks at the clock and some additions that wait for nobody. Only methods that are described are counted,
//! so that no client makes the list longer.

mod versions;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use prost_reflect::MethodDescriptor;
use rm_actors::port::Histogram;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::cut::Cut;
use crate::descriptors::POOL;
use versions::Versions;

/// The codes in the order of their numbers, by the names that Go's gRPC has for them.
pub(crate) const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// How long calls take, in microseconds: the steps that every Prometheus client has, and three below them.
static HANDLING_US: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// The counts of all methods.
#[derive(Debug)]
pub(crate) struct Calls {
    methods: Vec<Method>,
    by_path: HashMap<String, usize>,
    /// Of calls that answer once, and of the others.
    versions: [Versions; 2],
    /// Streams that could not be read any further, by what they are about.
    broken: [AtomicU64; Broken::ALL.len()],
}

/// A stream of which a message could not be read, by no wish of its client.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Broken {
    Watch,
    LeaseKeepAlive,
}

impl Broken {
    /// All of them, in their order.
    pub(crate) const ALL: [Broken; 2] = [Broken::Watch, Broken::LeaseKeepAlive];

    /// By which name etcd counts it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Broken::Watch => "watch",
            Broken::LeaseKeepAlive => "lease-keepalive",
        }
    }
}

/// The counts of one method.
#[derive(Debug)]
pub(crate) struct Method {
    /// The service's full name.
    pub(crate) service: String,
    /// Its own.
    pub(crate) name: String,
    /// Which of the two sides sends many messages.
    pub(crate) kind: &'static str,
    asks_once: bool,
    answers_once: bool,
    started: AtomicU64,
    handled: [AtomicU64; CODES.len()],
    /// Messages of clients that may send many.
    received: AtomicU64,
    /// Messages to clients that may be sent many.
    sent: AtomicU64,
    /// How long the calls took that have ended.
    pub(crate) times: Histogram,
}

impl Method {
    fn new(method: &MethodDescriptor) -> Method {
        Method {
            service: method.parent_service().full_name().to_owned(),
            name: method.name().to_owned(),
            kind: match (method.is_client_streaming(), method.is_server_streaming()) {
                (false, false) => "unary",
                (true, false) => "client_stream",
                (false, true) => "server_stream",
                (true, true) => "bidi_stream",
            },
            asks_once: !method.is_client_streaming(),
            answers_once: !method.is_server_streaming(),
            started: AtomicU64::new(0),
            handled: Default::default(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            times: Histogram::of_times(&HANDLING_US),
        }
    }

    /// How many messages clients have sent. A call that asks once has one.
    pub(crate) fn received(&self) -> u64 {
        match self.asks_once {
            true => self.started(),
            false => self.received.load(Ordering::Relaxed),
        }
    }

    /// How many messages clients were sent. A call that is answered once has one if it succeeds.
    pub(crate) fn sent(&self) -> u64 {
        match self.answers_once {
            true => self.handled[Code::Ok as usize].load(Ordering::Relaxed),
            false => self.sent.load(Ordering::Relaxed),
        }
    }

    /// How many calls have begun.
    pub(crate) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// How many have ended with each code, in the order of [`CODES`].
    pub(crate) fn handled(&self) -> impl Iterator<Item = u64> {
        self.handled
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
    }
}

impl Calls {
    pub(crate) fn new() -> Calls {
        let methods: Vec<MethodDescriptor> = POOL
            .services()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .collect();
        let path = |method: &MethodDescriptor| {
            format!("/{}/{}", method.parent_service().full_name(), method.name())
        };
        Calls {
            by_path: methods.iter().map(path).zip(0..).collect(),
            methods: methods.iter().map(Method::new).collect(),
            versions: Default::default(),
            broken: Default::default(),
        }
    }

    /// How many calls there were, by whether they are streams and by what their clients say of themselves.
    pub(crate) fn versions(&self) -> impl Iterator<Item = (&'static str, String, u64)> {
        let kinds = ["unary", "stream"].into_iter().zip(&self.versions);
        kinds.flat_map(|(kind, versions)| {
            versions
                .read()
                .map(move |(version, count)| (kind, version, count))
        })
    }

    /// A stream ends with the error that its next message was read with. A client that cancels it, or is gone, breaks nothing.
    pub(crate) fn broke(&self, what: Broken, error: &Status) {
        if matches!(
            error.code(),
            Code::Internal | Code::OutOfRange | Code::ResourceExhausted
        ) {
            self.broken[what as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many streams could not be read any further.
    pub(crate) fn broken(&self, what: Broken) -> u64 {
        self.broken[what as usize].load(Ordering::Relaxed)
    }

    /// The counts of each method.
    pub(crate) fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// A call begins; none if there is no such method.
    pub(crate) fn begin(self: &Arc<Calls>, path: &str, headers: &HeaderMap) -> Option<Call> {
        let place = *self.by_path.get(path)?;
        let method = &self.methods[place];
        method.started.fetch_add(1, Ordering::Relaxed);
        let is_stream = !(method.asks_once && method.answers_once);
        self.versions[usize::from(is_stream)].count(headers);
        Some(Call {
            calls: self.clone(),
            method: place,
            began: Instant::now(),
            is_over: false,
        })
    }
}

/// A call under way. One that is dropped before it is over was cancelled by its client.
#[derive(Debug)]
pub(crate) struct Call {
    calls: Arc<Calls>,
    method: usize,
    began: Instant,
    is_over: bool,
}

impl Call {
    /// Whether it has one message only.
    pub(crate) fn asks_once(&self) -> bool {
        self.calls.methods[self.method].asks_once
    }

    /// Whether it has one answer at most.
    pub(crate) fn answers_once(&self) -> bool {
        self.calls.methods[self.method].answers_once
    }

    /// Where to count what the client sends, where it may be more than one message.
    pub(crate) fn received(&self) -> Option<Received> {
        let (calls, method) = (self.calls.clone(), self.method);
        (!self.asks_once()).then_some(Received { calls, method })
    }

    /// Counts the call when its response is over: now, or with the last frame of a stream.
    pub(crate) fn answered(self, response: Response<Body>) -> Response<Body> {
        if let Some(code) = code_in(response.headers()) {
            self.end(code);
        } else if self.answers_once() {
            // The message is there, and is followed by a status that says so.
            self.end(Code::Ok);
        } else {
            let (calls, method) = (self.calls.clone(), self.method);
            let (mut call, mut cut) = (Some(self), Cut::default());
            return response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    if let Some(data) = frame.data_ref() {
                        let sent = &calls.methods[method].sent;
                        sent.fetch_add(cut.take(data).0, Ordering::Relaxed);
                    }
                    if let Some(trailers) = frame.trailers_ref()
                        && let Some(call) = call.take()
                    {
                        call.end(code_in(trailers).unwrap_or(Code::Unknown));
                    }
                    frame
                }))
            });
        }
        response
    }

    fn end(mut self, code: Code) {
        self.is_over = true;
        self.count(code);
    }

    fn count(&self, code: Code) {
        let method = &self.calls.methods[self.method];
        method.times.add_time(self.began.elapsed());
        let handled = &method.handled;
        let place = usize::try_from(i32::from(code)).unwrap_or_default();
        handled[place.min(CODES.len() - 1)].fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.is_over {
            self.count(Code::Cancelled);
        }
    }
}

/// Counts the messages of a client that may send many.
#[derive(Debug)]
pub(crate) struct Received {
    calls: Arc<Calls>,
    method: usize,
}

impl Received {
    pub(crate) fn count(&self, messages: u64) {
        let received = &self.calls.methods[self.method].received;
        received.fetch_add(messages, Ordering::Relaxed);
    }
}

fn code_in(headers: &HeaderMap) -> Option<Code> {
    let code = headers.get(Status::GRPC_STATUS)?;
    Some(Code::from_bytes(code.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    fn handled(calls: &Calls, path: &str) -> Vec<(&'static str, u64)> {
        let method = &calls.methods[calls.by_path[path]];
        let counts = CODES.into_iter().zip(method.handled());
        counts.filter(|(_, count)| *count > 0).collect()
    }

    fn begin(calls: &Arc<Calls>, path: &str) -> Call {
        let call = calls.begin(path, &HeaderMap::new());
        call.expect("there is such a method")
    }

    const PUT: &str = "/etcdserverpb.KV/Put";
    const WATCH: &str = "/etcdserverpb.Watch/Watch";

    #[test]
    fn a_call_counts_by_how_it_ends() {
        let calls = Arc::new(Calls::new());
        let begin = |path| begin(&calls, path);
        let message = Body::new(Full::new(Bytes::from_static(b"message")));
        begin(PUT).answered(Response::new(message));
        begin(PUT).answered(Status::unavailable("no leader").into_http());
        drop(begin(PUT));
        let method = &calls.methods()[calls.by_path[PUT]];
        assert_eq!((method.started(), method.kind), (3, "unary"));
        let expected = [("OK", 1), ("Canceled", 1), ("Unavailable", 1)];
        assert_eq!(handled(&calls, PUT), expected);
        assert_eq!((method.received(), method.sent()), (3, 1));
        assert_eq!(method.times.read().count, 3);
        let unknown = calls.begin("/etcdserverpb.KV/Nothing", &HeaderMap::new());
        assert!(unknown.is_none());
    }

    #[tokio::test]
    async fn a_stream_counts_when_it_ends_or_is_left() {
        let calls = Arc::new(Calls::new());
        let begin = || begin(&calls, WATCH);
        let trailers = HeaderMap::from_iter([(
            Status::GRPC_STATUS,
            http::HeaderValue::from(i32::from(Code::DataLoss)),
        )]);
        let body = |trailers: HeaderMap| {
            let frames = [
                Frame::data(Bytes::from_static(b"\0\0\0\0\x05event\0\0\0")),
                Frame::data(Bytes::from_static(b"\0\0")),
                Frame::trailers(trailers),
            ];
            let frames = frames.into_iter().map(Ok::<_, Status>);
            Response::new(Body::new(StreamBody::new(futures::stream::iter(frames))))
        };
        let mut response = begin().answered(body(trailers.clone()));
        for _ in 0..2 {
            response.body_mut().frame().await;
        }
        assert_eq!(handled(&calls, WATCH), []);
        let method = &calls.methods()[calls.by_path[WATCH]];
        assert_eq!((method.sent(), method.received()), (2, 0));
        response.body_mut().frame().await;
        assert_eq!(handled(&calls, WATCH), [("DataLoss", 1)]);
        drop(response);
        drop(begin().answered(body(trailers)));
        assert_eq!(handled(&calls, WATCH), [("Canceled", 1), ("DataLoss", 1)]);
    }

    #[test]
    fn what_a_client_sends_is_counted_where_it_may_send_more_than_one_message() {
        let calls = Arc::new(Calls::new());
        assert!(begin(&calls, PUT).received().is_none());
        let call = begin(&calls, WATCH);
        call.received().expect("there may be many").count(2);
        assert_eq!(calls.methods()[calls.by_path[WATCH]].received(), 2);
    }

    #[test]
    fn a_stream_that_its_client_gives_up_is_not_broken() {
        let calls = Calls::new();
        calls.broke(Broken::Watch, &Status::cancelled("gone"));
        assert_eq!(calls.broken(Broken::Watch), 0);
        calls.broke(Broken::Watch, &Status::internal("no message"));
        let counted = Broken::ALL.map(|what| calls.broken(what));
        assert_eq!(counted, [1, 0]);
    }
}
