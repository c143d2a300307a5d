//! Work that would keep a thread for long is done beside those that serve everybody.
//!
//! The store's heartbeats run on the threads that requests are served by: a few large objects judged at a time
//! would hold all of them for seconds, and the cluster would lose its leader.

use std::future::poll_fn;
use std::num::NonZero;
use std::pin::Pin;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// How many bytes are judged on a serving thread at most: some milliseconds of work.
pub(crate) const LARGE: usize = 128 << 10;

/// Turns of those who have much to do: half of the processors, and so much memory, are everybody else's.
pub(crate) struct Aside(Semaphore);

impl Default for Aside {
    fn default() -> Aside {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Aside(Semaphore::new((processors / 2).max(1)))
    }
}

impl Aside {
    /// Does large work when its turn has come, on a thread that serves nobody else meanwhile.
    pub(crate) async fn run<T>(&self, mut work: impl Future<Output = T> + Unpin) -> T {
        // Never closed: without a turn nothing is lost but the bound.
        let _turn = self.0.acquire().await;
        let apart = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        poll_fn(|cx| {
            let work = Pin::new(&mut work);
            match apart {
                true => tokio::task::block_in_place(|| work.poll(cx)),
                // There is one thread only, and nowhere to go.
                false => work.poll(cx),
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn large_work_takes_turns() {
        let aside = Aside(Semaphore::new(1));
        let running = AtomicUsize::new(0);
        let large = || {
            aside.run(Box::pin(async {
                assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "a turn each");
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst)
            }))
        };
        let ended = futures::future::join_all([large(), large(), large()]).await;
        assert_eq!(ended, [1, 1, 1]);
    }

    #[tokio::test]
    async fn one_thread_does_it_all() {
        assert_eq!(Aside::default().run(Box::pin(async { 1 })).await, 1);
    }
}
