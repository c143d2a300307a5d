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
use crate::types::Vote;
use crate::wal::Wal;
use crate::wal::sync_dir;

/// The file whose presence says that this member is still one.
const MARK: &str = "catching-up";

/// What leaders have said since the start.
#[derive(Default)]
struct Heard {
    /// The last index that this member was believed to have.
    believed: Option<u64>,
    /// The last index that a leader has committed in its own term. Only then does it know all that was
    /// committed before it.
    committed: Option<u64>,
}

impl Heard {
    /// The index that must be in the log. None: not known yet.
    fn needed(&self) -> Option<u64> {
        self.committed.max(self.committed.and(self.believed))
    }
}

/// Whether this member may vote.
pub(crate) struct Newcomer {
    dir: PathBuf,
    wal: Wal,
    catching_up: AtomicBool,
    heard: Mutex<Heard>,
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
            heard: Mutex::default(),
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

    /// The leader of `vote` says what this member should have (`previous`) and what is committed.
    pub(crate) fn heard(&self, vote: &Vote, previous: Option<LogId>, committed: Option<LogId>) {
        if !self.catching_up.load(Ordering::SeqCst) {
            return;
        }
        let own = committed.filter(|log_id| log_id.leader_id.term == vote.leader_id.term);
        let mut heard = self.heard.lock();
        heard.believed = heard.believed.max(previous.map(|log_id| log_id.index));
        heard.committed = heard.committed.max(own.map(|log_id| log_id.index));
    }

    /// Something that a leader sent is stored. To be called before the leader hears of it: once it counts this member
    /// as caught up it makes it a voter, and a voter that still had the mark after a restart of both would refuse the
    /// only vote by which they could elect a leader again. Writes to the disk once in a member's life.
    pub(crate) async fn stored(&self) {
        if !self.catching_up.load(Ordering::SeqCst) {
            return;
        }
        let needed = self.heard.lock().needed();
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use super::*;
    use crate::types::log_id;

    #[test]
    fn only_a_leader_that_has_committed_in_its_term_knows_enough() {
        let dir = tempfile::tempdir().expect("dir");
        let lock = Arc::new(File::create(dir.path().join("lock")).expect("lock"));
        let wal = Wal::open(dir.path(), &lock).expect("wal");
        let newcomer = Newcomer::open(dir.path(), &wal).expect("newcomer");
        let needed = || newcomer.heard.lock().needed();
        let vote = Vote::new_committed(3, 1);
        newcomer.heard(&vote, Some(log_id(2, 9)), None);
        newcomer.heard(&vote, Some(log_id(2, 7)), Some(log_id(2, 5)));
        assert_eq!(needed(), None);
        newcomer.heard(&vote, None, Some(log_id(3, 8)));
        assert_eq!(needed(), Some(9));
        newcomer.heard(&vote, None, Some(log_id(3, 12)));
        assert_eq!(needed(), Some(12));
    }
}
