//! Accounts: what is charged for CPU time, and the order in which they get it.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::time::ClockId;

use super::files::Lease;
use super::task::Task;
use super::{Shared, nanoseconds};
use crate::quota::Bucket;

/// What a guest of weight 1 is charged per nanosecond: keeps the division by large weights exact.
const SCALE: u64 = 1024;

/// A place in a queue: what it is ordered by, and a number that keeps equals in order of arrival.
type Place = (u64, u64);

/// One guest as the gate counts it: any number of tasks that share a weight, a quota and what they have used.
pub(crate) struct Account {
    /// Changes under the queue's lock only.
    weight: AtomicU64,
    bucket: Mutex<Option<Bucket>>,
    /// CPU time used, in nanoseconds.
    used: AtomicU64,
    virtual_time: AtomicU64,
    /// Set once it is to be ended: its debt no longer matters.
    urgent: AtomicBool,
    /// Guarded by the queue's lock, which is taken first.
    line: Mutex<Line>,
    /// The threads of its file calls, while any is under way.
    files: Mutex<Option<Box<Lease>>>,
    shared: Arc<Shared>,
}

/// An account's tasks that want to run.
#[derive(Default)]
struct Line {
    tasks: VecDeque<Arc<Task>>,
    /// Where the account stands, exactly while it has tasks.
    stands: Option<Stands>,
}

#[derive(Clone, Copy)]
enum Stands {
    Ready(Place),
    Resting(Place),
}

impl Account {
    pub(super) fn new(weight: u32, quota: Option<f64>, shared: Arc<Shared>) -> Self {
        let now = nanoseconds(ClockId::Monotonic);
        Self {
            weight: AtomicU64::new(u64::from(weight.max(1))),
            bucket: Mutex::new(quota.map(|quota| Bucket::new(quota, now))),
            used: AtomicU64::new(0),
            virtual_time: AtomicU64::new(0),
            urgent: AtomicBool::new(false),
            line: Mutex::default(),
            files: Mutex::default(),
            shared,
        }
    }

    /// Runs this future to its end on the gate's threads, at this account's expense.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Arc<Task> {
        self.begin(work, |task| task)
    }

    /// As [`spawn`](Self::spawn), for one of many short tasks: those whom it wakes may wait a moment for what the next
    /// ones have for them.
    pub(crate) fn spawn_holding(
        self: &Arc<Self>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Arc<Task> {
        self.begin(work, Task::holding)
    }

    fn begin(
        self: &Arc<Self>,
        work: impl Future<Output = ()> + Send + 'static,
        with: fn(Task) -> Task,
    ) -> Arc<Task> {
        let number = self.shared.queue.lock().arrival();
        let task = Task::new(number, Box::pin(work), self.clone());
        let task = Arc::new(with(task));
        self.shared.begin(task.clone());
        task
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn files(&self) -> &Mutex<Option<Box<Lease>>> {
        &self.files
    }

    /// CPU time used so far.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(self.used.load(Ordering::Relaxed))
    }

    /// Lets tasks that sit out the quota run now, and from now on, so that they can be ended.
    pub(crate) fn expedite(self: &Arc<Self>) {
        self.urgent.store(true, Ordering::SeqCst);
        let mut queue = self.shared.queue.lock();
        if queue.restand(self) {
            drop(queue);
            self.shared.work.notify_one();
        }
    }

    /// From now on it has this weight and at most `quota` cores.
    pub(crate) fn resize(self: &Arc<Self>, weight: u32, quota: Option<f64>) {
        let mut queue = self.shared.queue.lock();
        let (floor, new) = (queue.floor, u64::from(weight.max(1)));
        let old = self.weight.swap(new, Ordering::Relaxed);
        // What it is ahead of the others it owes by its weight: a light one's last slice would keep it waiting for long
        // after it has become heavy.
        let owes = |time: u64| floor.saturating_add(scaled(time.saturating_sub(floor), old, new));
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let moved = |time: u64| (time > floor).then(|| owes(time));
        // What is behind stays where it is: `None` is no failure.
        let _ = self.virtual_time.fetch_update(set, fetch, moved);
        let now = nanoseconds(ClockId::Monotonic);
        let mut bucket = self.bucket.lock();
        match (bucket.as_mut(), quota) {
            (Some(bucket), Some(quota)) => bucket.set_quota(quota, now),
            (_, quota) => *bucket = quota.map(|quota| Bucket::new(quota, now)),
        }
        drop(bucket);
        if queue.restand(self) {
            drop(queue);
            self.shared.work.notify_one();
        }
    }

    pub(super) fn charge(&self, used: u64) {
        self.used.fetch_add(used, Ordering::Relaxed);
        let weight = self.weight.load(Ordering::Relaxed);
        let virtual_time = used.saturating_mul(SCALE) / weight;
        self.virtual_time.fetch_add(virtual_time, Ordering::Relaxed);
        if let Some(bucket) = self.bucket.lock().as_mut() {
            bucket.take(nanoseconds(ClockId::Monotonic), used);
        }
    }

    /// Until when it sits out its quota.
    fn rests_until(&self) -> Option<u64> {
        if self.urgent.load(Ordering::SeqCst) {
            return None;
        }
        let mut bucket = self.bucket.lock();
        let bucket = bucket.as_mut()?;
        let now = nanoseconds(ClockId::Monotonic);
        let end = bucket.debt_ends(now)?;
        (end > now).then_some(end)
    }
}

/// A lead that was gathered at one weight, as it counts at another.
fn scaled(lead: u64, old: u64, new: u64) -> u64 {
    let scaled = u128::from(lead) * u128::from(old) / u128::from(new);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// The accounts that have something to run.
#[derive(Default)]
pub(super) struct Queue {
    /// By virtual run time.
    ready: BTreeMap<Place, Arc<Account>>,
    /// Accounts in debt, by the monotonic nanosecond at which they may run again.
    resting: BTreeMap<Place, Arc<Account>>,
    /// The virtual run time of the account that ran last: nobody joins further behind than this, or
    /// one that slept for an hour would have the cores to itself for as long.
    floor: u64,
    arrivals: u64,
    pub(super) shutdown: bool,
    /// Nobody will run or abandon what comes now.
    pub(super) over: bool,
}

impl Queue {
    pub(super) fn arrival(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    /// Adds a task to its account's line. `joins` says that it comes from waiting for something.
    pub(super) fn add(&mut self, task: Arc<Task>, joins: bool) {
        let account = task.account().clone();
        let mut line = account.line.lock();
        let urgent = task.is_urgent();
        if urgent {
            line.tasks.push_front(task);
        } else {
            line.tasks.push_back(task);
        }
        if line.stands.is_some() && !urgent {
            return;
        }
        if joins {
            account
                .virtual_time
                .fetch_max(self.floor, Ordering::Relaxed);
        }
        self.stand(&account, &mut line);
    }

    /// Gives an account that has tasks its place, instead of the one that it has.
    fn stand(&mut self, account: &Arc<Account>, line: &mut Line) {
        match line.stands.take() {
            Some(Stands::Ready(place)) => drop(self.ready.remove(&place)),
            Some(Stands::Resting(place)) => drop(self.resting.remove(&place)),
            None => {}
        }
        let arrival = self.arrival();
        // A task that is to be ended does not wait for the debt of others.
        let urgent = line.tasks.front().is_some_and(|task| task.is_urgent());
        let rests_until = if urgent { None } else { account.rests_until() };
        line.stands = Some(match rests_until {
            Some(end) => {
                let place = (end, arrival);
                self.resting.insert(place, account.clone());
                Stands::Resting(place)
            }
            None => {
                let place = (account.virtual_time.load(Ordering::Relaxed), arrival);
                self.ready.insert(place, account.clone());
                Stands::Ready(place)
            }
        });
    }

    /// Judges an account anew that has tasks to run, and says whether it is one.
    fn restand(&mut self, account: &Arc<Account>) -> bool {
        let mut line = account.line.lock();
        let stands = line.stands.is_some();
        if stands {
            self.stand(account, &mut line);
        }
        stands
    }

    /// Puts a task that has become urgent before the others of its account, and says whether it is to run at all.
    pub(super) fn hasten(&mut self, task: &Arc<Task>) -> bool {
        let account = task.account();
        let mut line = account.line.lock();
        let Some(place) = line.tasks.iter().position(|other| Arc::ptr_eq(other, task)) else {
            return false;
        };
        if let Some(task) = line.tasks.remove(place) {
            line.tasks.push_front(task);
        }
        self.stand(account, &mut line);
        true
    }

    /// Lets those run again whose debt has ended, and says when the next one's ends.
    pub(super) fn wake_rested(&mut self) -> Option<u64> {
        if self.resting.is_empty() {
            return None;
        }
        let now = nanoseconds(ClockId::Monotonic);
        while let Some(entry) = self.resting.first_entry() {
            let (end, arrival) = *entry.key();
            if end > now {
                return Some(end);
            }
            let account = entry.remove();
            let place = (account.virtual_time.load(Ordering::Relaxed), arrival);
            account.line.lock().stands = Some(Stands::Ready(place));
            self.ready.insert(place, account);
        }
        None
    }

    /// The task that runs next: the first in line of the account that is furthest behind.
    pub(super) fn take(&mut self) -> Option<Arc<Task>> {
        while let Some(((stood_at, _), account)) = self.ready.pop_first() {
            let mut line = account.line.lock();
            line.stands = None;
            let virtual_time = account.virtual_time.load(Ordering::Relaxed);
            // Charged meanwhile for another of its tasks: others may be further behind by now.
            let task = match virtual_time > stood_at && !self.ready.is_empty() {
                true => None,
                false => line.tasks.pop_front(),
            };
            if !line.tasks.is_empty() {
                self.stand(&account, &mut line);
            }
            if task.is_some() {
                self.floor = self.floor.max(virtual_time);
                return task;
            }
        }
        None
    }

    pub(super) fn is_anything_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes every task out: nobody runs them any more.
    pub(super) fn empty(&mut self) -> Vec<Arc<Task>> {
        let ready = std::mem::take(&mut self.ready);
        let resting = std::mem::take(&mut self.resting);
        let accounts = ready.into_values().chain(resting.into_values());
        let lines = accounts.map(|account| std::mem::take(&mut *account.line.lock()));
        lines.flat_map(|line| line.tasks).collect()
    }
}
