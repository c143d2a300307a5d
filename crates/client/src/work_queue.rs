//! Which key to look at next.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    ops::Deref,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// The longest delay; who asks for more looks again then.
const LONGEST_DELAY: Duration = Duration::from_secs(30 * 24 * 3600);

/// A queue of keys for any number of workers.
///
/// A key that is added while it waits is there once; one that is added while a worker has it
/// comes again when that worker is done, so that no key is ever with two workers. Delayed keys
/// come when their time has come, at the earliest of the times asked for. Clones share the queue.
pub struct WorkQueue<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    state: Mutex<State<K>>,
    notify: Notify,
    first: Duration,
    longest: Duration,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Everything in `ready`, and what came again while a worker has it.
    dirty: BTreeSet<K>,
    processing: BTreeSet<K>,
    delayed: BTreeSet<(Instant, K)>,
    /// When each key of `delayed` is due.
    due: BTreeMap<K, Instant>,
    failures: BTreeMap<K, u32>,
    closed: bool,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        WorkQueue {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<K> fmt::Debug for WorkQueue<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkQueue").finish_non_exhaustive()
    }
}

impl<K: Ord + Clone> Default for WorkQueue<K> {
    fn default() -> Self {
        WorkQueue::new()
    }
}

impl<K: Ord + Clone> WorkQueue<K> {
    /// A queue whose [`Self::retry`] backs off from 5 ms to 1000 s, as client-go's does.
    #[must_use]
    pub fn new() -> Self {
        WorkQueue::with_backoff(Duration::from_millis(5), Duration::from_secs(1000))
    }

    /// A queue whose [`Self::retry`] backs off from `first`, doubling up to `longest`.
    #[must_use]
    pub fn with_backoff(first: Duration, longest: Duration) -> Self {
        WorkQueue {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    ready: VecDeque::new(),
                    dirty: BTreeSet::new(),
                    processing: BTreeSet::new(),
                    delayed: BTreeSet::new(),
                    due: BTreeMap::new(),
                    failures: BTreeMap::new(),
                    closed: false,
                }),
                notify: Notify::new(),
                first,
                longest,
            }),
        }
    }

    /// Adds a key, unless it waits already.
    pub fn add(&self, key: K) {
        let mut state = self.shared.state.lock();
        state.undelay(&key);
        state.enqueue(key);
        drop(state);
        self.shared.notify.notify_one();
    }

    /// Adds a key after a while (30 days at most, which no clock overflows by), or at the time it is due already if that is earlier.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.shared.state.lock();
        if state.closed {
            return;
        }
        let at = Instant::now() + delay.min(LONGEST_DELAY);
        match state.due.get(&key) {
            Some(due) if *due <= at => return,
            _ => state.undelay(&key),
        }
        state.due.insert(key.clone(), at);
        state.delayed.insert((at, key));
        drop(state);
        self.shared.notify.notify_one();
    }

    /// Adds a key that failed, after a pause that doubles with each failure in a row.
    pub fn retry(&self, key: K) {
        let failures = {
            let mut state = self.shared.state.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures = failures.saturating_add(1);
            *failures
        };
        let doublings = (failures - 1).min(30);
        let delay = self.shared.first.saturating_mul(1 << doublings);
        self.add_after(key, delay.min(self.shared.longest));
    }

    /// The key has succeeded: the next failure is a first one again.
    pub fn forget(&self, key: &K) {
        self.shared.state.lock().failures.remove(key);
    }

    /// How often the key has failed since it was last forgotten.
    #[must_use]
    pub fn failures(&self, key: &K) -> u32 {
        self.shared
            .state
            .lock()
            .failures
            .get(key)
            .copied()
            .unwrap_or(0)
    }

    /// The number of keys that wait and are due.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.state.lock().ready.len()
    }

    /// Whether no key is due.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets the workers go once the due keys are done; nothing is added any more.
    pub fn close(&self) {
        self.shared.state.lock().closed = true;
        self.shared.notify.notify_waiters();
        // For a worker that has looked and is about to wait.
        self.shared.notify.notify_one();
    }

    /// The next key, to be held while it is worked on; `None` once the queue is closed and
    /// empty. May be cancelled without loss.
    pub async fn next(&self) -> Option<Item<K>> {
        loop {
            let due = {
                let mut state = self.shared.state.lock();
                state.undelay_due(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.processing.insert(key.clone());
                    if !state.ready.is_empty() {
                        // One permit may have stood for several keys.
                        self.shared.notify.notify_one();
                    }
                    return Some(Item {
                        key,
                        queue: self.clone(),
                    });
                }
                if state.closed {
                    // The next worker, if one waits, has to learn it too.
                    self.shared.notify.notify_one();
                    return None;
                }
                state.delayed.first().map(|(at, _)| *at)
            };
            match due {
                None => self.shared.notify.notified().await,
                Some(at) => {
                    tokio::select! {
                        () = self.shared.notify.notified() => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
            }
        }
    }

    fn done(&self, key: &K) {
        let mut state = self.shared.state.lock();
        state.processing.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.shared.notify.notify_one();
        }
    }
}

impl<K: Ord + Clone> State<K> {
    fn enqueue(&mut self, key: K) {
        if self.closed || !self.dirty.insert(key.clone()) {
            return;
        }
        if !self.processing.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn undelay(&mut self, key: &K) {
        if let Some(at) = self.due.remove(key) {
            self.delayed.remove(&(at, key.clone()));
        }
    }

    fn undelay_due(&mut self, now: Instant) {
        while self.delayed.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.delayed.pop_first() {
                self.due.remove(&key);
                self.enqueue(key);
            }
        }
    }
}

/// A key that a worker has. Dropping it says that the work is done.
pub struct Item<K: Ord + Clone> {
    key: K,
    queue: WorkQueue<K>,
}

impl<K: Ord + Clone> Deref for Item<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.key
    }
}

impl<K: Ord + Clone> Drop for Item<K> {
    fn drop(&mut self) {
        self.queue.done(&self.key);
    }
}

impl<K: Ord + Clone + fmt::Debug> fmt::Debug for Item<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Item").field(&self.key).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    async fn waits(queue: &WorkQueue<&'static str>) -> bool {
        tokio::time::timeout(Duration::ZERO, queue.next())
            .await
            .is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_key_is_there_once() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("b");
        queue.add("a");
        assert_eq!(*queue.next().await.unwrap(), "a");
        assert_eq!(*queue.next().await.unwrap(), "b");
        assert!(waits(&queue).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_never_with_two_workers() {
        let queue = WorkQueue::new();
        queue.add("a");
        let item = queue.next().await.unwrap();
        queue.add("a");
        queue.add_after("a", MS);
        tokio::time::sleep(2 * MS).await;
        assert!(waits(&queue).await, "it is still being worked on");
        drop(item);
        assert_eq!(*queue.next().await.unwrap(), "a");
        assert!(waits(&queue).await, "both additions were one");
    }

    #[tokio::test(start_paused = true)]
    async fn delayed_keys_come_in_the_order_of_their_times() {
        let queue = WorkQueue::new();
        let began = Instant::now();
        queue.add_after("never", Duration::MAX);
        queue.add_after("late", 30 * MS);
        queue.add_after("early", 10 * MS);
        queue.add_after("late", 20 * MS);
        queue.add_after("late", 40 * MS);
        assert_eq!(*queue.next().await.unwrap(), "early");
        assert_eq!(began.elapsed(), 10 * MS);
        assert_eq!(*queue.next().await.unwrap(), "late");
        assert_eq!(began.elapsed(), 20 * MS);
        tokio::time::sleep(60 * MS).await;
        assert!(waits(&queue).await);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_until_forgotten() {
        let queue = WorkQueue::with_backoff(5 * MS, 15 * MS);
        let mut waited = Vec::new();
        for _ in 0..4 {
            let began = Instant::now();
            queue.retry("a");
            drop(queue.next().await);
            waited.push(began.elapsed());
        }
        assert_eq!(waited, [5 * MS, 10 * MS, 15 * MS, 15 * MS]);
        assert_eq!(queue.failures(&"a"), 4);
        queue.forget(&"a");
        let began = Instant::now();
        queue.retry("a");
        drop(queue.next().await);
        assert_eq!(began.elapsed(), 5 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn an_addition_beats_a_delay() {
        let queue = WorkQueue::new();
        queue.add_after("a", 100 * MS);
        queue.add("a");
        drop(queue.next().await.unwrap());
        tokio::time::sleep(200 * MS).await;
        assert!(waits(&queue).await);
    }

    #[tokio::test(start_paused = true)]
    async fn every_worker_learns_that_the_queue_is_closed() {
        let queue = WorkQueue::new();
        queue.add("a");
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let mut handled = 0;
                    while let Some(_item) = queue.next().await {
                        handled += 1;
                    }
                    handled
                })
            })
            .collect();
        tokio::time::sleep(MS).await;
        queue.close();
        queue.add("b");
        let mut handled = 0;
        for worker in workers {
            handled += worker.await.unwrap();
        }
        assert_eq!(handled, 1, "what comes after closing is not taken");
    }

    #[tokio::test]
    async fn many_workers_handle_every_key() {
        let queue = WorkQueue::new();
        let busy = Arc::new(Mutex::new(BTreeSet::new()));
        let workers: Vec<_> = (0..8)
            .map(|_| {
                let (queue, busy) = (queue.clone(), Arc::clone(&busy));
                tokio::spawn(async move {
                    let mut handled = 0;
                    while let Some(item) = queue.next().await {
                        assert!(busy.lock().insert(*item), "{} twice at once", *item);
                        tokio::task::yield_now().await;
                        busy.lock().remove(&*item);
                        handled += 1;
                    }
                    handled
                })
            })
            .collect();
        for round in 0..100 {
            queue.add(round % 7);
            tokio::task::yield_now().await;
        }
        queue.close();
        let mut handled = 0;
        for worker in workers {
            handled += worker.await.unwrap();
        }
        assert!(handled >= 7, "{handled}");
    }
}
