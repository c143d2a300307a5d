//! A stream as tokio's readers and writers: for libraries such as hyper and rustls.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Stream;
use crate::pipe::Broken;

/// How much one write takes at most.
const CHUNK: usize = 64 << 10;

/// A [`Stream`] that is read and written by copying. Shutting it down ends the direction that is written.
#[derive(Debug)]
pub struct StreamIo(Stream);

impl Stream {
    /// The stream for what reads and writes by tokio's traits.
    pub fn into_io(self) -> StreamIo {
        StreamIo(self)
    }
}

fn failed(broken: Broken) -> io::Error {
    match broken {
        Broken::Closed => io::ErrorKind::BrokenPipe.into(),
        Broken::Reset => io::ErrorKind::ConnectionReset.into(),
    }
}

impl AsyncRead for StreamIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let read = ready!(self.0.reader.poll_read(cx, into.remaining())).map_err(failed)?;
        into.put_slice(&read.unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = ready!(self.0.writer.poll_room(cx)).map_err(failed)?;
        let taken = bytes.len().min(room).min(CHUNK);
        let chunk = Bytes::copy_from_slice(&bytes[..taken]);
        Poll::Ready(self.0.writer.write(chunk).map(|()| taken).map_err(failed))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.writer.close();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::{Listener, Network};

    async fn pair() -> (Stream, Stream) {
        let network = Network::new("10.128.0.0/24".parse().unwrap());
        let pod = network.join("uid").unwrap();
        let at = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80);
        let listener = Listener::new(Arc::new(pod.bind_stream(at).unwrap()), 1);
        let near = pod.connect(at).await.unwrap();
        (near, listener.accept().await)
    }

    #[tokio::test]
    async fn what_is_written_is_read_to_the_end() {
        let (near, far) = pair().await;
        let (mut near, mut far) = (near.into_io(), far.into_io());
        // More than a pipe holds, so that the writer waits for the reader.
        let sent: Vec<u8> = (0..1_000_003_u32).map(|n| (n % 251) as u8).collect();
        let write = async {
            near.write_all(&sent).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let (_, read) = tokio::join!(write, far.read_to_end(&mut got));
        assert_eq!((read.unwrap(), got == sent), (sent.len(), true));
        // Only one direction has ended.
        far.write_all(b"back").await.unwrap();
        let mut back = [0; 4];
        near.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"back");
    }

    #[tokio::test]
    async fn what_breaks_says_how() {
        let (near, far) = pair().await;
        near.reset();
        let error = far.into_io().read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let (near, far) = pair().await;
        drop(near);
        let mut far = far.into_io();
        assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
        let error = far.write_u8(1).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
