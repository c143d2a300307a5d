//! Where guests' standard output and error go.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use network::pipe;
use parking_lot::Mutex;

/// The reader of an output has gone away. The guest sees a closed stream (`EPIPE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads this output any more")]
pub struct Closed;

/// A sink for what a guest prints.
///
/// The runtime asks for room before it writes, and lets the guest wait while there is none: that
/// is how a slow reader holds back a guest that prints without end. All that a guest has printed
/// is handed over before its [`Running::wait`](crate::Running::wait) returns.
pub trait Output: Send + Sync + 'static {
    /// Ready once a chunk may be written; the task is woken when that may have changed.
    ///
    /// # Errors
    /// [`Closed`] when nobody reads any more.
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>>;

    /// Takes a chunk of at most 64 KiB; it must not block.
    ///
    /// # Errors
    /// [`Closed`] when nobody reads any more.
    fn write(&self, chunk: Bytes) -> Result<(), Closed>;
}

/// An output that is thrown away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl Output for Discard {
    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        Poll::Ready(Ok(()))
    }

    fn write(&self, _: Bytes) -> Result<(), Closed> {
        Ok(())
    }
}

/// An output that whoever holds the [`pipe::Reader`] reads.
impl Output for pipe::Writer {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.poll_room(cx).map(|room| match room {
            Ok(_) => Ok(()),
            Err(_) => Err(Closed),
        })
    }

    fn write(&self, chunk: Bytes) -> Result<(), Closed> {
        pipe::Writer::write(self, chunk).map_err(|_| Closed)
    }
}

/// An output that is kept in memory up to a limit, beyond which it is dropped: for tests and for
/// short captures such as a probe's. Clones hold the same bytes.
#[derive(Clone, Debug)]
pub struct Capture {
    bytes: Arc<Mutex<BytesMut>>,
    limit: usize,
}

impl Capture {
    /// Keeps the first `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            bytes: Arc::default(),
            limit,
        }
    }

    /// What was printed so far; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock()).into_owned()
    }
}

impl Output for Capture {
    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        Poll::Ready(Ok(()))
    }

    fn write(&self, chunk: Bytes) -> Result<(), Closed> {
        let mut bytes = self.bytes.lock();
        let room = self.limit.saturating_sub(bytes.len());
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        Ok(())
    }
}
