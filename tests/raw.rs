//! A client that is bare HTTP/2: it keeps no deadline and no pause of its own, so that a server is seen to keep its own.

use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, PingPong, RecvStream, SendStream};
use http::{Method, Request, Uri, Version};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::Status;

use crate::wait::PATIENCE;

/// A flag, which says that nothing is compressed, and the length of the message (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX_BYTES: usize = 5;

/// One connection.
#[derive(Debug)]
pub struct Raw {
    address: SocketAddr,
    requests: SendRequest<Bytes>,
    pings: PingPong,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A call under way. Whoever drops it cancels it.
#[derive(Debug)]
pub struct Call {
    /// Held, so that a stream stays open to more requests.
    _request: SendStream<Bytes>,
    answer: Option<ResponseFuture>,
    body: Option<RecvStream>,
    received: BytesMut,
}

impl Raw {
    /// Connects.
    ///
    /// # Panics
    ///
    /// When nobody speaks HTTP/2 there.
    pub async fn connect(address: SocketAddr) -> Raw {
        Raw::connect_with(address, &h2::client::Builder::new()).await
    }

    /// Connects, and lets so many bytes of each answer come and no more.
    ///
    /// # Panics
    ///
    /// As [`Raw::connect`].
    pub async fn connect_deaf(address: SocketAddr, window: u32) -> Raw {
        let mut how = h2::client::Builder::new();
        Raw::connect_with(address, how.initial_window_size(window)).await
    }

    async fn connect_with(address: SocketAddr, how: &h2::client::Builder) -> Raw {
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("it is open");
        let (requests, mut connection) = how.handshake(stream).await.expect("it speaks HTTP/2");
        let pings = connection.ping_pong().expect("it is taken once");
        Raw {
            address,
            requests,
            pings,
            connection: tokio::spawn(connection),
        }
    }

    /// Calls a method with one message.
    ///
    /// # Panics
    ///
    /// When the connection takes no more calls.
    pub async fn call(&self, path: &str, headers: &[(&str, &str)], message: &[u8]) -> Call {
        self.begin(path, headers, message.len(), message, true)
            .await
    }

    /// Calls a method with a message that others may follow.
    ///
    /// # Panics
    ///
    /// As [`Raw::call`].
    pub async fn open(&self, path: &str, headers: &[(&str, &str)], message: &[u8]) -> Call {
        self.begin(path, headers, message.len(), message, false)
            .await
    }

    /// Calls a method with a message of so many bytes, of which only the first ever come.
    ///
    /// # Panics
    ///
    /// As [`Raw::call`].
    pub async fn call_in_part(&self, path: &str, bytes: usize, first: &[u8]) -> Call {
        self.begin(path, &[], bytes, first, false).await
    }

    async fn begin(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        message_bytes: usize,
        message: &[u8],
        is_whole: bool,
    ) -> Call {
        let uri: Uri = format!("http://{}{path}", self.address)
            .parse()
            .expect("a path makes a URI");
        let mut request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(uri)
            .header("te", "trailers")
            .header("content-type", "application/grpc");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("they are headers");
        let requests = self.requests.clone().ready().await;
        let (answer, mut body) = requests
            .and_then(|mut requests| requests.send_request(request, false))
            .expect("the connection takes a call");
        let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message_bytes).expect("it is short"));
        framed.extend_from_slice(message);
        // Whoever refuses a call before all of it has come says why by its status.
        let _ = body.send_data(framed.freeze(), is_whole);
        Call {
            _request: body,
            answer: Some(answer),
            body: None,
            received: BytesMut::new(),
        }
    }

    /// Asks whether the other end is still there, and waits for its answer.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    ///
    /// # Panics
    ///
    /// When there is neither an answer nor an end in time.
    pub async fn ping(&mut self) -> Result<(), h2::Error> {
        let pong = timeout(PATIENCE, self.pings.ping(Ping::opaque()));
        pong.await.expect("an answer, or an end").map(drop)
    }

    /// Why the connection ended.
    ///
    /// # Errors
    ///
    /// As h2 has it.
    ///
    /// # Panics
    ///
    /// When it does not end in time.
    pub async fn ended(self) -> Result<(), h2::Error> {
        // As long as this is there, it asks for more.
        drop(self.requests);
        let ended = timeout(PATIENCE, self.connection).await;
        ended
            .expect("the connection ends")
            .expect("it never panics")
    }
}

impl Call {
    /// The next message.
    ///
    /// # Errors
    ///
    /// How the call ended, also where it ended well.
    ///
    /// # Panics
    ///
    /// When nothing happens in time.
    pub async fn message(&mut self) -> Result<Bytes, Status> {
        let next = timeout(PATIENCE, self.next_message()).await;
        next.expect("a message, or the end of the call")
    }

    /// How the call ends. Its messages are passed over.
    ///
    /// # Panics
    ///
    /// When it does not end, and has nothing more to say for some time.
    pub async fn end(mut self) -> Status {
        loop {
            if let Err(status) = self.message().await {
                return status;
            }
        }
    }

    async fn next_message(&mut self) -> Result<Bytes, Status> {
        if let Some(answer) = self.answer.take() {
            let response = answer.await.map_err(broken)?;
            if let Some(status) = Status::from_header_map(response.headers()) {
                return Err(status);
            }
            self.body = Some(response.into_body());
        }
        let body = self.body.as_mut().expect("the answer has begun");
        loop {
            if let Some(mut prefix) = self.received.get(1..PREFIX_BYTES) {
                let bytes = PREFIX_BYTES + prefix.get_u32() as usize;
                if self.received.len() >= bytes {
                    let framed = self.received.split_to(bytes).freeze();
                    return Ok(framed.slice(PREFIX_BYTES..));
                }
            }
            let Some(data) = body.data().await else {
                let trailers = body.trailers().await.map_err(broken)?;
                let status = trailers.as_ref().and_then(Status::from_header_map);
                return Err(status.unwrap_or_else(|| Status::internal("no status at the end")));
            };
            let data = data.map_err(broken)?;
            let taken = body.flow_control().release_capacity(data.len());
            taken.expect("it was received");
            self.received.extend_from_slice(&data);
        }
    }
}

fn broken(error: h2::Error) -> Status {
    Status::from_error(Box::new(error))
}
