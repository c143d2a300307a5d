//! How many instances may live at a time, and how many of them one server's requests may have.
//!
//! A workload's own instance takes a place wherever there is one. What a server's requests take beside its first is like
//! files that a guest [opens](super::guard::budget): one server may have more while that is less than an eighth of what
//! nobody has, and all of them together half of what there is, so that others find places to start in.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::ResourcesRequired;

use super::engine::{MOST_MEMORIES, MOST_TABLES, TABLES_PER_INSTANCE, heaps};
use super::guard::budget::{self, Budget, Held, Share};
use crate::metrics::Counters;
use crate::{Handler, StartError};

/// What an instance of a module takes of its handler's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    places: usize,
    /// A garbage-collected heap, of which there are fewer.
    heap: bool,
}

impl Needs {
    /// Of a module that requires these, or one of which nobody knows what it requires.
    pub(super) fn of(required: Option<&ResourcesRequired>, heap: bool) -> Self {
        let (memories, tables) = match required {
            Some(required) => (required.num_memories, required.num_tables),
            None => (MOST_MEMORIES, MOST_TABLES),
        };
        let places = memories.max(tables.div_ceil(TABLES_PER_INSTANCE)).max(1);
        Self {
            places: usize::try_from(places).unwrap_or(usize::MAX),
            heap,
        }
    }
}

/// What one handler's pool has.
#[derive(Debug)]
pub(super) struct Room {
    handler: Handler,
    capacity: u32,
    /// How many there were to be.
    wanted: u32,
    places: Pool,
    heaps: Pool,
}

/// Things of which there are only so many.
#[derive(Debug)]
struct Pool {
    all: Arc<Budget>,
    /// Those of them that servers may have for requests beside their first.
    further: Arc<Budget>,
}

impl Pool {
    fn new(most: usize) -> Self {
        Self {
            all: Budget::undivided(most),
            further: Budget::undivided(most / 2),
        }
    }

    fn portion(&self) -> Option<Portion> {
        Some(Portion {
            share: Share::new(self.all.hold(0)?),
            further: self.further.clone(),
        })
    }
}

/// What one server has of a pool for requests beside its first.
struct Portion {
    share: Arc<Share>,
    further: Arc<Budget>,
}

impl Portion {
    fn take(&self, count: usize) -> Option<Part> {
        let held = self.further.hold(count)?;
        let shared = (0..count).map(|_| self.share.take());
        Some(Part {
            _held: held,
            _shared: shared.collect::<Option<_>>()?,
        })
    }
}

/// What was taken of a pool, until it is dropped.
struct Part {
    _held: Held,
    _shared: Vec<budget::Place>,
}

impl Room {
    pub(super) fn new(handler: Handler, capacity: u32, wanted: u32) -> Arc<Self> {
        let most = |count| Pool::new(usize::try_from(count).unwrap_or(usize::MAX));
        Arc::new(Self {
            handler,
            capacity,
            wanted,
            places: most(capacity),
            heaps: most(heaps(capacity)),
        })
    }

    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Room for a workload's instance.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn take(&self, needs: Needs) -> Result<Place, StartError> {
        let of = |pool: &Pool, count| pool.all.hold(count).map(Part::of);
        let places =
            of(&self.places, needs.places).ok_or_else(|| self.full(self.capacity, "places"))?;
        let heap = match needs.heap {
            true => {
                let full = || self.full(heaps(self.capacity), "garbage-collected heaps");
                Some(of(&self.heaps, 1).ok_or_else(full)?)
            }
            false => None,
        };
        Ok(Place {
            _first: None,
            _places: Some(places),
            _heap: heap,
        })
    }

    /// Room for a server, which has one place from now on.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn serve(&self, needs: Needs) -> Result<Places, StartError> {
        let own = self.take(needs)?;
        let full = || self.full(self.capacity, "places");
        Ok(Places {
            _own: own,
            first: Arc::new(Semaphore::new(1)),
            needs,
            places: self.places.portion().ok_or_else(full)?,
            heaps: self.heaps.portion().ok_or_else(full)?,
        })
    }

    fn full(&self, most: u32, what: &str) -> StartError {
        // Where it is not the system that bounds it, nobody is to raise anything there.
        let bound = match self.capacity < self.wanted {
            true => " (vm.max_map_count bounds it)",
            false => "",
        };
        let name = self.handler.name();
        StartError::Exhausted(format!(
            "of the {most} {what} that this node has for modules of the handler \"{name}\" too few are free{bound}"
        ))
    }
}

impl Part {
    fn of(held: Held) -> Self {
        Self {
            _held: held,
            _shared: Vec::new(),
        }
    }
}

/// One instance's place, free again when it is dropped.
pub(super) struct Place {
    /// That of a server's own.
    _first: Option<OwnedSemaphorePermit>,
    _places: Option<Part>,
    _heap: Option<Part>,
}

/// A server's places.
pub(super) struct Places {
    _own: Place,
    /// Whether a request has that.
    first: Arc<Semaphore>,
    needs: Needs,
    places: Portion,
    heaps: Portion,
}

impl Places {
    /// A place for a request's instance, if there is any.
    pub(super) fn one(&self) -> Option<Place> {
        if let Ok(first) = self.first.clone().try_acquire_owned() {
            return Some(Place {
                _first: Some(first),
                _places: None,
                _heap: None,
            });
        }
        let heap = match self.needs.heap {
            true => Some(self.heaps.take(1)?),
            false => None,
        };
        Some(Place {
            _first: None,
            _places: Some(self.places.take(self.needs.places)?),
            _heap: heap,
        })
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

    const SMALL: Needs = Needs {
        places: 1,
        heap: false,
    };

    fn refusal<T>(taken: Result<T, StartError>) -> String {
        match taken {
            Err(StartError::Exhausted(why)) => why,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("there was room"),
        }
    }

    /// Takes as many as it may.
    fn all(places: &Places) -> Vec<Place> {
        std::iter::from_fn(|| places.one()).collect()
    }

    #[test]
    fn who_finds_no_place_is_told_what_bounds_it() {
        for (wanted, bound) in [(2, ""), (3, " (vm.max_map_count bounds it)")] {
            let room = Room::new(Handler::Dense, 2, wanted);
            let _first = room.take(SMALL).unwrap();
            let second = room.take(SMALL).unwrap();
            let words = format!(
                "of the 2 places that this node has for modules of the handler \"dense\" too few are free{bound}"
            );
            assert_eq!(refusal(room.take(SMALL)), words);
            drop(second);
            room.take(SMALL).unwrap();
        }
    }

    #[test]
    fn what_a_module_is_made_of_takes_places() {
        let of = |num_memories, num_tables| {
            let required = ResourcesRequired {
                num_memories,
                max_initial_memory_size: None,
                num_tables,
                max_initial_table_size: None,
            };
            Needs::of(Some(&required), false).places
        };
        for (memories, tables, places) in [(0, 0, 1), (1, 3, 1), (1, 4, 2), (8, 3, 8), (2, 32, 11)]
        {
            assert_eq!(of(memories, tables), places, "{memories} {tables}");
        }
        assert_eq!(
            Needs::of(None, true),
            Needs {
                places: 11,
                heap: true
            }
        );
        let room = Room::new(Handler::Carob, 20, 20);
        let large = Needs { places: 8, ..SMALL };
        let taken = [(); 2].map(|()| room.take(large).unwrap());
        refusal(room.take(large));
        let _small = [(); 4].map(|()| room.take(SMALL).unwrap());
        refusal(room.take(SMALL));
        drop(taken);
        room.take(large).unwrap();
    }

    #[test]
    fn heaps_are_fewer() {
        let room = Room::new(Handler::Carob, 8, 8);
        let needs = Needs {
            heap: true,
            ..SMALL
        };
        let _first = room.take(needs).unwrap();
        let second = room.take(needs).unwrap();
        let why = refusal(room.take(needs));
        assert!(why.starts_with("of the 2 garbage-collected heaps"), "{why}");
        // What was not taken holds no place.
        let _rest = [(); 6].map(|()| room.take(SMALL).unwrap());
        drop(second);
        room.take(needs).unwrap();
    }

    #[test]
    fn servers_leave_places_to_others() {
        let room = Room::new(Handler::Carob, 1_000, 1_000);
        let one = room.serve(SMALL).unwrap();
        let taken = all(&one);
        // Its own, and a ninth of the others.
        assert_eq!(taken.len(), 1 + 111);
        let servers: Vec<_> = (0..30).map(|_| room.serve(SMALL).unwrap()).collect();
        let further: Vec<_> = servers.iter().map(all).collect();
        // The last of them can answer, too.
        assert!(further.iter().all(|places| !places.is_empty()));
        let count: usize = further.iter().map(Vec::len).sum();
        assert_eq!(taken.len() + count, 31 + 500);
        let started: Vec<_> = std::iter::from_fn(|| room.take(SMALL).ok()).collect();
        assert_eq!(started.len(), 500 - 31);
        drop((one, taken, servers, further, started));
        let all: Vec<_> = std::iter::from_fn(|| room.take(SMALL).ok()).collect();
        assert_eq!(all.len(), 1_000);
    }
}
