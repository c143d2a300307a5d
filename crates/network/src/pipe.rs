//! A bounded one-way stream of bytes between two tasks of this process.
//!
//! Chunks are handed over by reference count, never copied. The writer is held back once
//! [`capacity`](pipe) bytes wait; the reader sees the end once the writer has closed and every
//! byte is read, or a reset as soon as either end has reset it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::budget::Budget;
use crate::wakers::Wakers;

/// What one waiting chunk costs beyond its bytes, so that a writer of single bytes is bounded too.
const CHUNK_OVERHEAD: usize = 64;

/// Why bytes can no longer move through a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The other end is gone: written bytes would never be read.
    #[error("broken pipe")]
    Closed,
    /// The stream was reset: bytes on their way are lost.
    #[error("connection reset")]
    Reset,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    /// Bytes waiting, with each chunk's overhead.
    used: usize,
    write_closed: bool,
    read_closed: bool,
    reset: bool,
    readers: Wakers,
    writers: Wakers,
}

impl State {
    /// Bytes waiting, without the chunks' overhead.
    fn waiting(&self) -> usize {
        self.used - CHUNK_OVERHEAD * self.chunks.len()
    }

    fn wake_all(&mut self) {
        self.readers.wake();
        self.writers.wake();
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    capacity: usize,
    /// What the pipe's waiting bytes are counted against beside its own capacity.
    budget: Option<Budget>,
}

/// The end that writes. Dropping it closes the stream in order: what was written stays readable.
#[derive(Debug)]
pub struct Writer(Arc<Shared>);

/// The end that reads. Dropping it makes every later write fail with [`Broken::Closed`].
#[derive(Debug)]
pub struct Reader(Arc<Shared>);

/// Ends a stream at once from outside of its two ends, as long as either is there.
#[derive(Clone, Debug)]
pub(crate) struct Breaker(Weak<Shared>);

impl Breaker {
    /// Both ends see [`Broken::Reset`].
    pub(crate) fn reset(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.reset();
        }
    }
}

/// Makes a pipe that holds back its writer once `capacity` bytes wait (at least one chunk always
/// goes through).
pub fn pipe(capacity: usize) -> (Writer, Reader) {
    make(capacity, None)
}

/// A pipe whose waiting bytes are counted against a budget that other pipes share: beyond it only
/// [`LEAST`] bytes wait in each.
pub(crate) fn pipe_within(capacity: usize, budget: Budget) -> (Writer, Reader) {
    make(capacity, Some(budget))
}

fn make(capacity: usize, budget: Option<Budget>) -> (Writer, Reader) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State::default()),
        capacity: capacity.max(1),
        budget,
    });
    (Writer(shared.clone()), Reader(shared))
}

/// What a pipe may hold even when its budget is spent. A writer that waits always has bytes in its
/// own pipe then, and is woken when they are read: pipes of one budget cannot lock each other up.
const LEAST: usize = 4096;

impl Writer {
    /// What ends the stream from outside.
    pub(crate) fn breaker(&self) -> Breaker {
        Breaker(Arc::downgrade(&self.0))
    }

    /// How many bytes may be written now: 0 means that the pipe is full.
    ///
    /// # Errors
    /// When the reader is gone or the stream was reset.
    pub fn room(&self) -> Result<usize, Broken> {
        self.room_of(&self.0.state.lock())
    }

    fn room_of(&self, state: &State) -> Result<usize, Broken> {
        if state.reset {
            return Err(Broken::Reset);
        }
        if state.read_closed || state.write_closed {
            return Err(Broken::Closed);
        }
        let capacity = match &self.0.budget {
            Some(budget) if budget.is_spent() => self.0.capacity.min(LEAST),
            _ => self.0.capacity,
        };
        Ok(capacity.saturating_sub(state.used))
    }

    /// Ready with the room there is once it is not 0.
    ///
    /// # Errors
    /// When the reader is gone or the stream was reset.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
        self.poll_room_for(cx, 1)
    }

    /// Ready with the room there is once that is enough for so many bytes, or nothing waits.
    ///
    /// # Errors
    /// When the reader is gone or the stream was reset.
    pub fn poll_room_for(&self, cx: &mut Context<'_>, bytes: usize) -> Poll<Result<usize, Broken>> {
        let mut state = self.0.state.lock();
        match self.room_of(&state) {
            Ok(room) if room < bytes && state.used > 0 => {
                state.writers.register(cx);
                Poll::Pending
            }
            other => Poll::Ready(other),
        }
    }

    /// Hands a chunk over. It never waits and takes the whole chunk even where it is longer than
    /// the room: writers look at [`room`](Self::room) first.
    ///
    /// # Errors
    /// When the reader is gone or the stream was reset; the chunk is dropped then.
    pub fn write(&self, chunk: Bytes) -> Result<(), Broken> {
        let mut state = self.0.state.lock();
        self.room_of(&state)?;
        if !chunk.is_empty() {
            self.0.hold(&mut state, chunk.len() + CHUNK_OVERHEAD);
            state.chunks.push_back(chunk);
            state.readers.wake();
        }
        Ok(())
    }

    /// Has one read end here without a byte, as the end of the stream would; what is written later is read after that.
    /// It takes room as a chunk does.
    ///
    /// # Errors
    /// When the reader is gone or the stream was reset.
    pub fn end_read(&self) -> Result<(), Broken> {
        let mut state = self.0.state.lock();
        self.room_of(&state)?;
        self.0.hold(&mut state, CHUNK_OVERHEAD);
        state.chunks.push_back(Bytes::new());
        state.readers.wake();
        Ok(())
    }

    /// Waits for room, then writes the chunk, in parts where it is longer than the room.
    ///
    /// # Errors
    /// When the reader is gone or the stream was reset.
    pub async fn send(&self, mut chunk: Bytes) -> Result<(), Broken> {
        while !chunk.is_empty() {
            let room = poll_fn(|cx| self.poll_room(cx)).await?;
            self.write(chunk.split_to(room.min(chunk.len())))?;
        }
        Ok(())
    }

    /// Ends the stream in order: the reader reads what is written, then the end.
    pub fn close(&self) {
        let mut state = self.0.state.lock();
        state.write_closed = true;
        state.wake_all();
    }

    /// Whether this end has [closed](Self::close) the stream.
    pub fn is_closed(&self) -> bool {
        self.0.state.lock().write_closed
    }

    /// Ends the stream at once: both ends see [`Broken::Reset`] and waiting bytes are dropped.
    pub fn reset(&self) {
        self.0.reset();
    }

    /// Ready once nothing can be written any more: the reader is gone or the stream was reset.
    pub fn poll_broken(&self, cx: &mut Context<'_>) -> Poll<Broken> {
        let mut state = self.0.state.lock();
        match (state.reset, state.read_closed) {
            (true, _) => Poll::Ready(Broken::Reset),
            (false, true) => Poll::Ready(Broken::Closed),
            (false, false) => {
                state.writers.register(cx);
                Poll::Pending
            }
        }
    }

    /// What the bytes that wait here count against, beside the pipe's own capacity.
    pub(crate) fn budget(&self) -> Option<Budget> {
        self.0.budget.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn reset(&self) {
        let mut state = self.state.lock();
        state.reset = true;
        self.drop_waiting(&mut state);
    }

    fn drop_waiting(&self, state: &mut State) {
        let used = state.used;
        self.release(state, used);
        state.chunks.clear();
        state.wake_all();
    }

    fn hold(&self, state: &mut State, bytes: usize) {
        state.used += bytes;
        if let Some(budget) = &self.budget {
            budget.hold(bytes);
        }
    }

    fn release(&self, state: &mut State, bytes: usize) {
        state.used -= bytes;
        if let Some(budget) = &self.budget {
            budget.release(bytes);
        }
    }

    fn take(&self, state: &mut State, most: usize) -> Poll<Result<Option<Bytes>, Broken>> {
        if state.reset {
            return Poll::Ready(Err(Broken::Reset));
        }
        if state.read_closed {
            return Poll::Ready(Ok(None));
        }
        let Some(first) = state.chunks.front_mut() else {
            return match state.write_closed {
                true => Poll::Ready(Ok(None)),
                false => Poll::Pending,
            };
        };
        let taken = first.split_to(most.min(first.len()));
        let mut released = taken.len();
        if first.is_empty() {
            state.chunks.pop_front();
            released += CHUNK_OVERHEAD;
        }
        self.release(state, released);
        state.writers.wake();
        Poll::Ready(Ok(Some(taken)))
    }
}

impl Reader {
    /// What ends the stream from outside.
    pub(crate) fn breaker(&self) -> Breaker {
        Breaker(Arc::downgrade(&self.0))
    }

    /// Takes up to `most` bytes: `None` at the end of the stream, and none where one read was to
    /// [end](Writer::end_read). Pending means that nothing waits.
    ///
    /// # Errors
    /// When the stream was reset.
    pub fn poll_read(
        &self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<Result<Option<Bytes>, Broken>> {
        let mut state = self.0.state.lock();
        let taken = self.0.take(&mut state, most);
        if taken.is_pending() {
            state.readers.register(cx);
        }
        taken
    }

    /// What [`poll_read`](Self::poll_read) takes, without waiting for more.
    ///
    /// # Errors
    /// When the stream was reset.
    pub fn try_read(&self, most: usize) -> Poll<Result<Option<Bytes>, Broken>> {
        self.0.take(&mut self.0.state.lock(), most)
    }

    /// Ready once a read would not be pending.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.state.lock();
        if state.reset || !state.chunks.is_empty() || state.write_closed || state.read_closed {
            return Poll::Ready(());
        }
        state.readers.register(cx);
        Poll::Pending
    }

    /// Ready with how many bytes wait: 0 at the end of the stream.
    ///
    /// # Errors
    /// When the stream was reset.
    pub fn poll_waiting(&self, cx: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
        let mut state = self.0.state.lock();
        match (state.reset, state.waiting()) {
            (true, _) => Poll::Ready(Err(Broken::Reset)),
            (false, 0) if !state.write_closed && !state.read_closed => {
                state.readers.register(cx);
                Poll::Pending
            }
            (false, bytes) => Poll::Ready(Ok(bytes)),
        }
    }

    /// Ready once nothing more will be written, whatever waits.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.state.lock();
        if state.reset || state.write_closed || state.read_closed {
            return Poll::Ready(());
        }
        state.readers.register(cx);
        Poll::Pending
    }

    /// Ready once the stream was reset, whatever waits.
    pub fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.state.lock();
        if state.reset {
            return Poll::Ready(());
        }
        state.readers.register(cx);
        Poll::Pending
    }

    /// Waits for bytes and takes up to `most` of them: `None` at the end of the stream.
    ///
    /// # Errors
    /// When the stream was reset.
    pub async fn read(&self, most: usize) -> Result<Option<Bytes>, Broken> {
        poll_fn(|cx| self.poll_read(cx, most)).await
    }

    /// Refuses everything from now on: waiting bytes are dropped and later writes fail.
    pub fn close(&self) {
        let mut state = self.0.state.lock();
        state.read_closed = true;
        self.0.drop_waiting(&mut state);
    }

    /// Ends the stream at once: both ends see [`Broken::Reset`] and waiting bytes are dropped.
    pub fn reset(&self) {
        self.0.reset();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(room: Poll<Result<Option<Bytes>, Broken>>) -> Option<Bytes> {
        match room {
            Poll::Ready(Ok(bytes)) => bytes,
            other => panic!("not readable: {other:?}"),
        }
    }

    #[test]
    fn hands_over_the_same_allocation() {
        let (writer, reader) = pipe(1024);
        let chunk = Bytes::from(vec![7; 100]);
        let address = chunk.as_ptr();
        writer.write(chunk).unwrap();
        let read = ready(reader.try_read(60)).unwrap();
        assert_eq!((read.as_ptr(), read.len()), (address, 60));
        assert_eq!(ready(reader.try_read(60)).unwrap().len(), 40);
    }

    #[test]
    fn end_comes_after_the_last_byte() {
        let (writer, reader) = pipe(8);
        writer.write(Bytes::from_static(b"last")).unwrap();
        drop(writer);
        assert_eq!(ready(reader.try_read(99)).as_deref(), Some(&b"last"[..]));
        assert_eq!(ready(reader.try_read(99)), None);
    }

    #[test]
    fn one_read_ends_and_later_ones_go_on() {
        let (writer, reader) = pipe(1024);
        writer.write(Bytes::from_static(b"ab")).unwrap();
        writer.end_read().unwrap();
        writer.write(Bytes::from_static(b"c")).unwrap();
        for wanted in [&b"a"[..], b"b", b"", b"c"] {
            assert_eq!(ready(reader.try_read(1)).as_deref(), Some(wanted));
        }
        assert_eq!(reader.try_read(1), Poll::Pending);
        assert_eq!(writer.room(), Ok(1024));
    }

    #[test]
    fn reset_drops_what_waits() {
        let (writer, reader) = pipe(8);
        writer.write(Bytes::from_static(b"lost")).unwrap();
        writer.reset();
        assert_eq!(reader.try_read(9), Poll::Ready(Err(Broken::Reset)));
        assert_eq!(writer.room(), Err(Broken::Reset));
    }

    #[test]
    fn single_bytes_are_bounded_too() {
        let (writer, _reader) = pipe(4096);
        let mut written = 0;
        while writer.room() != Ok(0) {
            writer.write(Bytes::from_static(b"x")).unwrap();
            written += 1;
        }
        assert!(
            written <= 4096 / CHUNK_OVERHEAD + 1,
            "{written} chunks wait"
        );
    }

    #[tokio::test]
    async fn a_writer_waits_for_its_reader() {
        let (writer, reader) = pipe(1000);
        let sent = tokio::spawn(async move {
            writer.send(Bytes::from(vec![1; 100_000])).await.unwrap();
        });
        tokio::task::yield_now().await;
        assert!(!sent.is_finished());
        let mut total = 0;
        while let Some(bytes) = reader.read(usize::MAX).await.unwrap() {
            total += bytes.len();
        }
        assert_eq!(total, 100_000);
        sent.await.unwrap();
    }

    #[test]
    fn writing_to_nobody_fails() {
        let (writer, reader) = pipe(8);
        drop(reader);
        assert_eq!(writer.write(Bytes::from_static(b"x")), Err(Broken::Closed));
    }
}
