//! How many instances may live at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::Counters;
use crate::{Handler, StartError};

/// The places for instances that one handler's pool has.
#[derive(Debug)]
pub(super) struct Room {
    handler: Handler,
    capacity: u32,
    /// How many there were to be.
    wanted: u32,
    live: AtomicU64,
}

impl Room {
    pub(super) fn new(handler: Handler, capacity: u32, wanted: u32) -> Arc<Self> {
        Arc::new(Self {
            handler,
            capacity,
            wanted,
            live: AtomicU64::new(0),
        })
    }

    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// A place for one instance.
    ///
    /// # Errors
    /// When all are taken.
    pub(super) fn take(self: &Arc<Self>) -> Result<Place, StartError> {
        let most = u64::from(self.capacity);
        let more = |live: u64| (live < most).then_some(live + 1);
        let taken = self
            .live
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map_err(|live| self.full(live))?;
        Ok(Place(self.clone()))
    }

    fn full(&self, live: u64) -> StartError {
        // Where it is not the system that bounds it, nobody is to raise anything there.
        let bound = match self.capacity < self.wanted {
            true => " (vm.max_map_count bounds it)",
            false => "",
        };
        let name = self.handler.name();
        StartError::Exhausted(format!(
            "{live} modules of the handler \"{name}\" run here, and this node has room for no more{bound}"
        ))
    }
}

/// One instance's place, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Room>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a workload as running until it is dropped.
pub(super) struct Counted(Arc<Counters>);

impl Counted {
    pub(super) fn new(counters: &Arc<Counters>) -> Self {
        counters.starts.fetch_add(1, Ordering::Relaxed);
        counters.running.fetch_add(1, Ordering::Relaxed);
        Self(counters.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_no_place_is_told_what_bounds_it() {
        for (wanted, bound) in [(2, ""), (3, " (vm.max_map_count bounds it)")] {
            let room = Room::new(Handler::Dense, 2, wanted);
            let _first = room.take().unwrap();
            let second = room.take().unwrap();
            let words = format!(
                "2 modules of the handler \"dense\" run here, and this node has room for no more{bound}"
            );
            let Err(StartError::Exhausted(why)) = room.take() else {
                panic!("there are two places only");
            };
            assert_eq!(why, words);
            drop(second);
            room.take().unwrap();
        }
    }
}
