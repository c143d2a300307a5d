//! A guest's descriptors, by their numbers.

use std::collections::BTreeSet;
use std::sync::Arc;

use network::Listener;
use wasmtime_wasi::p1::types::Errno;

use super::Result;
use super::socket::{Connection, Listening};
use super::termination::Termination;
use crate::running::Stop;
use crate::wasm::guest::RESOURCES;

/// What a number stands for.
pub(super) enum Descriptor {
    /// A file, a directory or a standard stream: wasmtime-wasi's, which has a number of its own for it.
    Stock(u32),
    Listening(Listening),
    Connection(Box<Connection>),
    Termination(Termination),
}

/// A guest's descriptors. Sockets and what tells of termination are the host's own and all else is wasmtime-wasi's, so
/// that numbers are given here and translated: the lowest free one, as POSIX has it.
#[derive(Default)]
pub(in crate::wasm) struct Descriptors {
    slots: Vec<Option<Descriptor>>,
    /// The free ones of `slots`.
    free: BTreeSet<usize>,
    /// Whether the guest waits by `poll_oneoff` alone.
    polls: bool,
}

impl Descriptors {
    /// The standard streams, then the listeners from 3 on, then as many directories as are `preopened`.
    pub(in crate::wasm) fn new(listeners: Vec<Listener>, preopened: u32) -> Self {
        let streams = (0..STREAMS).map(Descriptor::Stock);
        let listeners = listeners.into_iter().map(Listening::new);
        let directories = (STREAMS..STREAMS + preopened).map(Descriptor::Stock);
        let all = streams.chain(listeners.map(Descriptor::Listening));
        Self {
            slots: all.chain(directories).map(Some).collect(),
            free: BTreeSet::new(),
            polls: false,
        }
    }

    /// # Errors
    /// [`Errno::Badf`] where nothing has this number.
    pub(super) fn get(&mut self, fd: u32) -> Result<&mut Descriptor> {
        let slot = usize::try_from(fd).ok().and_then(|n| self.slots.get_mut(n));
        Ok(slot.and_then(Option::as_mut).ok_or(Errno::Badf)?)
    }

    /// wasmtime-wasi's number for a file or directory.
    ///
    /// # Errors
    /// `for_others` where this is something else, [`Errno::Badf`] where nothing has this number.
    pub(super) fn stock(&mut self, fd: u32, for_others: Errno) -> Result<u32> {
        match self.get(fd)? {
            Descriptor::Stock(number) => Ok(*number),
            Descriptor::Listening(_) | Descriptor::Connection(_) | Descriptor::Termination(_) => {
                Err(for_others.into())
            }
        }
    }

    /// # Errors
    /// [`Errno::Notsock`] where it is none, [`Errno::Inval`] where it is a connection.
    pub(super) fn listening(&mut self, fd: u32) -> Result<&mut Listening> {
        match self.get(fd)? {
            Descriptor::Listening(listening) => Ok(listening),
            Descriptor::Connection(_) => Err(Errno::Inval.into()),
            Descriptor::Stock(_) | Descriptor::Termination(_) => Err(Errno::Notsock.into()),
        }
    }

    /// # Errors
    /// [`Errno::Notsock`] where it is none, [`Errno::Notconn`] where it listens.
    pub(super) fn connection(&mut self, fd: u32) -> Result<&mut Connection> {
        match self.get(fd)? {
            Descriptor::Connection(connection) => Ok(connection),
            Descriptor::Listening(_) => Err(Errno::Notconn.into()),
            Descriptor::Stock(_) | Descriptor::Termination(_) => Err(Errno::Notsock.into()),
        }
    }

    /// Whether one more may be opened.
    ///
    /// # Errors
    /// [`Errno::Mfile`] where the guest has as many as it may.
    pub(super) fn has_room(&self) -> Result<()> {
        match self.slots.len() - self.free.len() < RESOURCES {
            true => Ok(()),
            false => Err(Errno::Mfile.into()),
        }
    }

    /// Opens a descriptor, and gives its number.
    pub(super) fn insert(&mut self, descriptor: Descriptor) -> Result<u32> {
        self.has_room()?;
        let number = self.free.pop_first().unwrap_or(self.slots.len());
        if number == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[number] = Some(descriptor);
        Ok(u32::try_from(number)?)
    }

    /// Opens a descriptor that tells of termination; `None` where the guest has as many as it may.
    pub(in crate::wasm) fn open_termination(&mut self, stop: Arc<Stop>) -> Option<u32> {
        let termination = Termination::new(stop, self.polls);
        self.insert(Descriptor::Termination(termination)).ok()
    }

    /// # Errors
    /// [`Errno::Badf`] where nothing has this number.
    pub(super) fn remove(&mut self, fd: u32) -> Result<Descriptor> {
        let number = usize::try_from(fd)?;
        let slot = self.slots.get_mut(number).and_then(Option::take);
        let removed = slot.ok_or(Errno::Badf)?;
        self.free.insert(number);
        Ok(removed)
    }

    /// Gives `from`'s descriptor the number `to`, and gives back what had it: nothing where both are the same.
    ///
    /// # Errors
    /// [`Errno::Badf`] where nothing has one of the numbers.
    pub(super) fn renumber(&mut self, from: u32, to: u32) -> Result<Option<Descriptor>> {
        self.get(from)?;
        self.get(to)?;
        if from == to {
            return Ok(None);
        }
        let moved = self.remove(from)?;
        Ok(Some(std::mem::replace(self.get(to)?, moved)))
    }

    /// Makes those listeners non-blocking of which the guest has not said what it wants, and whatever will be opened
    /// to tell of termination.
    pub(super) fn wait_by_polling(&mut self) {
        self.polls = true;
        for descriptor in self.slots.iter_mut().flatten() {
            if let Descriptor::Listening(listening) = descriptor {
                listening.nonblocking.get_or_insert(true);
            }
        }
    }
}

/// The standard streams: the first numbers, here and in wasmtime-wasi.
pub(super) const STREAMS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn stock(descriptors: &mut Descriptors, fd: u32) -> std::result::Result<u32, Errno> {
        let found = descriptors.stock(fd, Errno::Notdir);
        found.map_err(|error| error.downcast().unwrap())
    }

    #[test]
    fn the_lowest_free_number_is_given() {
        let mut descriptors = Descriptors::new(Vec::new(), 2);
        assert_eq!(stock(&mut descriptors, 4), Ok(4));
        assert_eq!(stock(&mut descriptors, 5), Err(Errno::Badf));
        assert_eq!(stock(&mut descriptors, u32::MAX), Err(Errno::Badf));
        descriptors.remove(3).unwrap();
        descriptors.remove(1).unwrap();
        assert!(descriptors.remove(1).is_err());
        for (new, number) in [(77, 1), (78, 3), (79, 5)] {
            assert_eq!(descriptors.insert(Descriptor::Stock(new)).unwrap(), number);
            assert_eq!(stock(&mut descriptors, number), Ok(new));
        }
    }

    #[test]
    fn what_is_renumbered_takes_a_place() {
        let mut descriptors = Descriptors::new(Vec::new(), 1);
        assert!(descriptors.renumber(3, 3).unwrap().is_none());
        assert!(descriptors.renumber(3, 9).is_err());
        assert!(descriptors.renumber(9, 3).is_err());
        let closed = descriptors.renumber(3, 0).unwrap();
        assert!(matches!(closed, Some(Descriptor::Stock(0))));
        assert_eq!(stock(&mut descriptors, 0), Ok(3));
        assert_eq!(stock(&mut descriptors, 3), Err(Errno::Badf));
    }

    #[test]
    fn there_is_a_most() {
        let mut descriptors = Descriptors::new(Vec::new(), 0);
        while descriptors.has_room().is_ok() {
            descriptors.insert(Descriptor::Stock(0)).unwrap();
        }
        assert_eq!(descriptors.slots.len(), RESOURCES);
        assert!(descriptors.insert(Descriptor::Stock(0)).is_err());
        descriptors.remove(100).unwrap();
        assert_eq!(descriptors.insert(Descriptor::Stock(0)).unwrap(), 100);
    }
}
