//! What is known of the link to one node: at most one is there, or being dialed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::life::Usage;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// A link that ends sooner is a failure like one that could not be had.
const PROVEN_AFTER: Duration = Duration::from_secs(2);

/// A link that is there, or was a moment ago.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) requests: SendRequest<Bytes>,
    pub(super) usage: Arc<Usage>,
}

#[derive(Default)]
struct State {
    link: Option<(Link, Instant)>,
    /// Ends when the attempt to dial does.
    dialing: Option<watch::Receiver<()>>,
    failures: u32,
    not_before: Option<Instant>,
}

/// One node's link.
#[derive(Default)]
pub(super) struct Slot(Mutex<State>);

/// What whoever needs a link is to do.
pub(super) enum Next {
    Use(Link),
    Await(watch::Receiver<()>),
    /// Dial, not before the time; the sender is dropped when that is done.
    Dial(Instant, watch::Sender<()>, watch::Receiver<()>),
}

impl Slot {
    pub(super) fn next(&self, now: Instant) -> Next {
        let mut state = self.0.lock();
        if let Some((link, _)) = &state.link {
            return Next::Use(link.clone());
        }
        if let Some(dialing) = &state.dialing
            && dialing.has_changed().is_ok()
        {
            return Next::Await(dialing.clone());
        }
        let (sender, receiver) = watch::channel(());
        state.dialing = Some(receiver.clone());
        let at = state.not_before.map_or(now, |at| at.max(now));
        Next::Dial(at, sender, receiver)
    }

    pub(super) fn is_up(&self, link: Link, now: Instant) {
        let mut state = self.0.lock();
        state.link = Some((link, now));
        state.dialing = None;
    }

    pub(super) fn failed(&self, now: Instant) {
        let mut state = self.0.lock();
        state.dialing = None;
        state.fail(now);
    }

    /// Takes the link away from whoever needs one next. What is open on it goes on.
    pub(super) fn retire(&self, usage: &Arc<Usage>, now: Instant) {
        let mut state = self.0.lock();
        let Some((link, since)) = &state.link else {
            return;
        };
        if !Arc::ptr_eq(&link.usage, usage) {
            return;
        }
        let proven = now.duration_since(*since) >= PROVEN_AFTER;
        state.link = None;
        match proven {
            true => (state.failures, state.not_before) = (0, None),
            false => state.fail(now),
        }
    }

    /// Whether nothing would be lost with this slot.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.0.lock();
        state.link.is_none() && state.dialing.is_none()
    }
}

impl State {
    fn fail(&mut self, now: Instant) {
        let delay = FIRST_DELAY * (1 << self.failures.min(8));
        self.failures += 1;
        self.not_before = Some(now + delay.min(LONGEST_DELAY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn delays_double_up_to_a_bound() {
        let slot = Slot::default();
        let now = Instant::now();
        for expected in [0, 100, 200, 400, 800, 1600, 2000, 2000] {
            let Next::Dial(at, ..) = slot.next(now) else {
                panic!("it is not dialed");
            };
            assert_eq!((at - now).as_millis(), expected);
            slot.failed(now);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_dials_and_the_others_wait() {
        let slot = Slot::default();
        let now = Instant::now();
        let Next::Dial(_, sender, _) = slot.next(now) else {
            panic!("it is not dialed");
        };
        assert!(matches!(slot.next(now), Next::Await(_)));
        assert!(!slot.is_empty());
        // Whoever dialed is gone without a word.
        drop(sender);
        assert!(matches!(slot.next(now), Next::Dial(..)));
    }
}
