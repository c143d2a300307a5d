//! The places that clients' connections take, of which there are so many.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::quiet::Activity;

/// All places. Where none is free, the connection that has been idle for longest is ended for who comes next: nobody keeps
/// others out by doing nothing.
pub(super) struct Room {
    places: Arc<Semaphore>,
    open: Mutex<Open>,
    /// A connection has come to rest.
    rested: Arc<Notify>,
}

#[derive(Default)]
struct Open {
    all: BTreeMap<u64, Arc<Activity>>,
    next: u64,
}

/// A connection's place, which is free again once this is dropped.
pub(super) struct Place {
    room: Arc<Room>,
    number: u64,
    activity: Arc<Activity>,
    _permit: OwnedSemaphorePermit,
}

impl Room {
    /// So many free places.
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(places)),
            open: Mutex::default(),
            rested: Arc::default(),
        })
    }

    /// Waits for a place, for as long as all are in use.
    pub(super) async fn enter(self: &Arc<Self>) -> Place {
        let permit = self.permit().await;
        let activity = Activity::new(self.rested.clone());
        let mut open = self.open.lock();
        let number = open.next;
        open.next += 1;
        open.all.insert(number, activity.clone());
        Place {
            room: self.clone(),
            number,
            activity,
            _permit: permit,
        }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        let mut taken = pin!(self.places.clone().acquire_owned());
        loop {
            let mut rested = pin!(self.rested.notified());
            // Before looking: one may come to rest in between.
            rested.as_mut().enable();
            if self.places.available_permits() == 0 {
                self.displace();
            }
            tokio::select! {
                biased;
                permit = taken.as_mut() => match permit {
                    Ok(permit) => return permit,
                    // It is never closed.
                    Err(_) => return std::future::pending().await,
                },
                () = rested => {}
            }
        }
    }

    /// Ends the connection that nobody has asked for anything on for longest. That costs a look at all of them, where there
    /// is no room only.
    fn displace(&self) {
        let open = self.open.lock();
        let idle = open.all.values();
        let idle = idle.filter_map(|activity| Some((activity.idle_since()?, activity)));
        if let Some((_, longest)) = idle.min_by_key(|(since, _)| *since) {
            longest.displace();
        }
    }
}

impl Place {
    /// What the connection is used for.
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.open.lock().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use tokio::time::sleep;

    use super::super::quiet::{End, Patience};
    use super::*;

    const PATIENCE: Patience = Patience {
        first: Duration::from_secs(10),
        then: Duration::from_secs(60),
        unread: Duration::from_secs(60),
    };

    #[tokio::test(start_paused = true)]
    async fn who_has_been_idle_for_longest_makes_room() {
        let room = Room::new(3);
        let mut all = Vec::new();
        for _ in 0..3 {
            all.push(room.enter().await);
            sleep(Duration::from_secs(1)).await;
        }
        // The first is in use, and the second was lately.
        let busy = all[0].activity().begin();
        drop(all[1].activity().begin());
        let ended = |place: &Place| place.activity().end(PATIENCE).now_or_never();
        let mut next = pin!(room.enter());
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!(
            [0, 1, 2].map(|at| ended(&all[at])),
            [None, None, Some(End::Displaced)]
        );
        all.remove(2);
        all.push(next.await);
        // Whoever rests first, where all are in use.
        let others = [all[1].activity().begin(), all[2].activity().begin()];
        let mut next = pin!(room.enter());
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!([0, 1, 2].map(|at| ended(&all[at])), [None; 3]);
        drop(busy);
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!(
            [0, 1, 2].map(|at| ended(&all[at])),
            [Some(End::Displaced), None, None]
        );
        all.remove(0);
        next.await;
        drop(others);
        // There is room again.
        let _place = room.enter().await;
        assert_eq!([0, 1].map(|at| ended(&all[at])), [None; 2]);
    }
}
