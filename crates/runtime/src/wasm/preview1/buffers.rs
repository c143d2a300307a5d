//! The buffers that a guest names by a list of `iovec`s.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use wasmtime_wasi::p1::types::{Errno, Iovec};
use wiggle::{GuestMemory, GuestPtr};

use super::Result;

/// The most buffers that one call may name: POSIX's `IOV_MAX` on Linux.
pub(super) const MOST: u32 = 1024;

/// What is left of the buffers of a call. All of them lie in the guest's memory.
pub(super) struct Buffers {
    rest: VecDeque<GuestPtr<[u8]>>,
    left: usize,
}

impl Buffers {
    /// Reads a list of `count` buffers; those to write from and those to read into look the same.
    ///
    /// # Errors
    /// [`Errno::Inval`] for more of them, or of bytes, than a call may name; a trap where the list or a buffer does not
    /// lie in memory.
    pub(super) fn of(memory: &GuestMemory<'_>, at: u32, count: u32) -> Result<Self> {
        if count > MOST {
            return Err(Errno::Inval.into());
        }
        let (mut rest, mut left) = (VecDeque::new(), 0_u32);
        for vector in GuestPtr::<Iovec>::new(at).as_array(count).iter() {
            let vector = memory.read(vector?)?;
            let buffer = vector.buf.as_array(vector.buf_len);
            memory.as_slice(buffer)?;
            left = left.checked_add(vector.buf_len).ok_or(Errno::Inval)?;
            if vector.buf_len > 0 {
                rest.push_back(buffer);
            }
        }
        let left = usize::try_from(left)?;
        Ok(Self { rest, left })
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Takes the next bytes that lie together, at most so many.
    fn next(&mut self, most: usize) -> Result<Option<GuestPtr<[u8]>>> {
        let Some(first) = self.rest.pop_front() else {
            return Ok(None);
        };
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let taken = first.len().min(most);
        if let Some(rest) = first.get_range(taken..first.len())
            && rest.len() > 0
        {
            self.rest.push_front(rest);
        }
        self.left -= usize::try_from(taken)?;
        Ok(first.get_range(0..taken))
    }

    /// Writes bytes to the buffers, of which as many are left.
    pub(super) fn put(&mut self, memory: &mut GuestMemory<'_>, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty()
            && let Some(buffer) = self.next(bytes.len())?
        {
            let (now, later) = bytes.split_at(usize::try_from(buffer.len())?);
            memory.copy_from_slice(now, buffer)?;
            bytes = later;
        }
        Ok(())
    }

    /// Reads the buffers' next bytes, at most so many.
    pub(super) fn take(&mut self, memory: &GuestMemory<'_>, most: usize) -> Result<Bytes> {
        let most = most.min(self.left);
        let mut bytes = BytesMut::with_capacity(most);
        while bytes.len() < most
            && let Some(buffer) = self.next(most - bytes.len())?
        {
            bytes.extend_from_slice(&memory.as_cow(buffer)?);
        }
        Ok(bytes.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory with these vectors at its beginning, aligned as a guest's is.
    fn memory(vectors: &[(u32, u32)]) -> Vec<u64> {
        let mut words: Vec<u64> = vectors
            .iter()
            .map(|(at, length)| u64::from(*at) | u64::from(*length) << 32)
            .collect();
        words.resize(16, 0);
        words
    }

    fn bytes(words: &[u64]) -> (Vec<u8>, usize) {
        let mut bytes = vec![0; words.len() * 8 + 8];
        let begin = bytes.as_ptr().align_offset(8);
        for (number, word) in words.iter().enumerate() {
            let at = begin + number * 8;
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        (bytes, begin)
    }

    #[test]
    fn bytes_go_to_the_buffers_in_their_order_and_back() {
        let (mut host, begin) = bytes(&memory(&[(40, 3), (0, 0), (64, 5)]));
        let length = host.len() - begin - (8 - begin);
        let mut memory = GuestMemory::Unshared(&mut host[begin..begin + length]);
        let mut into = Buffers::of(&memory, 0, 3).unwrap();
        assert_eq!(into.left(), 8);
        into.put(&mut memory, b"ab").unwrap();
        into.put(&mut memory, b"cdef").unwrap();
        assert_eq!(into.left(), 2);
        let read = |at| memory.read(GuestPtr::<u8>::new(at)).unwrap();
        assert_eq!([40, 41, 42, 64, 65, 66].map(read), *b"abcdef");
        let mut from = Buffers::of(&memory, 0, 3).unwrap();
        assert_eq!(from.take(&memory, 4).unwrap(), &b"abcd"[..]);
        assert_eq!(from.take(&memory, 99).unwrap(), &b"ef\0\0"[..]);
        assert_eq!(from.take(&memory, 99).unwrap(), &b""[..]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let (mut host, begin) = bytes(&memory(&[(120, 9), (0, u32::MAX)]));
        let memory = GuestMemory::Unshared(&mut host[begin..begin + 128]);
        let refused = |at, count| Buffers::of(&memory, at, count).err().unwrap().downcast();
        assert!(matches!(refused(0, MOST + 1), Ok(Errno::Inval)));
        for (at, count) in [(0, 1), (8, 1), (128, 1), (u32::MAX - 7, 1), (u32::MAX, 1)] {
            assert!(refused(at, count).is_err(), "{count} at {at} trap");
        }
    }
}
