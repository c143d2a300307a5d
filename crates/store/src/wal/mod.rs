//! The write-ahead log: what openraft stores durably goes through here.
//!
//! Entries are readable when [`append`](openraft::storage::RaftLogStorage::append) returns and durable when its
//! callback is called. The newest entries stay in memory; older ones are read back from their segment.

mod frame;
mod recovery;
mod segment;
mod storage;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::writer::Request;
use crate::Error;
use crate::codec::Encode;
use crate::types::LogEntry;
use crate::types::LogId;
use crate::types::Vote;
pub(crate) use segment::sync_dir;

/// How many bytes of the newest entries are kept in memory for replication and application.
const CACHE_BYTES: usize = 8 << 20;
/// A segment's number that means: not on disk yet.
const UNWRITTEN: u64 = 0;

/// The log. Clones are the same log.
#[derive(Clone)]
pub(crate) struct Wal {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

struct Shared {
    inner: Mutex<Inner>,
    syncs: AtomicU64,
}

/// What is known of the log without reading files.
struct Inner {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// The index of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// The newest entries, up to the last; every entry that is not on disk yet is among them.
    cache: VecDeque<(LogEntry, usize)>,
    cache_bytes: usize,
    files: BTreeMap<u64, Arc<File>>,
    next_serial: u64,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug)]
struct Slot {
    term: u64,
    /// Tells an entry from one that had the same index and was truncated while on its way to the disk.
    serial: u64,
    segment: u64,
    offset: u64,
    len: usize,
}

/// An entry that has reached the disk.
#[derive(Clone, Copy)]
struct Written {
    index: u64,
    serial: u64,
    segment: u64,
    offset: u64,
    len: usize,
}

impl Wal {
    /// Opens the log in `dir`, which must exist, and starts its writer, which holds `lock` until it ends.
    pub(crate) fn open(dir: &Path, lock: &Arc<File>) -> Result<Self, Error> {
        let found = recovery::recover(dir)?;
        let inner = Inner {
            vote: found.vote,
            committed: found.committed,
            purged: found.purged,
            first: if found.slots.is_empty() {
                found.purged.map_or(0, |purged| purged.index + 1)
            } else {
                found.first
            },
            slots: found.slots.clone(),
            cache: VecDeque::new(),
            cache_bytes: 0,
            files: found
                .segments
                .iter()
                .map(|(number, segment)| (*number, Arc::clone(&segment.file)))
                .collect(),
            next_serial: 1,
        };
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner),
            syncs: AtomicU64::new(0),
        });
        let writer = writer::Writer::new(dir.to_owned(), Arc::clone(&shared), found)
            .map_err(|e| Error::io(dir, e))?;
        let (requests, queue) = mpsc::channel();
        let lock = Arc::clone(lock);
        std::thread::Builder::new()
            .name("store-log".to_owned())
            .spawn(move || {
                writer.run(&queue);
                drop(lock);
            })
            .map_err(|error| Error::io(dir, error))?;
        Ok(Self { shared, requests })
    }

    /// Whether nothing was ever written: no vote and no entry.
    pub(crate) fn is_pristine(&self) -> bool {
        let inner = self.shared.inner.lock();
        inner.vote.is_none() && inner.slots.is_empty() && inner.purged.is_none()
    }

    /// The last entry's index, durable or not.
    pub(crate) fn last_index(&self) -> Option<u64> {
        self.shared.inner.lock().last().map(|last| last.index)
    }

    /// Up to where entries have been removed because the state contains them.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.shared.inner.lock().purged
    }

    /// The id of the entry at `index`, if there is one.
    pub(crate) fn log_id(&self, index: u64) -> Option<LogId> {
        let inner = self.shared.inner.lock();
        let slot = inner.slots.get(index.checked_sub(inner.first)? as usize)?;
        Some(crate::types::log_id(slot.term, index))
    }

    /// Removes all entries from index `next` on.
    pub(crate) fn truncate(&self, next: u64) -> io::Result<()> {
        let mut inner = self.shared.inner.lock();
        inner.truncate(next);
        self.send(Request::Truncate(next))
    }

    /// How many times the log was synced.
    pub(crate) fn syncs(&self) -> u64 {
        self.shared.syncs.load(Ordering::Relaxed)
    }

    /// Waits until everything asked of the log so far is durable.
    pub(crate) async fn sync(&self) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.send(Request::Sync(done))?;
        wait.await.map_err(|_| stopped())?
    }

    fn send(&self, request: Request) -> io::Result<()> {
        self.requests.send(request).map_err(|_| stopped())
    }
}

fn stopped() -> io::Error {
    io::Error::other("the log's writer has stopped")
}

impl Inner {
    fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    fn last(&self) -> Option<LogId> {
        match self.slots.back() {
            Some(slot) => Some(crate::types::log_id(slot.term, self.next() - 1)),
            None => self.purged,
        }
    }

    /// Takes entries in, readable at once, and returns the serial of the first.
    fn append(&mut self, entries: &[LogEntry]) -> io::Result<u64> {
        let serial = self.next_serial;
        for entry in entries {
            if self.slots.is_empty() && self.purged.is_none() {
                self.first = entry.log_id.index;
            }
            if entry.log_id.index != self.next() {
                let message = format!(
                    "entry {} appended where {} belongs",
                    entry.log_id.index,
                    self.next()
                );
                return Err(io::Error::other(message));
            }
            let term = entry.log_id.leader_id.term;
            self.slots.push_back(Slot {
                term,
                serial: self.next_serial,
                segment: UNWRITTEN,
                offset: 0,
                len: 0,
            });
            self.next_serial += 1;
            let bytes = entry_bytes(entry);
            self.cache_bytes += bytes;
            self.cache.push_back((entry.clone(), bytes));
        }
        Ok(serial)
    }

    fn truncate(&mut self, next: u64) {
        let removed = self.next().saturating_sub(next.max(self.first)) as usize;
        self.slots.truncate(self.slots.len() - removed);
        for _ in 0..removed {
            let Some((_, bytes)) = self.cache.pop_back() else {
                break;
            };
            self.cache_bytes -= bytes;
        }
    }

    fn purge(&mut self, upto: LogId) {
        while !self.slots.is_empty() && self.first <= upto.index {
            if self.cache.len() == self.slots.len()
                && let Some((_, bytes)) = self.cache.pop_front()
            {
                self.cache_bytes -= bytes;
            }
            self.slots.pop_front();
            self.first += 1;
        }
        if self.slots.is_empty() {
            self.first = self.first.max(upto.index + 1);
        }
        self.purged = self.purged.max(Some(upto));
    }

    /// Records where an entry lies, unless it was truncated or purged meanwhile.
    fn written(&mut self, written: &Written) {
        let slot = written
            .index
            .checked_sub(self.first)
            .and_then(|at| self.slots.get_mut(at as usize));
        if let Some(slot) = slot
            && slot.serial == written.serial
        {
            (slot.segment, slot.offset, slot.len) = (written.segment, written.offset, written.len);
        }
    }

    /// Drops the oldest cached entries that are on disk while the cache is too large.
    fn evict(&mut self) {
        while self.cache_bytes > CACHE_BYTES {
            let oldest = self.slots.len() - self.cache.len();
            if self
                .slots
                .get(oldest)
                .is_none_or(|slot| slot.segment == UNWRITTEN)
            {
                break;
            }
            let Some((_, bytes)) = self.cache.pop_front() else {
                break;
            };
            self.cache_bytes -= bytes;
        }
    }

    /// The entries of `range` that exist, as they can be had without waiting.
    fn find(&self, start: u64, end: u64) -> Vec<Found> {
        let (start, end) = (start.max(self.first), end.min(self.next()));
        let uncached = self.slots.len() - self.cache.len();
        (start..end.max(start))
            .filter_map(|index| {
                let at = (index - self.first) as usize;
                match at.checked_sub(uncached) {
                    Some(cached) => self
                        .cache
                        .get(cached)
                        .map(|(entry, _)| Found::Here(entry.clone())),
                    None => {
                        let slot = self.slots.get(at)?;
                        let file = Arc::clone(self.files.get(&slot.segment)?);
                        Some(Found::There {
                            file,
                            offset: slot.offset,
                            len: slot.len,
                            index,
                        })
                    }
                }
            })
            .collect()
    }
}

/// An entry, or where to read it.
enum Found {
    Here(LogEntry),
    There {
        file: Arc<File>,
        offset: u64,
        len: usize,
        index: u64,
    },
}

impl Found {
    fn bytes(&self) -> usize {
        match self {
            Self::Here(entry) => entry_bytes(entry),
            Self::There { len, .. } => *len,
        }
    }

    fn read(self) -> io::Result<LogEntry> {
        match self {
            Self::Here(entry) => Ok(entry),
            Self::There {
                file,
                offset,
                len,
                index,
            } => {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, offset)?;
                let entry = LogEntry::from_slice(&bytes)?;
                if entry.log_id.index != index {
                    let message = format!(
                        "entry {} where entry {index} was written",
                        entry.log_id.index
                    );
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                Ok(entry)
            }
        }
    }
}

/// About how much memory an entry takes.
fn entry_bytes(entry: &LogEntry) -> usize {
    const OVERHEAD: usize = 128;
    match &entry.payload {
        crate::types::Payload::Normal(proposal) => OVERHEAD + proposal.command.size(),
        _ => OVERHEAD,
    }
}
