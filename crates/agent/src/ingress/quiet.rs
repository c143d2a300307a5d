//! How long nothing has happened.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// When something was last seen to go on.
#[derive(Clone, Debug)]
pub(super) struct Pulse(Arc<Mutex<Instant>>);

impl Pulse {
    /// It goes on now.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// It still does.
    pub(super) fn beat(&self) {
        *self.0.lock() = Instant::now();
    }

    /// Waits until it has not for so long.
    pub(super) async fn silent(&self, limit: Duration) {
        loop {
            let due = *self.0.lock() + limit;
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }
}

/// What a connection is used for.
#[derive(Debug)]
pub(super) struct Activity {
    now: Mutex<Now>,
    free: Notify,
}

#[derive(Debug)]
struct Now {
    requests: usize,
    /// Since when it is as it is.
    since: Instant,
    /// It was used at all.
    used: bool,
}

/// A request on a connection, until it is answered.
#[derive(Debug)]
pub(super) struct Busy(Arc<Activity>);

impl Activity {
    /// The connection has just been made.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            now: Mutex::new(Now {
                requests: 0,
                since: Instant::now(),
                used: false,
            }),
            free: Notify::new(),
        })
    }

    /// A request has come.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        let mut now = self.now.lock();
        now.requests += 1;
        now.used = true;
        Busy(self.clone())
    }

    /// Waits until nobody asked for anything: for the first time within `first`, or again within `then`.
    pub(super) async fn idle(&self, first: Duration, then: Duration) {
        loop {
            let due = {
                let now = self.now.lock();
                let limit = if now.used { then } else { first };
                (now.requests == 0).then(|| now.since + limit)
            };
            match due {
                None => self.free.notified().await,
                Some(due) if due <= Instant::now() => return,
                Some(due) => sleep_until(due).await,
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut now = self.0.now.lock();
        now.requests -= 1;
        now.since = Instant::now();
        self.0.free.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(10);
    const THEN: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn connections_that_are_not_used() {
        let start = Instant::now();
        let activity = Activity::new();
        activity.idle(FIRST, THEN).await;
        assert_eq!(start.elapsed(), FIRST, "nothing was ever asked");
        let start = Instant::now();
        let activity = Activity::new();
        let busy = activity.begin();
        let end = async {
            tokio::time::sleep(3 * THEN).await;
            drop(busy);
        };
        tokio::join!(end, activity.idle(FIRST, THEN));
        assert_eq!(start.elapsed(), 4 * THEN, "a request is no idleness");
    }

    #[tokio::test(start_paused = true)]
    async fn silence() {
        let start = Instant::now();
        let pulse = Pulse::new();
        let beats = async {
            for _ in 0..5 {
                tokio::time::sleep(FIRST / 2).await;
                pulse.beat();
            }
        };
        tokio::join!(beats, pulse.silent(FIRST));
        assert_eq!(start.elapsed(), FIRST / 2 * 5 + FIRST);
    }
}
