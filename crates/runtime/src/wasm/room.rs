//! How many instances may live at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::StartError;
use crate::metrics::Counters;

/// The places for instances that the pool has.
#[derive(Debug)]
pub(super) struct Room {
    capacity: u32,
    live: AtomicU64,
}

impl Room {
    pub(super) fn new(capacity: u32) -> Arc<Self> {
        let live = AtomicU64::new(0);
        Arc::new(Self { capacity, live })
    }

    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// A place for one instance.
    ///
    /// # Errors
    /// When all are taken.
    pub(super) fn take(self: &Arc<Self>) -> Result<Place, StartError> {
        let more = |live: u64| (live < u64::from(self.capacity)).then_some(live + 1);
        let taken = self
            .live
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        match taken {
            Ok(_) => Ok(Place(self.clone())),
            Err(live) => Err(StartError::Exhausted(format!(
                "{live} modules run here, and this node has room for no more \
                 (vm.max_map_count bounds it)"
            ))),
        }
    }
}

/// One instance's place, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Room>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a workload as running until it is dropped.
pub(super) struct Counted(Arc<Counters>);

impl Counted {
    pub(super) fn new(counters: &Arc<Counters>) -> Self {
        counters.starts.fetch_add(1, Ordering::Relaxed);
        counters.running.fetch_add(1, Ordering::Relaxed);
        Self(counters.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
