//! The places that clients' connections take, of which there are so many.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use super::quiet::Activity;

/// How long who comes next waits for the connection that was to make room, before another is ended for it, too. Its client
/// may still be reading.
const SOON: Duration = Duration::from_millis(100);

/// All places. Where none is free, the connection that has been idle for longest is ended for who comes next, one for each
/// who waits: nobody keeps others out by doing nothing.
pub(super) struct Room {
    places: Arc<Semaphore>,
    open: Mutex<Open>,
    /// A connection has come to rest, does not make room though it was to, or has left.
    news: Arc<Notify>,
}

#[derive(Default)]
struct Open {
    all: BTreeMap<u64, Arc<Activity>>,
    next: u64,
}

/// Which connection was displaced for one who waits, and until when it is waited for.
type Leaving = Option<(u64, Instant)>;

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
            news: Arc::default(),
        })
    }

    /// Waits for a place, for as long as all are in use.
    pub(super) async fn enter(self: &Arc<Self>) -> Place {
        let permit = self.permit().await;
        let activity = Activity::new(self.news.clone());
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

    /// Waits until a client's socket is given what it `takes` of the node. Connections that are idle are ended for it meanwhile.
    pub(super) async fn until<T>(&self, takes: impl Fn() -> Option<T>) -> T {
        let mut leaving = None;
        loop {
            let mut news = pin!(self.news.notified());
            // Before looking: one may leave in between.
            news.as_mut().enable();
            if let Some(taken) = takes() {
                return taken;
            }
            self.displace(&mut leaving);
            // It is not only clients of these doors whom there may be room after.
            let _ = timeout(SOON, news).await;
        }
    }

    /// A client has given back what its socket took of the node.
    pub(super) fn left(&self) {
        self.news.notify_waiters();
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        let mut taken = pin!(self.places.clone().acquire_owned());
        let mut leaving = None;
        loop {
            let mut news = pin!(self.news.notified());
            // Before looking: one may come to rest in between.
            news.as_mut().enable();
            // Begun only where `taken` has to wait: another may have had the place that was free a moment ago.
            let overdue = async {
                match self.displace(&mut leaving) {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                permit = taken.as_mut() => match permit {
                    Ok(permit) => return permit,
                    // It is never closed.
                    Err(_) => return std::future::pending().await,
                },
                () = news => {}
                () = overdue => {}
            }
        }
    }

    /// Ends the connection that nobody has asked for anything on for longest, unless the one before it is about to be gone;
    /// those that make room for others do not count. That costs a look at all of them, where there is no room only. Says
    /// when to look again at the latest.
    fn displace(&self, leaving: &mut Leaving) -> Option<Instant> {
        let open = self.open.lock();
        if let Some((number, due)) = *leaving {
            let last = open.all.get(&number);
            if due > Instant::now() && last.is_some_and(|last| last.goes()) {
                return Some(due);
            }
        }
        let idle = open.all.iter();
        let idle = idle.filter_map(|(number, activity)| Some((activity.idle_since()?, *number)));
        let (_, longest) = idle.min()?;
        if let Some(activity) = open.all.get(&longest) {
            activity.displace();
        }
        let due = Instant::now() + SOON;
        *leaving = Some((longest, due));
        Some(due)
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
    use futures::FutureExt as _;
    use tokio::time::sleep;

    use super::super::quiet::{End, Patience};
    use super::*;

    const PATIENCE: Patience = Patience {
        first: Duration::from_secs(10),
        then: Duration::from_secs(60),
        unread: Duration::from_secs(60),
    };

    fn ended(place: &Place) -> Option<End> {
        place.activity().end(PATIENCE).now_or_never()
    }

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

    #[tokio::test(start_paused = true)]
    async fn one_makes_room_for_one() {
        let room = Room::new(3);
        let mut all = Vec::new();
        for _ in 0..3 {
            all.push(room.enter().await);
            sleep(Duration::from_secs(1)).await;
        }
        let gone = Some(End::Displaced);
        let mut next = pin!(room.enter());
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!([0, 1, 2].map(|at| ended(&all[at])), [gone, None, None]);
        // While it goes, that another comes to rest makes no difference.
        drop(all[2].activity().begin());
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!([0, 1, 2].map(|at| ended(&all[at])), [gone, None, None]);
        // But it was asked for something before it heard of it.
        let busy = all[0].activity().begin();
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!([0, 1, 2].map(|at| ended(&all[at])), [None, gone, None]);
        // Who is slow to go holds nobody up.
        sleep(SOON).await;
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!([0, 1, 2].map(|at| ended(&all[at])), [None, gone, gone]);
        drop(busy);
        all.remove(1);
        next.await;
    }

    #[tokio::test(start_paused = true)]
    async fn two_make_room_for_two() {
        let room = Room::new(3);
        let mut all = Vec::new();
        for _ in 0..3 {
            all.push(room.enter().await);
            sleep(Duration::from_secs(1)).await;
        }
        let gone = Some(End::Displaced);
        let (mut one, mut other) = (pin!(room.enter()), pin!(room.enter()));
        assert!(one.as_mut().now_or_never().is_none());
        assert_eq!([0, 1, 2].map(|at| ended(&all[at])), [gone, None, None]);
        assert!(other.as_mut().now_or_never().is_none());
        assert_eq!([0, 1, 2].map(|at| ended(&all[at])), [gone, gone, None]);
        // Who came first has the first place, whichever that is.
        let (first, second) = (all.remove(0), all.remove(0));
        drop(second);
        let _one = one.as_mut().now_or_never().expect("a place");
        assert!(other.as_mut().now_or_never().is_none());
        assert_eq!(ended(&all[0]), None, "the other's is still to come");
        drop(first);
        let _other = other.as_mut().now_or_never().expect("a place");
        assert_eq!(ended(&all[0]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_at_the_last_place_the_later_displaces() {
        let runtime = tokio::runtime::Handle::current();
        for round in 0..500 {
            let room = Room::new(2);
            let idle = room.enter().await;
            let start = std::sync::Barrier::new(2);
            let come = || {
                let _runtime = runtime.enter();
                let next = pin!(room.enter());
                start.wait();
                next.now_or_never()
            };
            let came = std::thread::scope(|scope| {
                let all = [scope.spawn(come), scope.spawn(come)];
                all.map(|one| one.join().expect("no panic"))
            });
            assert_eq!(came.iter().flatten().count(), 1, "{round}");
            assert_eq!(ended(&idle), Some(End::Displaced), "{round}");
        }
    }
}
