//! One gRPC call after the other on a bare HTTP/2 connection, for the load generator.
//!
//! tonic's channel hands each request to a task of its own and back, which costs more than some servers need to answer.
//! The load generator shares the host with the servers that it measures, so it speaks HTTP/2 itself, to the letter of
//! gRPC's "PROTOCOL-HTTP2": a request is one message after a prefix of five bytes, the verdict comes in the trailers.

use std::cell::RefCell;
use std::future::poll_fn;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, Uri, Version};
use rm_tls::Dialler;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task;
use tokio::time::timeout;
use tonic::Status;

use crate::client::{Endpoint, innermost};
use crate::error::describe;

/// A compressed flag, which is never set, and the length of the message, big-endian.
pub(crate) const PREFIX_BYTES: usize = 5;
/// What a connection and each stream may receive before we make room: more than any answer of a benchmark.
const WINDOW_BYTES: u32 = 4 << 20;

/// Why a call brought no answer. The text names the remedy where there is one.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// No connection, or it broke.
    #[error("{endpoint}: {reason}")]
    Connection {
        /// The machine.
        endpoint: Endpoint,
        /// What the network said.
        reason: String,
    },
    /// The machine answered with an error.
    #[error("{endpoint}: {}", describe(.status))]
    Answer {
        /// The machine.
        endpoint: Endpoint,
        /// Its answer.
        status: Box<Status>,
    },
    /// No answer in time.
    #[error("{endpoint}: no answer in time")]
    TimedOut {
        /// The machine.
        endpoint: Endpoint,
    },
}

/// A connection that is made anew when it breaks. Belongs to one thread.
pub(crate) struct Connection {
    endpoint: Endpoint,
    uri: Uri,
    timeout: Duration,
    /// How to dial by TLS, if not in plain.
    dialler: Option<Dialler>,
    sender: RefCell<Option<SendRequest<Bytes>>>,
    // Whoever dials holds it, so that a hundred clients dial once.
    dialling: Mutex<()>,
}

impl Connection {
    /// Prepares calls of one method (`/package.Service/Method`); dials at the first.
    pub(crate) fn new(
        endpoint: &Endpoint,
        method: &str,
        timeout: Duration,
        dialler: Option<Dialler>,
    ) -> Self {
        let uri = Uri::builder()
            .scheme(if dialler.is_some() { "https" } else { "http" })
            .authority(endpoint.to_string())
            .path_and_query(method)
            .build()
            .expect("an address and a method make a URI");
        Connection {
            endpoint: endpoint.clone(),
            uri,
            timeout,
            dialler,
            sender: RefCell::new(None),
            dialling: Mutex::new(()),
        }
    }

    /// Dials, unless the connection stands.
    pub(crate) async fn open(&self) -> Result<(), String> {
        match timeout(self.timeout, self.sender()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(CallError::Connection { reason, .. })) => Err(reason),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    /// Sends one message, framed by [`frame`], and waits for its answer's message.
    pub(crate) async fn call(&self, framed: Bytes) -> Result<Bytes, CallError> {
        match timeout(self.timeout, self.call_without_limit(framed)).await {
            Ok(result) => result,
            Err(_) => Err(CallError::TimedOut {
                endpoint: self.endpoint.clone(),
            }),
        }
    }

    async fn call_without_limit(&self, framed: Bytes) -> Result<Bytes, CallError> {
        let mut sender = self.sender().await?;
        poll_fn(|context| sender.poll_ready(context))
            .await
            .map_err(|error| self.broken(&error))?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .version(Version::HTTP_2)
            .body(())
            .expect("a URI that was checked makes a request");
        request.headers_mut().extend([
            (
                http::header::TE,
                const { http::HeaderValue::from_static("trailers") },
            ),
            (
                http::header::CONTENT_TYPE,
                const { http::HeaderValue::from_static("application/grpc") },
            ),
        ]);
        let (response, mut body) = sender
            .send_request(request, false)
            .map_err(|error| self.broken(&error))?;
        body.send_data(framed, true)
            .map_err(|error| self.broken(&error))?;
        let response = response.await.map_err(|error| self.broken(&error))?;
        // An error may come with the headers, and nothing after them.
        self.verdict(response.headers(), true)?;
        self.receive(response.into_body()).await
    }

    async fn receive(&self, mut stream: RecvStream) -> Result<Bytes, CallError> {
        let mut received = Chunks::default();
        while let Some(chunk) = stream.data().await {
            let chunk = chunk.map_err(|error| self.broken(&error))?;
            // The window is made wide again at once: we keep up, or the benchmark is void anyway.
            let _ = stream.flow_control().release_capacity(chunk.len());
            received.push(chunk);
        }
        let trailers = stream
            .trailers()
            .await
            .map_err(|error| self.broken(&error))?
            .unwrap_or_default();
        self.verdict(&trailers, false)?;
        let mut message = received.whole();
        message.advance(PREFIX_BYTES.min(message.len()));
        Ok(message)
    }

    /// Reads gRPC's verdict; headers may lack it (`may_lack`), trailers may not.
    fn verdict(&self, headers: &HeaderMap, may_lack: bool) -> Result<(), CallError> {
        match headers.get(Status::GRPC_STATUS) {
            Some(code) if code == "0" => return Ok(()),
            None if may_lack => return Ok(()),
            _ => {}
        }
        let status = Status::from_header_map(headers)
            .unwrap_or_else(|| Status::internal("an answer without a gRPC status"));
        Err(CallError::Answer {
            endpoint: self.endpoint.clone(),
            status: Box::new(status),
        })
    }

    /// The way to send, dialled when there is none.
    async fn sender(&self) -> Result<SendRequest<Bytes>, CallError> {
        if let Some(sender) = &*self.sender.borrow() {
            return Ok(sender.clone());
        }
        let _dialling = self.dialling.lock().await;
        if let Some(sender) = &*self.sender.borrow() {
            return Ok(sender.clone());
        }
        let sender = self.dial().await.map_err(|reason| CallError::Connection {
            endpoint: self.endpoint.clone(),
            reason,
        })?;
        *self.sender.borrow_mut() = Some(sender.clone());
        Ok(sender)
    }

    async fn dial(&self) -> Result<SendRequest<Bytes>, String> {
        let address = self.endpoint.address();
        let said = |error: std::io::Error| error.to_string();
        if let Some(dialler) = &self.dialler {
            let stream = dialler.dial(&address.host, address.port).await;
            return begin(stream.map_err(said)?).await;
        }
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await;
        let stream = stream.map_err(said)?;
        stream.set_nodelay(true).map_err(said)?;
        begin(stream).await
    }

    /// Forgets the connection, so that the next call dials, unless only this call's stream was refused.
    fn broken(&self, error: &h2::Error) -> CallError {
        if !error.is_reset() {
            self.sender.borrow_mut().take();
        }
        CallError::Connection {
            endpoint: self.endpoint.clone(),
            reason: innermost(error),
        }
    }
}

/// Begins HTTP/2.
async fn begin(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
) -> Result<SendRequest<Bytes>, String> {
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .enable_push(false)
        .handshake(stream)
        .await
        .map_err(|error| innermost(&error))?;
    // Its end shows itself to whoever calls next.
    task::spawn_local(async move { drop(connection.await) });
    Ok(sender)
}

/// Puts the prefix before a message whose bytes `write` appends.
pub(crate) fn frame(message_bytes: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let length = u32::try_from(message_bytes).expect("a message of a benchmark is below 4 GiB");
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message_bytes);
    framed.extend_from_slice(&[0]);
    framed.extend_from_slice(&length.to_be_bytes());
    write(&mut framed);
    framed.freeze()
}

/// Pieces of a body. One piece, which is the rule, is not copied.
#[derive(Default)]
struct Chunks {
    first: Bytes,
    joined: BytesMut,
}

impl Chunks {
    fn push(&mut self, chunk: Bytes) {
        if self.first.is_empty() && self.joined.is_empty() {
            self.first = chunk;
            return;
        }
        if self.joined.is_empty() {
            self.joined.extend_from_slice(&self.first);
        }
        self.joined.extend_from_slice(&chunk);
    }

    fn whole(self) -> Bytes {
        if self.joined.is_empty() {
            self.first
        } else {
            self.joined.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_in_pieces_is_joined_in_order() {
        for pieces in [&["abc"][..], &["a", "bc"], &["a", "b", "c"]] {
            let mut chunks = Chunks::default();
            for piece in pieces {
                chunks.push(Bytes::from_static(piece.as_bytes()));
            }
            assert_eq!(chunks.whole(), "abc");
        }
    }

    #[test]
    fn a_frame_says_how_long_its_message_is() {
        let framed = frame(3, |buffer| buffer.extend_from_slice(b"abc"));
        assert_eq!(&framed[..], b"\0\0\0\0\x03abc");
    }
}
