//! Who waits for a change of a pipe, a listener or a datagram queue.

use std::task::{Context, Waker};

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

    /// Wakes every waiting task, and forgets it.
    pub(crate) fn wake(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}
