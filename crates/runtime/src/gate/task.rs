//! One future in the gate, and how it is woken.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

use super::account::Account;

pub(super) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a task stands. It is polled by at most one thread, and is in at most one queue.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Waits for something outside.
    Waiting,
    /// In its account's line.
    Queued,
    /// Being polled.
    Polled,
    /// Being polled, and woken meanwhile: it goes on at once.
    PolledAgain,
    /// Over. Every wake-up is ignored.
    Done,
}

/// One future in the gate.
pub(crate) struct Task {
    phase: AtomicU8,
    work: Mutex<Option<Work>>,
    number: u64,
    account: Arc<Account>,
    /// Set once it is to be ended while others of its account go on.
    urgent: AtomicBool,
    /// Whether those whom it wakes may wait for others of its account.
    holds: bool,
}

impl Task {
    pub(super) fn new(number: u64, work: Work, account: Arc<Account>) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Queued as u8),
            work: Mutex::new(Some(work)),
            number,
            account,
            urgent: AtomicBool::new(false),
            holds: false,
        }
    }

    /// Its poll may hold back wake-ups, as of [`hold`](network::wakers::hold).
    pub(super) fn holding(mut self) -> Self {
        self.holds = true;
        self
    }

    pub(super) fn holds(&self) -> bool {
        self.holds
    }

    /// Lets it run whatever its account owes, now and from now on, so that it can be ended.
    pub(crate) fn expedite(self: &Arc<Self>) {
        self.urgent.store(true, Ordering::SeqCst);
        let shared = self.account.shared();
        if shared.queue.lock().hasten(self) {
            shared.work.notify_one();
        }
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.urgent.load(Ordering::SeqCst)
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    pub(super) fn phase(&self) -> Phase {
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

    /// Polls it once, and says whether it is over.
    pub(super) fn poll(self: &Arc<Self>) -> bool {
        self.phase.swap(Phase::Polled as u8, Ordering::AcqRel);
        let mut work = self.work.lock();
        let Some(future) = work.as_mut() else {
            return true;
        };
        let waker = Waker::from(self.clone());
        let mut cx = Context::from_waker(&waker);
        // A panic of a host function must cost its guest, not a thread that serves every guest.
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
        if matches!(polled, Ok(Poll::Pending)) {
            return false;
        }
        if polled.is_err() {
            tracing::error!("a host function panicked; its guest is ended");
        }
        self.phase.store(Phase::Done as u8, Ordering::Release);
        *work = None;
        true
    }

    /// Lets it wait after a poll, and says whether it need not: it was woken while it was polled, by an epoch's
    /// yield most of the time, and is to be queued again.
    pub(super) fn goes_on(&self) -> bool {
        if self.change(Phase::Polled, Phase::Waiting) {
            return false;
        }
        self.phase.swap(Phase::Queued as u8, Ordering::AcqRel);
        true
    }

    /// Drops what it was to do.
    pub(super) fn abandon(&self) {
        self.phase.store(Phase::Done as u8, Ordering::Release);
        let work = self.work.lock().take();
        drop(work);
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
                    return self.account.shared().enqueue(self.clone(), true);
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

#[cfg(test)]
impl Task {
    /// Whether nothing of it is left.
    pub(super) fn is_gone(&self) -> bool {
        self.work.lock().is_none()
    }
}
