//! Counters of a runtime.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a runtime has done since it was made, and runs now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Modules compiled.
    pub compilations: u64,
    /// Modules whose compiled form was found on disk.
    pub disk_cache_hits: u64,
    /// Modules that were in memory, ready to start.
    pub memory_cache_hits: u64,
    /// Workloads started.
    pub starts: u64,
    /// Workloads that run now.
    pub running: u64,
}

/// The live counters behind [`Metrics`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) compilations: AtomicU64,
    pub(crate) disk_cache_hits: AtomicU64,
    pub(crate) memory_cache_hits: AtomicU64,
    pub(crate) starts: AtomicU64,
    pub(crate) running: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> Metrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Metrics {
            compilations: read(&self.compilations),
            disk_cache_hits: read(&self.disk_cache_hits),
            memory_cache_hits: read(&self.memory_cache_hits),
            starts: read(&self.starts),
            running: read(&self.running),
        }
    }
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
