//! The fair run gate: the threads that run guests, and nothing else.
//!
//! tokio's scheduler is not fair between tasks that spin, so guests have an executor of their own.
//! A guest that is ready waits in a queue ordered by *virtual run time*: the CPU time that it has
//! used, divided by its weight. Each of a few threads takes the guest that is furthest behind,
//! polls it until it waits or the next epoch tick makes it yield, and charges it the CPU time of
//! the thread. A guest beyond its quota sits out until its bucket is no longer in debt.
//!
//! Nothing here runs while no guest is runnable: the threads sleep on a condition variable, and
//! the [ticker](Ticker) stops after one idle tick.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::time::{ClockId, clock_gettime};

use crate::quota::Bucket;

/// How often a guest that computes is interrupted.
const TICK: Duration = Duration::from_millis(1);

/// What a guest of weight 1 is charged per nanosecond: keeps the division by large weights exact.
const SCALE: u64 = 1024;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Where a task stands. It is polled by at most one thread, and is in at most one queue.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(u8)]
enum Phase {
    /// Waits for something outside.
    Waiting,
    /// In the ready or the resting queue.
    Queued,
    /// Being polled.
    Polled,
    /// Being polled, and woken meanwhile: it goes on at once.
    PolledAgain,
    /// Over. Every wake-up is ignored.
    Done,
}

/// One guest in the gate.
pub(crate) struct Task {
    phase: AtomicU8,
    work: Mutex<Option<Work>>,
    weight: u64,
    bucket: Option<Mutex<Bucket>>,
    /// CPU time used, in nanoseconds.
    used: AtomicU64,
    /// Virtual run time, written only while the task is in no queue.
    virtual_time: AtomicU64,
    /// The key in the resting queue while it is there; guarded by the queue's lock.
    resting: Mutex<Option<(u64, u64)>>,
    /// Set once it is to be ended: its debt no longer matters.
    urgent: AtomicBool,
    number: u64,
    shared: Arc<Shared>,
}

impl Task {
    /// CPU time used so far.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(self.used.load(Ordering::Relaxed))
    }

    /// Lets a guest that sits out its quota run now, so that it can be ended.
    pub(crate) fn expedite(self: &Arc<Self>) {
        self.urgent.store(true, Ordering::SeqCst);
        let mut queue = self.shared.queue.lock();
        let resting = self.resting.lock().take();
        if let Some(task) = resting.and_then(|key| queue.resting.remove(&key)) {
            queue.make_ready(task);
            drop(queue);
            self.shared.work.notify_one();
        }
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Waiting,
            1 => Phase::Queued,
            2 => Phase::Polled,
            3 => Phase::PolledAgain,
            _ => Phase::Done,
        }
    }

    fn change(&self, from: Phase, to: Phase) -> bool {
        self.phase
            .compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        loop {
            match self.phase() {
                Phase::Waiting if self.change(Phase::Waiting, Phase::Queued) => {
                    return self.shared.enqueue(self.clone(), true);
                }
                Phase::Polled if self.change(Phase::Polled, Phase::PolledAgain) => return,
                // Exchanged for itself, so that the poll to come sees what this wake-up is about.
                Phase::Queued if self.change(Phase::Queued, Phase::Queued) => return,
                Phase::PolledAgain if self.change(Phase::PolledAgain, Phase::PolledAgain) => return,
                Phase::Done => return,
                // Another thread was faster: look again.
                Phase::Waiting | Phase::Queued | Phase::Polled | Phase::PolledAgain => {}
            }
        }
    }
}

#[derive(Default)]
struct Queue {
    /// By virtual run time; the second number keeps equals in order of arrival.
    ready: BTreeMap<(u64, u64), Arc<Task>>,
    /// Guests in debt, by the monotonic nanosecond at which they may run again.
    resting: BTreeMap<(u64, u64), Arc<Task>>,
    /// The virtual run time of the guest that ran last: nobody joins further behind than this, or
    /// one that slept for an hour would have the cores to itself for as long.
    floor: u64,
    arrivals: u64,
    /// Every task that is not over, by its number.
    live: BTreeMap<u64, Weak<Task>>,
    shutdown: bool,
}

impl Queue {
    fn arrival(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    fn make_ready(&mut self, task: Arc<Task>) {
        let key = (task.virtual_time.load(Ordering::Relaxed), self.arrival());
        self.ready.insert(key, task);
    }

    fn wake_rested(&mut self, now: u64) {
        while let Some(entry) = self.resting.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let task = entry.remove();
            *task.resting.lock() = None;
            self.make_ready(task);
        }
    }
}

struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    ticker: Arc<Ticker>,
    io: tokio::runtime::Handle,
}

impl Shared {
    /// Puts a task whose phase is [`Phase::Queued`] where it belongs.
    fn enqueue(&self, task: Arc<Task>, joins: bool) {
        let urgent = task.urgent.load(Ordering::SeqCst);
        let bucket = task.bucket.as_ref().filter(|_| !urgent);
        let rest = bucket.and_then(|bucket| {
            let now = nanoseconds(ClockId::Monotonic);
            bucket.lock().debt_ends(now).filter(|end| *end > now)
        });
        let mut queue = self.queue.lock();
        if queue.shutdown {
            return;
        }
        // Again, under the lock: whoever made it urgent meanwhile did not find it among those that rest.
        let rest = rest.filter(|_| !task.urgent.load(Ordering::SeqCst));
        if let Some(end) = rest {
            let key = (end, queue.arrival());
            *task.resting.lock() = Some(key);
            queue.resting.insert(key, task);
        } else {
            if joins {
                task.virtual_time.fetch_max(queue.floor, Ordering::Relaxed);
            }
            queue.make_ready(task);
        }
        drop(queue);
        self.work.notify_one();
    }

    /// The next guest to run; waits for one. `None` at shutdown.
    fn next(&self) -> Option<Arc<Task>> {
        let mut queue = self.queue.lock();
        loop {
            if queue.shutdown {
                return None;
            }
            if !queue.resting.is_empty() {
                queue.wake_rested(nanoseconds(ClockId::Monotonic));
            }
            if let Some(((virtual_time, _), task)) = queue.ready.pop_first() {
                queue.floor = queue.floor.max(virtual_time);
                return Some(task);
            }
            match queue.resting.first_key_value() {
                None => self.work.wait(&mut queue),
                Some(((end, _), _)) => {
                    let rest = end.saturating_sub(nanoseconds(ClockId::Monotonic));
                    self.work.wait_for(&mut queue, Duration::from_nanos(rest));
                }
            }
        }
    }

    fn run(&self) {
        let _io = self.io.enter();
        while let Some(task) = self.next() {
            self.ticker.begin();
            let begun = nanoseconds(ClockId::ThreadCPUTime);
            let over = poll(&task);
            let used = nanoseconds(ClockId::ThreadCPUTime).saturating_sub(begun);
            self.ticker.end();
            self.charge(&task, used);
            if over {
                self.queue.lock().live.remove(&task.number);
            } else if !task.change(Phase::Polled, Phase::Waiting) {
                // Woken while it was polled: an epoch's yield, most of the time.
                task.phase.swap(Phase::Queued as u8, Ordering::AcqRel);
                self.enqueue(task, false);
            }
        }
    }

    fn charge(&self, task: &Task, used: u64) {
        task.used.fetch_add(used, Ordering::Relaxed);
        let virtual_time = used.saturating_mul(SCALE) / task.weight;
        task.virtual_time.fetch_add(virtual_time, Ordering::Relaxed);
        if let Some(bucket) = &task.bucket {
            bucket.lock().take(nanoseconds(ClockId::Monotonic), used);
        }
    }
}

/// Polls a task once, and says whether it is over.
fn poll(task: &Arc<Task>) -> bool {
    task.phase.swap(Phase::Polled as u8, Ordering::AcqRel);
    let mut work = task.work.lock();
    let Some(future) = work.as_mut() else {
        return true;
    };
    let waker = Waker::from(task.clone());
    let mut cx = Context::from_waker(&waker);
    // A panic of a host function must cost its guest, not a thread that serves every guest.
    let polled = std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
    if matches!(polled, Ok(std::task::Poll::Pending)) {
        return false;
    }
    if polled.is_err() {
        tracing::error!("a host function panicked; its guest is ended");
    }
    task.phase.store(Phase::Done as u8, Ordering::Release);
    *work = None;
    true
}

/// The threads that run guests.
pub(crate) struct Gate {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Gate {
    /// Starts `threads` threads. Guests' timers and blocking calls are `io`'s; `tick` is called
    /// every millisecond while any guest runs.
    pub(crate) fn start(
        threads: usize,
        io: tokio::runtime::Handle,
        tick: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (ticker, ticking) = Ticker::start(tick)?;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            ticker,
            io,
        });
        let mut gate = Self {
            shared,
            threads: vec![ticking],
        };
        for number in 0..threads.max(1) {
            let shared = gate.shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("carob-guest-{number}"))
                .spawn(move || shared.run())?;
            gate.threads.push(thread);
        }
        Ok(gate)
    }

    /// Runs this future to its end, with this weight and at most `quota` cores.
    pub(crate) fn spawn(
        &self,
        weight: u32,
        quota: Option<f64>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Arc<Task> {
        let now = nanoseconds(ClockId::Monotonic);
        let number = self.shared.queue.lock().arrival();
        let task = Arc::new(Task {
            phase: AtomicU8::new(Phase::Queued as u8),
            work: Mutex::new(Some(Box::pin(work))),
            weight: u64::from(weight.max(1)),
            bucket: quota.map(|quota| Mutex::new(Bucket::new(quota, now))),
            used: AtomicU64::new(0),
            virtual_time: AtomicU64::new(0),
            resting: Mutex::new(None),
            urgent: AtomicBool::new(false),
            number,
            shared: self.shared.clone(),
        });
        let weak = Arc::downgrade(&task);
        self.shared.queue.lock().live.insert(number, weak);
        self.shared.enqueue(task.clone(), true);
        task
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.queue.lock().shutdown = true;
        self.shared.work.notify_all();
        self.shared.ticker.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing left to wait for.
            let _ = thread.join();
        }
        // Nobody polls any more: what still waits is dropped here.
        let tasks = {
            let mut queue = self.shared.queue.lock();
            queue.ready.clear();
            queue.resting.clear();
            std::mem::take(&mut queue.live)
        };
        for task in tasks.into_values().filter_map(|task| task.upgrade()) {
            task.phase.store(Phase::Done as u8, Ordering::Release);
            let work = task.work.lock().take();
            drop(work);
        }
    }
}

/// Calls back every millisecond while at least one guest runs.
struct Ticker {
    running: AtomicUsize,
    parked: AtomicBool,
    stopped: AtomicBool,
    thread: std::sync::OnceLock<Thread>,
}

impl Ticker {
    fn start(tick: impl Fn() + Send + 'static) -> std::io::Result<(Arc<Self>, JoinHandle<()>)> {
        let ticker = Arc::new(Self {
            running: AtomicUsize::new(0),
            parked: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            thread: std::sync::OnceLock::new(),
        });
        let this = ticker.clone();
        let thread = std::thread::Builder::new()
            .name("carob-ticker".into())
            .spawn(move || this.run(tick))?;
        // Set before any guest can run: the gate starts its threads later.
        let _ = ticker.thread.set(thread.thread().clone());
        Ok((ticker, thread))
    }

    fn run(&self, tick: impl Fn()) {
        // The ticks should come on time on a busy machine too; where it is not allowed, so be it.
        let _ = rustix::process::setpriority_process(None, -5);
        while !self.stopped.load(Ordering::Acquire) {
            if self.running.load(Ordering::SeqCst) == 0 {
                self.parked.store(true, Ordering::SeqCst);
                // Whoever begins after this load sees `parked` and unparks.
                if self.running.load(Ordering::SeqCst) == 0 && !self.stopped.load(Ordering::Acquire)
                {
                    std::thread::park();
                }
                self.parked.store(false, Ordering::SeqCst);
                continue;
            }
            pause(TICK);
            tick();
        }
        // A guest that still runs must yield, or nobody could join its thread.
        tick();
    }

    fn begin(&self) {
        self.running.fetch_add(1, Ordering::SeqCst);
        if self.parked.load(Ordering::SeqCst) {
            self.unpark();
        }
    }

    fn end(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.unpark();
    }

    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// Blocks this thread, which is nobody's executor.
fn pause(time: Duration) {
    let time = rustix::time::Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(time.subsec_nanos()),
    };
    // An early return by a signal is an early tick.
    let _ = rustix::thread::nanosleep(&time);
}

#[cfg(test)]
mod tests;
