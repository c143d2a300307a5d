//! The memory that a workload and those beside it have together, and the limit on it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ResizeError;

/// Says how many bytes all guests may have now besides those that they have, which it is told; `None` where nobody knows. It
/// is asked while a guest waits.
pub type MemoryLeft = Arc<dyn Fn(u64) -> Option<u64> + Send + Sync>;

/// For so long the outcome of a look at the machine holds: other programs, too, take of its memory, and give it back.
const HOLDS: Duration = Duration::from_millis(100);

/// More was wanted than a limit leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutOfMemory {
    /// The workload's own.
    #[error("out of memory: the limit is {0} bytes")]
    Limit(u64),
    /// What is left for all workloads together.
    #[error("out of memory: {0} bytes are left for all modules of this node")]
    Node(u64),
}

/// What all workloads of a node have together. Memory that the system lacks it takes from all of them at once, by ending their
/// process: so who has more than it requested is refused before.
///
/// What the machine has left changes, and to look at it takes a while. So a look grants half of what it finds, for nobody is
/// alone on the machine, and the next is due when that is used, or the look has become old: near the end there are many, of
/// little each. Who wants more than half at once gets it if it is there, since it would never get it otherwise.
pub(crate) struct NodeMemory {
    most: u64,
    left: MemoryLeft,
    account: Mutex<Account>,
}

#[derive(Default)]
struct Account {
    used: u64,
    look: Option<Look>,
}

/// What came of a look at the machine.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    /// All may have so much before the next.
    granted: u64,
    /// There was no more for all.
    most: u64,
}

impl NodeMemory {
    /// `most` of `None` is no bound but what is left.
    pub(crate) fn new(most: Option<u64>, left: MemoryLeft) -> Arc<Self> {
        Arc::new(Self {
            most: most.unwrap_or(u64::MAX),
            left,
            account: Mutex::default(),
        })
    }

    /// One without bounds.
    pub(crate) fn endless() -> Arc<Self> {
        Self::new(None, Arc::new(|_| None))
    }

    fn grow(&self, bytes: u64, is_requested: bool) -> Result<(), OutOfMemory> {
        let mut account = self.account.lock();
        let used = account.used.checked_add(bytes);
        let used = used.ok_or(OutOfMemory::Node(0))?;
        if !is_requested {
            // Under the lock: what one look finds is not given away twice.
            let look = self.look(&account, used);
            account.look = Some(look);
            if used > look.most {
                return Err(OutOfMemory::Node(look.most.saturating_sub(account.used)));
            }
        }
        account.used = used;
        Ok(())
    }

    /// The last look, if it still says whether all may have so much, or a new one.
    fn look(&self, account: &Account, wanted: u64) -> Look {
        let now = Instant::now();
        let says = |look: &Look| {
            let is_young = now.duration_since(look.at) < HOLDS;
            is_young && (wanted <= look.granted || wanted > look.most)
        };
        account.look.filter(says).unwrap_or_else(|| {
            let left = (self.left)(account.used).unwrap_or(u64::MAX);
            let with = |more| self.most.min(account.used.saturating_add(more));
            Look {
                at: now,
                granted: with(left / 2),
                most: with(left),
            }
        })
    }

    fn shrink(&self, bytes: u64) {
        self.account.lock().used -= bytes;
    }
}

impl fmt::Debug for NodeMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("NodeMemory");
        shown.field("most", &self.most).finish_non_exhaustive()
    }
}

/// Counts bytes of linear memories and tables against one limit, and against the node's.
#[derive(Debug)]
pub(crate) struct Memory {
    counts: Mutex<Counts>,
    node: Arc<NodeMemory>,
}

/// Under one lock, so that no growth slips in between a new limit's judgement and its taking effect.
#[derive(Debug)]
struct Counts {
    limit: u64,
    /// What is granted whatever others have.
    requested: u64,
    used: u64,
}

impl Memory {
    /// `limit` of `None` is none.
    pub(crate) fn new(limit: Option<u64>, requested: u64, node: Arc<NodeMemory>) -> Self {
        let counts = Mutex::new(Counts {
            limit: limit.unwrap_or(u64::MAX),
            requested,
            used: 0,
        });
        Self { counts, node }
    }

    /// Counts so many bytes more.
    ///
    /// # Errors
    /// When a limit forbids it. Nothing is counted then.
    pub(crate) fn grow(&self, bytes: u64) -> Result<(), OutOfMemory> {
        let mut counts = self.counts.lock();
        let used = counts.used.checked_add(bytes);
        let used = used.filter(|used| *used <= counts.limit);
        let used = used.ok_or(OutOfMemory::Limit(counts.limit))?;
        self.node.grow(bytes, used <= counts.requested)?;
        counts.used = used;
        Ok(())
    }

    /// Counts so many bytes less, which were counted before.
    pub(crate) fn shrink(&self, bytes: u64) {
        self.counts.lock().used -= bytes;
        self.node.shrink(bytes);
    }

    pub(crate) fn used(&self) -> u64 {
        self.counts.lock().used
    }

    pub(crate) fn limit(&self) -> u64 {
        self.counts.lock().limit
    }

    /// Changes the limit, of which `None` is none, and the request.
    ///
    /// # Errors
    /// When more than that is in use. Both are what they were then.
    pub(crate) fn resize(&self, limit: Option<u64>, requested: u64) -> Result<(), ResizeError> {
        let limit = limit.unwrap_or(u64::MAX);
        let mut counts = self.counts.lock();
        if counts.used > limit {
            let used = counts.used;
            return Err(ResizeError::MemoryInUse { limit, used });
        }
        (counts.limit, counts.requested) = (limit, requested);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
