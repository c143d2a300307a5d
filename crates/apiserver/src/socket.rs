//! A client's socket, of which others than its reader may ask whether the client is still there.
//!
//! Where what a client sends has nowhere to go it is not read, so that the client is held back; and who does not read does
//! not see that the client is gone. The system sees it: a reset, or no answer when it asks whether somebody is there.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// The socket itself. It is closed once this is dropped, and nobody waits for its end.
#[derive(Debug)]
pub(crate) struct Socket(Arc<TcpStream>);

/// What can be asked about a socket. The default is nobody's: it never breaks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line(Weak<TcpStream>);

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(stream))
    }

    pub(crate) fn line(&self) -> Line {
        Line(Arc::downgrade(&self.0))
    }

    /// Reads what is there. Where that is less than there is room for nothing is left, which the next read then need not
    /// ask the system for: as tokio's own reads, which want the stream to themselves.
    fn take(&self, room: &mut [u8]) -> io::Result<usize> {
        let mut taken = None;
        let more = self.0.try_io(Interest::READABLE, || {
            let (read, _) = recv(&*self.0, &mut *room, RecvFlags::empty())?;
            taken = Some(read);
            match 0 < read && read < room.len() {
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => Ok(()),
            }
        });
        taken.map_or_else(|| more.map(|()| 0), Ok)
    }
}

impl Line {
    /// Waits until the client is gone without having ended the connection in order. An end in order has to be read, or it is
    /// seen when the client's system gives up what it had to send before it.
    pub(crate) fn broken(&self) -> impl Future<Output = ()> + use<> {
        let stream = self.0.upgrade();
        async move {
            match stream {
                // Where it cannot be waited for there is nobody either.
                Some(stream) => drop(stream.ready(Interest::ERROR).await),
                None => std::future::pending().await,
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.initialize_unfilled();
        let read = loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.take(room) {
                Ok(read) => break read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        };
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write_vectored(parts) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match shutdown(&*self.0, Shutdown::Write) {
            // The other end was first.
            Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            done => Poll::Ready(done.map_err(io::Error::from)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);
    const WHILE: Duration = Duration::from_millis(50);

    async fn pair() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.unwrap(), Socket::new(accepted.unwrap().0))
    }

    #[tokio::test]
    async fn it_is_read_and_written_to_both_ends() {
        let (client, server) = pair().await;
        let echo = tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(server);
            tokio::io::copy(&mut from, &mut to).await.unwrap();
            to.shutdown().await.unwrap();
        });
        let (mut from, mut to) = client.into_split();
        let sent = vec![7; 1 << 20];
        let mut got = Vec::new();
        let writing = async {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let both = async { tokio::join!(writing, from.read_to_end(&mut got)) };
        timeout(SOON, both).await.expect("it ends").1.unwrap();
        assert!(got == sent, "{} bytes came back", got.len());
        echo.await.unwrap();
    }

    #[tokio::test]
    async fn a_reset_is_seen_though_nobody_reads() {
        let (client, server) = pair().await;
        let broken = server.line().broken();
        tokio::pin!(broken);
        client.try_write(b"unread").unwrap();
        assert!(timeout(WHILE, &mut broken).await.is_err());
        client.set_zero_linger().unwrap();
        drop(client);
        timeout(SOON, broken).await.expect("it is seen");
    }

    #[tokio::test]
    async fn an_end_in_order_and_nobody_at_all_break_nothing() {
        let (mut client, mut server) = pair().await;
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        assert!(timeout(WHILE, server.line().broken()).await.is_err());
        assert!(timeout(WHILE, Line::default().broken()).await.is_err());
    }
}
