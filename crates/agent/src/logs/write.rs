//! Writing: a container instance's log while it runs.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use runtime::output::Closed;
use runtime::{Meter, Output};
use tokio::sync::watch;

use super::line::encode;
use super::{FILE_SIZE, FILES, Stream, file, numbers};
use crate::clock::Clock;

/// A line longer than this is kept in pieces, as container runtimes do it.
const LONGEST_LINE: usize = 16 << 10;

/// One instance's log, open for writing. Readers that follow it hold it too.
pub(crate) struct Log {
    dir: PathBuf,
    attempt: u32,
    file_size: u64,
    clock: Clock,
    /// Where it counts.
    meter: Arc<Meter>,
    state: Mutex<State>,
    /// Changes whenever something was written, and closes when nothing more comes.
    written: watch::Sender<Progress>,
}

/// How far a log has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The file that is written to.
    pub(crate) number: u64,
    /// Its length in bytes.
    pub(crate) length: u64,
    /// Nothing more will come.
    pub(crate) ended: bool,
}

struct State {
    number: u64,
    length: u64,
    /// A disk that is full is reported once, not at each line.
    failing: bool,
    /// How many of the two streams are open.
    open: u8,
}

impl Log {
    /// Begins the log of an instance in `dir`, which is made if it is missing. It goes on behind what an earlier start
    /// of the same instance left there.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub(crate) fn create(
        dir: &Path,
        attempt: u32,
        clock: Clock,
        meter: Arc<Meter>,
    ) -> io::Result<Arc<Self>> {
        Self::with_file_size(dir, attempt, (clock, meter), FILE_SIZE)
    }

    pub(super) fn with_file_size(
        dir: &Path,
        attempt: u32,
        (clock, meter): (Clock, Arc<Meter>),
        file_size: u64,
    ) -> io::Result<Arc<Self>> {
        fs::create_dir_all(dir)?;
        let number = numbers(dir, attempt)?.last().copied().unwrap_or(0);
        let length = OpenOptions::new()
            .create(true)
            .append(true)
            .open(file(dir, attempt, number))?
            .metadata()?
            .len();
        Ok(Arc::new(Self {
            dir: dir.to_owned(),
            attempt,
            file_size,
            clock,
            meter,
            state: Mutex::new(State {
                number,
                length,
                failing: false,
                open: 2,
            }),
            written: watch::Sender::new(Progress {
                number,
                length,
                ended: false,
            }),
        }))
    }

    /// Leaves nothing of a log to which nothing was written.
    ///
    /// # Errors
    /// When the file system says no.
    pub(crate) fn remove_empty(&self) -> io::Result<()> {
        let state = self.state.lock();
        match state.length {
            0 => fs::remove_file(file(&self.dir, self.attempt, state.number)),
            _ => Ok(()),
        }
    }

    /// The two ends that the guest prints to. The log has ended when both are dropped.
    pub(crate) fn writers(self: &Arc<Self>) -> (Writer, Writer) {
        let one = |stream| Writer {
            log: self.clone(),
            stream,
            partial: Mutex::default(),
        };
        (one(Stream::Stdout), one(Stream::Stderr))
    }

    /// How far the log is, and will be.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.written.subscribe()
    }

    fn append(&self, lines: &[u8]) {
        let mut state = self.state.lock();
        // As far as it may: nobody who prints waits, but then it is time to measure.
        let _paid = self.meter.try_charge(0, lines.len() as u64);
        let result = self.append_to(&mut state, lines);
        match result {
            Ok(()) => state.failing = false,
            Err(error) if !state.failing => {
                state.failing = true;
                tracing::warn!(dir = %self.dir.display(), %error, "a container's log cannot be written: lines are lost");
            }
            Err(_) => {}
        }
        let progress = Progress {
            number: state.number,
            length: state.length,
            ended: false,
        };
        self.written.send_replace(progress);
    }

    fn append_to(&self, state: &mut State, lines: &[u8]) -> io::Result<()> {
        if state.length > 0 && state.length + lines.len() as u64 > self.file_size {
            state.number += 1;
            state.length = 0;
            let numbers = numbers(&self.dir, self.attempt)?;
            for old in numbers.iter().rev().skip(FILES - 1) {
                fs::remove_file(file(&self.dir, self.attempt, *old))?;
            }
        }
        // Opened anew each time: ten thousand pods that print now and then cost no descriptors.
        let mut out = OpenOptions::new().create(true).append(true).open(file(
            &self.dir,
            self.attempt,
            state.number,
        ))?;
        out.write_all(lines)?;
        state.length += lines.len() as u64;
        Ok(())
    }

    fn close_one(&self) {
        let mut state = self.state.lock();
        state.open = state.open.saturating_sub(1);
        if state.open == 0 {
            self.written.send_modify(|p| p.ended = true);
        }
    }
}

/// One stream of a guest, which becomes lines of its log.
pub(crate) struct Writer {
    log: Arc<Log>,
    stream: Stream,
    /// The beginning of a line whose end has not come yet.
    partial: Mutex<Vec<u8>>,
}

impl Writer {
    fn take(&self, chunk: &[u8]) {
        let now = self.log.clock.now();
        let mut partial = self.partial.lock();
        let mut out = Vec::with_capacity(chunk.len() + 64);
        for piece in chunk.split_inclusive(|b| *b == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(rest) => {
                    partial.extend_from_slice(rest);
                    cut(&mut out, now, self.stream, &mut partial);
                    encode(&mut out, now, self.stream, true, &partial);
                    partial.clear();
                }
                None => {
                    partial.extend_from_slice(piece);
                    cut(&mut out, now, self.stream, &mut partial);
                }
            }
        }
        drop(partial);
        if !out.is_empty() {
            self.log.append(&out);
        }
    }
}

/// Moves what is too long for one line out of `partial`, in pieces.
fn cut(out: &mut Vec<u8>, now: jiff::Timestamp, stream: Stream, partial: &mut Vec<u8>) {
    while partial.len() > LONGEST_LINE {
        let rest = partial.split_off(LONGEST_LINE);
        encode(out, now, stream, false, partial);
        *partial = rest;
    }
}

impl Output for Writer {
    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        Poll::Ready(Ok(()))
    }

    fn write(&self, chunk: Bytes) -> Result<(), Closed> {
        self.take(&chunk);
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let rest = std::mem::take(&mut *self.partial.lock());
        if !rest.is_empty() {
            let mut out = Vec::new();
            encode(&mut out, self.log.clock.now(), self.stream, true, &rest);
            self.log.append(&out);
        }
        self.log.close_one();
    }
}
