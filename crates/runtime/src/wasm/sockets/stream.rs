//! The two directions of a connection, as WASI's streams.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use network::pipe::{Broken, Reader, Writer};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::wasm::permit::Permit;

/// The largest chunk that moves at once.
const CHUNK: usize = 64 << 10;

fn failed(broken: Broken) -> StreamError {
    match broken {
        Broken::Closed => StreamError::Closed,
        // As an I/O error, so that `network-error-code` and C libraries recognise it.
        Broken::Reset => {
            let error = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
            StreamError::LastOperationFailed(error.into())
        }
    }
}

pub(super) struct Input(pub(super) Arc<Reader>);

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.poll_readable(cx)).await;
    }
}

impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        match self.0.try_read(size.min(CHUNK)) {
            Poll::Pending => Ok(Bytes::new()),
            Poll::Ready(Ok(Some(bytes))) => Ok(bytes),
            Poll::Ready(Ok(None)) => Err(StreamError::Closed),
            Poll::Ready(Err(broken)) => Err(failed(broken)),
        }
    }
}

pub(super) struct Output {
    writer: Arc<Writer>,
    permit: Permit,
}

impl Output {
    pub(super) fn new(writer: Arc<Writer>) -> Self {
        Self {
            writer,
            permit: Permit::default(),
        }
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        // A broken stream is ready: the next call says why.
        let _ = poll_fn(|cx| self.writer.poll_room(cx)).await;
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.permit.spend(bytes.len())?;
        self.writer.write(bytes).map_err(failed)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let room = self.writer.room().map_err(failed)?;
        Ok(self.permit.give(room.min(CHUNK)))
    }
}
