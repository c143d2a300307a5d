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
mod task;
mod ticker;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::time::{ClockId, clock_gettime};

pub(crate) use account::Account;
use account::Queue;
pub(crate) use task::Task;
use ticker::Ticker;

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
        if queue.shutdown {
            // Whoever wakes may hold what the task's end needs: it is dropped with the gate.
            return;
        }
        queue.add(task, joins);
        drop(queue);
        self.work.notify_one();
    }

    /// The next task to run; waits for one. `None` at shutdown.
    fn next(&self) -> Option<Arc<Task>> {
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
            match rest_ends {
                None => self.work.wait(&mut queue),
                Some(end) => {
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
            let over = task.poll();
            let used = nanoseconds(ClockId::ThreadCPUTime).saturating_sub(begun);
            self.ticker.end();
            task.account().charge(used);
            if over {
                self.live.lock().remove(&task.number());
            } else if task.goes_on() {
                self.enqueue(task, false);
            }
        }
    }
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
            live: Mutex::default(),
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
        let queued = self.shared.queue.lock().empty();
        queued.iter().for_each(|task| task.abandon());
        let live = std::mem::take(&mut *self.shared.live.lock());
        for task in live.into_values().filter_map(|task| task.upgrade()) {
            task.abandon();
        }
    }
}

#[cfg(test)]
mod tests;
