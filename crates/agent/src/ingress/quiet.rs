//! How long nothing has happened.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

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

/// Why a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nobody asked for anything for so long.
    Idle,
    /// The client has not taken anything of what it asked for for so long.
    Unread,
    /// Its place is another's now.
    Displaced,
}

/// How long a connection is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For its first request.
    pub(super) first: Duration,
    /// For further ones.
    pub(super) then: Duration,
    /// For the client to take what is there of its answers.
    pub(super) unread: Duration,
}

/// What a connection is used for.
#[derive(Debug)]
pub(super) struct Activity {
    now: Mutex<Now>,
    changed: Notify,
    /// Told when the connection has come to rest, and when one that was to make room is used again.
    news: Arc<Notify>,
}

#[derive(Debug)]
struct Now {
    requests: usize,
    /// How many of them are answered by more than the client has taken.
    unread: usize,
    /// Since when it is as it is.
    since: Instant,
    /// It was used at all.
    used: bool,
    stay: Stay,
}

/// Whether a connection may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    /// Until nobody has patience any more.
    Kept,
    /// Its place is needed by others.
    Displaced,
    /// It is being ended, and is there for what was on its way only.
    Leaving,
}

/// A request on a connection, until it is answered.
#[derive(Debug)]
pub(super) struct Busy {
    activity: Arc<Activity>,
    unread: bool,
}

impl Activity {
    /// The connection has just been made.
    pub(super) fn new(news: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            now: Mutex::new(Now {
                requests: 0,
                unread: 0,
                since: Instant::now(),
                used: false,
                stay: Stay::Kept,
            }),
            changed: Notify::new(),
            news,
        })
    }

    /// A request has come.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        let goes_not = {
            let mut now = self.now.lock();
            now.requests += 1;
            now.used = true;
            now.requests == 1 && now.stay != Stay::Kept
        };
        if goes_not {
            // Who waits for its place is to have another.
            self.news.notify_waiters();
        }
        Busy {
            activity: self.clone(),
            unread: false,
        }
    }

    /// Since when nobody asks for anything; none of one that is used, or ends already.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let now = self.now.lock();
        (now.requests == 0 && now.stay == Stay::Kept).then_some(now.since)
    }

    /// Its place is needed by others. A request that comes before it hears of that is answered.
    pub(super) fn displace(&self) {
        {
            let mut now = self.now.lock();
            if now.stay == Stay::Kept {
                now.stay = Stay::Displaced;
            }
        }
        self.changed.notify_one();
    }

    /// It is told to the client that the connection ends: from now on patience is counted anew.
    pub(super) fn leave(&self) {
        let mut now = self.now.lock();
        now.stay = Stay::Leaving;
        now.since = Instant::now();
    }

    /// Whether it is about to be gone.
    pub(super) fn goes(&self) -> bool {
        let now = self.now.lock();
        now.requests == 0 && now.stay != Stay::Kept
    }

    /// Waits until the connection is to be ended.
    pub(super) async fn end(&self, patience: Patience) -> End {
        loop {
            let (due, end) = {
                let now = self.now.lock();
                let limit = if now.used {
                    patience.then
                } else {
                    patience.first
                };
                match now.requests {
                    0 if now.stay == Stay::Displaced => return End::Displaced,
                    0 => (now.since + limit, Some(End::Idle)),
                    all if all == now.unread => (now.since + patience.unread, Some(End::Unread)),
                    // Parts of answers come and go without a word: it is looked at again.
                    _ => (Instant::now() + patience.unread, None),
                }
            };
            match end {
                Some(end) if due <= Instant::now() => return end,
                _ => drop(timeout_at(due, self.changed.notified()).await),
            }
        }
    }
}

impl Busy {
    /// There is something for the client to take.
    pub(super) fn given(&mut self) {
        self.set(true);
    }

    /// The client has taken what there was.
    pub(super) fn taken(&mut self) {
        self.set(false);
    }

    fn set(&mut self, unread: bool) {
        let mut now = self.activity.now.lock();
        match (self.unread, unread) {
            (false, true) => now.unread += 1,
            (true, false) => now.unread -= 1,
            _ => return,
        }
        self.unread = unread;
        now.since = Instant::now();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.taken();
        let at_rest = {
            let mut now = self.activity.now.lock();
            now.requests -= 1;
            now.since = Instant::now();
            now.requests == 0
        };
        self.activity.changed.notify_one();
        if at_rest {
            self.activity.news.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(10);
    const THEN: Duration = Duration::from_secs(60);
    const UNREAD: Duration = Duration::from_secs(30);

    const PATIENCE: Patience = Patience {
        first: FIRST,
        then: THEN,
        unread: UNREAD,
    };

    #[tokio::test(start_paused = true)]
    async fn connections_that_are_not_used() {
        let start = Instant::now();
        let activity = Activity::new(Arc::default());
        assert_eq!(activity.end(PATIENCE).await, End::Idle);
        assert_eq!(start.elapsed(), FIRST, "nothing was ever asked");
        let start = Instant::now();
        let activity = Activity::new(Arc::default());
        let busy = activity.begin();
        let end = async {
            tokio::time::sleep(3 * THEN).await;
            drop(busy);
        };
        let (_, end) = tokio::join!(end, activity.end(PATIENCE));
        assert_eq!(
            (start.elapsed(), end),
            (4 * THEN, End::Idle),
            "a request is no idleness"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_nobody_takes() {
        let start = Instant::now();
        let activity = Activity::new(Arc::default());
        let (mut slow, mut stuck) = (activity.begin(), activity.begin());
        stuck.given();
        let parts = async {
            for _ in 0..10 {
                slow.given();
                tokio::time::sleep(UNREAD / 2).await;
                slow.taken();
            }
            // The pod's turn.
            tokio::time::sleep(UNREAD * 5).await;
            slow.given();
        };
        let (_, end) = tokio::join!(parts, activity.end(PATIENCE));
        assert_eq!(end, End::Unread);
        let after = start.elapsed() - UNREAD * 10;
        assert!(after >= UNREAD && after <= UNREAD * 2, "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_displaced_is_answered_before() {
        let start = Instant::now();
        let activity = Activity::new(Arc::default());
        let busy = activity.begin();
        activity.displace();
        assert_eq!(activity.idle_since(), None);
        let end = async {
            tokio::time::sleep(FIRST).await;
            drop(busy);
        };
        let (_, end) = tokio::join!(end, activity.end(PATIENCE));
        assert_eq!((start.elapsed(), end), (FIRST, End::Displaced));
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_is_answered_before() {
        let activity = Activity::new(Arc::default());
        drop(activity.begin());
        assert!(!activity.goes());
        activity.displace();
        assert_eq!(activity.end(PATIENCE).await, End::Displaced);
        tokio::time::sleep(THEN).await;
        activity.leave();
        // It is no longer there to be displaced.
        activity.displace();
        assert!(activity.goes());
        let start = Instant::now();
        let last = Patience {
            then: FIRST,
            ..PATIENCE
        };
        assert_eq!(activity.end(last).await, End::Idle);
        assert_eq!(start.elapsed(), FIRST, "counted from its leaving");
        // What was on its way.
        let busy = activity.begin();
        assert!(!activity.goes());
        let start = Instant::now();
        let end = async {
            tokio::time::sleep(THEN).await;
            drop(busy);
        };
        let (_, end) = tokio::join!(end, activity.end(last));
        assert_eq!((start.elapsed(), end), (THEN + FIRST, End::Idle));
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
