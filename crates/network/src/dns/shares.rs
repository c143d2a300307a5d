//! How much of the server one client may have, so that nobody can keep it from the others.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// What clients have at the moment. Who has nothing is not remembered.
#[derive(Debug)]
pub(super) struct Shares {
    taken: Mutex<BTreeMap<IpAddr, usize>>,
    most: usize,
}

/// A part of a client's share; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    client: IpAddr,
}

impl Shares {
    pub(super) fn new(most: usize) -> Arc<Self> {
        let taken = Mutex::default();
        Arc::new(Self { taken, most })
    }

    /// One more for a client: none where it has all that one may have.
    pub(super) fn take(self: &Arc<Self>, client: IpAddr) -> Option<Share> {
        let mut taken = self.taken.lock();
        let has = taken.entry(client).or_default();
        if *has >= self.most {
            return None;
        }
        *has += 1;
        let shares = self.clone();
        Some(Share { shares, client })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.lock();
        let left = taken.get_mut(&self.client).map_or(0, |has| {
            *has -= 1;
            *has
        });
        if left == 0 {
            taken.remove(&self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own() {
        let shares = Shares::new(2);
        let [a, b] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let first = shares.take(a).unwrap();
        let second = shares.take(a).unwrap();
        assert!(shares.take(a).is_none());
        let other = shares.take(b);
        assert!(other.is_some());
        drop(first);
        let third = shares.take(a);
        assert!(third.is_some());
        drop((second, third, other));
        assert!(shares.taken.lock().is_empty());
    }
}
