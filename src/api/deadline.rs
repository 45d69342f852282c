//! How long a client wants to wait, by gRPC's header, which etcd's gateway takes over HTTP, too (gRPC over HTTP/2, "Timeout").
//!
//! The call of a client whose time is over is given up here as well: what it holds is free at once. tonic does so for calls that wait for
//! their answer, in its own words, and lets streams go on.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, Response};
use http_body::Frame;
use tokio::task::JoinHandle;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

const HEADER: &str = "grpc-timeout";

/// The most digits that a timeout has.
const DIGITS_MAX: usize = 8;

/// The moment at which a client waits no longer.
pub(crate) struct Deadline(Pin<Box<Sleep>>);

impl Deadline {
    /// That of a request which has just come; none if the client does not say.
    ///
    /// # Errors
    /// It says so in words that gRPC does not have.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Deadline>, Status> {
        let time = time(headers)?;
        Ok(time.map(|time| Deadline(Box::pin(tokio::time::sleep(time)))))
    }

    /// What the client is told once it has passed.
    pub(crate) async fn passed(&mut self) -> Status {
        (&mut self.0).await;
        passed()
    }

    /// Ends a stream when it has passed. A refusal has ended already.
    pub(crate) fn end(self, response: Response<Body>) -> Response<Body> {
        match response.headers().contains_key(Status::GRPC_STATUS) {
            true => response,
            false => response.map(|body| Body::new(Ending::new(body, self))),
        }
    }
}

fn passed() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

fn time(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(HEADER) else {
        return Ok(None);
    };
    let duration = value.to_str().ok().and_then(parse);
    duration.map(Some).ok_or_else(|| {
        Status::invalid_argument(format!(
            "invalid grpc-timeout: {value:?}; use up to {DIGITS_MAX} digits and one of H, M, S, m, u, n"
        ))
    })
}

/// A stream that ends at its deadline.
///
/// Nobody asks it for its next frame while the client takes none. So it is a task that keeps the time, and drops at the deadline what
/// the stream holds; the client is told as soon as it takes something again.
struct Ending {
    stream: Arc<Mutex<Option<Body>>>,
    clock: JoinHandle<()>,
    is_over: bool,
}

impl Ending {
    fn new(body: Body, deadline: Deadline) -> Ending {
        let stream = Arc::new(Mutex::new(Some(body)));
        let ended = stream.clone();
        let clock = tokio::spawn(async move {
            deadline.0.await;
            let body = held(&ended).take();
            drop(body);
        });
        Ending {
            stream,
            clock,
            is_over: false,
        }
    }
}

/// What the stream holds. One that panicked is asked for nothing more.
fn held(stream: &Mutex<Option<Body>>) -> MutexGuard<'_, Option<Body>> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        // Looked at first: it has to wake whoever waits for the stream.
        if self.clock.poll_unpin(cx).is_ready() {
            self.is_over = true;
            let mut told = HeaderMap::new();
            let outcome = passed().add_header(&mut told);
            return Poll::Ready(Some(outcome.map(|()| Frame::trailers(told))));
        }
        match held(&self.stream).as_mut() {
            Some(body) => Pin::new(body).poll_frame(cx),
            // The clock ends now, and wakes.
            None => Poll::Pending,
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.clock.abort();
    }
}

fn parse(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = number.len() <= DIGITS_MAX && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| is_number)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 60 * 60)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use http_body_util::StreamBody;
    use tokio::sync::oneshot;

    use super::*;

    /// A stream that says nothing, and what tells that it is gone.
    fn silent() -> (Response<Body>, oneshot::Receiver<()>) {
        let (held, gone) = oneshot::channel::<()>();
        let frames = futures::stream::once(async move {
            std::future::pending::<()>().await;
            drop(held);
            Ok::<_, Status>(Frame::data(Bytes::new()))
        });
        (Response::new(Body::new(StreamBody::new(frames))), gone)
    }

    fn soon() -> Deadline {
        Deadline(Box::pin(tokio::time::sleep(Duration::from_millis(1))))
    }

    #[tokio::test]
    async fn a_stream_that_says_nothing_ends_at_its_deadline() {
        let (response, _gone) = silent();
        let mut body = soon().end(response).into_body();
        let last = body.frame().await.expect("the last word");
        let last = last.expect("is no failure").into_trailers();
        let status = Status::from_header_map(&last.expect("it is a status"));
        assert_eq!(
            status.map(|status| (status.code(), status.message().to_owned())),
            Some((
                tonic::Code::DeadlineExceeded,
                "context deadline exceeded".to_owned()
            ))
        );
        assert!(body.frame().await.is_none(), "nothing follows");
    }

    #[tokio::test]
    async fn a_stream_that_nobody_takes_from_holds_nothing_after_its_deadline() {
        let (response, gone) = silent();
        let _untaken = soon().end(response);
        assert!(gone.await.is_err(), "dropped, and never sent");
    }

    #[tokio::test]
    async fn a_stream_that_is_left_is_gone_before_its_deadline() {
        let (response, gone) = silent();
        let late = Deadline(Box::pin(tokio::time::sleep(Duration::from_secs(600))));
        drop(late.end(response));
        assert!(gone.await.is_err(), "dropped, and never sent");
    }

    #[test]
    fn a_timeout_is_a_number_and_a_unit() {
        assert_eq!(
            parse("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3_600))
        );
        assert_eq!(parse("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse("3S"), Some(Duration::from_secs(3)));
        assert_eq!(parse("4m"), Some(Duration::from_millis(4)));
        assert_eq!(parse("5u"), Some(Duration::from_micros(5)));
        assert_eq!(parse("6n"), Some(Duration::from_nanos(6)));
        for wrong in ["", "S", "7", "7s", "+7S", "-7S", "999999999S", "7 S", "7ü"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
