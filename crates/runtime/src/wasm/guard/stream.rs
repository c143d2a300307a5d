//! A stream into a file, which pays for what it takes.

use std::fs::File;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::io::Errno;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::{block, touched};
use crate::meter::{Charge, Meter};

/// How many streams of a workload may each hold as much as a stream takes, until they may write it.
const MOST_WAITING: usize = 16;

/// Bytes that each of the others may hold.
const LITTLE: usize = 512;

/// The streams of a workload that wait until they may write, together.
pub(super) fn waiting() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MOST_WAITING))
}

/// Where a stream writes.
pub(super) enum Place {
    /// From here on.
    At(u64),
    /// At the file's end, wherever that is by then.
    End(Arc<File>),
}

/// What a stream pays by.
struct Account {
    meter: Arc<Meter>,
    place: Place,
    /// The block that was written last.
    written: Option<u64>,
}

impl Account {
    fn offset(&self) -> u64 {
        match &self.place {
            Place::At(offset) => *offset,
            Place::End(file) => file.metadata().map_or(0, |metadata| metadata.len()),
        }
    }

    fn cost(&self, length: u64) -> u64 {
        touched(self.offset(), length, self.written)
    }

    /// Pays for what is to be written, once that is allowed.
    async fn pays(&self, length: u64) -> Charge {
        loop {
            let paid = self.meter.charge(self.cost(length)).await;
            // The end may be elsewhere meanwhile.
            if self.cost(length) <= paid.bytes() {
                return paid;
            }
            paid.refund();
        }
    }

    /// So much is about to be written here.
    fn moves(&mut self, length: u64) {
        let offset = self.offset();
        self.written = block(offset, length);
        if let Place::At(at) = &mut self.place {
            *at = offset.saturating_add(length);
        }
    }
}

/// A file's stream. It holds nothing of what others may write while it does not write itself: what it takes beyond what is
/// left it keeps until it may write it.
pub(super) struct Paying {
    file: DynOutputStream,
    account: Account,
    /// What the guest was told that it may write.
    told: usize,
    waiting: Arc<Semaphore>,
    /// What it has written, and is not paid for yet; where that may be much, by one of a few turns.
    waits: Option<(Bytes, Option<OwnedSemaphorePermit>)>,
    /// What is being written.
    under_way: Option<Charge>,
    /// What the file's own stream has said while it was waited for.
    failed: Option<StreamError>,
}

impl Paying {
    pub(super) fn new(
        file: DynOutputStream,
        meter: Arc<Meter>,
        place: Place,
        waiting: Arc<Semaphore>,
    ) -> Self {
        Self {
            file,
            account: Account {
                meter,
                place,
                written: None,
            },
            told: 0,
            waiting,
            waits: None,
            under_way: None,
            failed: None,
        }
    }

    /// What the file's stream takes now.
    fn room(&mut self) -> StreamResult<usize> {
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        let room = self.file.check_write();
        if !matches!(room, Ok(0)) {
            self.under_way = None;
        }
        room
    }

    fn hand_over(&mut self, bytes: Bytes, paid: Charge) -> StreamResult<()> {
        self.under_way = Some(paid);
        self.account.moves(bytes.len() as u64);
        self.file.write(bytes)
    }
}

#[async_trait]
impl OutputStream for Paying {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > std::mem::take(&mut self.told) {
            return Err(StreamError::trap("more is written than `check-write` said"));
        }
        let cost = self.account.cost(bytes.len() as u64);
        match self.account.meter.try_charge(cost, cost) {
            Some(paid) => self.hand_over(bytes, paid),
            None => {
                let turn = self.waiting.clone().try_acquire_owned().ok();
                // It was told so before others took the turns.
                if turn.is_none() && bytes.len() > LITTLE {
                    let full = std::io::Error::from(Errno::NOMEM);
                    return Err(StreamError::LastOperationFailed(full.into()));
                }
                self.waits = Some((bytes, turn));
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        match self.failed.take() {
            Some(failed) => Err(failed),
            None => self.file.flush(),
        }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.told = match self.waits {
            Some(_) => 0,
            // Never nothing: those that wait may not be polled before this one has written.
            None if self.waiting.available_permits() == 0 => self.room()?.min(LITTLE),
            None => self.room()?,
        };
        Ok(self.told)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.ready().await;
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        let length = bytes.len() as u64;
        let _paid = self.account.pays(length).await;
        self.account.moves(length);
        self.file.blocking_write_and_flush(bytes).await
    }

    async fn cancel(&mut self) {
        // Who closes a file has written what it was given before.
        if self.waits.is_some() {
            self.ready().await;
        }
        self.file.cancel().await;
    }
}

#[async_trait]
impl Pollable for Paying {
    async fn ready(&mut self) {
        self.file.ready().await;
        let waits = self.waits.as_ref().map(|(bytes, _)| bytes.len() as u64);
        if let Some(length) = waits {
            let paid = self.account.pays(length).await;
            if let Some((bytes, _)) = self.waits.take()
                && let Err(failed) = self.hand_over(bytes, paid)
            {
                self.failed = Some(failed);
                return;
            }
            self.file.ready().await;
        }
        if let Err(failed) = self.room() {
            self.failed = Some(failed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::{FutureExt as _, poll};
    use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

    use super::*;

    const ROOM: usize = 1 << 20;

    fn stream(meter: &Arc<Meter>) -> (Paying, MemoryOutputPipe) {
        let pipe = MemoryOutputPipe::new(ROOM);
        let file = Box::new(pipe.clone());
        let paying = Paying::new(file, meter.clone(), Place::At(0), waiting());
        (paying, pipe)
    }

    #[tokio::test]
    async fn each_block_costs_once() {
        let meter = Arc::new(Meter::new(10_000));
        let (mut stream, pipe) = stream(&meter);
        for (written, added) in [(5, 4_096), (4_091, 4_096), (1, 8_192), (1, 8_192)] {
            assert!(stream.check_write().unwrap() > 0);
            stream.write(vec![b'x'; written].into()).unwrap();
            assert_eq!(meter.added(), added);
        }
        drop(stream);
        assert_eq!((meter.added(), pipe.contents().len()), (8_192, 4_098));
    }

    #[tokio::test]
    async fn what_was_taken_is_written_once_that_is_allowed() {
        let meter = Arc::new(Meter::new(0));
        let (mut stream, pipe) = stream(&meter);
        assert_eq!(stream.check_write().unwrap(), ROOM);
        stream.write(Bytes::from_static(b"123")).unwrap();
        assert_eq!(stream.check_write().unwrap(), 0);
        assert_eq!((meter.wanted(), pipe.contents().len()), (4_096, 0));
        {
            let mut ready = pin!(stream.ready());
            assert!(poll!(ready.as_mut()).is_pending());
            meter.allow(Some(4_096));
            ready.await;
        }
        assert_eq!(&pipe.contents()[..], b"123");
        let told = stream.check_write().unwrap();
        let more = stream.write(vec![0; told + 1].into());
        assert!(matches!(more, Err(StreamError::Trap(_))));
        let mut waits = pin!(stream.blocking_write_and_flush(vec![b'x'; 4_096].into()));
        assert!(poll!(waits.as_mut()).is_pending());
        assert_eq!(meter.wanted(), 4_096);
        meter.allow(None);
        waits.await.unwrap();
        assert_eq!(pipe.contents().len(), 3 + 4_096);
    }

    #[tokio::test]
    async fn who_asks_holds_nothing() {
        let meter = Arc::new(Meter::new(4_096));
        let ((mut one, _), (mut other, pipe)) = (stream(&meter), stream(&meter));
        assert!(one.check_write().unwrap() > 0);
        one.ready().await;
        let written = other.blocking_write_and_flush(Bytes::from_static(b"text"));
        written.now_or_never().unwrap().unwrap();
        assert_eq!(&pipe.contents()[..], b"text");
        // There is nothing left, and nothing to be written.
        one.flush().unwrap();
        assert!(one.write_ready().now_or_never().unwrap().unwrap() > 0);
        assert_eq!(meter.wanted(), 0);
    }

    #[tokio::test]
    async fn what_was_taken_before_the_end_is_written() {
        let meter = Arc::new(Meter::new(0));
        let (mut stream, pipe) = stream(&meter);
        assert!(stream.check_write().unwrap() > 0);
        stream.write(Bytes::from_static(b"text")).unwrap();
        let mut ended = pin!(stream.cancel());
        assert!(poll!(ended.as_mut()).is_pending());
        meter.allow(None);
        ended.await;
        assert_eq!(&pipe.contents()[..], b"text");
    }

    #[tokio::test]
    async fn an_end_is_looked_for() {
        use std::io::Write as _;
        let (meter, pipe) = (Arc::new(Meter::new(1 << 20)), MemoryOutputPipe::new(ROOM));
        let file = Arc::new(tempfile::tempfile().unwrap());
        let place = Place::End(file.clone());
        let mut stream = Paying::new(Box::new(pipe), meter.clone(), place, waiting());
        for (before, added) in [(4_095, 4_096), (0, 4_096), (1, 8_192)] {
            (&*file).write_all(&vec![b'x'; before]).unwrap();
            assert!(stream.check_write().unwrap() > 0);
            stream.write(Bytes::from_static(b"y")).unwrap();
            assert_eq!(meter.added(), added, "{before}");
        }
    }

    #[tokio::test]
    async fn few_streams_hold_much_while_they_wait() {
        let meter = Arc::new(Meter::new(0));
        let waiting = waiting();
        let mut streams = Vec::new();
        for _ in 0..MOST_WAITING + 2 {
            let pipe = MemoryOutputPipe::new(ROOM);
            let file = Box::new(pipe.clone());
            let paying = Paying::new(file, meter.clone(), Place::At(0), waiting.clone());
            streams.push((paying, pipe));
        }
        // One that was told before the others wrote.
        let (early, _) = &mut streams[MOST_WAITING + 1];
        assert_eq!(early.check_write().unwrap(), ROOM);
        for (stream, _) in &mut streams[..MOST_WAITING] {
            let told = stream.check_write().unwrap();
            stream.write(vec![b'x'; told].into()).unwrap();
        }
        let (early, _) = &mut streams[MOST_WAITING + 1];
        let much = early.write(vec![b'x'; LITTLE + 1].into());
        let Err(StreamError::LastOperationFailed(full)) = much else {
            panic!("{much:?}");
        };
        let full = full.downcast_ref().and_then(Errno::from_io_error);
        assert_eq!(full, Some(Errno::NOMEM));
        let (late, pipe) = &mut streams[MOST_WAITING];
        assert_eq!(late.check_write().unwrap(), LITTLE);
        late.write(vec![b'x'; LITTLE].into()).unwrap();
        assert_eq!(late.check_write().unwrap(), 0);
        // It goes on before the others, whom nobody polls.
        meter.allow(None);
        late.ready().await;
        assert_eq!(pipe.contents().len(), LITTLE);
        assert_eq!(late.check_write().unwrap(), LITTLE);
        let (first, pipe) = &mut streams[0];
        first.ready().await;
        assert_eq!(pipe.contents().len(), ROOM);
        let (late, _) = &mut streams[MOST_WAITING];
        assert_eq!(late.check_write().unwrap(), ROOM - LITTLE);
    }
}
