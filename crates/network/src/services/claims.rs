//! Who is at an address, where several say that it is theirs.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use super::{Backends, Name};

/// Who claims something, and since when, in seconds.
pub(super) type Claimant = (i64, Name);

/// Addresses and those who claim them. The oldest has it, of several the first by name: every node decides alike,
/// nobody takes what another has, and when that one goes the next has it.
#[derive(Debug)]
pub(super) struct Claims<At>(HashMap<At, BTreeMap<Claimant, Arc<Backends>>>);

impl<At> Default for Claims<At> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<At: Eq + Hash> Claims<At> {
    pub(super) fn claim(&mut self, at: At, by: &Claimant, backends: Arc<Backends>) {
        self.0.entry(at).or_default().insert(by.clone(), backends);
    }

    pub(super) fn take_back(&mut self, at: &At, by: &Claimant) {
        if let Some(claims) = self.0.get_mut(at) {
            claims.remove(by);
            if claims.is_empty() {
                self.0.remove(at);
            }
        }
    }

    pub(super) fn get(&self, at: &At) -> Option<&Arc<Backends>> {
        self.0.get(at)?.values().next()
    }

    /// All addresses, and who has each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&At, &Name)> {
        let all = self.0.iter();
        all.filter_map(|(at, claims)| Some((at, &claims.keys().next()?.1)))
    }
}
