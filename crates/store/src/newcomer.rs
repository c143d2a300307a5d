//! A member whose directory is empty may be one that lost it. What it once acknowledged may have been committed by
//! that acknowledgement, so until it has everything that its leader knows to be committed or believes it to have, it
//! must not help to elect anyone else: that could undo an acknowledged write.

use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::Error;
use crate::types::LogId;
use crate::wal::Wal;
use crate::wal::sync_dir;

/// The file whose presence says that this member is still one.
const MARK: &str = "catching-up";

/// Whether this member may vote.
pub(crate) struct Newcomer {
    dir: PathBuf,
    wal: Wal,
    catching_up: AtomicBool,
    /// The index that must be in the log, as far as heard since the start.
    needed: Mutex<Option<u64>>,
}

impl Newcomer {
    /// `wal` as it was found.
    pub(crate) fn open(dir: &Path, wal: &Wal) -> Result<Self, Error> {
        let mark = dir.join(MARK);
        if wal.is_pristine() {
            std::fs::write(&mark, b"")
                .and_then(|()| sync_dir(dir))
                .map_err(|error| Error::io(&mark, error))?;
        }
        let catching_up = AtomicBool::new(mark.exists());
        Ok(Self {
            dir: dir.to_owned(),
            wal: wal.clone(),
            catching_up,
            needed: Mutex::new(None),
        })
    }

    /// This member begins a cluster, or has caught up with one: from now on it votes.
    pub(crate) fn settled(&self) -> Result<(), Error> {
        let mark = self.dir.join(MARK);
        match std::fs::remove_file(&mark) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(mark, error));
            }
            _ => sync_dir(&self.dir).map_err(|error| Error::io(&self.dir, error))?,
        }
        self.catching_up.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// A leader says what this member should have (`previous`) and what is committed.
    pub(crate) fn heard(&self, previous: Option<LogId>, committed: Option<LogId>) {
        if self.catching_up.load(Ordering::SeqCst) {
            let index = previous.max(committed).map(|log_id| log_id.index);
            let mut needed = self.needed.lock();
            *needed = (*needed).max(index);
        }
    }

    /// Something that a leader sent is stored. To be called before the leader hears of it: once it counts this member
    /// as caught up it makes it a voter, and a voter that still had the mark after a restart of both would refuse the
    /// only vote by which they could elect a leader again. Writes to the disk once in a member's life.
    pub(crate) async fn stored(&self) {
        if !self.catching_up.load(Ordering::SeqCst) {
            return;
        }
        let needed = *self.needed.lock();
        if needed.is_none() || self.wal.last_index() < needed {
            return;
        }
        let settled = match self.wal.sync().await {
            Ok(()) => self.settled(),
            Err(error) => Err(Error::io(&self.dir, error)),
        };
        if let Err(error) = settled {
            tracing::warn!(%error, "this member has caught up but cannot note it");
        }
    }

    pub(crate) fn must_not_vote(&self) -> bool {
        self.catching_up.load(Ordering::SeqCst)
    }
}
