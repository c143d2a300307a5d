//! The process's file descriptors, of which it has only so many: what one guest opens others cannot, nor can the node itself.
//!
//! Guests' files have three quarters of them, and connections to and from the outside an eighth ([`Budget::of_files`],
//! `of_sockets`), so that an eighth is left for the node's own: its logs and records, its way to the servers, its
//! links to other nodes.
//!
//! Half of a budget is shared in equal parts among all that the node has places for, whether they are there or not: nobody
//! else can take somebody's part. Of what is left one may have more while that is less than an eighth of what nobody has
//! there, so that several that open without end leave something for who comes next. Places for instances of modules are shared
//! out in this way, too, though nobody has a part of those.

use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

/// One may have this share of what nobody has, beyond its part.
const EIGHTH: usize = 8;
/// And this one the way in, which all clients of a node share.
const HALF: usize = 2;

/// How many descriptors there are for one purpose.
#[derive(Debug)]
pub struct Budget {
    /// What each may have, however much others have.
    part: usize,
    /// What is nobody's part.
    spare: usize,
    /// How much of that is taken.
    taken: Mutex<usize>,
}

impl Budget {
    /// So many, of which at most so many have a part.
    pub fn new(most: usize, places: usize) -> Arc<Self> {
        let part = most / 2 / places.max(1);
        Arc::new(Self {
            part,
            spare: most - part * places,
            taken: Mutex::new(0),
        })
    }

    /// So many, of which nobody has a part of his own.
    pub fn undivided(most: usize) -> Arc<Self> {
        Self::new(most, usize::MAX)
    }

    /// What guests of this process may have open together, by its limit of now.
    pub fn of_files(places: usize) -> Arc<Self> {
        Self::new(files(limit()), places)
    }

    /// What connections to and from the outside may have together.
    pub(crate) fn of_sockets(places: usize) -> Arc<Self> {
        Self::new(sockets(limit()), places)
    }

    /// Room for so many that are nobody's part, if there is any.
    pub fn hold(self: &Arc<Self>, amount: usize) -> Option<Held> {
        let mut taken = self.taken.lock();
        let more = taken.checked_add(amount);
        *taken = more.filter(|more| *more <= self.spare)?;
        Some(Held {
            budget: self.clone(),
            amount,
        })
    }

    /// How many are taken beyond everybody's parts.
    pub fn taken(&self) -> usize {
        *self.taken.lock()
    }

    fn nothing(self: &Arc<Self>) -> Held {
        Held {
            budget: self.clone(),
            amount: 0,
        }
    }
}

/// How many files this process may have open.
fn limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    limit.unwrap_or(usize::MAX)
}

fn files(limit: usize) -> usize {
    limit - limit / 4
}

fn sockets(limit: usize) -> usize {
    limit / 8
}

/// Room that is nobody's part, until this is dropped.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    amount: usize,
}

impl Held {
    /// Holds room for so many more, and says whether there was any.
    pub fn hold_more(&mut self, amount: usize) -> bool {
        let more = self.budget.hold(amount);
        let more = more.map(|mut more| std::mem::take(&mut more.amount));
        self.amount += more.unwrap_or(0);
        more.is_some()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.budget.taken.lock() -= self.amount;
    }
}

/// What one has of a budget.
#[derive(Debug)]
pub struct Share {
    held: Held,
    /// The divisor that says how much of what is spare it may have.
    of_spare: usize,
    /// What was taken, without what is held.
    own: Mutex<usize>,
}

impl Share {
    /// For one who holds this for as long as it is there.
    pub fn new(held: Held) -> Arc<Self> {
        Self::with(held, EIGHTH)
    }

    /// For one of many.
    pub(crate) fn of_one(budget: &Arc<Budget>) -> Arc<Self> {
        Self::new(budget.nothing())
    }

    /// For the way in.
    pub(crate) fn of_all_clients(budget: &Arc<Budget>) -> Arc<Self> {
        Self::with(budget.nothing(), HALF)
    }

    fn with(held: Held, of_spare: usize) -> Arc<Self> {
        Arc::new(Self {
            held,
            of_spare,
            own: Mutex::new(0),
        })
    }

    /// Room for one descriptor, if there is any.
    pub fn take(self: &Arc<Self>) -> Option<Place> {
        let budget = &self.held.budget;
        let mut own = self.own.lock();
        if let Some(more) = own.checked_sub(budget.part) {
            let mut taken = budget.taken.lock();
            if more >= budget.spare.saturating_sub(*taken) / self.of_spare {
                return None;
            }
            *taken += 1;
        }
        *own += 1;
        Some(Place(self.clone()))
    }
}

/// Room for one descriptor, until this is dropped.
#[derive(Debug)]
pub struct Place(Arc<Share>);

impl Drop for Place {
    fn drop(&mut self) {
        let budget = &self.0.held.budget;
        let mut own = self.0.own.lock();
        if *own > budget.part {
            *budget.taken.lock() -= 1;
        }
        *own -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as many as it may.
    fn all(share: &Arc<Share>) -> Vec<Place> {
        std::iter::from_fn(|| share.take()).collect()
    }

    #[test]
    fn an_eighth_of_all_is_left_for_the_node_itself() {
        for limit in [0, 7, 256, 1_024, 4_096, 20_000, 1 << 20, usize::MAX] {
            let left = limit - files(limit) - sockets(limit);
            assert!(left >= limit / 8, "{limit}");
        }
        assert_eq!((files(20_000), sockets(20_000)), (15_000, 2_500));
    }

    #[test]
    fn each_has_its_part_after_others_took_all_that_they_could() {
        let budget = Budget::new(3_000, 100);
        let shares: Vec<_> = (0..99).map(|_| Share::of_one(&budget)).collect();
        let clients = Share::of_all_clients(&budget);
        let mut taken = vec![all(&clients)];
        // It was a third of what was spare, besides its part.
        assert_eq!(taken[0].len(), 15 + 500);
        for share in &shares {
            taken.push(all(share));
            assert!(taken.last().is_some_and(|taken| taken.len() >= 15));
        }
        // A ninth of what those had left.
        assert_eq!(taken[1].len(), 15 + 111);
        assert!(taken.iter().map(Vec::len).sum::<usize>() <= 3_000);
        assert!(shares.iter().all(|share| share.take().is_none()));
        drop(taken);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn a_part_is_there_where_nothing_is_spare() {
        let budget = Budget::new(40, 10);
        let mounted = Share::new(budget.hold(20).unwrap());
        assert!(budget.hold(1).is_none() && budget.hold(usize::MAX).is_none());
        let mut more = Budget::undivided(5).hold(1).unwrap();
        assert!(!more.hold_more(5) && more.hold_more(4) && !more.hold_more(1));
        assert_eq!(more.budget.taken(), 5);
        assert_eq!(all(&Share::of_one(&budget)).len(), 2);
        assert_eq!(budget.taken(), 20);
        drop(mounted);
        assert_eq!(budget.taken(), 0);
    }
}
