//! What time it is.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The wall clock, or in simulations one that moves with tokio's.
#[derive(Clone, Copy, Debug, Default)]
pub enum Clock {
    /// The machine's.
    #[default]
    Wall,
    /// So much time after `start` as tokio's clock has moved since `at`.
    Simulated {
        /// What time it was.
        start: Timestamp,
        /// When.
        at: Instant,
    },
}

impl Clock {
    /// A clock that shows `start` now and moves with tokio's.
    pub fn simulated(start: Timestamp) -> Self {
        Self::Simulated {
            start,
            at: Instant::now(),
        }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::Wall => Timestamp::now(),
            Self::Simulated { start, at } => {
                let passed = SignedDuration::try_from(at.elapsed()).unwrap_or(SignedDuration::MAX);
                start.checked_add(passed).unwrap_or(*start)
            }
        }
    }

    /// How long it is until `at`; nothing if that has passed.
    pub(crate) fn until(&self, at: Timestamp) -> std::time::Duration {
        std::time::Duration::try_from(at.duration_since(self.now())).unwrap_or_default()
    }
}
