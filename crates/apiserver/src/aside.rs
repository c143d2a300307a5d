//! Work that would keep a thread for long is done beside those that serve everybody.
//!
//! The store's heartbeats run on the threads that requests are served by: a few large objects judged at a time
//! would hold all of them for seconds, and the cluster would lose its leader.

use std::future::poll_fn;
use std::num::NonZero;
use std::pin::pin;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// How many bytes are judged at once on a serving thread: some milliseconds of work.
const LARGE: usize = 128 << 10;

/// Turns of those who have much to do: half of the processors, and so much memory, are everybody else's.
pub(crate) struct Aside(Semaphore);

impl Default for Aside {
    fn default() -> Aside {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Aside(Semaphore::new((processors / 2).max(1)))
    }
}

impl Aside {
    /// Runs what works on so many bytes: here if they are few, else when its turn has come and on a
    /// thread that serves nobody else meanwhile.
    pub(crate) async fn run<T>(&self, bytes: usize, work: impl Future<Output = T>) -> T {
        if bytes < LARGE {
            return work.await;
        }
        // Never closed: without a turn nothing is lost but the bound.
        let _turn = self.0.acquire().await;
        let mut work = pin!(work);
        let apart = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        poll_fn(|cx| match apart {
            true => tokio::task::block_in_place(|| work.as_mut().poll(cx)),
            // There is one thread only, and nowhere to go.
            false => work.as_mut().poll(cx),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn large_work_takes_turns_and_small_work_does_not_wait() {
        let aside = Aside(Semaphore::new(1));
        let running = AtomicUsize::new(0);
        let large = || {
            aside.run(LARGE, async {
                assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "a turn each");
                // Small work goes on beside it.
                aside.run(LARGE - 1, tokio::task::yield_now()).await;
                running.fetch_sub(1, Ordering::SeqCst)
            })
        };
        let ended = futures::future::join_all([large(), large(), large()]).await;
        assert_eq!(ended, [1, 1, 1]);
    }

    #[tokio::test]
    async fn one_thread_does_it_all() {
        assert_eq!(Aside::default().run(LARGE, async { 1 }).await, 1);
    }
}
