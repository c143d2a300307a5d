//! Calls whose requests a server may break off, by the number that it gave them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// All that are under way.
#[derive(Clone, Default)]
pub(super) struct Calls(Arc<Mutex<BTreeMap<u64, CancellationToken>>>);

impl Calls {
    /// Enters a call. Number 0 is of those that are never broken off.
    ///
    /// # Errors
    /// `ALREADY_EXISTS` where another has this number.
    pub(super) fn enter(&self, number: u64) -> Result<Call, Status> {
        let broken_off = CancellationToken::new();
        if number != 0 {
            match self.0.lock().entry(number) {
                Entry::Vacant(free) => free.insert(broken_off.clone()),
                Entry::Occupied(_) => {
                    let why = format!("call {number:x} is under way already");
                    return Err(Status::already_exists(why));
                }
            };
        }
        Ok(Call {
            all: self.clone(),
            number,
            broken_off,
        })
    }

    /// Breaks a call off, if it is under way.
    pub(super) fn break_off(&self, number: u64) {
        if let Some(call) = self.0.lock().get(&number) {
            call.cancel();
        }
    }
}

/// A call that is under way until this is dropped.
pub(super) struct Call {
    all: Calls,
    number: u64,
    broken_off: CancellationToken,
}

impl Call {
    /// Waits until the server breaks it off.
    pub(super) async fn broken_off(&self) {
        self.broken_off.cancelled().await;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn only_the_call_that_is_meant_is_broken_off() {
        let calls = Calls::default();
        let one = calls.enter(1).unwrap();
        let other = calls.enter(2).unwrap();
        let taken = calls.enter(1).map(drop).unwrap_err();
        assert_eq!(taken.code(), tonic::Code::AlreadyExists);
        calls.break_off(1);
        calls.break_off(3);
        assert!(one.broken_off().now_or_never().is_some());
        assert!(other.broken_off().now_or_never().is_none());
        drop(one);
        // Its number is free again, and what was broken off is over.
        let again = calls.enter(1).unwrap();
        assert!(again.broken_off().now_or_never().is_none());
    }

    #[test]
    fn calls_without_a_number_are_never_broken_off() {
        let calls = Calls::default();
        let (one, other) = (calls.enter(0).unwrap(), calls.enter(0).unwrap());
        calls.break_off(0);
        assert!(one.broken_off().now_or_never().is_none());
        assert!(other.broken_off().now_or_never().is_none());
        assert!(calls.0.lock().is_empty());
    }
}
