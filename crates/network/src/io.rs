//! A stream as tokio's readers and writers have it: for protocol libraries such as hyper and rustls.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use crate::pipe::Broken;
use crate::stream::Stream;

/// The largest chunk that moves at once.
const CHUNK: usize = 64 << 10;

/// A [`Stream`] that is read and written by copying: what the traits' borrowed buffers ask for, once in each
/// direction. Reading by [`AsyncBufRead`] copies nothing.
#[derive(Debug)]
pub struct StreamIo {
    stream: Arc<Stream>,
    /// Taken from the stream, and not yet read.
    read: Bytes,
}

impl Stream {
    /// The stream for a library that reads and writes by tokio's traits.
    pub fn into_io(self) -> StreamIo {
        StreamIo {
            stream: Arc::new(self),
            read: Bytes::new(),
        }
    }
}

impl StreamIo {
    /// The stream itself, for its addresses and to watch its end. Another who reads it takes bytes away.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Lets these bytes, which were read before, be read again.
    pub fn unread(&mut self, bytes: Bytes) {
        self.read = match self.read.is_empty() {
            true => bytes,
            false => [bytes, std::mem::take(&mut self.read)].concat().into(),
        };
    }
}

fn failed(broken: Broken) -> Error {
    match broken {
        Broken::Closed => ErrorKind::BrokenPipe.into(),
        Broken::Reset => ErrorKind::ConnectionReset.into(),
    }
}

impl AsyncBufRead for StreamIo {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<&[u8]>> {
        let this = self.get_mut();
        if this.read.is_empty() {
            let read = ready!(this.stream.reader.poll_read(cx, CHUNK));
            this.read = read.map_err(failed)?.unwrap_or_default();
        }
        Poll::Ready(Ok(&this.read))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        let amount = amount.min(self.read.len());
        drop(self.read.split_to(amount));
    }
}

impl AsyncRead for StreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let waiting = ready!(self.as_mut().poll_fill_buf(cx))?;
        let taken = waiting.len().min(into.remaining());
        into.put_slice(&waiting[..taken]);
        self.consume(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let writer = &self.stream.writer;
        let room = ready!(writer.poll_room(cx)).map_err(failed)?.min(CHUNK);
        let all: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut chunk = BytesMut::with_capacity(all.min(room));
        for slice in slices {
            let taken = slice.len().min(room - chunk.len());
            chunk.extend_from_slice(&slice[..taken]);
        }
        let written = chunk.len();
        writer.write(chunk.freeze()).map_err(failed)?;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        self.stream.writer.close();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::{Listener, Network};

    async fn pair() -> (Stream, Stream) {
        let pod = Network::new("10.1.0.0/24".parse().unwrap())
            .join("a")
            .unwrap();
        let at = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 80);
        let listener = Listener::new(Arc::new(pod.bind_stream(at).unwrap()), 1);
        let near = pod.connect(at).await.unwrap();
        (near, listener.accept().await)
    }

    #[tokio::test]
    async fn more_than_fits_arrives_whole() {
        let (near, far) = pair().await;
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
        let mut near = near.into_io();
        let writing = async {
            near.write_all(&sent).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let mut far = far.into_io();
        let (_, read) = tokio::join!(writing, far.read_to_end(&mut got));
        assert_eq!((read.unwrap(), got), (sent.len(), sent));
    }

    #[tokio::test]
    async fn what_is_unread_comes_first() {
        let (near, far) = pair().await;
        near.writer.write(Bytes::from_static(b"lo")).unwrap();
        drop(near);
        let mut far = far.into_io();
        far.unread(Bytes::from_static(b"l"));
        far.unread(Bytes::from_static(b"he"));
        let mut got = String::new();
        far.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "hello");
    }

    #[tokio::test]
    async fn ends_out_of_order_are_errors() {
        let (near, far) = pair().await;
        let mut far = far.into_io();
        near.reset();
        assert_eq!(
            far.read_u8().await.unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
        let (near, far) = pair().await;
        drop(near);
        let mut far = far.into_io();
        assert_eq!(
            far.write_u8(1).await.unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
    }
}
