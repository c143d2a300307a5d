//! How much may be sent: a window of one stream, or of all streams of a connection together.

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::stream::Broken;

/// What a window is before anything else is said, in bytes.
pub(super) const INITIAL: i64 = 64 << 10;
/// What no window may grow beyond.
const MOST: i64 = (1 << 31) - 1;

/// The room that the other end has left. It is counted from the beginning, and counts once it is enforced.
#[derive(Debug)]
pub(super) struct Window {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    left: i64,
    enforced: bool,
    broken: bool,
}

impl Window {
    pub(super) fn new(left: i64, enforced: bool) -> Self {
        Self {
            state: Mutex::new(State {
                left,
                enforced,
                broken: false,
            }),
            changed: Notify::new(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_waiters();
    }

    /// The other end keeps windows, as it has shown.
    pub(super) fn enforce(&self) {
        self.change(|state| state.enforced = true);
    }

    /// Nothing can be sent any more: whoever waits is told.
    pub(super) fn break_off(&self) {
        self.change(|state| state.broken = true);
    }

    /// Makes it larger, or smaller; whether it is still one.
    pub(super) fn grow(&self, by: i64) -> bool {
        let mut fits = true;
        self.change(|state| {
            state.left = state.left.saturating_add(by);
            fits = state.left <= MOST;
        });
        fits
    }

    /// Waits for room, and takes at most so many bytes of it.
    pub(super) async fn take(&self, most: usize) -> Result<usize, Broken> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before it looks: a change in between is not to be missed.
            changed.as_mut().enable();
            if let Some(taken) = self.try_take(most)? {
                return Ok(taken);
            }
            changed.await;
        }
    }

    /// Waits until nothing can be sent any more.
    pub(super) async fn broken(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // As above.
            changed.as_mut().enable();
            if self.state.lock().broken {
                return;
            }
            changed.await;
        }
    }

    fn try_take(&self, most: usize) -> Result<Option<usize>, Broken> {
        let mut state = self.state.lock();
        if state.broken {
            return Err(Broken);
        }
        let room = match state.enforced {
            true => usize::try_from(state.left).unwrap_or(0),
            false => most,
        };
        let taken = room.min(most);
        state.left = state.left.saturating_sub(taken as i64);
        Ok((taken > 0 || most == 0).then_some(taken))
    }
}
