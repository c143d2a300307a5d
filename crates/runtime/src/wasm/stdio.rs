//! A guest's standard streams, on the caller's sinks and pipes.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use network::pipe::Reader;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::permit::Permit;
use crate::Output;

/// The largest chunk that moves at once.
const CHUNK: usize = 64 << 10;

/// Standard output or error. Every stream that the guest opens on it is the same sink.
#[derive(Clone)]
pub(super) struct Sink(pub(super) Arc<dyn Output>);

impl Sink {
    /// Prints a line of the host's own once there is room, as if the guest had.
    pub(super) async fn print(&self, line: String) {
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

impl IsTerminal for Sink {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Sink {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Printing {
            sink: self.clone(),
            permit: Permit::default(),
        })
    }
}

/// A stream that the guest prints by.
struct Printing {
    sink: Sink,
    permit: Permit,
}

#[async_trait]
impl Pollable for Printing {
    async fn ready(&mut self) {
        // A closed sink is ready: the next call says that it is closed.
        let _ = poll_fn(|cx| self.sink.0.poll_ready(cx)).await;
    }
}

impl OutputStream for Printing {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.permit.spend(bytes.len())?;
        self.sink.0.write(bytes).map_err(|_| StreamError::Closed)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let mut cx = Context::from_waker(Waker::noop());
        match self.sink.0.poll_ready(&mut cx) {
            Poll::Ready(Ok(())) => Ok(self.permit.give(CHUNK)),
            Poll::Ready(Err(_)) => Err(StreamError::Closed),
            Poll::Pending => Ok(self.permit.give(0)),
        }
    }
}

impl AsyncWrite for Sink {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let broken = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.0.poll_ready(cx).map(|ready| {
            ready.map_err(|_| broken())?;
            let chunk = &bytes[..bytes.len().min(CHUNK)];
            let written = self.0.write(Bytes::copy_from_slice(chunk));
            written.map(|()| chunk.len()).map_err(|_| broken())
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Standard input from a pipe. Every stream that the guest opens on it reads the same bytes.
#[derive(Clone)]
pub(super) struct Source(pub(super) Arc<Reader>);

impl IsTerminal for Source {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Source {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Source {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.poll_readable(cx)).await;
    }
}

impl InputStream for Source {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match self.0.try_read(size.min(CHUNK)) {
            Poll::Pending => Ok(Bytes::new()),
            Poll::Ready(Ok(Some(bytes))) => Ok(bytes),
            Poll::Ready(Ok(None)) => Err(StreamError::Closed),
            Poll::Ready(Err(reset)) => Err(StreamError::LastOperationFailed(reset.into())),
        }
    }
}

impl AsyncRead for Source {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.0
            .poll_read(cx, into.remaining().min(CHUNK))
            .map(|read| {
                let bytes =
                    read.map_err(|_| std::io::Error::from(std::io::ErrorKind::ConnectionReset));
                into.put_slice(&bytes?.unwrap_or_default());
                Ok(())
            })
    }
}
