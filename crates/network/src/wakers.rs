//! Who waits for a change of a pipe, a listener or a datagram queue, and when those are woken.

use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Context, Waker};

use parking_lot::Mutex;

/// How many tasks may wait at one end at a time.
///
/// A guest waits with one task, the host with one or two more. When somebody registers beyond
/// that the waiting ones are woken and look again: a bound on memory that costs a spurious
/// wake-up, never a lost one.
const MOST: usize = 16;

/// The wakers of the tasks that wait at one end.
#[derive(Debug, Default)]
pub(crate) struct Wakers(Vec<Waker>);

impl Wakers {
    /// Wakes this task at the next [`wake`](Self::wake).
    pub(crate) fn register(&mut self, cx: &Context<'_>) {
        if self.0.iter().any(|waker| waker.will_wake(cx.waker())) {
            return;
        }
        if self.0.len() >= MOST {
            self.wake();
        }
        self.0.push(cx.waker().clone());
    }

    /// Wakes every waiting task, and forgets it. Where this thread [holds](hold) such calls back, later.
    pub(crate) fn wake(&mut self) {
        for waker in self.0.drain(..) {
            if let Some(now) = keep(waker) {
                now.wake();
            }
        }
    }
}

/// How many calls are held back at most. One more, and all of them are made.
const MOST_HELD: usize = 64;

/// The calls that one thread holds back. Any thread may make them.
#[derive(Debug, Default)]
pub struct Held(Mutex<Vec<Waker>>);

impl Held {
    /// Makes the calls that are held back now.
    pub fn wake(&self) {
        let mut wakers = std::mem::take(&mut *self.0.lock());
        // Not under the lock: a task that is dropped as it is woken may wake others.
        wakers.drain(..).for_each(Waker::wake);
        let mut held = self.0.lock();
        if held.capacity() == 0 {
            // Its room serves for the next ones.
            *held = wakers;
        }
    }

    fn keep(&self, waker: Waker) {
        let mut held = self.0.lock();
        held.push(waker);
        if held.len() >= MOST_HELD {
            drop(held);
            self.wake();
        }
    }
}

thread_local! {
    /// By whom this thread's calls are held back.
    static HELD: RefCell<Option<Arc<Held>>> = const { RefCell::new(None) };
}

/// Holds back, from now on and until [`release`], the calls by which changes that this thread makes wake those who wait
/// for them. What was written can be read meanwhile by who looks.
///
/// To wake another thread is a system call, and dearer than a short answer is: made together, most of those calls find
/// somebody who is awake already. Whoever holds them back has to release them soon, and before its thread sleeps.
pub fn hold(held: &Arc<Held>) {
    HELD.with_borrow_mut(|by| *by = Some(Arc::clone(held)));
}

/// Makes the calls that were held back, and holds back no more.
pub fn release() {
    if let Some(held) = HELD.take() {
        held.wake();
    }
}

/// Returns the waker where it is not held back.
fn keep(waker: Waker) -> Option<Waker> {
    // A thread that is being taken down has nothing to hold back with.
    let held = HELD.try_with(|held| held.borrow().clone()).ok().flatten();
    match held {
        Some(held) => {
            held.keep(waker);
            None
        }
        None => Some(waker),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn calls_are_held_back_until_they_are_released() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let wake = || {
            let mut wakers = Wakers::default();
            wakers.register(&Context::from_waker(&waker));
            wakers.wake();
            count.0.load(Ordering::Relaxed)
        };
        let now = || count.0.load(Ordering::Relaxed);
        let held = Arc::new(Held::default());
        assert_eq!(wake(), 1);
        hold(&held);
        assert_eq!((wake(), wake()), (1, 1));
        // Other threads hold nothing back, and may make the calls.
        std::thread::scope(|scope| {
            assert_eq!(scope.spawn(wake).join().unwrap(), 2);
            scope.spawn(|| held.wake());
        });
        assert_eq!((now(), wake()), (4, 4));
        release();
        assert_eq!((now(), wake()), (5, 6));
        release();
        assert_eq!(now(), 6);
    }

    #[test]
    fn only_so_many_calls_are_held_back() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        hold(&Arc::default());
        for _ in 0..MOST_HELD + 1 {
            let mut wakers = Wakers::default();
            wakers.register(&Context::from_waker(&waker));
            wakers.wake();
        }
        assert_eq!(count.0.load(Ordering::Relaxed), MOST_HELD);
        release();
        assert_eq!(count.0.load(Ordering::Relaxed), MOST_HELD + 1);
    }
}
