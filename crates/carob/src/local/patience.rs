//! Waiting that says what for, and that ends.

use std::time::Duration;

use tokio::time::Instant;

/// How long a wait goes on without a word, and how long it keeps quiet after each.
const QUIET: Duration = Duration::from_secs(5);

/// A wait that has a bound.
pub(super) struct Patience {
    /// When it ends.
    pub(super) until: Instant,
    speaks_at: Instant,
}

impl Patience {
    /// A wait of `limit` at most that begins now.
    pub(super) fn new(limit: Duration) -> Self {
        let now = Instant::now();
        Self {
            until: now + limit,
            speaks_at: now + QUIET,
        }
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Says what is waited for, if that was not said for a while.
    pub(super) fn waits_for(&mut self, what: &str) {
        if self.speaks(Instant::now()) {
            eprintln!("waiting for {what}");
        }
    }

    fn speaks(&mut self, now: Instant) -> bool {
        let due = now >= self.speaks_at;
        if due {
            self.speaks_at = now + QUIET;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_speaks_now_and_then_and_ends() {
        let began = Instant::now();
        let mut patience = Patience::new(Duration::from_secs(3600));
        assert!(!patience.is_over());
        let first = patience.speaks_at;
        assert!(first >= began + QUIET);
        let second = Duration::from_secs(1);
        for (at, speaks) in [
            (began, false),
            (first - second, false),
            (first, true),
            (first + second, false),
            (first + QUIET - second, false),
            (first + QUIET, true),
            (first + QUIET + second, false),
        ] {
            assert_eq!(patience.speaks(at), speaks, "{:?}", at - began);
        }
        assert!(Patience::new(Duration::ZERO).is_over());
    }
}
