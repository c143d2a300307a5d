//! The fair run gate: the threads that run guests, and nothing else.
//!
//! tokio's scheduler is not fair between tasks that spin, so guests have an executor of their own.
//! A guest is an [account](Account) with one task, or with as many as it has requests to answer.
//! Accounts that have a task to run wait in a queue ordered by *virtual run time*: the CPU time that
//! they have used, divided by their weight. Each of a few threads takes the account that is furthest
//! behind, polls its first task until it waits or the next epoch tick makes it yield, and charges the
//! account the CPU time of the thread. An account beyond its quota sits out until its bucket is no
//! longer in debt.
//!
//! Nothing here runs while no guest is runnable: the threads sleep on a condition variable, and
//! the [ticker](Ticker) stops after one idle tick.

mod account;
mod files;
mod task;
mod ticker;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use network::wakers::{self, Held};
use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::time::{ClockId, clock_gettime};

pub(crate) use account::Account;
use account::Queue;
use files::Files;
pub(crate) use files::Turn;
pub(crate) use task::Task;
use ticker::Ticker;

/// After how many nanoseconds a thread settles what tasks of one account, one after the other, leave open: their CPU time,
/// and whom they woke. In the midst of a poll it is the ticker that sees to the latter.
const SERVED: u64 = 200_000;

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    /// Every task that is not over, by its number.
    live: Mutex<BTreeMap<u64, Weak<Task>>>,
    ticker: Arc<Ticker>,
    files: Files,
    io: tokio::runtime::Handle,
}

impl Shared {
    fn begin(&self, task: Arc<Task>) {
        self.live
            .lock()
            .insert(task.number(), Arc::downgrade(&task));
        self.enqueue(task, true);
    }

    /// Puts a task whose phase is queued where it belongs.
    fn enqueue(&self, task: Arc<Task>, joins: bool) {
        let mut queue = self.queue.lock();
        if queue.over {
            return;
        }
        // At shutdown, too: whoever wakes may hold what the task's end needs, so that the task is dropped with the gate.
        queue.add(task, joins);
        drop(queue);
        self.work.notify_one();
    }

    /// The next task to run; waits for one. `None` at shutdown.
    fn next(&self, thread: &mut Thread) -> Option<Arc<Task>> {
        let mut queue = self.queue.lock();
        loop {
            if queue.shutdown {
                return None;
            }
            let rest_ends = queue.wake_rested();
            if let Some(task) = queue.take() {
                if queue.is_anything_ready() {
                    // A rest that ends wakes one thread, for however many tasks.
                    self.work.notify_one();
                }
                return Some(task);
            }
            if thread.is_serving() {
                // Whom that wakes may have something to run.
                MutexGuard::unlocked(&mut queue, || thread.rest());
                continue;
            }
            match rest_ends {
                None => self.work.wait(&mut queue),
                Some(end) => {
                    let rest = end.saturating_sub(nanoseconds(ClockId::Monotonic));
                    self.work.wait_for(&mut queue, Duration::from_nanos(rest));
                }
            }
        }
    }

    fn run(&self, held: Arc<Held>) {
        let _io = self.io.enter();
        let mut thread = Thread { held, serves: None };
        while let Some(task) = self.next(&mut thread) {
            thread.serve(&task);
            self.ticker.begin();
            let over = task.poll();
            self.ticker.end();
            thread.served();
            if over {
                self.live.lock().remove(&task.number());
            } else if task.goes_on() {
                self.enqueue(task, false);
            }
        }
        thread.rest();
    }
}

/// What a thread carries from one task to the next.
///
/// To read its CPU time and to wake another thread are system calls, and dearer than many a poll: tasks of one account
/// that follow each other share them, as long as they are short.
struct Thread {
    /// The wake-ups that it holds back. The ticker makes them at each tick: a poll may be long, and that of guests' code
    /// is not the only one.
    held: Arc<Held>,
    serves: Option<Serves>,
}

/// Tasks of one account that follow each other.
struct Serves {
    account: Arc<Account>,
    /// When the first of them began, by the monotonic clock, which is no system call.
    since: u64,
    /// The thread's CPU time then. The account pays for all that the thread does from then on: its way from one task to
    /// the next, too.
    cpu: u64,
    /// Whether wake-ups are held back.
    holds: bool,
}

impl Thread {
    fn is_serving(&self) -> bool {
        self.serves.is_some()
    }

    /// Prepares for this task's poll.
    fn serve(&mut self, task: &Task) {
        let same = |serves: &Serves| Arc::ptr_eq(&serves.account, task.account());
        if self.serves.as_ref().is_some_and(|serves| !same(serves)) {
            self.rest();
        }
        let serves = self.serves.get_or_insert_with(|| Serves {
            account: task.account().clone(),
            since: nanoseconds(ClockId::Monotonic),
            cpu: nanoseconds(ClockId::ThreadCPUTime),
            holds: false,
        });
        if task.holds() && !serves.holds {
            wakers::hold(&self.held);
            serves.holds = true;
        }
    }

    /// Charges the account once its tasks took long enough. Before the last one is queued again, so that it stands where
    /// it belongs.
    fn served(&mut self) {
        let long = |serves: &Serves| nanoseconds(ClockId::Monotonic) - serves.since >= SERVED;
        if self.serves.as_ref().is_some_and(long) {
            self.rest();
        }
    }

    /// Settles what is open. It comes before the thread sleeps, which nobody pays for.
    fn rest(&mut self) {
        if let Some(serves) = self.serves.take() {
            if serves.holds {
                wakers::release();
            }
            let now = nanoseconds(ClockId::ThreadCPUTime);
            serves.account.charge(now.saturating_sub(serves.cpu));
        }
    }
}

/// The threads that run guests.
pub(crate) struct Gate {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Gate {
    /// Starts `threads` threads. Guests' timers are `io`'s; `tick` is called
    /// every millisecond while any guest runs.
    pub(crate) fn start(
        threads: usize,
        io: tokio::runtime::Handle,
        tick: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let held: Vec<Arc<Held>> = (0..threads.max(1)).map(|_| Arc::default()).collect();
        let of_threads = held.clone();
        let (ticker, ticking) = Ticker::start(move || {
            tick();
            of_threads.iter().for_each(|held| held.wake());
        })?;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            live: Mutex::default(),
            ticker,
            files: Files::default(),
            io,
        });
        let mut gate = Self {
            shared,
            threads: vec![ticking],
        };
        for (number, held) in held.into_iter().enumerate() {
            let shared = gate.shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("carob-guest-{number}"))
                .spawn(move || shared.run(held))?;
            gate.threads.push(thread);
        }
        Ok(gate)
    }

    /// An account with this weight and at most `quota` cores, which tasks can be run on.
    pub(crate) fn account(&self, weight: u32, quota: Option<f64>) -> Arc<Account> {
        Arc::new(Account::new(weight, quota, self.shared.clone()))
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
        let queued = {
            let mut queue = self.shared.queue.lock();
            queue.over = true;
            queue.empty()
        };
        queued.iter().for_each(|task| task.abandon());
        let live = std::mem::take(&mut *self.shared.live.lock());
        for task in live.into_values().filter_map(|task| task.upgrade()) {
            task.abandon();
        }
    }
}

#[cfg(test)]
mod tests;
