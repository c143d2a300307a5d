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
/// How many bytes of objects the kept changes may hold, whatever their number and age.
const KEEP_BYTES: usize = 32 << 20;
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

/// What a watcher takes up at once.
pub(crate) struct Batch {
    pub(crate) changes: Vec<Arc<Change>>,
    /// Behind the last of them.
    pub(crate) cursor: Cursor,
    /// Whether there are more already.
    pub(crate) more: bool,
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
    /// The sum of `changes`' sizes.
    bytes: usize,
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
                bytes: 0,
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
        inner.bytes = 0;
        drop(inner);
        self.changed.send_replace(revision);
    }

    /// Takes up one batch's changes, all at once.
    pub(super) fn apply(&self, changes: Vec<Change>) {
        let Some(last) = changes.last().map(|c| c.revision) else {
            return;
        };
        let new = changes.len();
        let mut inner = self.inner.write();
        for change in changes {
            match change.kind {
                EventType::Deleted => inner.objects.remove(&change.key),
                EventType::Added | EventType::Modified => inner
                    .objects
                    .insert(change.key.clone(), change.object.clone()),
            };
            inner.bytes += change.size();
            inner.changes.push_back(Arc::new(change));
        }
        inner.latest = last;
        inner.forget(new);
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

    /// The changes from a cursor on: at most `limit`, and no more when they have `bytes` together.
    pub(crate) fn after(
        &self,
        cursor: Cursor,
        limit: usize,
        bytes: usize,
    ) -> Result<Batch, TooOld> {
        let inner = self.inner.read();
        let Some(skip) = cursor.0.checked_sub(inner.first) else {
            return Err(TooOld {
                oldest: inner.since,
            });
        };
        let skip = usize::try_from(skip)
            .unwrap_or(usize::MAX)
            .min(inner.changes.len());
        let mut taken = 0;
        let changes: Vec<_> = inner
            .changes
            .range(skip..)
            .take(limit)
            .take_while(|change| {
                let room = taken < bytes;
                taken += change.size();
                room
            })
            .map(Arc::clone)
            .collect();
        Ok(Batch {
            cursor: Cursor(cursor.0 + changes.len() as u64),
            more: skip + changes.len() < inner.changes.len(),
            changes,
        })
    }

    /// Says when something changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// How many are told of changes.
    pub(crate) fn watchers(&self) -> u32 {
        u32::try_from(self.changed.receiver_count()).unwrap_or(u32::MAX)
    }
}

impl Inner {
    /// Drops old changes. The `new` ones stay: nobody has seen them yet.
    fn forget(&mut self, new: usize) {
        while self.changes.len() > new
            && let Some(oldest) = self.changes.front()
            && (self.bytes > KEEP_BYTES
                || self.changes.len() > KEEP_YOUNG
                || (self.changes.len() > KEEP && oldest.age() > YOUNG))
        {
            self.since = oldest.revision;
            self.first += 1;
            self.bytes -= oldest.size();
            self.changes.pop_front();
        }
    }

    fn end(&self) -> Cursor {
        Cursor(self.first + self.changes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: u64, bytes: usize) -> Change {
        let json = format!(
            r#"{{"kind":"ConfigMap","metadata":{{"name":"m"}},"data":{{"k":"{}"}}}}"#,
            "x".repeat(bytes)
        );
        let object = Object::from_stored(&Bytes::from(json), revision).unwrap();
        Change::new(
            revision,
            Bytes::from_static(b"/m"),
            EventType::Modified,
            object,
            None,
        )
    }

    #[test]
    fn large_changes_are_kept_for_less_long() {
        let shelf = Shelf::new();
        let begin = shelf.cursor(0).unwrap();
        let mebibyte = 1 << 20;
        for revision in 1..=10 {
            shelf.apply(vec![change(revision, mebibyte)]);
        }
        // A batch ends behind the change that fills it.
        let batch = shelf.after(begin, 512, mebibyte).unwrap();
        assert_eq!((batch.changes.len(), batch.more), (1, true));
        let batch = shelf.after(begin, 512, 20 * mebibyte).unwrap();
        assert_eq!((batch.changes.len(), batch.more), (10, false));
        for revision in 11..=100 {
            shelf.apply(vec![change(revision, mebibyte)]);
        }
        let kept = shelf.inner.read().changes.len();
        assert!((10..=KEEP_BYTES / mebibyte).contains(&kept), "{kept}");
        assert!(shelf.after(begin, 512, mebibyte).is_err());
        let last = shelf.cursor(99).unwrap();
        assert_eq!(shelf.after(last, 512, mebibyte).unwrap().changes.len(), 1);
    }
}
