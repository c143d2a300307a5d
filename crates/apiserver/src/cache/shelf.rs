//! The objects of one resource and the recent changes to them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use api::Object;
use bytes::Bytes;
use imbl::OrdMap;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::change::{Change, EventType};

/// Changes that are kept whatever their age.
const KEEP: usize = 1024;
/// Changes that are kept at most, even if they are young.
const KEEP_YOUNG: usize = 16 * 1024;
/// How long a watcher may be away and still go on where it was, unless changes are very many.
const YOUNG: Duration = Duration::from_secs(75);

/// The objects at one revision: a pointer copy.
#[derive(Clone)]
pub(crate) struct Snapshot {
    /// By the store's key, so in the order of namespace and name.
    pub(crate) objects: OrdMap<Bytes, Object>,
    /// All changes up to here are in it.
    pub(crate) revision: u64,
}

/// Where a watcher is in the sequence of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor(u64);

/// What a watcher asked for is no longer kept.
#[derive(Debug)]
pub(crate) struct TooOld {
    pub(crate) oldest: u64,
}

/// One resource's part of the cache. One writer, any number of readers.
pub(crate) struct Shelf {
    inner: RwLock<Inner>,
    /// One notification a batch, however many watchers and changes.
    changed: watch::Sender<u64>,
}

struct Inner {
    objects: OrdMap<Bytes, Object>,
    /// The revision of the last change.
    latest: u64,
    changes: VecDeque<Arc<Change>>,
    /// The number of `changes[0]` in the sequence of all changes ever.
    first: u64,
    /// All changes of revisions above this are in `changes`.
    since: u64,
}

impl Shelf {
    pub(crate) fn new() -> Shelf {
        Shelf {
            inner: RwLock::new(Inner {
                objects: OrdMap::new(),
                latest: 0,
                changes: VecDeque::new(),
                first: 0,
                since: 0,
            }),
            changed: watch::Sender::new(0),
        }
    }

    /// Begins anew: history before `revision` is not known here.
    pub(super) fn reset(&self, objects: OrdMap<Bytes, Object>, revision: u64) {
        let mut inner = self.inner.write();
        inner.objects = objects;
        inner.latest = revision;
        inner.since = revision;
        // A gap in the sequence, so that every cursor from before is told that it is too old.
        inner.first += inner.changes.len() as u64 + 1;
        inner.changes.clear();
        drop(inner);
        self.changed.send_replace(revision);
    }

    /// Takes up one batch's changes, all at once.
    pub(super) fn apply(&self, changes: Vec<Change>) {
        let Some(last) = changes.last().map(|c| c.revision) else {
            return;
        };
        let mut inner = self.inner.write();
        for change in changes {
            match change.kind {
                EventType::Deleted => inner.objects.remove(&change.key),
                EventType::Added | EventType::Modified => inner
                    .objects
                    .insert(change.key.clone(), change.object.clone()),
            };
            inner.changes.push_back(Arc::new(change));
        }
        inner.latest = last;
        while inner.changes.len() > KEEP
            && let Some(oldest) = inner.changes.front()
            && (inner.changes.len() > KEEP_YOUNG || oldest.age() > YOUNG)
        {
            inner.since = oldest.revision;
            inner.first += 1;
            inner.changes.pop_front();
        }
        drop(inner);
        self.changed.send_replace(last);
    }

    /// The last version of one object that the cache knows.
    pub(super) fn get(&self, key: &[u8]) -> Option<Object> {
        self.inner.read().objects.get(key).cloned()
    }

    /// The objects now, and where a watch would go on. `applied` is the revision up to which the
    /// whole cache was complete before this call.
    pub(super) fn snapshot(&self, applied: u64) -> (Snapshot, Cursor) {
        let inner = self.inner.read();
        let snapshot = Snapshot {
            objects: inner.objects.clone(),
            revision: inner.latest.max(applied),
        };
        (snapshot, inner.end())
    }

    /// The objects as they were at an earlier revision, by undoing what came after.
    pub(super) fn at(&self, revision: u64) -> Result<Snapshot, TooOld> {
        let (mut objects, later) = {
            let inner = self.inner.read();
            if revision < inner.since {
                return Err(TooOld {
                    oldest: inner.since,
                });
            }
            let from = inner.changes.partition_point(|c| c.revision <= revision);
            let later: Vec<Arc<Change>> = inner.changes.range(from..).cloned().collect();
            (inner.objects.clone(), later)
        };
        for change in later.iter().rev() {
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), before.clone()),
                None => objects.remove(&change.key),
            };
        }
        Ok(Snapshot { objects, revision })
    }

    /// Where a watch from a revision begins.
    pub(super) fn cursor(&self, revision: u64) -> Result<Cursor, TooOld> {
        let inner = self.inner.read();
        if revision < inner.since {
            return Err(TooOld {
                oldest: inner.since,
            });
        }
        let skip = inner.changes.partition_point(|c| c.revision <= revision);
        Ok(Cursor(inner.first + skip as u64))
    }

    /// The changes from a cursor on, at most `limit`, and the cursor behind them.
    pub(crate) fn after(
        &self,
        cursor: Cursor,
        limit: usize,
    ) -> Result<(Vec<Arc<Change>>, Cursor), TooOld> {
        let inner = self.inner.read();
        let Some(skip) = cursor.0.checked_sub(inner.first) else {
            return Err(TooOld {
                oldest: inner.since,
            });
        };
        let skip = usize::try_from(skip)
            .unwrap_or(usize::MAX)
            .min(inner.changes.len());
        let found: Vec<_> = inner
            .changes
            .range(skip..)
            .take(limit)
            .map(Arc::clone)
            .collect();
        let behind = Cursor(cursor.0 + found.len() as u64);
        Ok((found, behind))
    }

    /// Says when something changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl Inner {
    fn end(&self) -> Cursor {
        Cursor(self.first + self.changes.len() as u64)
    }
}
