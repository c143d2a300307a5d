//! The one writer of the log: a thread that takes what is queued, writes it as one frame, syncs once, and only then
//! tells everybody who waits. The order of the queue is the order on disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;

use openraft::storage::IOFlushed;
use tokio::sync::oneshot;

use super::Shared;
use super::Written;
use super::frame::Frame;
use super::frame::Head;
use super::recovery::Recovered;
use super::recovery::Segment;
use super::segment;
use crate::types::LogEntry;
use crate::types::LogId;
use crate::types::TypeConfig;
use crate::types::Vote;

/// Frames are closed when they reach this size, so that a burst is not held in memory twice as a whole.
const GROUP_BYTES: usize = 4 << 20;

/// One request to the writer.
pub(super) enum Request {
    Vote(Vote, oneshot::Sender<io::Result<()>>),
    /// Entries and the serials of their slots, which are consecutive.
    Append {
        entries: Vec<LogEntry>,
        serial: u64,
        flushed: IOFlushed<TypeConfig>,
    },
    /// Only entries below this index remain.
    Truncate(u64),
    Purge(LogId),
    /// Everything asked before is durable when this is answered.
    Sync(oneshot::Sender<io::Result<()>>),
}

/// Whom to tell once the group is durable.
enum Waiter {
    Oneshot(oneshot::Sender<io::Result<()>>),
    Flushed(IOFlushed<TypeConfig>),
}

pub(super) struct Writer {
    dir: PathBuf,
    shared: Arc<Shared>,
    /// All segments with frames; the last is written to.
    segments: BTreeMap<u64, Segment>,
    number: u64,
    file: Arc<File>,
    bytes: u64,
    position: u64,
    /// A segment made in advance.
    spare: Option<JoinHandle<io::Result<File>>>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// Set by the first failure: after it nothing may be acknowledged, as nobody knows what is on the disk.
    failed: Option<String>,
}

impl Writer {
    pub(super) fn new(dir: PathBuf, shared: Arc<Shared>, mut found: Recovered) -> io::Result<Self> {
        let newest = found.segments.keys().next_back().copied();
        let mut spare = None;
        let (number, position) = match newest {
            Some(number) => {
                spare = found
                    .spare
                    .map(|(_, file)| std::thread::spawn(move || Ok(file)));
                (number, found.end)
            }
            None => {
                let (number, file) = match found.spare {
                    Some(spare) => spare,
                    None => (1, segment::create(&dir, 1, segment::FIRST_SEGMENT_BYTES)?),
                };
                let bytes = file.metadata()?.len();
                let file = Arc::new(file);
                found.segments.insert(
                    number,
                    Segment {
                        file,
                        bytes,
                        last_index: 0,
                    },
                );
                (number, 0)
            }
        };
        let current = &found.segments[&number];
        let mut writer = Self {
            dir,
            shared,
            number,
            file: Arc::clone(&current.file),
            bytes: current.bytes,
            position,
            spare,
            vote: found.vote,
            committed: found.committed,
            purged: found.purged,
            failed: None,
            segments: found.segments,
        };
        if writer.position == 0 {
            writer.begin_segment(0)?;
            writer.file.sync_data()?;
        }
        Ok(writer)
    }

    /// Serves requests until all senders are gone.
    pub(super) fn run(mut self, requests: &mpsc::Receiver<Request>) {
        while let Ok(first) = requests.recv() {
            let mut group = Group::default();
            group.add(&mut self, first);
            while group.frame.len() < GROUP_BYTES
                && let Ok(request) = requests.try_recv()
            {
                group.add(&mut self, request);
            }
            let result = self.commit(&mut group);
            group.answer(&result);
        }
    }

    fn commit(&mut self, group: &mut Group) -> io::Result<()> {
        if let Some(failed) = &self.failed {
            return Err(io::Error::other(failed.clone()));
        }
        let result = self.write(group);
        if let Err(error) = &result {
            tracing::error!(%error, dir = %self.dir.display(), "the log cannot be written; this member stops");
            self.failed = Some(format!("the log failed earlier: {error}"));
        }
        result
    }

    fn write(&mut self, group: &mut Group) -> io::Result<()> {
        let committed = self.shared.inner.lock().committed;
        if committed > self.committed
            && let Some(committed) = committed
        {
            group.frame.committed(&committed);
            self.committed = Some(committed);
        }
        if group.frame.is_empty() {
            return Ok(());
        }
        let frame = std::mem::replace(&mut group.frame, Frame::new());
        let padded = frame.len().next_multiple_of(super::frame::ALIGN) as u64;
        if self.position + padded > self.bytes {
            self.next_segment(padded)?;
        }
        let start = self.position;
        self.file
            .write_all_at(&frame.finish(self.number, start), start)?;
        self.file.sync_data()?;
        self.position += padded;
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        self.note(group, start);
        self.prepare_spare();
        Ok(())
    }

    /// Publishes where the group's entries lie and removes segments that nothing needs any more.
    fn note(&mut self, group: &Group, start: u64) {
        let mut inner = self.shared.inner.lock();
        for written in &group.entries {
            let written = Written {
                segment: self.number,
                offset: start + written.offset,
                ..*written
            };
            inner.written(&written);
        }
        inner.evict();
        inner
            .files
            .entry(self.number)
            .or_insert_with(|| Arc::clone(&self.file));
        drop(inner);
        if let Some(current) = self.segments.get_mut(&self.number) {
            let highest = group.entries.iter().map(|entry| entry.index).max();
            current.last_index = current.last_index.max(highest.unwrap_or(0));
        }
        self.remove_purged();
    }

    fn remove_purged(&mut self) {
        let Some(purged) = self.purged else {
            return;
        };
        while let Some((&oldest, segment)) = self.segments.first_key_value()
            && oldest != self.number
            && segment.last_index <= purged.index
        {
            // Losing this race against a crash costs nothing: the file is found and purged again at the next start.
            if let Err(error) = std::fs::remove_file(segment::path(&self.dir, oldest)) {
                tracing::warn!(%error, segment = oldest, "a purged segment of the log stays");
            }
            self.segments.remove(&oldest);
            self.shared.inner.lock().files.remove(&oldest);
        }
    }

    fn next_segment(&mut self, needed: u64) -> io::Result<()> {
        let previous_end = self.position;
        let number = self.number + 1;
        let needed = needed + super::frame::ALIGN as u64;
        let spare = self.spare.take().and_then(|spare| spare.join().ok());
        let file = match spare {
            Some(file) if needed <= segment::SEGMENT_BYTES => file?,
            _ => segment::create(&self.dir, number, needed.max(segment::SEGMENT_BYTES))?,
        };
        self.number = number;
        self.bytes = needed.max(segment::SEGMENT_BYTES);
        self.file = Arc::new(file);
        self.position = 0;
        let file = Arc::clone(&self.file);
        self.segments.insert(
            number,
            Segment {
                file,
                bytes: self.bytes,
                last_index: 0,
            },
        );
        self.begin_segment(previous_end)
    }

    /// Writes the head; synced together with the frame that follows.
    fn begin_segment(&mut self, previous_end: u64) -> io::Result<()> {
        let mut frame = Frame::new();
        frame.head(&Head {
            previous_end,
            vote: self.vote,
            committed: self.committed,
            purged: self.purged,
        });
        let bytes = frame.finish(self.number, 0);
        self.file.write_all_at(&bytes, 0)?;
        self.position = bytes.len() as u64;
        Ok(())
    }

    /// Filling a file with zeros takes tens of milliseconds: it is done beside the writes, before it is needed.
    fn prepare_spare(&mut self) {
        if self.spare.is_none() && self.position > self.bytes / 2 {
            let (dir, number) = (self.dir.clone(), self.number + 1);
            self.spare = Some(std::thread::spawn(move || {
                segment::create(&dir, number, segment::SEGMENT_BYTES)
            }));
        }
    }
}

struct Group {
    frame: Frame,
    entries: Vec<Written>,
    waiters: Vec<Waiter>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            frame: Frame::new(),
            entries: Vec::new(),
            waiters: Vec::new(),
        }
    }
}

impl Group {
    fn add(&mut self, writer: &mut Writer, request: Request) {
        match request {
            Request::Vote(vote, done) => {
                self.frame.vote(&vote);
                writer.vote = Some(vote);
                self.waiters.push(Waiter::Oneshot(done));
            }
            Request::Append {
                entries,
                serial,
                flushed,
            } => {
                for (entry, serial) in entries.iter().zip(serial..) {
                    let (offset, len) = self.frame.entry(entry);
                    let index = entry.log_id.index;
                    self.entries.push(Written {
                        index,
                        serial,
                        segment: 0,
                        offset: offset as u64,
                        len,
                    });
                }
                self.waiters.push(Waiter::Flushed(flushed));
            }
            Request::Truncate(next) => self.frame.truncate(next),
            Request::Purge(log_id) => {
                self.frame.purge(&log_id);
                writer.purged = Some(log_id);
            }
            Request::Sync(done) => self.waiters.push(Waiter::Oneshot(done)),
        }
    }

    fn answer(self, result: &io::Result<()>) {
        let copy = || {
            result
                .as_ref()
                .map(|&()| ())
                .map_err(|error| io::Error::new(error.kind(), error.to_string()))
        };
        for waiter in self.waiters {
            match waiter {
                // Whoever does not wait any more needs no answer.
                Waiter::Oneshot(done) => drop(done.send(copy())),
                Waiter::Flushed(flushed) => flushed.io_completed(copy()),
            }
        }
    }
}
