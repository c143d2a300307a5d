//! The replicated state: an immutable value that costs a few pointer copies to clone.

use std::ops::Bound;

use bytes::Bytes;
use imbl::OrdMap;
use imbl::OrdSet;

use crate::Revision;
use crate::answers::Answers;

/// Everything the store knows at one revision.
///
/// Equality ignores nothing but [`State::compacted`], which is a member's own.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(crate) revision: Revision,
    pub(crate) entries: OrdMap<Bytes, Entry>,
    pub(crate) leases: OrdMap<u64, Lease>,
    /// Which keys hang on which lease.
    pub(crate) leased: OrdSet<(u64, Bytes)>,
    /// Counts grants and renewals of leases; the source of [`Lease::renewed`].
    pub(crate) renewals: u64,
    /// The answers of recent commands, by request id.
    pub(crate) answers: Answers,
    pub(crate) compacted: Revision,
}

/// A key's value and history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value, as it was put.
    pub value: Bytes,
    /// The revision that created the key.
    pub created: Revision,
    /// The revision that put this value.
    pub modified: Revision,
    /// The lease whose end deletes the key.
    pub lease: Option<u64>,
}

/// A lease: keys put with it are deleted when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Time to live in milliseconds, counted by the leader from when it saw `renewed` change or took office.
    pub ttl_ms: u64,
    /// Changes with each grant and keep-alive.
    pub renewed: u64,
}

impl State {
    /// The revision of the newest change of a key; 0 for a store that was never written.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision from which this member can serve a watch.
    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    /// A key's entry.
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// All entries whose key begins with `prefix`, in the order of their keys.
    pub fn range(&self, prefix: &[u8]) -> impl Iterator<Item = (&Bytes, &Entry)> {
        self.range_after(prefix, None)
    }

    /// As [`State::range`], from the first key behind `after` on: the next page of a list.
    pub fn range_after(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = (&Bytes, &Entry)> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let range: (Bound<&[u8]>, Bound<&[u8]>) = (start, Bound::Unbounded);
        let prefix = Bytes::copy_from_slice(prefix);
        self.entries
            .range::<_, [u8]>(range)
            .take_while(move |(key, _)| key.starts_with(&prefix))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A lease.
    pub fn lease(&self, id: u64) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// All leases, in the order of their ids.
    pub fn leases(&self) -> impl Iterator<Item = (u64, &Lease)> {
        self.leases.iter().map(|(id, lease)| (*id, lease))
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.revision == other.revision
            && self.entries == other.entries
            && self.leases == other.leases
            && self.leased == other.leased
            && self.renewals == other.renewals
            && self.answers == other.answers
    }
}
