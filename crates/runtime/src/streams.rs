//! Outputs and inputs as tokio's readers and writers have them.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use network::pipe::Reader;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Output;
use crate::output::Closed;

/// The largest chunk that moves at once.
pub(crate) const CHUNK: usize = 64 << 10;

/// An output that several write to. Clones are the same one.
#[derive(Clone)]
pub struct Sink(Arc<dyn Output>);

impl Sink {
    /// What is written goes to this output.
    pub fn new(output: impl Output) -> Self {
        Self(Arc::new(output))
    }

    /// Prints a line of the host's own once there is room, as if the guest had.
    pub async fn print(&self, line: String) {
        let mut line = Bytes::from(line + "\n");
        while !line.is_empty() {
            if poll_fn(|cx| self.0.poll_ready(cx)).await.is_err() {
                return;
            }
            // Where nobody reads any more nobody is to be told.
            let _ = self.0.write(line.split_to(line.len().min(CHUNK)));
        }
    }
}

impl From<Box<dyn Output>> for Sink {
    fn from(output: Box<dyn Output>) -> Self {
        Self(output.into())
    }
}

impl Output for Sink {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.0.poll_ready(cx)
    }

    fn write(&self, chunk: Bytes) -> Result<(), Closed> {
        self.0.write(chunk)
    }
}

impl AsyncWrite for Sink {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let broken = |_: Closed| std::io::Error::from(ErrorKind::BrokenPipe);
        ready!(self.0.poll_ready(cx)).map_err(broken)?;
        let chunk = &bytes[..bytes.len().min(CHUNK)];
        let written = self.0.write(Bytes::copy_from_slice(chunk));
        Poll::Ready(written.map(|()| chunk.len()).map_err(broken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// An input from a pipe. Clones read the same bytes.
#[derive(Clone)]
pub struct Source(pub(crate) Arc<Reader>);

impl From<Reader> for Source {
    fn from(reader: Reader) -> Self {
        Self(Arc::new(reader))
    }
}

impl AsyncRead for Source {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let read = ready!(self.0.poll_read(cx, into.remaining().min(CHUNK)));
        let bytes = read.map_err(|_| std::io::Error::from(ErrorKind::ConnectionReset))?;
        into.put_slice(&bytes.unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}
