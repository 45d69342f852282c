//! The end of a connection by us. Whoever closes a socket in which something waits to be read has the system throw away what the other
//! end has not received yet: the last words of a stream when it was told to stop, or the alert that says why TLS let nobody in.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// The most that is thrown away in all: who sends more does not listen.
const LEFTOVER_BYTES_MAX: usize = 1 << 20;

/// The most that is read at once, in bytes.
const TURN_BYTES: usize = 4 << 10;

/// Ends our half, and waits for the client to end its own.
pub(crate) struct Linger {
    over: Pin<Box<Sleep>>,
    /// What is told before our half ends.
    words: Bytes,
    our_half_ended: bool,
    leftover_bytes: usize,
}

impl Linger {
    /// From now on, for no longer than this.
    pub(crate) fn within(time: Duration) -> Linger {
        Linger {
            over: Box::pin(tokio::time::sleep(time)),
            words: Bytes::new(),
            our_half_ended: false,
            leftover_bytes: 0,
        }
    }

    /// The same, with these words at the end.
    pub(crate) fn saying(self, words: Bytes) -> Linger {
        Linger { words, ..self }
    }

    /// Ready when the connection can be closed without a loss, or the time is over, or the client sends too much.
    pub(crate) fn poll(
        &mut self,
        transport: &mut (impl AsyncRead + AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        while !self.words.is_empty() {
            match ready!(Pin::new(&mut *transport).poll_write(cx, &self.words))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.words.advance(bytes),
            }
        }
        if !self.our_half_ended {
            ready!(Pin::new(&mut *transport).poll_shutdown(cx))?;
            self.our_half_ended = true;
        }
        let mut room = [MaybeUninit::uninit(); TURN_BYTES];
        while self.leftover_bytes < LEFTOVER_BYTES_MAX {
            let mut leftover = ReadBuf::uninit(&mut room);
            match ready!(Pin::new(&mut *transport).poll_read(cx, &mut leftover)) {
                Ok(()) if !leftover.filled().is_empty() => {
                    self.leftover_bytes += leftover.filled().len();
                }
                // Gone, with a word or without.
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn it_waits_until_the_client_has_heard_all_and_no_longer() -> io::Result<()> {
        let (mut ours, mut theirs) = duplex(64);
        ours.write_all(b"last words").await?;
        theirs.write_all(b"not read by anybody").await?;
        let mut linger = Linger::within(LONG).saying(Bytes::from_static(b", said late"));
        let mut lingering = std::pin::pin!(poll_fn(|cx| linger.poll(&mut ours, cx)));
        assert!(lingering.as_mut().now_or_never().is_none());
        let mut heard = String::new();
        theirs.read_to_string(&mut heard).await?;
        assert_eq!(heard, "last words, said late");
        assert!(lingering.as_mut().now_or_never().is_none());
        drop(theirs);
        assert!(matches!(lingering.now_or_never(), Some(Ok(()))));
        Ok(())
    }

    #[tokio::test]
    async fn a_client_that_neither_reads_nor_ends_is_waited_for_no_longer_than_that()
    -> io::Result<()> {
        let time = Duration::from_millis(30);
        let began = std::time::Instant::now();
        let (mut ours, _theirs) = duplex(64);
        let mut linger = Linger::within(time);
        poll_fn(|cx| linger.poll(&mut ours, cx)).await?;
        assert!(began.elapsed() >= time);
        Ok(())
    }

    #[tokio::test]
    async fn who_only_speaks_is_not_listened_to_for_ever() -> io::Result<()> {
        let mut ours = tokio::io::join(tokio::io::repeat(7), tokio::io::sink());
        let mut linger = Linger::within(LONG);
        poll_fn(|cx| linger.poll(&mut ours, cx)).await?;
        assert_eq!(linger.leftover_bytes, LEFTOVER_BYTES_MAX);
        Ok(())
    }
}
