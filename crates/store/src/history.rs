//! Recent events, kept in a ring that all watchers share, and the watchers.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::Entry;
use crate::Error;
use crate::Revision;

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The revision of the command that made it.
    pub revision: Revision,
    /// The key.
    pub key: Bytes,
    /// What happened to it.
    pub kind: EventKind,
    /// The key's entry before, if it existed.
    pub previous: Option<Entry>,
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was set.
    Put {
        /// Its value now.
        value: Bytes,
        /// The revision that created the key.
        created: Revision,
    },
    /// It was deleted.
    Delete,
}

/// How many bytes of keys and values are kept at most, however few revisions that is.
const KEEP_BYTES: usize = 64 << 20;

impl Event {
    /// About how much memory it holds.
    fn size(&self) -> usize {
        let value = match &self.kind {
            EventKind::Put { value, .. } => value.len(),
            EventKind::Delete => 0,
        };
        let previous = self.previous.as_ref().map_or(0, |entry| entry.value.len());
        size_of::<Event>() + self.key.len() + value + previous
    }
}

/// The ring. One writer (the applier) and any number of watchers.
pub(crate) struct History {
    ring: RwLock<Ring>,
    /// One notification for each applied batch, however many watchers and events. `None`: the store has stopped.
    newest: watch::Sender<Option<Revision>>,
    /// How many revisions are kept.
    keep: u64,
}

struct Ring {
    /// Batches of events, each sorted by revision, never empty; together consecutive.
    batches: VecDeque<Arc<[Event]>>,
    /// The sum of the events' sizes.
    bytes: usize,
    /// All events of revisions above this are in `batches`.
    compacted: Revision,
}

impl History {
    pub(crate) fn new(revision: Revision, keep: usize) -> Self {
        Self {
            ring: RwLock::new(Ring {
                batches: VecDeque::new(),
                bytes: 0,
                compacted: revision,
            }),
            newest: watch::Sender::new(Some(revision)),
            keep: keep.max(1) as u64,
        }
    }

    /// Adds the events of one applied batch and returns the oldest revision from which one can watch now.
    pub(crate) fn push(&self, events: Vec<Event>) -> Revision {
        let mut ring = self.ring.write();
        let Some(last) = events.last().map(|event| event.revision) else {
            return ring.compacted;
        };
        ring.bytes += size(&events);
        ring.batches.push_back(events.into());
        while let Some(first) = ring
            .batches
            .front()
            .and_then(|batch| batch.last())
            .map(|event| event.revision)
        {
            // The newest batch stays, even if it is larger than what is to be kept.
            let few = first + self.keep > last && ring.bytes <= KEEP_BYTES;
            if few || ring.batches.len() == 1 {
                break;
            }
            ring.compacted = first;
            if let Some(gone) = ring.batches.pop_front() {
                ring.bytes -= size(&gone);
            }
        }
        let compacted = ring.compacted;
        drop(ring);
        self.newest.send_replace(Some(last));
        compacted
    }

    /// Forgets everything: the state has jumped to `revision` by a snapshot.
    pub(crate) fn reset(&self, revision: Revision) {
        let mut ring = self.ring.write();
        ring.batches.clear();
        ring.bytes = 0;
        ring.compacted = revision;
        drop(ring);
        self.newest.send_replace(Some(revision));
    }

    /// Ends all watches.
    pub(crate) fn stop(&self) {
        self.newest.send_replace(None);
    }

    pub(crate) fn watch(self: &Arc<Self>, from: Revision) -> Result<Watch, Error> {
        let oldest = self.ring.read().compacted;
        if from < oldest {
            return Err(Error::Compacted { from, oldest });
        }
        Ok(Watch {
            history: Arc::clone(self),
            newest: self.newest.subscribe(),
            seen: from,
        })
    }

    /// The first batch with an event of a revision above `seen`, without the events up to `seen`.
    fn next(&self, seen: Revision) -> Result<Option<Arc<[Event]>>, Error> {
        let ring = self.ring.read();
        if seen < ring.compacted {
            return Err(Error::Compacted {
                from: seen,
                oldest: ring.compacted,
            });
        }
        let at = ring
            .batches
            .partition_point(|batch| batch.last().is_none_or(|event| event.revision <= seen));
        let Some(batch) = ring.batches.get(at) else {
            return Ok(None);
        };
        let skip = batch.partition_point(|event| event.revision <= seen);
        Ok(Some(if skip == 0 {
            Arc::clone(batch)
        } else {
            batch[skip..].into()
        }))
    }
}

fn size(events: &[Event]) -> usize {
    events.iter().map(Event::size).sum()
}

/// All events after a revision, in order, as they are applied on this member.
pub struct Watch {
    history: Arc<History>,
    newest: watch::Receiver<Option<Revision>>,
    seen: Revision,
}

impl Watch {
    /// Waits for the next events: one or more, of one or more whole revisions, in order, none left out.
    ///
    /// Cancel-safe. Fails with [`Error::Compacted`] when this watcher has fallen behind what is kept (or the
    /// member has taken over a snapshot), and with [`Error::Stopped`] when the store was shut down.
    pub async fn next(&mut self) -> Result<Arc<[Event]>, Error> {
        loop {
            // Marked as seen before the ring is read, so that a batch that comes in between is not slept through.
            if self.newest.borrow_and_update().is_none() {
                return Err(Error::Stopped("shut down".to_owned()));
            }
            if let Some(batch) = self.history.next(self.seen)? {
                if let Some(last) = batch.last() {
                    self.seen = last.revision;
                }
                return Ok(batch);
            }
            if self.newest.changed().await.is_err() {
                return Err(Error::Stopped("shut down".to_owned()));
            }
        }
    }

    /// The revision up to which everything has been returned by [`Watch::next`].
    pub fn seen(&self) -> Revision {
        self.seen
    }
}

#[cfg(test)]
mod tests;
