//! A guest's standard streams, on the caller's sinks and pipes.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::permit::Permit;
use crate::Output as _;
use crate::streams::{CHUNK, Sink, Source};

/// Standard output or error. Every stream that the guest opens on it is the same sink.
#[derive(Clone)]
pub(super) struct Printed {
    pub(super) sink: Sink,
    /// Whether the guest is to take it for a terminal.
    pub(super) terminal: bool,
}

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        self.terminal
    }
}

impl StdoutStream for Printed {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.sink.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Printing {
            sink: self.sink.clone(),
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
        let _ = poll_fn(|cx| self.sink.poll_ready(cx)).await;
    }
}

impl OutputStream for Printing {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.permit.spend(bytes.len())?;
        self.sink.write(bytes).map_err(|_| StreamError::Closed)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let mut cx = Context::from_waker(Waker::noop());
        match self.sink.poll_ready(&mut cx) {
            Poll::Ready(Ok(())) => Ok(self.permit.give(CHUNK)),
            Poll::Ready(Err(_)) => Err(StreamError::Closed),
            Poll::Pending => Ok(self.permit.give(0)),
        }
    }
}

/// Standard input. Every stream that the guest opens on it reads the same bytes.
#[derive(Clone)]
pub(super) struct Input {
    pub(super) source: Source,
    /// Whether the guest is to take it for a terminal.
    pub(super) terminal: bool,
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        self.terminal
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.source.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(Reading(self.source.clone()))
    }
}

/// A stream that the guest reads by.
struct Reading(Source);

#[async_trait]
impl Pollable for Reading {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.0.poll_readable(cx)).await;
    }
}

impl InputStream for Reading {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match self.0.0.try_read(size.min(CHUNK)) {
            Poll::Pending => Ok(Bytes::new()),
            // One read was to end: the guest may read on.
            Poll::Ready(Ok(Some(bytes))) if bytes.is_empty() && size > 0 => {
                Err(StreamError::Closed)
            }
            Poll::Ready(Ok(Some(bytes))) => Ok(bytes),
            Poll::Ready(Ok(None)) => Err(StreamError::Closed),
            Poll::Ready(Err(reset)) => Err(StreamError::LastOperationFailed(reset.into())),
        }
    }
}
