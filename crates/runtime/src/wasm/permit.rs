//! What a guest may write to an output stream, as `check-write` told it.

use wasmtime_wasi::p2::{StreamError, StreamResult};

/// The bytes that may be written before it is asked again. wasmtime-wasi leaves it to each stream to hold guests to it.
#[derive(Debug, Default)]
pub(super) struct Permit(usize);

impl Permit {
    /// Tells the guest.
    pub(super) fn give(&mut self, bytes: usize) -> usize {
        self.0 = bytes;
        bytes
    }

    /// Takes what is written. Room may have become less meanwhile: what was permitted stays so.
    ///
    /// # Errors
    /// A trap where that is more.
    pub(super) fn spend(&mut self, bytes: usize) -> StreamResult<()> {
        match self.0.checked_sub(bytes) {
            Some(rest) => {
                self.0 = rest;
                Ok(())
            }
            None => Err(StreamError::trap(
                "write exceeded the permit of check-write",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_was_permitted() {
        let mut permit = Permit::default();
        assert!(permit.spend(0).is_ok());
        assert!(matches!(permit.spend(1), Err(StreamError::Trap(_))));
        assert_eq!(permit.give(10), 10);
        assert!(permit.spend(4).is_ok());
        assert!(permit.spend(6).is_ok());
        assert!(matches!(permit.spend(1), Err(StreamError::Trap(_))));
        assert_eq!((permit.give(10), permit.give(3)), (10, 3));
        assert!(matches!(permit.spend(4), Err(StreamError::Trap(_))));
    }
}
