//! The log as openraft sees it.

use std::fmt::Debug;
use std::io;
use std::ops::Bound;
use std::ops::RangeBounds;

use openraft::OptionalSend;
use openraft::storage::IOFlushed;
use openraft::storage::LogState;
use openraft::storage::RaftLogReader;
use openraft::storage::RaftLogStorage;
use tokio::sync::oneshot;

use super::Found;
use super::Wal;
use super::stopped;
use super::writer::Request;
use crate::types::LogEntry;
use crate::types::LogId;
use crate::types::TypeConfig;
use crate::types::Vote;

/// The most bytes of entries that one append request carries (one entry may be larger).
const REQUEST_BYTES: usize = 4 << 20;

impl Wal {
    async fn read(found: Vec<Found>) -> io::Result<Vec<LogEntry>> {
        if found.iter().all(|found| matches!(found, Found::Here(_))) {
            return found.into_iter().map(Found::read).collect();
        }
        let read = move || found.into_iter().map(Found::read).collect();
        tokio::task::spawn_blocking(read)
            .await
            .map_err(io::Error::other)?
    }
}

impl RaftLogReader<TypeConfig> for Wal {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<LogEntry>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let found = self.shared.inner.lock().find(start, end);
        Self::read(found).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<LogEntry>> {
        let mut found = self.shared.inner.lock().find(start, end);
        let mut bytes = 0;
        let fitting = found.iter().take_while(|found| {
            bytes += found.bytes();
            bytes <= REQUEST_BYTES
        });
        let fitting = fitting.count().max(1);
        found.truncate(fitting);
        Self::read(found).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.inner.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for Wal {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let inner = self.shared.inner.lock();
        Ok(LogState {
            last_purged_log_id: inner.purged,
            last_log_id: inner.last(),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.send(Request::Vote(*vote, done))?;
        wait.await.map_err(|_| stopped())??;
        self.shared.inner.lock().vote = Some(*vote);
        Ok(())
    }

    /// Not synced on its own: it goes to disk with the next entries. What is lost of it in a crash is found again
    /// when the member hears from a leader.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.shared.inner.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.inner.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<LogEntry> = entries.into_iter().collect();
        // The lock is held across both, so that the queue's order is that of the slots.
        let mut inner = self.shared.inner.lock();
        let serial = inner.append(&entries)?;
        self.send(Request::Append {
            entries,
            serial,
            flushed,
        })
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.truncate(last.map_or(0, |last| last.index + 1))
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let mut inner = self.shared.inner.lock();
        inner.purge(upto);
        self.send(Request::Purge(upto))
    }
}
