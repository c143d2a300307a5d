//! The memory that a workload and those beside it have together, and the limit on it.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::ResizeError;

/// More was wanted than a limit leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutOfMemory {
    /// The workload's own.
    #[error("out of memory: the limit is {0} bytes")]
    Limit(u64),
    /// That of all workloads together.
    #[error("out of memory: all modules of this node together have its {0} bytes")]
    Node(u64),
}

/// What all workloads of a node have together. Memory that the system lacks it takes from all of them at once, by ending their
/// process: so who has more than it requested is refused before.
#[derive(Debug)]
pub(crate) struct NodeMemory {
    most: u64,
    used: Mutex<u64>,
}

impl NodeMemory {
    pub(crate) fn new(most: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            most: most.unwrap_or(u64::MAX),
            used: Mutex::new(0),
        })
    }

    fn grow(&self, bytes: u64, is_requested: bool) -> Result<(), OutOfMemory> {
        let mut used = self.used.lock();
        let more = used.checked_add(bytes);
        let more = more.filter(|more| is_requested || *more <= self.most);
        *used = more.ok_or(OutOfMemory::Node(self.most))?;
        Ok(())
    }

    fn shrink(&self, bytes: u64) {
        *self.used.lock() -= bytes;
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
mod tests {
    use super::*;

    fn alone(limit: u64) -> Memory {
        Memory::new(Some(limit), 0, NodeMemory::new(None))
    }

    #[test]
    fn growth_ends_at_the_limit() {
        let memory = alone(100);
        assert_eq!(memory.grow(100), Ok(()));
        assert_eq!(memory.grow(1), Err(OutOfMemory::Limit(100)));
        assert_eq!(memory.grow(u64::MAX), Err(OutOfMemory::Limit(100)));
        memory.shrink(40);
        assert_eq!((memory.used(), memory.grow(40)), (60, Ok(())));
    }

    #[test]
    fn what_all_have_ends_at_the_node_but_for_what_was_requested() {
        let node = NodeMemory::new(Some(100));
        let memory = |requested| Memory::new(None, requested, node.clone());
        let (greedy, modest) = (memory(0), memory(30));
        assert_eq!(greedy.grow(101), Err(OutOfMemory::Node(100)));
        assert_eq!(greedy.grow(95), Ok(()));
        assert_eq!(greedy.grow(6), Err(OutOfMemory::Node(100)));
        assert_eq!(greedy.used(), 95, "nothing was counted");
        assert_eq!(modest.grow(30), Ok(()));
        assert_eq!(modest.grow(1), Err(OutOfMemory::Node(100)));
        modest.resize(None, 40).unwrap();
        assert_eq!(modest.grow(10), Ok(()));
        greedy.shrink(95);
        assert_eq!(greedy.grow(60), Ok(()));
        assert_eq!(greedy.grow(1), Err(OutOfMemory::Node(100)));
        modest.shrink(40);
        assert_eq!(greedy.grow(40), Ok(()));
    }

    #[test]
    fn a_limit_is_never_below_what_is_used() {
        let memory = alone(100);
        memory.grow(80).unwrap();
        let refused = memory.resize(Some(79), 0).unwrap_err();
        assert_eq!(
            refused,
            ResizeError::MemoryInUse {
                limit: 79,
                used: 80
            }
        );
        let words = refused.to_string();
        assert!(words.contains("79") && words.contains("80"), "{words}");
        assert_eq!((memory.limit(), memory.used()), (100, 80));
        memory.resize(Some(80), 0).unwrap();
        assert_eq!(memory.grow(1), Err(OutOfMemory::Limit(80)));
        memory.resize(Some(200), 0).unwrap();
        assert_eq!(memory.grow(120), Ok(()));
        memory.resize(None, 0).unwrap();
        assert_eq!(memory.grow(1 << 40), Ok(()));
    }
}
