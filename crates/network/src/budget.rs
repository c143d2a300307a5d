//! How much may wait in all sockets of one pod together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A count of what waits, with a bound. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    held: Arc<AtomicUsize>,
    most: usize,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            held: Arc::default(),
            most,
        }
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.held.load(Ordering::Relaxed) >= self.most
    }

    pub(crate) fn hold(&self, amount: usize) {
        self.held.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn release(&self, amount: usize) {
        self.held.fetch_sub(amount, Ordering::Relaxed);
    }
}
