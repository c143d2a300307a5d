//! What has come in on a stream and waits to be read: bounded by bytes, however short the pieces are that they come in.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::stream::Broken;

/// Bytes that wait in one stream before nothing more is read of the connection. A client that keeps windows counts on one of
/// 64 KiB: it stays below this, so that what it says of its own windows is never behind data that waits for them.
const WAITING: usize = 512 << 10;
/// A piece that is no longer than this is copied, behind others that are: it is a slice of a buffer that many share, and
/// would keep all of it.
const SHORT: usize = 4096;

/// Both ends of a stream's queue, which takes what waits in it from the room of its connection.
pub(super) fn inbound(room: Arc<Semaphore>) -> (Inlet, Outlet) {
    let queue = Arc::new(Queue {
        left: Semaphore::new(WAITING),
        room,
        state: Mutex::default(),
        changed: Notify::new(),
    });
    (Inlet(Arc::clone(&queue)), Outlet(queue))
}

/// Where it comes in. Dropped before it has finished, the stream has broken off.
#[derive(Debug)]
pub(super) struct Inlet(Arc<Queue>);

/// Where it is read.
#[derive(Debug)]
pub(super) struct Outlet(Arc<Queue>);

/// Nobody reads it any more.
#[derive(Debug)]
pub(super) struct Unread;

#[derive(Debug)]
struct Queue {
    /// How many bytes may come before who reads is waited for. Closed once nobody does.
    left: Semaphore,
    room: Arc<Semaphore>,
    state: Mutex<State>,
    /// There is something to be read.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Bytes>,
    /// The last piece, while it is short.
    short: BytesMut,
    /// What all of them take of the connection's room.
    room: Option<OwnedSemaphorePermit>,
    end: Option<Result<(), Broken>>,
    unread: bool,
}

impl State {
    fn push(&mut self, bytes: Bytes, room: OwnedSemaphorePermit) {
        match &mut self.room {
            Some(held) => held.merge(room),
            none => *none = Some(room),
        }
        if self.short.len() + bytes.len() <= SHORT {
            return self.short.extend_from_slice(&bytes);
        }
        let before = self.take_short();
        self.pieces.extend(before);
        match bytes.len() {
            ..SHORT => self.short.extend_from_slice(&bytes),
            _ => self.pieces.push_back(bytes),
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        let bytes = self.pieces.pop_front().or_else(|| self.take_short())?;
        // Its room is given back.
        drop(self.room.as_mut().and_then(|room| room.split(bytes.len())));
        Some(bytes)
    }

    fn take_short(&mut self) -> Option<Bytes> {
        let short = std::mem::take(&mut self.short);
        (!short.is_empty()).then(|| short.freeze())
    }
}

impl Inlet {
    /// Hands over bytes. Waits where more wait than may.
    pub(super) async fn send(&self, bytes: Bytes) -> Result<(), Unread> {
        let queue = &*self.0;
        let length = bytes.len() as u32;
        let left = queue.left.acquire_many(length).await;
        let left = left.map_err(|_| Unread)?;
        let room = Arc::clone(&queue.room).acquire_many_owned(length).await;
        let room = room.map_err(|_| Unread)?;
        let mut state = queue.state.lock();
        if state.unread {
            return Err(Unread);
        }
        state.push(bytes, room);
        drop(state);
        // Given back when it is read.
        left.forget();
        queue.changed.notify_one();
        Ok(())
    }

    /// Nothing more comes.
    pub(super) fn finish(&self) {
        self.end(Ok(()));
    }

    fn end(&self, end: Result<(), Broken>) {
        self.0.state.lock().end.get_or_insert(end);
        self.0.changed.notify_one();
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.end(Err(Broken));
    }
}

impl Outlet {
    /// Waits for bytes: `None` at the end. None are lost where the wait is given up.
    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            if let Some(read) = self.take() {
                return read;
            }
            self.0.changed.notified().await;
        }
    }

    /// What is there, or is over.
    fn take(&self) -> Option<Result<Option<Bytes>, Broken>> {
        let mut state = self.0.state.lock();
        let Some(bytes) = state.pop() else {
            return state.end.map(|end| end.map(|()| None));
        };
        drop(state);
        self.0.left.add_permits(bytes.len());
        Some(Ok(Some(bytes)))
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.0.left.close();
        *self.0.state.lock() = State {
            unread: true,
            ..State::default()
        };
    }
}
