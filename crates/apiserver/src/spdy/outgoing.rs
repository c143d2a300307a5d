//! Frames that wait to be written: in their order, and bounded by bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::MOST_STREAMS;
use super::frame::Frame;
use super::stream::Broken;

/// Bytes that wait to be written before whoever writes waits.
const ROOM: usize = 256 << 10;
/// What a frame costs beyond the bytes in it.
const OVERHEAD: usize = 64;
/// How many bytes are read before the other end is let send as many more: half of the window that it counts on.
const CREDITED: u32 = 32 << 10;
/// Streams of which something is left, open ones and those whose end waits to be written.
const PLACES: usize = 2 * MOST_STREAMS;

/// What a stream takes of its connection until nothing of it waits to be written any more. So a client that opens
/// streams and reads nothing of what becomes of them opens no more after a while.
pub(super) type Place = Arc<OwnedSemaphorePermit>;

/// What the writing task gets.
#[derive(Debug)]
pub(super) enum Queued {
    Frame(Frame, OwnedSemaphorePermit),
    /// The end of a stream.
    Last(Frame, Place),
    /// The end of the connection: nothing follows.
    Farewell(Frame),
    /// What a WINDOW_UPDATE is made of when its turn comes: there is one at most for each stream.
    Credit(Arc<Credit>),
}

/// The entry to the queue.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    queue: mpsc::UnboundedSender<Queued>,
    room: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl Outgoing {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Queued>) {
        let (queue, queued) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(ROOM));
        let places = Arc::new(Semaphore::new(PLACES));
        let out = Self {
            queue,
            room,
            places,
        };
        (out, queued)
    }

    /// Waits until there is room for one stream more.
    pub(super) async fn place(&self) -> Result<Place, Broken> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        place.map(Arc::new).map_err(|_| Broken)
    }

    /// Waits for room and queues a frame.
    pub(super) async fn send(&self, frame: Frame) -> Result<(), Broken> {
        let bytes = match &frame {
            Frame::Data { bytes, .. } => bytes.len(),
            _ => 0,
        };
        let cost = (bytes + OVERHEAD).min(ROOM) as u32;
        let room = Arc::clone(&self.room).acquire_many_owned(cost).await;
        let permit = room.map_err(|_| Broken)?;
        let queued = self.queue.send(Queued::Frame(frame, permit));
        queued.map_err(|_| Broken)
    }

    /// Queues at once what ends a stream, in whose place it waits.
    pub(super) fn last(&self, frame: Frame, place: Place) {
        // Where nobody writes any more nobody is there to be told.
        let _ = self.queue.send(Queued::Last(frame, place));
    }

    /// Nothing follows but this: what is queued is written, then the connection ends.
    pub(super) fn end(&self, farewell: Frame) {
        let _ = self.queue.send(Queued::Farewell(farewell));
    }

    /// Nobody writes any more.
    pub(super) fn close(&self) {
        self.room.close();
        self.places.close();
    }
}

/// Bytes that were read and that the other end has not been told of.
#[derive(Debug)]
pub(super) struct Credit {
    stream: u32,
    owed: AtomicU32,
    queued: AtomicU32,
    /// That of its stream: of the connection's own there is one.
    _place: Option<Place>,
}

impl Credit {
    pub(super) fn new(stream: u32, place: Option<Place>) -> Arc<Self> {
        Arc::new(Self {
            stream,
            owed: AtomicU32::new(0),
            queued: AtomicU32::new(0),
            _place: place,
        })
    }

    /// So many bytes were read.
    pub(super) fn owe(self: &Arc<Self>, bytes: usize, out: &Outgoing) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let owed = self.owed.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if owed >= CREDITED && self.queued.swap(1, Ordering::AcqRel) == 0 {
            let _ = out.queue.send(Queued::Credit(Arc::clone(self)));
        }
    }

    /// What is to be said of it; nothing where it was said by the one before.
    pub(super) fn update(&self) -> Option<Frame> {
        // Queued again by whoever adds to it from here on: so nothing is forgotten.
        self.queued.store(0, Ordering::Release);
        let delta = self.owed.swap(0, Ordering::AcqRel);
        let stream = self.stream;
        (delta > 0).then_some(Frame::WindowUpdate { stream, delta })
    }
}
