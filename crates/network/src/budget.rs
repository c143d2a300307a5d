//! How much may wait in all sockets of one pod together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many times the bound may be held by what could not be held back.
const OVERDRAFT: usize = 3;

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

    /// Whether so much is held that it can be no account of what is on its way any more. What arrives over links cannot be
    /// held back at once: each stream may bring its window yet.
    pub(crate) fn is_overdrawn(&self) -> bool {
        self.held.load(Ordering::Relaxed) >= self.most * OVERDRAFT
    }

    pub(crate) fn hold(&self, amount: usize) {
        self.held.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn release(&self, amount: usize) {
        self.held.fetch_sub(amount, Ordering::Relaxed);
    }
}
