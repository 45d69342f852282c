//! One connection from a peer, from its first packet to its end.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use quinn::{Connection, ConnectionError, Incoming, RecvStream, VarInt};
use rm_raft::Message;

use crate::{
    Event, FrameError, Identity, LessorMessage, Peer, RefusedBecause, close, decode, farewell,
    frame::{self, HEADER_BYTES},
    hello::{HELLO_BYTES_MAX, Hello},
    inbound::{Shared, Slot},
    lessor, presence, snapshot_receiver, stranger,
};

/// The first byte of a stream says what it carries. This is one-way: messages, in order.
pub(crate) const STREAM_MESSAGES: u8 = 1;
/// This is two-way: a snapshot.
pub(crate) const STREAM_SNAPSHOT: u8 = 2;

/// The chunks (each of a packet, about) that are taken from a stream at once.
const CHUNKS_MAX: usize = 64;
/// The least room that is made for what a stream brings: frames are cut from buffers of this size.
const READ_BYTES: usize = 64 << 10;
/// The most datagrams that are handed on at once.
const DATAGRAMS_MAX: usize = 256;

/// What one read brought, in order.
#[derive(Default)]
struct Came {
    messages: Vec<Message>,
    lessors: Vec<LessorMessage>,
    /// How many bytes it had.
    bytes: usize,
}

/// Who dialled.
pub(crate) struct Proved {
    /// The machine, as it was listed when it proved itself.
    pub(crate) peer: Peer,
    /// What it says of itself.
    pub(crate) sender: Identity,
}

/// Serves one connection until it ends.
pub(crate) async fn run(shared: Arc<Shared>, incoming: Incoming, _slot: Slot) {
    let address = incoming.remote_address();
    let limit = shared.options.handshake_timeout;
    let connection = match tokio::time::timeout(limit, incoming.into_future()).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            return shared.refused(address, RefusedBecause::Transport(error.to_string()));
        }
        Err(_) => return shared.refused(address, RefusedBecause::Slow),
    };
    let proved = match tokio::time::timeout(limit, prove(&shared, &connection)).await {
        Ok(proved) => proved,
        Err(_) => Err(RefusedBecause::Slow),
    };
    match proved {
        Ok(proved) => serve(&shared, &connection, proved).await,
        Err(reason) => refuse(&shared, &connection, reason),
    }
}

/// Hears who dialled, checks it, and says who this machine is.
async fn prove(shared: &Shared, connection: &Connection) -> Result<Proved, RefusedBecause> {
    let (mut say, mut hear) = connection.accept_bi().await.map_err(lost)?;
    let hello = read_hello(&mut hear).await?;
    hello.check(&shared.local)?;
    let peer = shared.recognise(&hello, connection.remote_address().ip())?;
    shared.credentials.check_dialler(connection, &peer)?;
    shared.data_ids.check(&peer, hello.sender.data_id)?;
    let answer = Hello::new(&shared.local, &peer).encode();
    say.write_all(&answer).await.map_err(lost)?;
    let sender = hello.sender;
    Ok(Proved { peer, sender })
}

/// Reads the first frame of a connection, which must be a hello.
pub(crate) async fn read_hello(stream: &mut RecvStream) -> Result<Hello, RefusedBecause> {
    Hello::decode(read_frame(stream, HELLO_BYTES_MAX).await?)
}

/// Reads one frame of at most `limit` bytes, still unopened, and not a byte of what follows it.
pub(crate) async fn read_frame(
    stream: &mut RecvStream,
    limit: usize,
) -> Result<Bytes, RefusedBecause> {
    let mut bytes = BytesMut::zeroed(HEADER_BYTES);
    stream.read_exact(&mut bytes).await.map_err(lost)?;
    let length = frame::length(&bytes, limit)?.unwrap_or(HEADER_BYTES);
    bytes.resize(length, 0);
    stream
        .read_exact(&mut bytes[HEADER_BYTES..])
        .await
        .map_err(lost)?;
    Ok(bytes.freeze())
}

async fn serve(shared: &Shared, connection: &Connection, proved: Proved) {
    let Proved { peer, sender } = &proved;
    let from = peer.id;
    if let Err(reason) = shared.enter(&proved, connection) {
        return refuse(shared, connection, reason);
    }
    shared.tell(match peer.stranger {
        true => Event::Stranger(sender.clone()),
        false => Event::Connected {
            from,
            incarnation: sender.incarnation,
            data_id: sender.data_id,
        },
    });
    let heard = shared.heard_from(peer);
    let received = |came: Came| {
        let Came {
            mut messages,
            lessors,
            bytes,
        } = came;
        heard.bytes(bytes);
        if peer.stranger {
            messages.retain(stranger::may_say);
        }
        if !messages.is_empty() {
            shared.tell(Event::Received { from, messages });
        }
        for message in lessors.into_iter().filter(|_| !peer.stranger) {
            shared.tell(Event::Lessor { from, message });
        }
    };
    let limit = shared.options.frame_bytes_max;
    let heartbeat = shared.options.heartbeat_interval;
    let mut process_gone = false;
    let broken = tokio::select! {
        _ = connection.closed() => None,
        broken = read_streams(connection, limit, &received) => broken,
        broken = snapshot_receiver::receive_all(shared, from, &heard, connection) => broken,
        broken = read_datagrams(connection, &received) => broken,
        // Where a stranger listens is its own word, which may be a name that was not looked up.
        () = presence::process_gone(connection, peer.address, heartbeat), if !peer.stranger => {
            process_gone = true;
            farewell::close(connection, close::PRESUMED_GONE, b"nobody listens at the machine's address");
            None
        }
    };
    if let Some(reason) = broken {
        heard.broken();
        refuse(shared, connection, reason);
    }
    let ended = connection.closed().await;
    if shared.leave(from, connection) {
        shared.tell(Event::Gone {
            from,
            process_gone: process_gone || says_process_ends(&ended),
            reason: ended.to_string(),
        });
    }
}

/// Closes the connection with the reason, counts and tells it.
fn refuse(shared: &Shared, connection: &Connection, reason: RefusedBecause) {
    farewell::close(connection, code_of(&reason), reason.to_string().as_bytes());
    shared.refused(connection.remote_address(), reason);
}

fn code_of(reason: &RefusedBecause) -> VarInt {
    match reason {
        RefusedBecause::Frame(_) => close::BAD_FRAME,
        RefusedBecause::Stream { .. } => close::UNKNOWN_STREAM,
        RefusedBecause::Era { .. } => close::OTHER_ERA,
        RefusedBecause::Slow => close::HANDSHAKE_TIMEOUT,
        _ => close::REFUSED,
    }
}

fn says_process_ends(ended: &ConnectionError) -> bool {
    match ended {
        ConnectionError::ApplicationClosed(closed) => closed.error_code == close::PROCESS_EXIT,
        _ => false,
    }
}

/// Reads all streams of a connection until one breaks the protocol; `None` when the connection ends.
async fn read_streams(
    connection: &Connection,
    limit: usize,
    received: &impl Fn(Came),
) -> Option<RefusedBecause> {
    let mut streams = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = connection.accept_uni() => {
                streams.push(read_stream(accepted.ok()?, limit, received));
            }
            Some(ended) = streams.next() => {
                if let Err(reason) = ended {
                    return Some(reason);
                }
            }
        }
    }
}

/// Reads one stream to its end. What a lost connection does to it is not its fault.
async fn read_stream(
    mut stream: RecvStream,
    limit: usize,
    received: &impl Fn(Came),
) -> Result<(), RefusedBecause> {
    let mut kind = [0];
    if stream.read_exact(&mut kind).await.is_err() {
        return Ok(());
    }
    match kind {
        [STREAM_MESSAGES] => read_messages(stream, limit, received).await,
        [kind] => Err(RefusedBecause::Stream { kind }),
    }
}

async fn read_messages(
    mut stream: RecvStream,
    limit: usize,
    received: &impl Fn(Came),
) -> Result<(), RefusedBecause> {
    let mut buffer = BytesMut::new();
    let mut chunks = [const { Bytes::new() }; CHUNKS_MAX];
    while let Ok(Some(count)) = stream.read_chunks(&mut chunks).await {
        let bytes = chunks[..count].iter().map(Bytes::len).sum();
        if buffer.capacity() - buffer.len() < bytes {
            buffer.reserve(READ_BYTES.max(bytes));
        }
        for chunk in &mut chunks[..count] {
            buffer.extend_from_slice(&std::mem::take(chunk));
        }
        let mut came = Came {
            bytes,
            ..Came::default()
        };
        let broken = take_messages(&mut buffer, limit, &mut came);
        received(came);
        broken?;
    }
    Ok(())
}

/// Decodes all frames that are complete.
fn take_messages(buffer: &mut BytesMut, limit: usize, came: &mut Came) -> Result<(), FrameError> {
    while let Some(frame) = frame::split(buffer, limit)? {
        if lessor::is_lessors(&frame) {
            came.lessors.push(lessor::decode(frame)?);
        } else {
            came.messages.push(decode(frame)?);
        }
    }
    Ok(())
}

/// Reads datagrams, each of one frame with one of Raft's messages, until one breaks the protocol; `None` when the connection ends.
async fn read_datagrams(
    connection: &Connection,
    received: &impl Fn(Came),
) -> Option<RefusedBecause> {
    loop {
        let mut next = Some(connection.read_datagram().await);
        let mut came = Came::default();
        while let Some(datagram) = next {
            let datagram = datagram.ok()?;
            came.bytes += datagram.len();
            match decode(datagram) {
                Ok(message) => came.messages.push(message),
                Err(error) => return Some(error.into()),
            }
            if came.messages.len() == DATAGRAMS_MAX {
                break;
            }
            next = connection.read_datagram().now_or_never();
        }
        received(came);
    }
}

fn lost(error: impl std::fmt::Display) -> RefusedBecause {
    RefusedBecause::Transport(error.to_string())
}
