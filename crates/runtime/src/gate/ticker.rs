//! The ticker: what interrupts guests that compute.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

/// How often a guest that computes is interrupted.
const TICK: Duration = Duration::from_millis(1);

/// Calls back every millisecond while at least one guest runs.
pub(super) struct Ticker {
    running: AtomicUsize,
    pub(super) parked: AtomicBool,
    stopped: AtomicBool,
    thread: std::sync::OnceLock<Thread>,
}

impl Ticker {
    pub(super) fn start(
        tick: impl Fn() + Send + 'static,
    ) -> std::io::Result<(Arc<Self>, JoinHandle<()>)> {
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

    pub(super) fn begin(&self) {
        self.running.fetch_add(1, Ordering::SeqCst);
        if self.parked.load(Ordering::SeqCst) {
            self.unpark();
        }
    }

    pub(super) fn end(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn stop(&self) {
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
