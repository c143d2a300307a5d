//! Who has something, where several say that it is theirs.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use crate::services::Name;

/// Since when something is claimed, in seconds, and who claims it.
pub(crate) type Claim = (i64, Name);

/// Addresses and those who claim them, each with what it leads to. The oldest has it, of several the first by name: every
/// node decides alike, nobody takes what another has, and when that one goes the next has it.
#[derive(Debug)]
pub(crate) struct Claims<At, What>(HashMap<At, BTreeMap<Claim, What>>);

impl<At, What> Default for Claims<At, What> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<At: Eq + Hash, What> Claims<At, What> {
    pub(crate) fn claim(&mut self, at: At, by: &Claim, what: What) {
        self.0.entry(at).or_default().insert(by.clone(), what);
    }

    pub(crate) fn take_back(&mut self, at: &At, by: &Claim) {
        if let Some(claims) = self.0.get_mut(at) {
            claims.remove(by);
            if claims.is_empty() {
                self.0.remove(at);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What an address stands for.
    pub(crate) fn get(&self, at: &At) -> Option<&What> {
        self.at(at).next().map(|(_, what)| what)
    }

    /// All who claim an address; the first has it.
    pub(crate) fn at<'a>(
        &'a self,
        at: &At,
    ) -> impl Iterator<Item = (&'a Claim, &'a What)> + use<'a, At, What> {
        self.0.get(at).into_iter().flatten()
    }

    /// All addresses, and who has each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&At, &Name)> {
        let all = self.0.iter();
        all.filter_map(|(at, claims)| Some((at, &claims.keys().next()?.1)))
    }

    /// All claims of all addresses.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&At, &Claim, &What)> {
        let all = self.0.iter();
        all.flat_map(|(at, claims)| claims.iter().map(move |(by, what)| (at, by, what)))
    }
}
