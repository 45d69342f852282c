//! What a client without gRPC is told when its call fails: the code of gRPC with its text, and the status of HTTP that goes with it.
//!
//! etcd up to 3.5 has `error`, `code` and `message`, and 3.6 the last two: here are all three, for clients of either. An error in a
//! stream has the fields of both in the same way.

use bytes::Bytes;
use http::header::{ALLOW, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::web::answer;

/// The answer to a call that fails.
pub(crate) fn refusal(status: &Status) -> Response<Body> {
    let message = status.message();
    let error = json!({ "error": message, "code": i32::from(status.code()), "message": message });
    of(status, &error.to_string())
}

/// The answer where only another method of HTTP is taken.
pub(crate) fn not_allowed(allowed: &'static str) -> Response<Body> {
    let mut answer = refusal(&Status::unimplemented("Method Not Allowed"));
    *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    let allowed = HeaderValue::from_static(allowed);
    answer.headers_mut().insert(ALLOW, allowed);
    answer
}

/// The answer to a call that was to tell many things and fails before the first.
pub(crate) fn stream_refusal(status: &Status) -> Response<Body> {
    of(status, &in_stream(status).to_string())
}

/// The last line of a stream that fails.
pub(crate) fn stream_error(status: &Status) -> Bytes {
    format!("{}\n", in_stream(status)).into()
}

fn in_stream(status: &Status) -> Value {
    let code = i32::from(status.code());
    let http = http_status(status.code());
    json!({ "error": {
        "code": code,
        "message": status.message(),
        "grpc_code": code,
        "http_code": http.as_u16(),
        "http_status": http.canonical_reason().unwrap_or_default(),
    }})
}

fn of(status: &Status, error: &str) -> Response<Body> {
    let mut answer = answer::json(http_status(status.code()), error.to_owned());
    if status.code() == Code::Unauthenticated
        && let Ok(message) = HeaderValue::try_from(status.message())
    {
        answer.headers_mut().insert(WWW_AUTHENTICATE, message);
    }
    answer
}

/// The status of HTTP for a code of gRPC (grpc-gateway's HTTPStatusFromCode).
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        // Nginx's: the client closed the request.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_status() {
        let statuses = [
            200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
        ];
        for (code, expected) in statuses.into_iter().enumerate() {
            let code = Code::from_i32(i32::try_from(code).expect("it is small"));
            assert_eq!(http_status(code).as_u16(), expected, "{code:?}");
        }
    }

    #[test]
    fn who_must_say_who_it_is_is_told_so_in_the_head_too() {
        let answer = refusal(&Status::unauthenticated("etcdserver: invalid auth token"));
        assert_eq!(
            answer.headers()[WWW_AUTHENTICATE],
            "etcdserver: invalid auth token"
        );
        let answer = refusal(&Status::unauthenticated("a\nb"));
        assert!(!answer.headers().contains_key(WWW_AUTHENTICATE));
    }
}
