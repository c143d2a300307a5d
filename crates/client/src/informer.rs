//! A local copy of a kind's objects, kept up to date by a watch.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
};

use imbl::OrdMap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::{Access, Error, Event, Key, ListOptions, Object, Sink, follow};

/// Every object, by key. A copy costs a pointer.
pub type View<T> = OrdMap<Key, Arc<T>>;

/// Keeps a [`View`] of the objects that its options name, without their `managedFields`.
///
/// It lists once and then follows the watch, however often that breaks; when the revision it
/// would go on from is no longer kept it lists again. Clones share the one copy, and the last one
/// to go ends it.
pub struct Informer<T> {
    shared: Arc<Shared<T>>,
    _task: Arc<AbortOnDropHandle<()>>,
}

impl<T> Clone for Informer<T> {
    fn clone(&self) -> Self {
        Informer {
            shared: Arc::clone(&self.shared),
            _task: Arc::clone(&self._task),
        }
    }
}

impl<T> std::fmt::Debug for Informer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Informer").finish_non_exhaustive()
    }
}

struct Shared<T> {
    view: RwLock<View<T>>,
    /// The revision that the view shows; `None` before the first list. Sent after `view` is
    /// written, so that a view read after it is at least as fresh.
    revision: watch::Sender<Option<u64>>,
    subscribers: Mutex<Vec<Weak<Dirty>>>,
}

/// Keys that a subscriber has not seen yet.
#[derive(Default)]
struct Dirty {
    keys: Mutex<BTreeSet<Key>>,
    notify: Notify,
}

impl Dirty {
    fn mark(&self, keys: impl IntoIterator<Item = Key>) {
        self.keys.lock().extend(keys);
        self.notify.notify_one();
    }
}

/// Keys of objects that may have changed, for one subscriber.
///
/// Bounded by the number of keys there are: a key that changes often while nobody looks is there
/// once. None is ever lost.
pub struct Changes {
    dirty: Arc<Dirty>,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

impl Changes {
    /// Waits until a key may have changed, and takes all that have since the last call. What
    /// [`Informer::view`] shows afterwards is at least as fresh. May be cancelled without loss.
    pub async fn next(&mut self) -> BTreeSet<Key> {
        loop {
            let keys = std::mem::take(&mut *self.dirty.keys.lock());
            if !keys.is_empty() {
                return keys;
            }
            self.dirty.notify.notified().await;
        }
    }
}

impl<T: Object> Informer<T> {
    /// Starts to keep a copy. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(access: Access<T>, options: ListOptions) -> Self {
        let shared = Arc::new(Shared {
            view: RwLock::default(),
            revision: watch::Sender::new(None),
            subscribers: Mutex::default(),
        });
        let span = tracing::debug_span!("informer", kind = access.plural());
        let copying = Copying {
            access: access.clone(),
            options: options.clone(),
            shared: Arc::clone(&shared),
        };
        let follow = follow(access, options, copying).instrument(span);
        Informer {
            shared,
            _task: Arc::new(AbortOnDropHandle::new(tokio::spawn(follow))),
        }
    }
}

impl<T> Informer<T> {
    /// The objects as last seen; empty before the first list.
    #[must_use]
    pub fn view(&self) -> View<T> {
        self.shared.view.read().clone()
    }

    /// One object as last seen.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<T>> {
        self.shared.view.read().get(key).cloned()
    }

    /// The revision up to which a view taken from now on shows everything; 0 before the first
    /// list.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.shared.revision.borrow().unwrap_or(0)
    }

    /// Whether the first list is there.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.shared.revision.borrow().is_some()
    }

    /// Waits until the first list is there.
    pub async fn synced(&self) {
        self.wait_for(|revision| revision.is_some()).await;
    }

    /// Waits until everything up to `revision` is in the view. Revisions of other kinds' writes
    /// are only reached with the next change or bookmark.
    pub async fn reached(&self, revision: u64) {
        self.wait_for(|at| at.is_some_and(|at| at >= revision))
            .await;
    }

    async fn wait_for(&self, condition: impl FnMut(&Option<u64>) -> bool) {
        // The sender lives in `self.shared`, so that waiting can't fail.
        let _ = self.shared.revision.subscribe().wait_for(condition).await;
    }

    /// Subscribes to changes. Every object that is there counts as changed at first.
    #[must_use]
    pub fn subscribe(&self) -> Changes {
        let dirty = Arc::new(Dirty::default());
        // Registered before the view is read: a change in between is told twice, not never.
        let mut subscribers = self.shared.subscribers.lock();
        subscribers.retain(|subscriber| subscriber.strong_count() > 0);
        subscribers.push(Arc::downgrade(&dirty));
        drop(subscribers);
        dirty.mark(self.view().keys().cloned());
        Changes { dirty }
    }
}

impl<T> Shared<T> {
    /// Shows a new view, then says so: to those who wait for the revision, and of these keys.
    fn publish(&self, view: View<T>, revision: u64, changed: BTreeSet<Key>) {
        *self.view.write() = view;
        self.revision.send_replace(Some(revision));
        if changed.is_empty() {
            return;
        }
        let mut subscribers = self.subscribers.lock();
        subscribers.retain(|subscriber| match subscriber.upgrade() {
            Some(dirty) => {
                dirty.mark(changed.iter().cloned());
                true
            }
            None => false,
        });
    }
}

/// Keeps the view up to date.
struct Copying<T> {
    access: Access<T>,
    options: ListOptions,
    shared: Arc<Shared<T>>,
}

impl<T: Object> Sink<T> for Copying<T> {
    async fn begin(&mut self) -> Result<u64, Error> {
        let (list, unread) = self.access.list_readable(&self.options).await?;
        for error in unread {
            tracing::warn!(%error, "an object can't be read and is left out");
        }
        let old = self.shared.view.read().clone();
        let view: View<T> = list.items.into_iter().map(kept).collect();
        let gone = old.keys().filter(|key| !view.contains_key(*key));
        let new = view.iter().filter_map(|(key, object)| {
            let same = old.get(key).is_some_and(|old| {
                old.revision() == object.revision() && old.uid() == object.uid()
            });
            (!same).then_some(key)
        });
        let changed = gone.chain(new).cloned().collect();
        self.shared.publish(view, list.revision, changed);
        Ok(list.revision)
    }

    async fn take(&mut self, events: Vec<Event<T>>, revision: u64) {
        let mut view = self.shared.view.read().clone();
        let changed = events
            .into_iter()
            .filter_map(|event| take(&mut view, event))
            .collect();
        self.shared.publish(view, revision, changed);
    }
}

/// An object as it stands in a view.
fn kept<T: Object>(mut object: T) -> (Key, Arc<T>) {
    object.forget_managed_fields();
    (Key::of(&object), Arc::new(object))
}

/// Brings one event into the view; returns the key that it changed.
fn take<T: Object>(view: &mut View<T>, event: Event<T>) -> Option<Key> {
    match event {
        Event::Added(object) | Event::Modified(object) => {
            let (key, object) = kept(object);
            view.insert(key.clone(), object);
            Some(key)
        }
        Event::Deleted(object) => {
            let key = Key::of(&object);
            view.remove(&key);
            Some(key)
        }
        Event::Bookmark(_) => None,
    }
}
