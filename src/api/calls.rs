//! How many calls of each method there were, and how they ended: what gRPC's own monitors count, under the same names.
//!
//! A call costs a look-up and two additions that wait for nobody. Only methods that are described are counted, so that no client
//! makes the list longer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use prost_reflect::MethodDescriptor;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::descriptors::POOL;

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

/// The counts of all methods.
#[derive(Debug)]
pub(crate) struct Calls {
    methods: Vec<Method>,
    by_path: HashMap<String, usize>,
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
        }
    }

    /// The counts of each method.
    pub(crate) fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// A call begins; none if there is no such method.
    pub(crate) fn begin(self: &Arc<Calls>, path: &str) -> Option<Call> {
        let method = *self.by_path.get(path)?;
        self.methods[method].started.fetch_add(1, Ordering::Relaxed);
        Some(Call {
            calls: self.clone(),
            method,
            is_over: false,
        })
    }
}

/// A call under way. One that is dropped before it is over was cancelled by its client.
#[derive(Debug)]
pub(crate) struct Call {
    calls: Arc<Calls>,
    method: usize,
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

    /// Counts the call when its response is over: now, or with the last frame of a stream.
    pub(crate) fn answered(self, response: Response<Body>) -> Response<Body> {
        if let Some(code) = code_in(response.headers()) {
            self.end(code);
        } else if self.answers_once() {
            // The message is there, and is followed by a status that says so.
            self.end(Code::Ok);
        } else {
            let mut call = Some(self);
            return response.map(|body| {
                Body::new(body.map_frame(move |frame| {
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
        let handled = &self.calls.methods[self.method].handled;
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

    const PUT: &str = "/etcdserverpb.KV/Put";
    const WATCH: &str = "/etcdserverpb.Watch/Watch";

    #[test]
    fn a_call_counts_by_how_it_ends() {
        let calls = Arc::new(Calls::new());
        let begin = |path| calls.begin(path).expect("there is such a method");
        let message = Body::new(Full::new(Bytes::from_static(b"message")));
        begin(PUT).answered(Response::new(message));
        begin(PUT).answered(Status::unavailable("no leader").into_http());
        drop(begin(PUT));
        let method = &calls.methods()[calls.by_path[PUT]];
        assert_eq!((method.started(), method.kind), (3, "unary"));
        let expected = [("OK", 1), ("Canceled", 1), ("Unavailable", 1)];
        assert_eq!(handled(&calls, PUT), expected);
        assert!(calls.begin("/etcdserverpb.KV/Nothing").is_none());
    }

    #[tokio::test]
    async fn a_stream_counts_when_it_ends_or_is_left() {
        let calls = Arc::new(Calls::new());
        let begin = || calls.begin(WATCH).expect("there is such a method");
        let trailers = HeaderMap::from_iter([(
            Status::GRPC_STATUS,
            http::HeaderValue::from(i32::from(Code::DataLoss)),
        )]);
        let body = |trailers: HeaderMap| {
            let frames = [
                Frame::data(Bytes::from_static(b"event")),
                Frame::trailers(trailers),
            ];
            let frames = frames.into_iter().map(Ok::<_, Status>);
            Response::new(Body::new(StreamBody::new(futures::stream::iter(frames))))
        };
        let mut response = begin().answered(body(trailers.clone()));
        response.body_mut().frame().await;
        assert_eq!(handled(&calls, WATCH), []);
        response.body_mut().frame().await;
        assert_eq!(handled(&calls, WATCH), [("DataLoss", 1)]);
        drop(response);
        drop(begin().answered(body(trailers)));
        assert_eq!(handled(&calls, WATCH), [("Canceled", 1), ("DataLoss", 1)]);
    }
}
