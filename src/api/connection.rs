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
/// than 255 bytes. Measured at 256 clients, gets of 256 and 900 bytes cost a quarter less CPU so, and gets of 4 KiB
/// a tenth more.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Held as long as the connection is open; the references are counted.
    _open: Arc<()>,
}

/// The connections that come in at `listener`. It never ends.
pub(crate) fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<Connection>> {
    stream::unfold((listener, Arc::new(())), |(listener, open)| async move {
        let connection = accept(&listener, &open, CONNECTIONS_MAX).await;
        Some((Ok(connection), (listener, open)))
    })
}

/// The next connection for which there is room: no more than `max` are held by anyone.
async fn accept(listener: &TcpListener, open: &Arc<()>, max: usize) -> Connection {
    loop {
        match listener.accept().await {
            // The first reference is the counter's own.
            Ok(_) if Arc::strong_count(open) > max => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_connection_too_many_is_closed_and_room_is_given_back() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let open = Arc::new(());
        let _first_client = TcpStream::connect(address).await?;
        let first = accept(&listener, &open, 1).await;

        let mut second_client = TcpStream::connect(address).await?;
        let mut byte = [0];
        tokio::select! {
            _ = accept(&listener, &open, 1) => panic!("there is room for one only"),
            read = second_client.read(&mut byte) => assert_eq!(read?, 0, "closed"),
        }

        drop(first);
        let third_client = TcpStream::connect(address).await?;
        let third = accept(&listener, &open, 1).await;
        assert_eq!(third.stream.peer_addr()?, third_client.local_addr()?);
        Ok(())
    }

    #[tokio::test]
    async fn small_payloads_are_left_to_be_written_together() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let client = TcpStream::connect(listener.local_addr()?).await?;
        let connection = accept(&listener, &Arc::new(()), 1).await;
        assert!(client.is_write_vectored());
        assert!(!connection.is_write_vectored());
        Ok(())
    }
}
