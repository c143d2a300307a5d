//! A local copy of a kind's objects, kept up to date by a watch.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::Duration,
};

use imbl::OrdMap;
use parking_lot::{Mutex, RwLock};
use rand::Rng;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::{Access, Error, Event, Key, ListOptions, Object, Watch};

/// The first pause after a failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two attempts: a healed cluster is noticed within it.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A watch that lived this long has worked: after it the pauses begin anew.
const WORKED: Duration = Duration::from_secs(1);
/// Seconds after which a watch is renewed, so that a connection that died unnoticed is found.
const RENEW: std::ops::Range<u64> = 300..600;
/// How much longer than that a silent watch is kept.
const SILENCE: Duration = Duration::from_secs(30);

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
        let follow = follow(access, options, Arc::clone(&shared)).instrument(span);
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

/// Pauses between attempts: doubling, drawn from the upper half of each step so that many
/// clients of a restarted server don't come all at once.
struct Pauses {
    next: Duration,
}

impl Pauses {
    fn new() -> Self {
        Pauses { next: FIRST_PAUSE }
    }

    async fn pause(&mut self) {
        let drawn = self.next.mul_f64(rand::rng().random_range(0.5..1.0));
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        tokio::time::sleep(drawn).await;
    }
}

async fn follow<T: Object>(access: Access<T>, options: ListOptions, shared: Arc<Shared<T>>) {
    let mut pauses = Pauses::new();
    loop {
        let mut revision = match relist(&access, &options, &shared).await {
            Ok(revision) => revision,
            Err(error) => {
                // A server that is away comes back; being refused is somebody's mistake.
                if error.is_transient() {
                    tracing::debug!(%error, "listing failed");
                } else {
                    tracing::warn!(%error, "listing failed");
                }
                pauses.pause().await;
                continue;
            }
        };
        loop {
            let began = Instant::now();
            let before = revision;
            let ended = run_watch(&access, &options, &shared, &mut revision).await;
            if began.elapsed() >= WORKED || revision > before {
                pauses = Pauses::new();
            }
            match ended {
                Err(error) if error.is_expired() => {
                    tracing::debug!(revision, "the revision is no longer kept: listing again");
                    pauses.pause().await;
                    break;
                }
                Err(error) => tracing::debug!(%error, "the watch broke"),
                Ok(()) => tracing::trace!("the watch ended"),
            }
            pauses.pause().await;
        }
    }
}

async fn relist<T: Object>(
    access: &Access<T>,
    options: &ListOptions,
    shared: &Shared<T>,
) -> Result<u64, Error> {
    let (list, unread) = access.list_readable(options).await?;
    for error in unread {
        tracing::warn!(%error, "an object can't be read and is left out");
    }
    let old = shared.view.read().clone();
    let view: View<T> = list.items.into_iter().map(kept).collect();
    let gone = old.keys().filter(|key| !view.contains_key(*key));
    let new = view.iter().filter_map(|(key, object)| {
        let same = old
            .get(key)
            .is_some_and(|old| old.revision() == object.revision() && old.uid() == object.uid());
        (!same).then_some(key)
    });
    let changed = gone.chain(new).cloned().collect();
    shared.publish(view, list.revision, changed);
    Ok(list.revision)
}

/// Follows one watch to its end, keeping `revision` at what has been seen.
async fn run_watch<T: Object>(
    access: &Access<T>,
    options: &ListOptions,
    shared: &Shared<T>,
    revision: &mut u64,
) -> Result<(), Error> {
    let seconds = rand::rng().random_range(RENEW);
    let mut watch: Watch<T> = access.watch_for(options, *revision, Some(seconds)).await?;
    let silence = Duration::from_secs(seconds) + SILENCE;
    loop {
        let batch = tokio::time::timeout(silence, watch.next_batch())
            .await
            .map_err(|_| Error::Timeout {
                what: format!("watch of {}", access.plural()),
                seconds: silence.as_secs(),
            })?;
        if batch.is_empty() {
            return Ok(());
        }
        let mut view = shared.view.read().clone();
        let mut changed = BTreeSet::new();
        let mut failed = None;
        for event in batch {
            match event {
                Ok(event) => {
                    *revision = event.revision().max(*revision);
                    changed.extend(take(&mut view, event));
                }
                Err(error @ Error::Decode { .. }) => {
                    tracing::warn!(%error, "an object can't be read and is left out");
                }
                Err(error) => failed = Some(error),
            }
        }
        shared.publish(view, *revision, changed);
        if let Some(error) = failed {
            return Err(error);
        }
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
