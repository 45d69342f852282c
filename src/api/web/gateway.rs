//! The JSON gateway: every call of etcd's services by a POST of JSON, as grpc-gateway has it for etcd 3.6.
//!
//! It knows no call. The descriptors say what a message is like, and a request goes to the same services that answer gRPC, in this
//! process; so a service that is served is served here, too.

mod documents;
mod error;
mod frames;
mod json;
mod routes;

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use prost_reflect::{MessageDescriptor, MethodDescriptor};
use rm_actors::port::ReplyRoom;
use tonic::Status;
use tonic::body::Body;

use self::documents::Documents;
pub(crate) use self::error::refusal;
use self::error::{not_allowed, stream_error, stream_refusal};
use self::frames::{Messages, framed};
use self::routes::Route;
use super::answer;
use crate::arrival::{Arrivals, Arriving, Shape};
use crate::connection::{Client, Cutoff};
use crate::dispatch::{Services, cut_of};
use crate::error::unserved;
use crate::reply::{self, Held, Message, OnTheWay, Outgoing, Pace, Pieces, ReplyWeight};

/// How much longer than its message a JSON document may be: base64 takes a third more, and names and blanks the rest.
const JSON_FACTOR: usize = 2;

/// How many times the memory of a reply its JSON takes, with all that is on the way there.
const JSON_WEIGHT: usize = 4;

/// What of a header's name says that the service is to see it (grpc-gateway's MetadataHeaderPrefix).
const METADATA_PREFIX: &str = "grpc-metadata-";

/// The gateway.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    /// How long a JSON document may be, in bytes.
    document_bytes_max: usize,
}

/// How long a JSON document may be for a message of up to so many bytes.
pub(crate) fn document_bytes_max(message_bytes_max: usize) -> usize {
    message_bytes_max.saturating_mul(JSON_FACTOR)
}

/// Whether a path belongs to the gateway.
pub(crate) fn is_at(path: &str) -> bool {
    routes::path_of(path).is_some()
}

impl Gateway {
    /// One for messages of up to so many bytes.
    pub(crate) fn new(message_bytes_max: usize) -> Gateway {
        Gateway {
            document_bytes_max: document_bytes_max(message_bytes_max),
        }
    }

    /// The answer to a request.
    pub(crate) async fn answer(
        &self,
        services: Services,
        head: Parts,
        body: Body,
    ) -> Response<Body> {
        let Some(route) = Route::at(head.uri.path()) else {
            return refusal(&Status::not_found("Not Found"));
        };
        if head.method != Method::POST {
            return not_allowed("POST");
        }
        // A browser says so of every POST, whichever page wants it (Fetch, "Origin header"): without this any page that somebody opens
        // beside a machine could write.
        if head.headers.contains_key(ORIGIN) {
            return refusal(&Status::permission_denied(
                "raftmachine: a page in a browser may not ask this port; let a server ask for it",
            ));
        }
        let Some(method) = route.method() else {
            return refusal(&unserved(route.service));
        };
        let cut = cut_of(&head.extensions);
        let messages = self.messages(&method, body, &services.arrivals, cut.clone());
        let messages = match messages.await {
            Ok(messages) => messages,
            Err(status) => return refusal(&status),
        };
        let mut request = grpc(route, &head.headers, messages);
        if let Some(client) = head.extensions.get::<Client>() {
            request.extensions_mut().insert(client.over_gateway());
        }
        let sending = Sending {
            pace: services.pace.clone(),
            cut,
        };
        let outcome = call(services, request).await;
        if method.is_server_streaming() {
            told(outcome, method.output(), head.version).await
        } else {
            unary(outcome, method.output(), sending).await
        }
    }

    /// The messages of a request, as gRPC carries them.
    async fn messages(
        &self,
        method: &MethodDescriptor,
        body: Body,
        arrivals: &Arc<Arrivals>,
        connection: Option<Cutoff>,
    ) -> Result<Body, Status> {
        if method.is_client_streaming() {
            let body = arrivals.count(body, Shape::Other).on(connection);
            let messages = self.stream_of_messages(method.input(), body);
            return Ok(Body::new(StreamBody::new(messages)));
        }
        let kept = arrivals.keep();
        let body = arrivals.count(body, Shape::One).on(connection);
        let text = self.whole(body.kept_by(Some(kept.clone()))).await?;
        let message = json::to_wire(method.input(), text, kept).await?;
        Ok(Body::new(Full::new(framed(&message)?)))
    }

    async fn whole(&self, mut body: Arriving) -> Result<Bytes, Status> {
        let whole = Limited::new(&mut body, self.document_bytes_max)
            .collect()
            .await;
        whole.map(|whole| whole.to_bytes()).map_err(|error| {
            if error.is::<LengthLimitError>() {
                return documents::too_large(self.document_bytes_max);
            }
            body.refusal().unwrap_or_else(|| {
                Status::invalid_argument(format!(
                    "raftmachine: the body of the request broke off: {error}"
                ))
            })
        })
    }

    /// Document after document, each as the frame of a message. An error ends it, and so the call.
    fn stream_of_messages(
        &self,
        of: MessageDescriptor,
        body: Arriving,
    ) -> impl Stream<Item = Result<Frame<Bytes>, Status>> + use<> {
        let documents = Documents::new(self.document_bytes_max);
        let state = Some((body, documents));
        stream::unfold(state, move |state| {
            let of = of.clone();
            async move {
                let (mut body, mut documents) = state?;
                match next_message(&mut body, &mut documents, of).await {
                    Ok(Some(message)) => Some((Ok(Frame::data(message)), Some((body, documents)))),
                    Ok(None) => None,
                    Err(status) => Some((Err(status), None)),
                }
            }
        })
    }
}

/// The next message of a stream of documents, in its frame.
async fn next_message(
    body: &mut Arriving,
    documents: &mut Documents,
    of: MessageDescriptor,
) -> Result<Option<Bytes>, Status> {
    loop {
        if let Some(text) = documents.next()? {
            let kept = body.whole()?;
            body.holds(documents.waiting_bytes())?;
            let message = json::to_wire(of, text, kept).await?;
            return framed(&message).map(Some);
        }
        body.holds(documents.waiting_bytes())?;
        match body.frame().await {
            Some(Ok(frame)) => documents.push(frame.data_ref().map_or(&[], |bytes| bytes)),
            // If it was not refused, the client is gone, and nobody is left to be told.
            Some(Err(_)) => return body.refusal().map_or(Ok(None), Err),
            None => return documents.end().map(|()| None),
        }
    }
}

/// The request as gRPC has it.
fn grpc(route: Route, headers: &HeaderMap, messages: Body) -> Request<Body> {
    let mut request = Request::new(messages);
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = route.uri();
    *request.headers_mut() = metadata(headers);
    let kind = HeaderValue::from_static("application/grpc");
    request.headers_mut().insert(CONTENT_TYPE, kind);
    request.extensions_mut().insert(ReplyWeight(JSON_WEIGHT));
    request
}

/// What a service is to see of the headers: who asks, and what is marked for it. Whatever has a meaning for gRPC itself is left out.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        let marked = name.as_str().strip_prefix(METADATA_PREFIX);
        let marked = marked.filter(|name| !name.starts_with("grpc-"));
        let marked = marked.and_then(|name| HeaderName::try_from(name).ok());
        if let Some(name) = marked {
            metadata.append(name, value.clone());
        } else if name == AUTHORIZATION {
            metadata.append(name, value.clone());
        }
    }
    metadata
}

/// What the services answer.
struct Answer {
    /// The only message, if it is no small one, with the memory that it holds.
    whole: Option<(Message, ReplyRoom)>,
    messages: Messages,
    /// What the messages of a stream hold, if they hold anything.
    way: Option<OnTheWay>,
}

/// Where a document goes.
struct Sending {
    pace: Arc<Pace>,
    cut: Option<Cutoff>,
}

/// Has the services answer.
async fn call(mut services: Services, request: Request<Body>) -> Result<Answer, Status> {
    let response = services.answer(request).await;
    let mut response = response.unwrap_or_else(|never| match never {});
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != tonic::Code::Ok => Err(status),
        _ => Ok(Answer {
            whole: Outgoing::take(&mut response),
            way: OnTheWay::take(&mut response),
            messages: Messages::new(response.into_body()),
        }),
    }
}

/// The answer to a call with one.
async fn unary(
    outcome: Result<Answer, Status>,
    of: MessageDescriptor,
    sending: Sending,
) -> Response<Body> {
    let answered = async {
        let Answer {
            whole,
            mut messages,
            ..
        } = outcome?;
        let (message, room) = match whole {
            Some((message, room)) => (message.into_bytes(), room),
            None => {
                let message = messages.next().await?;
                let message = message.ok_or_else(|| {
                    Status::internal("raftmachine: a call without an answer; please report this")
                })?;
                (message, ReplyRoom::default())
            }
        };
        let document = json::to_json(of, message, b"", b"").await?;
        Ok((document, room))
    };
    match answered.await {
        Ok((document, room)) => {
            let length = document.len();
            let body = reply::plain(document, room, &sending.pace, sending.cut);
            answer::json_of(length, body)
        }
        Err(status) => refusal(&status),
    }
}

/// The answers of a stream, a line each. It begins with the first, so that a call which is refused has the status of its refusal.
async fn told(
    outcome: Result<Answer, Status>,
    of: MessageDescriptor,
    version: Version,
) -> Response<Body> {
    let mut lines = match outcome {
        Ok(answer) => Lines {
            messages: answer.messages,
            of,
            way: answer.way,
            are_copied: version < Version::HTTP_2,
            last: None,
        },
        Err(status) => return stream_refusal(&status),
    };
    let first = match lines.next().await {
        Ok(Some(first)) => first,
        Ok(None) => return answer::json(StatusCode::OK, Bytes::new()),
        Err(status) => return stream_refusal(&status),
    };
    let rest = stream::unfold(Some(lines), |lines| async move {
        let mut lines = lines?;
        match lines.next().await {
            Ok(Some(line)) => Some((line, Some(lines))),
            Ok(None) => None,
            Err(status) => Some((Pieces::free(stream_error(&status)), None)),
        }
    });
    let first = stream::once(std::future::ready(first));
    let lines = first
        .chain(rest)
        .flat_map(stream::iter)
        .map(|part| Ok::<_, Status>(Frame::data(part)));
    answer::json_lines(Body::new(StreamBody::new(lines)))
}

/// The answers of a stream as lines.
struct Lines {
    messages: Messages,
    of: MessageDescriptor,
    /// What the messages hold, if they hold anything.
    way: Option<OnTheWay>,
    /// hyper copies what goes by HTTP/1 as soon as it has it, and takes no more while much of that is left.
    are_copied: bool,
    /// What the last one holds that was copied: until the next one is asked for, most of it may be here.
    last: Option<Arc<Vec<Held>>>,
}

impl Lines {
    async fn next(&mut self) -> Result<Option<Pieces>, Status> {
        self.last = None;
        let Some(message) = self.messages.next().await? else {
            return Ok(None);
        };
        let line = json::to_json(self.of.clone(), message, b"{\"result\":", b"}\n").await?;
        let line = Bytes::from(line);
        let Some(way) = &self.way else {
            return Ok(Some(Pieces::free(line)));
        };
        let parts = way.carry_next(line);
        self.last = parts.held().filter(|_| self.are_copied);
        Ok(Some(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_sees_who_asks_and_what_is_marked_for_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "token"),
            ("grpc-metadata-hasleader", "true"),
            ("grpc-metadata-grpc-timeout", "1n"),
            ("content-length", "7"),
            ("hasleader", "false"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let seen = metadata(&headers);
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert_eq!(seen["authorization"], "token");
        assert_eq!(seen["hasleader"], "true");
    }
}
