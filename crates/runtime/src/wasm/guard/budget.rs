//! What guests have open of the host's file descriptors, of which all have [only so many](network::descriptors).

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Weak};

pub(in crate::wasm) use network::descriptors::{Budget, Held, Place, Share};

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
        assert_eq!(budget.taken(), 0);
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
        assert_eq!(budget.taken(), 5);
        let file = Arc::new(tempfile::tempfile().unwrap());
        one.remove(4, Some(Arc::downgrade(&file)));
        assert_eq!((budget.taken(), one.written(4)), (5, None));
        drop(file);
        let place = one.place().unwrap();
        assert_eq!(budget.taken(), 5, "no stream has it any more");
        let mut another = one.another();
        another.add(3, place);
        drop((one, another));
        assert_eq!(budget.taken(), 0);
    }
}
