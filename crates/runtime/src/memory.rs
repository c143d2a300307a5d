//! The memory that a workload and those beside it have together, and the limit on it.

use parking_lot::Mutex;

use crate::ResizeError;

/// More was wanted than the limit leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of memory: the limit is {limit} bytes")]
pub(crate) struct OutOfMemory {
    /// The limit, in bytes.
    pub(crate) limit: u64,
}

/// Counts bytes of linear memories and tables against one limit.
#[derive(Debug)]
pub(crate) struct Memory(Mutex<Counts>);

/// Under one lock, so that no growth slips in between a new limit's judgement and its taking effect.
#[derive(Debug)]
struct Counts {
    limit: u64,
    used: u64,
}

impl Memory {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        let limit = limit.unwrap_or(u64::MAX);
        Self(Mutex::new(Counts { limit, used: 0 }))
    }

    /// Counts so many bytes more.
    ///
    /// # Errors
    /// When the limit forbids it. Nothing is counted then.
    pub(crate) fn grow(&self, bytes: u64) -> Result<(), OutOfMemory> {
        let mut counts = self.0.lock();
        let limit = counts.limit;
        let used = counts.used.checked_add(bytes);
        counts.used = used
            .filter(|used| *used <= limit)
            .ok_or(OutOfMemory { limit })?;
        Ok(())
    }

    /// Counts so many bytes less, which were counted before.
    pub(crate) fn shrink(&self, bytes: u64) {
        self.0.lock().used -= bytes;
    }

    pub(crate) fn used(&self) -> u64 {
        self.0.lock().used
    }

    pub(crate) fn limit(&self) -> u64 {
        self.0.lock().limit
    }

    /// Changes the limit; `None` is none.
    ///
    /// # Errors
    /// When more than that is in use. The limit is what it was then.
    pub(crate) fn set_limit(&self, limit: Option<u64>) -> Result<(), ResizeError> {
        let limit = limit.unwrap_or(u64::MAX);
        let mut counts = self.0.lock();
        if counts.used > limit {
            let used = counts.used;
            return Err(ResizeError::MemoryInUse { limit, used });
        }
        counts.limit = limit;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_ends_at_the_limit() {
        let memory = Memory::new(Some(100));
        assert_eq!(memory.grow(100), Ok(()));
        assert_eq!(memory.grow(1), Err(OutOfMemory { limit: 100 }));
        assert_eq!(memory.grow(u64::MAX), Err(OutOfMemory { limit: 100 }));
        memory.shrink(40);
        assert_eq!((memory.used(), memory.grow(40)), (60, Ok(())));
    }

    #[test]
    fn a_limit_is_never_below_what_is_used() {
        let memory = Memory::new(Some(100));
        memory.grow(80).unwrap();
        let refused = memory.set_limit(Some(79)).unwrap_err();
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
        memory.set_limit(Some(80)).unwrap();
        assert_eq!(memory.grow(1), Err(OutOfMemory { limit: 80 }));
        memory.set_limit(Some(200)).unwrap();
        assert_eq!(memory.grow(120), Ok(()));
        memory.set_limit(None).unwrap();
        assert_eq!(memory.grow(1 << 40), Ok(()));
    }
}
