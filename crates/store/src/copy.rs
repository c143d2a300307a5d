//! The durable copy of the applied state, in sled, written behind the log.
//!
//! The log makes writes durable; the copy saves replaying it from its beginning, and lets it be cut. Everything is in
//! one tree, and each batch carries the log id up to which it is applied, so that the copy is always the state at
//! exactly one log entry. What sled's own flush leaves to the page cache is synced here.
//!
//! A value is cut into pieces of a few KiB, because sled moves larger ones into files that it never syncs.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use imbl::ordmap::DiffItem;
use sled::Batch;

use crate::Entry;
use crate::Error;
use crate::Lease;
use crate::Outcome;
use crate::RequestId;
use crate::State;
use crate::codec::Encode;
use crate::codec::Malformed;
use crate::codec::Reader;
use crate::types::LogId;
use crate::types::StoredMembership;
use crate::wal::sync_dir;

/// The longest piece of a value: sixteen of them and their keys stay well below what sled keeps inline in a page.
const PIECE: usize = 4 << 10;
/// How many changes are put into one batch while a whole state is written.
const INSTALL_BATCH: usize = 512;
const CACHE_BYTES: u64 = 4 << 20;

/// The state as of one log entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checkpoint {
    pub(crate) state: State,
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

mod kind {
    pub(super) const META: u8 = b'm';
    pub(super) const ENTRY: u8 = b'e';
    pub(super) const LEASE: u8 = b'l';
    pub(super) const ANSWERS: u8 = b'a';
}

struct Meta {
    applied: Option<LogId>,
    membership: StoredMembership,
    revision: u64,
    renewals: u64,
}

impl Encode for Meta {
    fn encode(&self, out: &mut Vec<u8>) {
        self.applied.encode(out);
        self.membership.encode(out);
        self.revision.encode(out);
        self.renewals.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            applied: Option::decode(from)?,
            membership: StoredMembership::decode(from)?,
            revision: u64::decode(from)?,
            renewals: u64::decode(from)?,
        })
    }
}

/// A stretch of recorded answers as it lies in the copy.
#[derive(Clone, Copy)]
struct Stretch {
    first: u64,
    last: u64,
    bytes: usize,
}

/// The open copy.
pub(crate) struct Copy {
    /// The directory of all generations.
    dir: PathBuf,
    generation: u64,
    db: sled::Db,
    file: File,
    /// What the copy holds.
    held: Checkpoint,
    stretches: VecDeque<Stretch>,
    /// The member's lock on its directory.
    lock: Arc<File>,
}

impl Copy {
    /// Opens the newest complete copy in `dir`. One that is damaged is moved aside; then, and on a fresh member, the
    /// copy is empty: whether that loses anything is for the log to say.
    pub(crate) fn open(dir: &Path, lock: &Arc<File>) -> Result<Self, Error> {
        std::fs::create_dir_all(dir).map_err(|error| Error::io(dir, error))?;
        let generations = generations(dir)?;
        for &generation in generations.iter().rev() {
            match Self::load(dir, generation, lock) {
                Ok(Some(copy)) => {
                    copy.remove_others()?;
                    return Ok(copy);
                }
                // Written for a snapshot that was not complete when the member stopped.
                Ok(None) => tracing::info!(generation, "an unfinished copy of the state is dropped"),
                Err(reason) => move_aside(dir, generation, &reason)?,
            }
        }
        let generation = generations.last().map_or(1, |last| last + 1);
        let copy = Self::create(dir, generation, lock)?;
        copy.remove_others()?;
        Ok(copy)
    }

    /// What the copy holds.
    pub(crate) fn held(&self) -> &Checkpoint {
        &self.held
    }

    fn create(dir: &Path, generation: u64, lock: &Arc<File>) -> Result<Self, Error> {
        let path = path(dir, generation);
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(|error| Error::io(&path, error))?;
        }
        let (db, file) = open(&path).map_err(|reason| Error::damaged(&path, reason))?;
        let held = Checkpoint::default();
        let (dir, lock) = (dir.to_owned(), Arc::clone(lock));
        Ok(Self { dir, generation, db, file, held, stretches: VecDeque::new(), lock })
    }

    /// `None`: there is no whole state in it.
    fn load(dir: &Path, generation: u64, lock: &Arc<File>) -> Result<Option<Self>, String> {
        let (db, file) = open(&path(dir, generation))?;
        let (dir, lock) = (dir.to_owned(), Arc::clone(lock));
        let held = Checkpoint::default();
        let mut copy = Self { dir, generation, db, file, held, stretches: VecDeque::new(), lock };
        // sled panics on some damage rather than returning an error.
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| copy.read()));
        match read {
            Ok(Ok(whole)) => Ok(whole.then_some(copy)),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err("sled panicked while reading".to_owned()),
        }
    }

    fn read(&mut self) -> Result<bool, String> {
        let mut whole = false;
        let mut record = Vec::new();
        let mut name: Vec<u8> = Vec::new();
        for item in self.db.iter() {
            let (key, piece) = item.map_err(|error| error.to_string())?;
            let (this, number) = key.split_last_chunk::<4>().ok_or("a key without a piece number")?;
            if u32::from_be_bytes(*number) == 0 {
                whole |= self.take(&name, &record).map_err(|error| error.to_string())?;
                record.clear();
                name = this.to_vec();
            } else if this != name {
                return Err("a value without its first piece".to_owned());
            }
            record.extend_from_slice(&piece);
        }
        whole |= self.take(&name, &record).map_err(|error| error.to_string())?;
        self.held.state.compacted = self.held.state.revision;
        Ok(whole)
    }

    /// Takes one record in; says whether it is the one without which there is no state.
    fn take(&mut self, name: &[u8], record: &[u8]) -> Result<bool, Malformed> {
        let [kind, _, _, key @ ..] = name else {
            return if name.is_empty() { Ok(false) } else { Err(Malformed::new("name of a record")) };
        };
        let state = &mut self.held.state;
        match *kind {
            kind::META => {
                let meta = Meta::from_slice(record)?;
                (state.revision, state.renewals) = (meta.revision, meta.renewals);
                (self.held.applied, self.held.membership) = (meta.applied, meta.membership);
                return Ok(true);
            }
            kind::ENTRY => state.restore(Bytes::copy_from_slice(key), Entry::from_slice(record)?),
            kind::LEASE => {
                let id = u64::from_slice(key)?;
                let mut fields = Reader::new(record);
                let lease = Lease { ttl_ms: u64::decode(&mut fields)?, renewed: u64::decode(&mut fields)? };
                state.leases.insert(id, lease);
            }
            kind::ANSWERS => {
                let mut reader = Reader::new(record);
                let first = u64::from_be_bytes(key.try_into().unwrap_or_default());
                let mut last = first;
                while !reader.is_empty() {
                    let (index, id) = (u64::decode(&mut reader)?, RequestId(u128::decode(&mut reader)?));
                    state.answers.insert(index, id, Outcome::decode(&mut reader)?);
                    last = index;
                }
                self.stretches.push_back(Stretch { first, last, bytes: record.len() });
            }
            _ => return Err(Malformed::new("kind of record")),
        }
        Ok(false)
    }

    /// Brings the copy to `checkpoint` by writing what differs, as one batch. Durable on return.
    pub(crate) fn advance(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        if checkpoint.applied <= self.held.applied {
            return Ok(());
        }
        let mut batch = Batch::default();
        for change in self.held.state.entries.diff(&checkpoint.state.entries) {
            match change {
                DiffItem::Add(key, entry) => put(&mut batch, kind::ENTRY, key, &entry.to_vec(), 0),
                DiffItem::Update { old: (_, old), new: (key, new) } => {
                    put(&mut batch, kind::ENTRY, key, &new.to_vec(), encoded_len(old));
                }
                DiffItem::Remove(key, old) => remove(&mut batch, kind::ENTRY, key, encoded_len(old)),
            }
        }
        for change in self.held.state.leases.diff(&checkpoint.state.leases) {
            match change {
                DiffItem::Add(id, lease) | DiffItem::Update { new: (id, lease), .. } => {
                    put(&mut batch, kind::LEASE, &id.to_le_bytes(), &lease_bytes(lease), 0);
                }
                DiffItem::Remove(id, lease) => {
                    remove(&mut batch, kind::LEASE, &id.to_le_bytes(), lease_bytes(lease).len());
                }
            }
        }
        self.answers(checkpoint, &mut batch);
        put(&mut batch, kind::META, &[], &meta(checkpoint).to_vec(), PIECE * 4);
        self.apply(batch)?;
        self.sync()?;
        self.held = checkpoint.clone();
        Ok(())
    }

    /// Adds the answers given since, and removes the stretches that hold only forgotten ones.
    fn answers(&mut self, checkpoint: &Checkpoint, batch: &mut Batch) {
        let answers = &checkpoint.state.answers;
        let oldest = answers.oldest().unwrap_or(u64::MAX);
        while let Some(stretch) = self.stretches.front().copied()
            && stretch.last < oldest
        {
            remove(batch, kind::ANSWERS, &stretch.first.to_be_bytes(), stretch.bytes);
            self.stretches.pop_front();
        }
        let mut record = Vec::new();
        let mut bounds = None;
        for (index, id, outcome) in answers.after(self.held.applied.map(|applied| applied.index)) {
            index.encode(&mut record);
            id.0.encode(&mut record);
            outcome.encode(&mut record);
            bounds = Some((bounds.map_or(index, |(first, _)| first), index));
        }
        if let Some((first, last)) = bounds {
            put(batch, kind::ANSWERS, &first.to_be_bytes(), &record, 0);
            self.stretches.push_back(Stretch { first, last, bytes: record.len() });
        }
    }

    /// Replaces the copy by `checkpoint` whole, in a new generation: a crash leaves either the old one or the new.
    /// Durable on return.
    pub(crate) fn install(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let mut next = Self::create(&self.dir, self.generation + 1, &self.lock)?;
        let mut batch = Batch::default();
        for (count, (key, entry)) in checkpoint.state.entries.iter().enumerate() {
            put(&mut batch, kind::ENTRY, key, &entry.to_vec(), 0);
            if count % INSTALL_BATCH == INSTALL_BATCH - 1 {
                next.apply(std::mem::take(&mut batch))?;
            }
        }
        for (id, lease) in &checkpoint.state.leases {
            put(&mut batch, kind::LEASE, &id.to_le_bytes(), &lease_bytes(lease), 0);
        }
        next.answers(checkpoint, &mut batch);
        next.apply(batch)?;
        // The generation counts only once this record is in it, which is why all others must be durable before.
        next.sync()?;
        let mut batch = Batch::default();
        put(&mut batch, kind::META, &[], &meta(checkpoint).to_vec(), 0);
        next.apply(batch)?;
        next.sync()?;
        next.held = checkpoint.clone();
        *self = next;
        self.remove_others()
    }

    fn apply(&self, batch: Batch) -> Result<(), Error> {
        self.db.apply_batch(batch).map_err(|error| self.failure(&error))
    }

    /// sled's flush does not survive a power cut by itself, and leaves large values to files of their own.
    fn sync(&self) -> Result<(), Error> {
        let path = path(&self.dir, self.generation);
        let io = |error| Error::io(&path, error);
        let blobs = path.join("blobs");
        for blob in std::fs::read_dir(&blobs).into_iter().flatten() {
            File::open(blob.map_err(io)?.path()).and_then(|file| file.sync_data()).map_err(io)?;
        }
        self.db.flush().map_err(|error| self.failure(&error))?;
        self.file.sync_data().map_err(io)
    }

    fn failure(&self, error: &sled::Error) -> Error {
        Error::damaged(path(&self.dir, self.generation), error.to_string())
    }

    fn remove_others(&self) -> Result<(), Error> {
        for generation in generations(&self.dir)? {
            if generation != self.generation {
                let path = path(&self.dir, generation);
                std::fs::remove_dir_all(&path).map_err(|error| Error::io(path, error))?;
            }
        }
        Ok(())
    }
}

fn path(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("{generation:016x}"))
}

fn generations(dir: &Path) -> Result<Vec<u64>, Error> {
    let mut generations = Vec::new();
    for file in std::fs::read_dir(dir).map_err(|error| Error::io(dir, error))? {
        let name = file.map_err(|error| Error::io(dir, error))?.file_name();
        let number = name.to_str().filter(|name| name.len() == 16);
        generations.extend(number.and_then(|name| u64::from_str_radix(name, 16).ok()));
    }
    generations.sort_unstable();
    Ok(generations)
}

fn open(path: &Path) -> Result<(sled::Db, File), String> {
    // sled panics on some damage rather than returning an error.
    let opened = std::panic::catch_unwind(|| {
        sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None).open()
    });
    let db = opened.map_err(|_| "sled panicked while opening".to_owned())?.map_err(|error| error.to_string())?;
    db.flush().map_err(|error| error.to_string())?;
    let durable = || {
        let file = File::options().read(true).write(true).open(path.join("db"))?;
        file.sync_all()?;
        File::open(path.join("conf"))?.sync_all()?;
        sync_dir(path)?;
        sync_dir(path.parent().unwrap_or(path))?;
        Ok::<_, std::io::Error>(file)
    };
    Ok((db, durable().map_err(|error| error.to_string())?))
}

fn move_aside(dir: &Path, generation: u64, reason: &str) -> Result<(), Error> {
    let from = path(dir, generation);
    let aside = (0..).map(|n| dir.join(format!("{generation:016x}.damaged.{n}"))).find(|aside| !aside.exists());
    let aside = aside.unwrap_or_else(|| from.clone());
    tracing::warn!(reason, path = %aside.display(), "the copy of the state is damaged and was moved aside");
    std::fs::rename(&from, &aside).map_err(|error| Error::io(from, error))
}

fn meta(checkpoint: &Checkpoint) -> Meta {
    let Checkpoint { state, applied, membership } = checkpoint;
    Meta { applied: *applied, membership: membership.clone(), revision: state.revision, renewals: state.renewals }
}

fn lease_bytes(lease: &Lease) -> Vec<u8> {
    let mut out = lease.ttl_ms.to_vec();
    lease.renewed.encode(&mut out);
    out
}

/// How long an entry is in the copy; must agree with its encoding.
fn encoded_len(entry: &Entry) -> usize {
    let lease = if entry.lease.is_some() { 9 } else { 1 };
    16 + lease + 4 + entry.value.len()
}

fn pieces(bytes: usize) -> usize {
    bytes.div_ceil(PIECE).max(1)
}

/// The length comes first, so that the pieces of one record lie side by side.
fn name(kind: u8, key: &[u8], piece: usize) -> Vec<u8> {
    let mut name = Vec::with_capacity(key.len() + 7);
    name.push(kind);
    name.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes());
    name.extend_from_slice(key);
    name.extend_from_slice(&u32::try_from(piece).unwrap_or(u32::MAX).to_be_bytes());
    name
}

/// Writes a record in pieces, and removes the pieces behind them that a record of `old` bytes had.
fn put(batch: &mut Batch, kind: u8, key: &[u8], record: &[u8], old: usize) {
    let count = pieces(record.len());
    for piece in 0..count {
        let from = piece * PIECE;
        let to = record.len().min(from + PIECE);
        batch.insert(name(kind, key, piece), &record[from..to]);
    }
    for piece in count..pieces(old) {
        batch.remove(name(kind, key, piece));
    }
}

fn remove(batch: &mut Batch, kind: u8, key: &[u8], old: usize) {
    for piece in 0..pieces(old) {
        batch.remove(name(kind, key, piece));
    }
}

impl State {
    /// Puts an entry in as it was, while a whole state is read.
    pub(crate) fn restore(&mut self, key: Bytes, entry: Entry) {
        if let Some(lease) = entry.lease {
            self.leased.insert((lease, key.clone()));
        }
        self.entries.insert(key, entry);
    }
}

/// What the copying thread is asked.
enum Request {
    /// There is a newer checkpoint.
    Nudge,
    /// Hold at least what is latest now, durably.
    Flush(tokio::sync::oneshot::Sender<Result<(), Error>>),
    Install(Checkpoint, tokio::sync::oneshot::Sender<Result<(), Error>>),
}

/// How long changes are gathered before they are copied. The log has them meanwhile.
const GATHER: std::time::Duration = std::time::Duration::from_secs(3);

/// The thread that owns the copy.
#[derive(Clone)]
pub(crate) struct Copier {
    latest: Arc<parking_lot::Mutex<Latest>>,
    requests: std::sync::mpsc::Sender<Request>,
}

#[derive(Default)]
struct Latest {
    checkpoint: Option<Checkpoint>,
    nudged: bool,
}

impl Copier {
    pub(crate) fn start(mut copy: Copy) -> Result<Self, Error> {
        let latest = Arc::new(parking_lot::Mutex::new(Latest::default()));
        let (requests, queue) = std::sync::mpsc::channel();
        let copier = Self { latest: Arc::clone(&latest), requests };
        let dir = copy.dir.clone();
        std::thread::Builder::new()
            .name("store-copy".to_owned())
            .spawn(move || run(&mut copy, &latest, &queue))
            .map_err(|error| Error::io(dir, error))?;
        Ok(copier)
    }

    /// Has `checkpoint` copied some time soon.
    pub(crate) fn offer(&self, checkpoint: Checkpoint) {
        let mut latest = self.latest.lock();
        latest.checkpoint = Some(checkpoint);
        if !latest.nudged {
            latest.nudged = true;
            // A copier that has stopped said why; the log goes on without it.
            let _ = self.requests.send(Request::Nudge);
        }
    }

    /// Returns when what was offered last is durable.
    pub(crate) async fn flush(&self) -> Result<(), Error> {
        let (done, wait) = tokio::sync::oneshot::channel();
        self.ask(Request::Flush(done), wait).await
    }

    /// Replaces everything by `checkpoint`; durable on return.
    pub(crate) async fn install(&self, checkpoint: Checkpoint) -> Result<(), Error> {
        let (done, wait) = tokio::sync::oneshot::channel();
        self.ask(Request::Install(checkpoint, done), wait).await
    }

    async fn ask(
        &self,
        request: Request,
        wait: tokio::sync::oneshot::Receiver<Result<(), Error>>,
    ) -> Result<(), Error> {
        let stopped = || Error::Stopped("the copy of the state is not written any more".to_owned());
        self.requests.send(request).map_err(|_| stopped())?;
        wait.await.map_err(|_| stopped())?
    }
}

fn run(copy: &mut Copy, latest: &parking_lot::Mutex<Latest>, queue: &std::sync::mpsc::Receiver<Request>) {
    while let Ok(request) = queue.recv() {
        let request = match request {
            // Whatever comes next may be more urgent, or the end.
            Request::Nudge => queue.recv_timeout(GATHER).ok(),
            other => Some(other),
        };
        let result = catch_up(copy, latest);
        match request {
            Some(Request::Flush(done)) => drop(done.send(result)),
            Some(Request::Install(checkpoint, done)) => {
                latest.lock().checkpoint = None;
                drop(done.send(result.and_then(|()| copy.install(&checkpoint))));
            }
            Some(Request::Nudge) | None => {
                if let Err(error) = result {
                    tracing::error!(%error, "the copy of the state cannot be written");
                }
            }
        }
    }
}

fn catch_up(copy: &mut Copy, latest: &parking_lot::Mutex<Latest>) -> Result<(), Error> {
    let checkpoint = {
        let mut latest = latest.lock();
        latest.nudged = false;
        latest.checkpoint.take()
    };
    checkpoint.map_or(Ok(()), |checkpoint| copy.advance(&checkpoint))
}
