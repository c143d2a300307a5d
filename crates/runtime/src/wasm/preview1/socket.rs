//! Listeners and connections, as preview 1 reads, writes and waits for them.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use network::pipe::Broken;
use network::{BUFFER, Listener, Stream};
use wasmtime_wasi::p1::types::{Errno, EventFdReadwrite, Eventrwflags, Riflags, Sdflags};
use wiggle::GuestMemory;

use super::Result;
use super::buffers::Buffers;

/// The largest chunk that moves at once.
const CHUNK: usize = 64 << 10;

/// The most that can be looked at before it is read: it no longer counts against what may wait in a pod's connections.
const AHEAD: usize = 4 << 10;

fn errno(broken: Broken) -> Errno {
    match broken {
        Broken::Closed => Errno::Pipe,
        Broken::Reset => Errno::Connreset,
    }
}

/// What `poll_oneoff` tells of a socket that is ready.
fn ready(bytes: usize, flags: Eventrwflags) -> EventFdReadwrite {
    EventFdReadwrite {
        nbytes: bytes as u64,
        flags,
    }
}

/// Lets other guests run, once for every so many bytes of a call that the other end is quick enough to never hold up.
async fn give_way(moved: usize, last: usize) {
    let mut waited = moved / BUFFER == (moved - last) / BUFFER;
    poll_fn(|cx| match std::mem::replace(&mut waited, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

/// A pre-opened listener.
pub(super) struct Listening {
    listener: Listener,
    /// As the guest has said. It blocks unless it is told otherwise.
    pub(super) nonblocking: Option<bool>,
}

impl Listening {
    pub(super) fn new(listener: Listener) -> Self {
        Self {
            listener,
            nonblocking: None,
        }
    }

    pub(super) fn is_nonblocking(&self) -> bool {
        self.nonblocking.unwrap_or(false)
    }

    /// The next connection; waits for one unless the listener is non-blocking.
    pub(super) async fn accept(&self, nonblocking: bool) -> Result<Connection> {
        let stream = match self.listener.try_accept() {
            Some(stream) => stream,
            None if self.is_nonblocking() => return Err(Errno::Again.into()),
            None => self.listener.accept().await,
        };
        Ok(Connection {
            stream,
            ahead: BytesMut::new(),
            nonblocking,
        })
    }

    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<EventFdReadwrite> {
        let waits = self.listener.poll_ready(cx);
        waits.map(|()| ready(1, Eventrwflags::empty()))
    }
}

/// An accepted connection. Dropping it closes it in order.
pub(super) struct Connection {
    stream: Stream,
    /// What the guest has looked at and not yet read.
    ahead: BytesMut,
    pub(super) nonblocking: bool,
}

impl Connection {
    fn try_read(&mut self, most: usize) -> Poll<Result<Option<Bytes>, Broken>> {
        if self.ahead.is_empty() {
            return self.stream.reader.try_read(most);
        }
        let most = most.min(self.ahead.len());
        Poll::Ready(Ok(Some(self.ahead.split_to(most).freeze())))
    }

    /// Waits until there is something to read, unless the connection is non-blocking.
    async fn readable(&self) -> Result<()> {
        if self.nonblocking {
            return Err(Errno::Again.into());
        }
        poll_fn(|cx| self.stream.reader.poll_readable(cx)).await;
        Ok(())
    }

    /// Reads into the guest's buffers, and gives the number of bytes: 0 at the end of the stream.
    pub(super) async fn receive(
        &mut self,
        memory: &mut GuestMemory<'_>,
        into: Buffers,
        flags: Riflags,
    ) -> Result<usize> {
        let all = flags.contains(Riflags::RECV_WAITALL);
        match flags.contains(Riflags::RECV_PEEK) {
            true if all => Err(Errno::Notsup.into()),
            true => self.peek(memory, into).await,
            false => self.read(memory, into, all).await,
        }
    }

    async fn read(
        &mut self,
        memory: &mut GuestMemory<'_>,
        mut into: Buffers,
        all: bool,
    ) -> Result<usize> {
        // A writer that goes on and on must not keep one call from returning.
        let most = match all {
            true => into.left(),
            false => into.left().min(BUFFER),
        };
        let mut received = 0;
        while received < most {
            match self.try_read((most - received).min(CHUNK)) {
                Poll::Ready(Ok(Some(bytes))) => {
                    into.put(memory, &bytes)?;
                    received += bytes.len();
                    give_way(received, bytes.len()).await;
                }
                Poll::Ready(Ok(None)) => break,
                Poll::Ready(Err(broken)) if received == 0 => return Err(errno(broken).into()),
                // The next call says it.
                Poll::Ready(Err(_)) => break,
                Poll::Pending if received > 0 && (self.nonblocking || !all) => break,
                Poll::Pending => self.readable().await?,
            }
        }
        Ok(received)
    }

    async fn peek(&mut self, memory: &mut GuestMemory<'_>, mut into: Buffers) -> Result<usize> {
        let most = into.left().min(AHEAD);
        while self.ahead.len() < most {
            match self.stream.reader.try_read(most - self.ahead.len()) {
                Poll::Ready(Ok(Some(bytes))) => self.ahead.extend_from_slice(&bytes),
                Poll::Ready(Err(broken)) if self.ahead.is_empty() => {
                    return Err(errno(broken).into());
                }
                Poll::Ready(Ok(None) | Err(_)) => break,
                Poll::Pending if !self.ahead.is_empty() => break,
                Poll::Pending => self.readable().await?,
            }
        }
        let seen = most.min(self.ahead.len());
        into.put(memory, &self.ahead[..seen])?;
        Ok(seen)
    }

    /// Writes the guest's buffers, and gives the number of bytes: all of them unless the connection is non-blocking or
    /// breaks on the way.
    pub(super) async fn send(&self, memory: &GuestMemory<'_>, mut from: Buffers) -> Result<usize> {
        let mut sent = 0;
        while from.left() > 0 {
            let written = match self.stream.writer.room() {
                Ok(0) if self.nonblocking => Err(Errno::Again),
                Ok(0) => {
                    // Where it breaks meanwhile, the next look at it says so.
                    poll_fn(|cx| self.stream.writer.poll_room(cx)).await.ok();
                    continue;
                }
                Ok(room) => {
                    let chunk = from.take(memory, room.min(CHUNK))?;
                    let length = chunk.len();
                    let written = self.stream.writer.write(chunk);
                    written.map(|()| length).map_err(errno)
                }
                Err(broken) => Err(errno(broken)),
            };
            match written {
                Ok(length) => {
                    sent += length;
                    give_way(sent, length).await;
                }
                Err(errno) if sent == 0 => return Err(errno.into()),
                // The next call says it.
                Err(_) => break,
            }
        }
        Ok(sent)
    }

    /// Ends one direction, or both.
    pub(super) fn shut_down(&mut self, how: Sdflags) {
        if how.contains(Sdflags::RD) {
            self.stream.reader.close();
            self.ahead.clear();
        }
        if how.contains(Sdflags::WR) {
            self.stream.writer.close();
        }
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<EventFdReadwrite> {
        let ahead = self.ahead.len();
        match self.stream.reader.poll_waiting(cx) {
            Poll::Ready(Ok(more)) if ahead + more > 0 => {
                Poll::Ready(ready(ahead + more, Eventrwflags::empty()))
            }
            Poll::Pending if ahead == 0 => Poll::Pending,
            Poll::Pending => Poll::Ready(ready(ahead, Eventrwflags::empty())),
            // The end, or a reset.
            Poll::Ready(_) => Poll::Ready(ready(ahead, Eventrwflags::FD_READWRITE_HANGUP)),
        }
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>) -> Poll<EventFdReadwrite> {
        self.stream.writer.poll_room(cx).map(|room| match room {
            Ok(room) => ready(room, Eventrwflags::empty()),
            Err(_) => ready(0, Eventrwflags::FD_READWRITE_HANGUP),
        })
    }
}
