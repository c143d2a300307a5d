//! What all commands of one caller may do together: they run each other, and no single one would see how many there are.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::coop::consume_budget;

use super::bridge::Workers;

/// Commands and pipes that shells run.
pub(super) const MOST_RUN: u32 = 100_000;

/// Commands in pipes that run at once: each has a buffer, and what it holds itself.
pub(super) const MOST_AT_ONCE: usize = 16;

/// Commands with threads of their own: as many as copy a tree by `tar c | tar x`.
const MOST_WORKERS: usize = 2;

/// Bytes that are gone through for one unit of a poll's budget, which has 128.
const STRIDE: usize = 1 << 10;

/// The bounds of one caller's commands.
pub(super) struct Bounds {
    run: AtomicU32,
    at_once: Semaphore,
    /// Room for commands with threads of their own.
    pub(super) workers: Workers,
}

impl Bounds {
    pub(super) fn new() -> Self {
        Self {
            run: AtomicU32::new(0),
            at_once: Semaphore::new(MOST_AT_ONCE),
            workers: Workers::new(MOST_WORKERS),
        }
    }

    /// Whether one more command may run. However little commands do, a poll ends after so many of them: only then
    /// can they be cancelled.
    pub(super) async fn one_more(&self) -> bool {
        consume_budget().await;
        // It cannot wrap: who is refused runs nothing more.
        self.run.fetch_add(1, Ordering::Relaxed) < MOST_RUN
    }

    /// Takes turns with others before so many bytes are gone through.
    pub(super) async fn goes_through(&self, bytes: usize) {
        for _ in 0..=bytes / STRIDE {
            consume_budget().await;
        }
    }

    /// Room for so many commands side by side, for as long as it is held; none where there is too little.
    pub(super) fn side_by_side(&self, commands: usize) -> Option<SemaphorePermit<'_>> {
        let commands = u32::try_from(commands).ok()?;
        self.at_once.try_acquire_many(commands).ok()
    }
}
