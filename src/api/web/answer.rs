//! Answers in HTTP: text, JSON, and the refusals that have no code of gRPC.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use tonic::body::Body;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A text. No browser is to take it for anything else, whatever is in it.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut answer = of_type(status, TEXT, text);
    let headers = answer.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// A JSON document of so many bytes.
pub(crate) fn json_of(bytes: usize, document: Body) -> Response<Body> {
    let mut answer = Response::new(document);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    answer
}

/// A JSON document.
pub(crate) fn json(status: StatusCode, document: impl Into<Bytes>) -> Response<Body> {
    of_type(status, JSON, document)
}

/// JSON documents that come one after the other, a line each.
pub(crate) fn json_lines(lines: Body) -> Response<Body> {
    let mut answer = Response::new(lines);
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}

fn of_type(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Body> {
    let body: Bytes = body.into();
    let length = HeaderValue::from(body.len());
    let mut answer = Response::new(Body::new(Full::new(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CONTENT_LENGTH, length);
    answer
}

/// There is nothing at this path.
pub(crate) fn not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// The path takes other methods only.
pub(crate) fn not_allowed(allowed: &'static str) -> Response<Body> {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    let headers = answer.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// The same answer as to a GET, but for its body (RFC 9110, section 9.3.2).
pub(crate) fn without_body(answer: Response<Body>) -> Response<Body> {
    answer.map(|_| Body::empty())
}
