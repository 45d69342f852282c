//! Connections of clients: how many there may be, and how their bytes are written.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::Connected;

/// The most connections at a time; one more is closed as soon as it is accepted.
const CONNECTIONS_MAX: usize = 10_000;

/// How long to wait after the system refused to hand over a connection: most often it is out of file descriptors, and
/// asking again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One client's connection.
///
/// It says that it cannot write from several buffers at once, though it could: h2 then copies payloads of up to 1 KiB
/// behind each other and writes them together, where it would otherwise make a system call for each payload of more
/// than 255 bytes. At many clients that is most of what an answer costs.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Held as long as the connection is open; the references are counted.
    _open: Arc<()>,
}

/// The connections that come in at `listener`. It never ends.
pub(crate) fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<Connection>> {
    stream::unfold((listener, Arc::new(())), |(listener, open)| async move {
        let connection = accept(&listener, &open).await;
        Some((Ok(connection), (listener, open)))
    })
}

async fn accept(listener: &TcpListener, open: &Arc<()>) -> Connection {
    loop {
        match listener.accept().await {
            // The first reference is the counter's own.
            Ok(_) if Arc::strong_count(open) > CONNECTIONS_MAX => {}
            Ok((stream, _)) => {
                // Without it an answer would wait for the acknowledgement of the one before. It fails only on a
                // connection that is already gone.
                let _ = stream.set_nodelay(true);
                return Connection {
                    stream,
                    _open: Arc::clone(open),
                };
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }
}
