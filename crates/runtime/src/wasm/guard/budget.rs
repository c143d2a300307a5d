//! The host's file descriptors, of which a process has only so many: what one guest opens others cannot.
//!
//! Half of them are shared in equal parts among all workloads that this node has places for, whether they run or not: nobody
//! else can take a workload's part. Of what is left a workload may have more while that is less than an eighth of what nobody
//! has there, so that several that open without end leave something for who comes next.
//!
//! [Places](crate::wasm::room) for servers' requests are shared out in this way, too, though nobody has a part of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

/// A workload may have this share of what nobody has, beyond its part.
const EIGHTH: usize = 8;

/// What all guests may have open together.
#[derive(Debug)]
pub(in crate::wasm) struct Budget {
    /// What each workload may have, however much others have.
    part: usize,
    /// What is nobody's part.
    spare: usize,
    /// How much of that is taken.
    taken: Mutex<usize>,
}

impl Budget {
    /// So many, for at most so many workloads.
    pub(in crate::wasm) fn new(most: usize, places: usize) -> Arc<Self> {
        let part = most / 2 / places.max(1);
        Arc::new(Self {
            part,
            spare: most - part * places,
            taken: Mutex::new(0),
        })
    }

    /// So many, of which nobody has a part of his own.
    pub(in crate::wasm) fn undivided(most: usize) -> Arc<Self> {
        Self::new(most, usize::MAX)
    }

    /// Three quarters of what this process may have open: the rest is for connections, logs and the node's own files.
    pub(in crate::wasm) fn of_process(places: usize) -> Arc<Self> {
        let limit = getrlimit(Resource::Nofile).current;
        let limit = limit.and_then(|limit| usize::try_from(limit).ok());
        let limit = limit.unwrap_or(usize::MAX);
        Self::new(limit - limit / 4, places)
    }

    /// Room for so many mounts, which are nobody's part, if there is any.
    pub(in crate::wasm) fn hold(self: &Arc<Self>, mounts: usize) -> Option<Held> {
        let mut taken = self.taken.lock();
        let more = taken.checked_add(mounts);
        *taken = more.filter(|more| *more <= self.spare)?;
        Some(Held {
            budget: self.clone(),
            mounts,
        })
    }
}

/// Room for mounts, until this is dropped.
#[derive(Debug)]
pub(in crate::wasm) struct Held {
    budget: Arc<Budget>,
    mounts: usize,
}

impl Held {
    /// Holds room for so many more, and says whether there was any.
    pub(in crate::wasm) fn hold_more(&mut self, mounts: usize) -> bool {
        let more = self.budget.hold(mounts);
        let more = more.map(|mut more| std::mem::take(&mut more.mounts));
        self.mounts += more.unwrap_or(0);
        more.is_some()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.budget.taken.lock() -= self.mounts;
    }
}

/// What one workload has of the budget.
#[derive(Debug)]
pub(in crate::wasm) struct Share {
    budget: Arc<Budget>,
    /// The mounts that are open as long as it runs.
    _mounts: Held,
    /// Its mounts apart.
    own: Mutex<usize>,
}

impl Share {
    /// For a workload with these mounts.
    pub(in crate::wasm) fn new(mounts: Held) -> Arc<Self> {
        Arc::new(Self {
            budget: mounts.budget.clone(),
            _mounts: mounts,
            own: Mutex::new(0),
        })
    }

    /// Room for one more, if there is any.
    pub(in crate::wasm) fn take(self: &Arc<Self>) -> Option<Place> {
        let mut own = self.own.lock();
        if let Some(more) = own.checked_sub(self.budget.part) {
            let mut taken = self.budget.taken.lock();
            if more >= self.budget.spare.saturating_sub(*taken) / EIGHTH {
                return None;
            }
            *taken += 1;
        }
        *own += 1;
        Some(Place(self.clone()))
    }
}

/// Room for one, until this is dropped.
#[derive(Debug)]
pub(in crate::wasm) struct Place(Arc<Share>);

impl Drop for Place {
    fn drop(&mut self) {
        let mut own = self.0.own.lock();
        if *own > self.0.budget.part {
            *self.0.budget.taken.lock() -= 1;
        }
        *own -= 1;
    }
}

/// What one instance has opened, by the numbers that it has for it.
#[derive(Debug)]
pub(in crate::wasm) struct Opened {
    share: Arc<Share>,
    numbers: BTreeMap<u32, Number>,
    /// Files without a number, which streams may still hold.
    streams: Vec<(Weak<File>, Place)>,
}

#[derive(Debug)]
struct Number {
    place: Place,
    /// The block that was written last.
    written: Option<u64>,
}

impl Opened {
    pub(in crate::wasm) fn new(share: Arc<Share>) -> Self {
        Self {
            share,
            numbers: BTreeMap::new(),
            streams: Vec::new(),
        }
    }

    /// Nothing yet, of the same share.
    pub(in crate::wasm) fn another(&self) -> Self {
        Self::new(self.share.clone())
    }

    /// Room for one more to be opened, if there is any.
    pub(in crate::wasm) fn place(&mut self) -> Option<Place> {
        self.streams.retain(|(file, _)| file.strong_count() > 0);
        self.share.take()
    }

    /// Something was opened.
    pub(in crate::wasm) fn add(&mut self, number: u32, place: Place) {
        let written = None;
        self.numbers.insert(number, Number { place, written });
    }

    /// Something was closed. `file` is what streams may still hold of it.
    pub(in crate::wasm) fn remove(&mut self, number: u32, file: Option<Weak<File>>) {
        let Some(Number { place, .. }) = self.numbers.remove(&number) else {
            return;
        };
        if let Some(file) = file.filter(|file| file.strong_count() > 0) {
            self.streams.push((file, place));
        }
    }

    /// What had one number has another, in the place of what had that.
    pub(in crate::wasm) fn renumber(&mut self, from: u32, to: u32) {
        if from == to {
            return;
        }
        self.remove(to, None);
        if let Some(opened) = self.numbers.remove(&from) {
            self.numbers.insert(to, opened);
        }
    }

    /// The block of a file that was written last by this number.
    pub(in crate::wasm) fn written(&self, number: u32) -> Option<u64> {
        self.numbers.get(&number)?.written
    }

    pub(in crate::wasm) fn set_written(&mut self, number: u32, block: Option<u64>) {
        if let Some(opened) = self.numbers.get_mut(&number) {
            opened.written = block;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(budget: &Arc<Budget>) -> Opened {
        Opened::new(Share::new(budget.hold(0).unwrap()))
    }

    fn taken(budget: &Budget) -> usize {
        *budget.taken.lock()
    }

    /// Opens as many as it may, from this number on, and says how many.
    fn opens(guest: &mut Opened, from: u32) -> usize {
        let mut number = from;
        while let Some(place) = guest.place() {
            guest.add(number, place);
            number += 1;
        }
        (number - from) as usize
    }

    #[test]
    fn each_has_its_part_after_others_took_all_that_they_could() {
        let budget = Budget::new(3_000, 100);
        let mut guests = Vec::new();
        for _ in 0..100 {
            let mut guest = guest(&budget);
            assert!(opens(&mut guest, 3) >= 15);
            guests.push(guest);
        }
        let all = guests.iter().map(|guest| guest.numbers.len());
        assert!(all.sum::<usize>() <= 3_000);
        // It was a ninth of what was spare, besides its part.
        assert_eq!(guests[0].numbers.len(), 15 + 166);
        assert_eq!(opens(&mut guests[0], 20_000), 0);
        drop(guests);
        assert_eq!(taken(&budget), 0);
    }

    #[test]
    fn what_is_being_opened_counts() {
        let budget = Budget::new(20, 1_000);
        let mut guest = guest(&budget);
        let first = guest.place().unwrap();
        let second = guest.place().unwrap();
        assert!(guest.place().is_none());
        drop(first);
        let third = guest.place().unwrap();
        assert!(guest.place().is_none());
        drop((second, third));
        assert_eq!(taken(&budget), 0);
    }

    #[test]
    fn what_is_closed_is_there_for_others() {
        let budget = Budget::new(54, 1_000);
        let mut one = guest(&budget);
        assert_eq!(opens(&mut one, 3), 6);
        one.set_written(3, Some(7));
        one.renumber(3, 4);
        one.renumber(4, 4);
        assert_eq!((one.written(3), one.written(4)), (None, Some(7)));
        one.remove(3, None);
        one.remove(99, None);
        assert_eq!(taken(&budget), 5);
        let file = Arc::new(tempfile::tempfile().unwrap());
        one.remove(4, Some(Arc::downgrade(&file)));
        assert_eq!((taken(&budget), one.written(4)), (5, None));
        drop(file);
        let place = one.place().unwrap();
        assert_eq!(taken(&budget), 5, "no stream has it any more");
        let mut another = one.another();
        another.add(3, place);
        drop((one, another));
        assert_eq!(taken(&budget), 0);
    }

    #[test]
    fn mounts_take_no_more_than_there_is() {
        let budget = Budget::new(54, 1_000);
        let mounted = Share::new(budget.hold(50).unwrap());
        assert!(budget.hold(5).is_none());
        assert!(budget.hold(usize::MAX).is_none());
        assert_eq!(taken(&budget), 50);
        let mut more = budget.hold(1).unwrap();
        assert!(!more.hold_more(4) && more.hold_more(3));
        assert_eq!(taken(&budget), 54);
        drop(more);
        assert_eq!(taken(&budget), 50);
        drop(mounted);
        assert_eq!(taken(&budget), 0);
    }
}
