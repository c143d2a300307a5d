//! The threads that make the system calls of guests' file calls.
//!
//! Such a call may take as long as a disk or a network does, or for ever where a mount does not answer any more; nothing can
//! end it from outside. So calls of different accounts never share threads at one time: each account whose calls are under
//! way has a few for itself, and gives them back for who comes next. What is never over keeps its account's threads until
//! the account is gone, and nobody else's.
//!
//! wasmtime-wasi spawns what blocks on whatever runtime of tokio's is around. So the threads are a runtime's, entered
//! for file calls alone: it has neither timers nor sockets.

use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::thread::{Pid, gettid};
use rustix::time::ClockId;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::account::Account;
use super::nanoseconds;

/// How many system calls an account makes at a time. Its others wait for these.
const THREADS: usize = 4;

/// How many file calls are waited for at a time, of those that find no threads which their account has already.
const PLACES: usize = 512;

/// Those of all accounts.
pub(super) struct Files {
    places: Arc<Semaphore>,
    /// What was used last comes first: its threads are there still.
    idle: Mutex<Vec<Threads>>,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(PLACES)),
            idle: Mutex::default(),
        }
    }
}

impl Files {
    fn threads(&self) -> Threads {
        let idle = self.idle.lock().pop();
        let mut threads = idle.unwrap_or_else(Threads::new);
        threads.unpaid();
        threads
    }

    fn give_back(&self, threads: Threads) {
        let mut idle = self.idle.lock();
        if idle.len() < PLACES {
            idle.push(threads);
        }
    }
}

/// A few threads, started when there is something to do, and gone when there is nothing for a while.
struct Threads {
    /// `None` where the system has no room for it: calls are made by whatever runtime is around then.
    runtime: Option<Runtime>,
    times: Arc<Mutex<Times>>,
    /// The CPU time that is paid for.
    paid: u64,
}

/// CPU time, by the threads that took it.
#[derive(Default)]
struct Times {
    live: Vec<Pid>,
    /// Of those that are gone.
    ended: u64,
}

impl Threads {
    fn new() -> Self {
        let times = Arc::new(Mutex::new(Times::default()));
        let (begun, ended) = (times.clone(), times.clone());
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(THREADS)
            .thread_name("carob-files")
            .on_thread_start(move || begun.lock().live.push(gettid()))
            .on_thread_stop(move || {
                let mut times = ended.lock();
                times.live.retain(|thread| *thread != gettid());
                times.ended += nanoseconds(ClockId::ThreadCPUTime);
            })
            .build();
        Self {
            runtime: runtime.ok(),
            times,
            paid: 0,
        }
    }

    /// The CPU time that nobody has paid for yet, which is paid for with this.
    fn unpaid(&mut self) -> u64 {
        let times = self.times.lock();
        // None of them ends before it has the lock.
        let live = times.live.iter().map(|thread| cpu_time(*thread));
        let all = times.ended + live.sum::<u64>();
        let unpaid = all.saturating_sub(self.paid);
        self.paid = all;
        unpaid
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It does not wait for what is never over. What was not begun is not done.
            runtime.shutdown_background();
        }
    }
}

/// The CPU time of a thread of this process, in nanoseconds.
#[expect(
    unsafe_code,
    reason = "the clock of another thread is read by its number"
)]
fn cpu_time(thread: Pid) -> u64 {
    // Linux' number of that clock: CPUCLOCK_SCHED of one thread (see clock_getcpuclockid(3)).
    let clock = (!thread.as_raw_nonzero().get() << 3) | 0b110;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a `timespec` that the call may write to, and outlives it. Of a clock that there is not the call
    // says so, and leaves zeros.
    let _ = unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// The threads that an account has.
pub(super) struct Lease {
    threads: Threads,
    turns: usize,
    /// Whether somebody went away before what was to be done was over: it goes on all the same.
    abandoned: bool,
}

/// Somebody's who has file calls made at an account's expense. Dropping it says that what was begun may not be over.
pub(crate) struct Turn {
    account: Arc<Account>,
    handle: Option<Handle>,
    is_over: bool,
    _place: Option<OwnedSemaphorePermit>,
}

impl Turn {
    /// Does something that has system calls made, or looks whether they are over.
    pub(crate) fn enter<T>(&self, what: impl FnOnce() -> T) -> T {
        let _entered = self.handle.as_ref().map(Handle::enter);
        what()
    }

    /// All that was begun is over.
    pub(crate) fn over(mut self) {
        self.is_over = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut slot = self.account.files().lock();
        let Some(lease) = slot.as_mut() else {
            return;
        };
        lease.turns -= 1;
        lease.abandoned |= !self.is_over;
        let unpaid = lease.threads.unpaid();
        let free = lease.turns == 0 && !lease.abandoned;
        let free = if free { slot.take() } else { None };
        drop(slot);
        self.account.charge(unpaid);
        if let Some(lease) = free {
            self.account.shared().files.give_back(lease.threads);
        }
    }
}

impl Account {
    /// Makes a file call at this account's expense.
    pub(crate) async fn file_call<T>(self: &Arc<Self>, call: impl Future<Output = T>) -> T {
        let turn = self.turn().await;
        let mut call = pin!(call);
        let answer = std::future::poll_fn(|cx| turn.enter(|| call.as_mut().poll(cx))).await;
        turn.over();
        answer
    }

    /// A turn, once there is a place for one more account that has file calls under way.
    pub(crate) async fn turn(self: &Arc<Self>) -> Turn {
        if let Some(turn) = self.joined() {
            return turn;
        }
        // It is never closed.
        let place = self.shared().files.places.clone().acquire_owned().await;
        self.begun(place.ok())
    }

    /// A turn at once, for who cannot wait.
    pub(crate) fn turn_now(self: &Arc<Self>) -> Turn {
        self.begun(None)
    }

    /// A turn with the threads that the account has, if it has any.
    fn joined(self: &Arc<Self>) -> Option<Turn> {
        let mut slot = self.files().lock();
        Some(self.of(slot.as_mut()?, None))
    }

    fn begun(self: &Arc<Self>, place: Option<OwnedSemaphorePermit>) -> Turn {
        let mut slot = self.files().lock();
        let lease = slot.get_or_insert_with(|| {
            Box::new(Lease {
                threads: self.shared().files.threads(),
                turns: 0,
                abandoned: false,
            })
        });
        self.of(lease, place)
    }

    fn of(self: &Arc<Self>, lease: &mut Lease, place: Option<OwnedSemaphorePermit>) -> Turn {
        lease.turns += 1;
        Turn {
            account: self.clone(),
            handle: lease
                .threads
                .runtime
                .as_ref()
                .map(|runtime| runtime.handle().clone()),
            is_over: false,
            _place: place,
        }
    }
}

#[cfg(test)]
mod tests;
