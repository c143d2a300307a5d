//! The durable copy of the applied state, in sled, written behind the log.
//!
//! The log makes writes durable; the copy saves replaying it from its beginning, and lets it be cut. Everything is in
//! one tree, and each batch carries the log id up to which it is applied, so that the copy is always the state at
//! exactly one log entry. What sled's own flush leaves to the page cache is synced here.

mod files;
mod records;
#[cfg(test)]
mod tests;

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

use self::files::Unusable;
use self::records::Meta;
use self::records::PIECE;
use self::records::fingerprint;
use self::records::kind;
use self::records::lease_bytes;
use self::records::put;
use self::records::remove;

/// How many changes are put into one batch while a whole state is written.
const INSTALL_BATCH: usize = 512;

/// The state as of one log entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checkpoint {
    pub(crate) state: State,
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

/// A stretch of recorded answers as it lies in the copy.
#[derive(Clone, Copy)]
struct Stretch {
    first: u64,
    last: u64,
    bytes: usize,
}

/// What the copy knows of its own records.
#[derive(Clone, Default)]
struct Records {
    fingerprint: u64,
    stretches: VecDeque<Stretch>,
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
    records: Records,
    /// Lets the next write fail, as a full disk would.
    #[cfg(test)]
    broken: bool,
    /// The member's lock on its directory.
    lock: Arc<File>,
}

impl Copy {
    /// Opens the newest whole copy in `dir`. If there is none, what is there is moved aside and the copy is empty:
    /// whether that loses anything is for the log to say.
    pub(crate) fn open(dir: &Path, lock: &Arc<File>) -> Result<Self, Error> {
        std::fs::create_dir_all(dir).map_err(|error| Error::io(dir, error))?;
        let generations = files::generations(dir)?;
        for &generation in generations.iter().rev() {
            match Self::load(dir, generation, lock) {
                Ok(copy) => {
                    // Newer ones that are not whole were being written for a snapshot when the member stopped.
                    copy.remove_others()?;
                    return Ok(copy);
                }
                Err(Unusable::InUse(error)) => return Err(Error::io(dir, error)),
                Err(Unusable::NotWhole(reason)) => {
                    tracing::warn!(generation, reason, "this copy of the state is not whole");
                }
            }
        }
        for &generation in &generations {
            files::move_aside(dir, generation)?;
        }
        let mut copy = Self::create(dir, generations.last().map_or(1, |last| last + 1), lock)?;
        copy.seal(Records::default(), &Checkpoint::default())?;
        Ok(copy)
    }

    /// What the copy holds.
    pub(crate) fn held(&self) -> &Checkpoint {
        &self.held
    }

    /// Where all generations of the copy are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new generation. It is not whole before it is sealed.
    fn create(dir: &Path, generation: u64, lock: &Arc<File>) -> Result<Self, Error> {
        let path = files::path(dir, generation);
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(|error| Error::io(&path, error))?;
        }
        Self::empty(dir, generation, lock).map_err(|unusable| match unusable {
            Unusable::InUse(error) => Error::io(path, error),
            Unusable::NotWhole(reason) => Error::damaged(path, reason),
        })
    }

    fn empty(dir: &Path, generation: u64, lock: &Arc<File>) -> Result<Self, Unusable> {
        let (db, file) = files::open(&files::path(dir, generation))?;
        Ok(Self {
            dir: dir.to_owned(),
            generation,
            db,
            file,
            held: Checkpoint::default(),
            records: Records::default(),
            #[cfg(test)]
            broken: false,
            lock: Arc::clone(lock),
        })
    }

    fn load(dir: &Path, generation: u64, lock: &Arc<File>) -> Result<Self, Unusable> {
        let mut copy = Self::empty(dir, generation, lock)?;
        // sled panics on some damage rather than returning an error.
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| copy.read()));
        let expected = match read {
            Ok(Ok(expected)) => expected,
            Ok(Err(reason)) => return Err(Unusable::NotWhole(reason)),
            Err(_) => return Err(Unusable::NotWhole("sled panicked while reading".to_owned())),
        };
        match expected {
            Some(expected) if expected == copy.records.fingerprint => Ok(copy),
            Some(_) => Err(Unusable::NotWhole(
                "entries are missing or altered".to_owned(),
            )),
            None => Err(Unusable::NotWhole("it was not sealed".to_owned())),
        }
    }

    /// Reads everything and returns the fingerprint it should have, if it is sealed.
    fn read(&mut self) -> Result<Option<u64>, String> {
        let malformed = |error: Malformed| error.to_string();
        let mut sealed = None;
        let mut record = Vec::new();
        let mut name: Vec<u8> = Vec::new();
        for item in self.db.clone().iter() {
            let (key, piece) = item.map_err(|error| error.to_string())?;
            let (this, number) = key.split_last_chunk::<4>().ok_or("a key without number")?;
            if u32::from_be_bytes(*number) == 0 {
                sealed = self.take(&name, &record).map_err(malformed)?.or(sealed);
                record.clear();
                name = this.to_vec();
            } else if this != name {
                return Err("a value without its first piece".to_owned());
            }
            record.extend_from_slice(&piece);
        }
        sealed = self.take(&name, &record).map_err(malformed)?.or(sealed);
        self.held.state.compacted = self.held.state.revision;
        Ok(sealed)
    }

    /// Takes one record in; returns the fingerprint if the record is the seal.
    fn take(&mut self, name: &[u8], record: &[u8]) -> Result<Option<u64>, Malformed> {
        let [kind, _, _, key @ ..] = name else {
            return if name.is_empty() {
                Ok(None)
            } else {
                Err(Malformed::new("name of a record"))
            };
        };
        let state = &mut self.held.state;
        match *kind {
            kind::META => {
                let meta = Meta::from_slice(record)?;
                (state.revision, state.renewals) = (meta.revision, meta.renewals);
                (self.held.applied, self.held.membership) = (meta.applied, meta.membership);
                return Ok(Some(meta.fingerprint));
            }
            kind::ENTRY => {
                self.records.add(key, record);
                state.restore(Bytes::copy_from_slice(key), Entry::from_slice(record)?);
            }
            kind::LEASE => {
                let id = u64::from_slice(key)?;
                let mut fields = Reader::new(record);
                let (ttl_ms, renewed) = (u64::decode(&mut fields)?, u64::decode(&mut fields)?);
                state.leases.insert(id, Lease { ttl_ms, renewed });
            }
            kind::ANSWERS => {
                let first = u64::from_be_bytes(
                    key.try_into()
                        .map_err(|_| Malformed::new("stretch of answers"))?,
                );
                let mut last = first;
                let mut reader = Reader::new(record);
                while !reader.is_empty() {
                    let (index, id) = (
                        u64::decode(&mut reader)?,
                        RequestId(u128::decode(&mut reader)?),
                    );
                    state
                        .answers
                        .insert(index, id, Outcome::decode(&mut reader)?);
                    last = index;
                }
                self.records.stretches.push_back(Stretch {
                    first,
                    last,
                    bytes: record.len(),
                });
            }
            _ => return Err(Malformed::new("kind of record")),
        }
        Ok(None)
    }

    /// Brings the copy to `checkpoint` by writing what differs, as one batch. Durable on return.
    pub(crate) fn advance(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        if checkpoint.applied <= self.held.applied {
            return Ok(());
        }
        let mut batch = Batch::default();
        // Taken over once it is durable, with `held`.
        let mut records = self.records.clone();
        let before = &self.held.state;
        for change in before.entries.diff(&checkpoint.state.entries) {
            let (key, old, new) = match change {
                DiffItem::Add(key, new) => (key, None, Some(new)),
                DiffItem::Update {
                    old: (_, old),
                    new: (key, new),
                } => (key, Some(old), Some(new)),
                DiffItem::Remove(key, old) => (key, Some(old), None),
            };
            records.change_entry(&mut batch, key, old, new);
        }
        for change in before.leases.diff(&checkpoint.state.leases) {
            match change {
                DiffItem::Add(id, lease)
                | DiffItem::Update {
                    new: (id, lease), ..
                } => {
                    put(
                        &mut batch,
                        kind::LEASE,
                        &id.to_le_bytes(),
                        &lease_bytes(lease),
                        0,
                    );
                }
                DiffItem::Remove(id, lease) => {
                    remove(
                        &mut batch,
                        kind::LEASE,
                        &id.to_le_bytes(),
                        lease_bytes(lease).len(),
                    );
                }
            }
        }
        records.answers(self.held.applied, checkpoint, &mut batch);
        self.apply(batch, records, checkpoint)
    }

    /// Replaces the copy by `checkpoint` whole, in a new generation: a crash leaves either the old one or the new.
    /// Durable on return.
    pub(crate) fn install(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let mut next = Self::create(&self.dir, self.generation + 1, &self.lock)?;
        let mut batch = Batch::default();
        let mut records = Records::default();
        for (count, (key, entry)) in checkpoint.state.entries.iter().enumerate() {
            records.change_entry(&mut batch, key, None, Some(entry));
            if count % INSTALL_BATCH == INSTALL_BATCH - 1 {
                let full = std::mem::take(&mut batch);
                next.db
                    .apply_batch(full)
                    .map_err(|error| next.failure(&error))?;
            }
        }
        for (id, lease) in &checkpoint.state.leases {
            put(
                &mut batch,
                kind::LEASE,
                &id.to_le_bytes(),
                &lease_bytes(lease),
                0,
            );
        }
        records.answers(None, checkpoint, &mut batch);
        next.db
            .apply_batch(batch)
            .map_err(|error| next.failure(&error))?;
        // Everything else must be durable before the seal is.
        next.sync()?;
        next.seal(records, checkpoint)?;
        *self = next;
        self.remove_others()
    }

    /// Makes a new generation count.
    fn seal(&mut self, records: Records, checkpoint: &Checkpoint) -> Result<(), Error> {
        self.apply(Batch::default(), records, checkpoint)
    }

    /// Writes `batch`, after which the copy holds `checkpoint`. Durable on return.
    fn apply(
        &mut self,
        mut batch: Batch,
        records: Records,
        checkpoint: &Checkpoint,
    ) -> Result<(), Error> {
        let Checkpoint {
            state,
            applied,
            membership,
        } = checkpoint;
        let meta = Meta {
            applied: *applied,
            membership: membership.clone(),
            revision: state.revision,
            renewals: state.renewals,
            fingerprint: records.fingerprint,
        };
        // The seal shrinks when members go; it never has more pieces than this.
        put(&mut batch, kind::META, &[], &meta.to_vec(), 4 * PIECE);
        self.db
            .apply_batch(batch)
            .map_err(|error| self.failure(&error))?;
        self.sync()?;
        self.records = records;
        self.held = checkpoint.clone();
        Ok(())
    }

    /// sled's flush does not survive a power cut by itself, and leaves large values to files of their own.
    fn sync(&self) -> Result<(), Error> {
        let path = files::path(&self.dir, self.generation);
        #[cfg(test)]
        if self.broken {
            let full = std::io::ErrorKind::StorageFull;
            return Err(Error::io(&path, full.into()));
        }
        let io = |error| Error::io(&path, error);
        for blob in std::fs::read_dir(path.join("blobs")).into_iter().flatten() {
            File::open(blob.map_err(io)?.path())
                .and_then(|file| file.sync_data())
                .map_err(io)?;
        }
        self.db.flush().map_err(|error| self.failure(&error))?;
        self.file.sync_data().map_err(io)
    }

    fn failure(&self, error: &sled::Error) -> Error {
        Error::damaged(files::path(&self.dir, self.generation), error.to_string())
    }

    fn remove_others(&self) -> Result<(), Error> {
        for generation in files::generations(&self.dir)? {
            if generation != self.generation {
                let path = files::path(&self.dir, generation);
                std::fs::remove_dir_all(&path).map_err(|error| Error::io(path, error))?;
            }
        }
        Ok(())
    }
}

impl Records {
    fn add(&mut self, key: &[u8], record: &[u8]) {
        self.fingerprint = self.fingerprint.wrapping_add(fingerprint(key, record));
    }

    fn change_entry(
        &mut self,
        batch: &mut Batch,
        key: &Bytes,
        old: Option<&Entry>,
        new: Option<&Entry>,
    ) {
        let old = old.map(Encode::to_vec);
        if let Some(old) = &old {
            self.fingerprint = self.fingerprint.wrapping_sub(fingerprint(key, old));
        }
        let bytes = old.map_or(0, |old| old.len());
        match new {
            Some(new) => {
                let record = new.to_vec();
                self.add(key, &record);
                put(batch, kind::ENTRY, key, &record, bytes);
            }
            None => remove(batch, kind::ENTRY, key, bytes),
        }
    }

    /// Adds the answers given since, and removes the stretches that hold only forgotten ones.
    fn answers(&mut self, held: Option<LogId>, checkpoint: &Checkpoint, batch: &mut Batch) {
        let answers = &checkpoint.state.answers;
        let oldest = answers.oldest().unwrap_or(u64::MAX);
        while let Some(stretch) = self.stretches.front().copied()
            && stretch.last < oldest
        {
            remove(
                batch,
                kind::ANSWERS,
                &stretch.first.to_be_bytes(),
                stretch.bytes,
            );
            self.stretches.pop_front();
        }
        let mut record = Vec::new();
        let mut bounds = None;
        for (index, id, outcome) in answers.after(held.map(|applied| applied.index)) {
            index.encode(&mut record);
            id.0.encode(&mut record);
            outcome.encode(&mut record);
            bounds = Some((bounds.map_or(index, |(first, _)| first), index));
        }
        if let Some((first, last)) = bounds {
            put(batch, kind::ANSWERS, &first.to_be_bytes(), &record, 0);
            self.stretches.push_back(Stretch {
                first,
                last,
                bytes: record.len(),
            });
        }
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
