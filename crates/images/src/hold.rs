//! Who needs which content, so that nothing is taken away that somebody is about to use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::At;
use crate::{Blobs, Digest, Error};

/// The content of one store of blobs that is needed.
///
/// Why nobody loses what he needs: whoever needs content *begins to hold it and then looks* whether it is there;
/// whoever removes content *looks for holds and takes it away in one step* ([`Holds::unless_held`]), during which no hold
/// begins. So a hold begins either before that step, which then takes nothing, or after it, and then its owner finds
/// nothing there and fetches it anew. What was seen under a hold stays as long as the hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holds(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    counts: BTreeMap<Digest, usize>,
    /// What was let go of since somebody last asked.
    released: BTreeSet<Digest>,
}

/// Somebody needs this content. Clones are one hold, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Hold(Arc<One>);

#[derive(Debug)]
struct One {
    holds: Holds,
    digest: Digest,
}

impl Hold {
    /// Of what.
    pub fn digest(&self) -> &Digest {
        &self.0.digest
    }
}

impl PartialEq for Hold {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Eq for Hold {}

impl Drop for One {
    fn drop(&mut self) {
        let mut held = self.holds.0.lock();
        let left = held.counts.get(&self.digest).map_or(0, |count| count - 1);
        if left > 0 {
            held.counts.insert(self.digest, left);
        } else {
            held.counts.remove(&self.digest);
        }
        held.released.insert(self.digest);
    }
}

impl Holds {
    pub(crate) fn hold(&self, digest: &Digest) -> Hold {
        *self.0.lock().counts.entry(*digest).or_default() += 1;
        Hold(Arc::new(One {
            holds: self.clone(),
            digest: *digest,
        }))
    }

    pub(crate) fn is_held(&self, digest: &Digest) -> bool {
        self.0.lock().counts.contains_key(digest)
    }

    /// Does `take` unless somebody holds the content. Nobody begins to hold anything meanwhile, so it must be quick.
    pub(crate) fn unless_held<T>(&self, digest: &Digest, take: impl FnOnce() -> T) -> Option<T> {
        let held = self.0.lock();
        (!held.counts.contains_key(digest)).then(take)
    }

    /// What is held, or was since this was last asked.
    pub(crate) fn take_used(&self) -> BTreeSet<Digest> {
        let mut held = self.0.lock();
        let mut used = std::mem::take(&mut held.released);
        used.extend(held.counts.keys());
        used
    }
}

/// What is needed of a store, and taking away what is not.
impl Blobs {
    /// Begins to hold the blob, whether or not it is there yet: what is seen to be there from now on stays while the hold
    /// lasts.
    pub fn hold(&self, digest: &Digest) -> Hold {
        self.holds.hold(digest)
    }

    /// Whether anybody holds the blob now.
    pub fn is_held(&self, digest: &Digest) -> bool {
        self.holds.is_held(digest)
    }

    /// What is held, or was at any time since this was last asked.
    pub fn take_used(&self) -> BTreeSet<Digest> {
        self.holds.take_used()
    }

    /// Does `take`, which takes away the blob or what was made from it, unless somebody holds it. Nobody begins to hold
    /// anything meanwhile, so it must be as quick as a renaming.
    pub fn unless_held<T>(&self, digest: &Digest, take: impl FnOnce() -> T) -> Option<T> {
        self.holds.unless_held(digest, take)
    }

    /// Takes the blob out of the store by a renaming, and says where it lies until it is removed; `None` if it was not
    /// there. What is not removed before the store is next opened is removed then.
    pub fn set_aside(&self, digest: &Digest) -> Result<Option<PathBuf>, Error> {
        let aside = self
            .dir
            .join("tmp")
            .join(format!("removed-{}", digest.hex()));
        match fs::rename(self.path(digest), &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            result => result.at(&aside).map(|()| Some(aside)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_not_taken() {
        let (holds, x, y) = (Holds::default(), Digest::of(b"x"), Digest::of(b"y"));
        let first = holds.hold(&x);
        let (second, clone) = (holds.hold(&x), first.clone());
        for hold in [first, second, clone] {
            assert!(holds.is_held(&x) && !holds.is_held(&y));
            assert_eq!(holds.unless_held(&x, || ()), None);
            assert_eq!(holds.unless_held(&y, || ()), Some(()));
            assert_eq!(holds.take_used(), [x].into());
            drop(hold);
        }
        assert_eq!(holds.unless_held(&x, || ()), Some(()));
        assert_eq!(holds.take_used(), [x].into(), "it was until now");
        assert!(holds.take_used().is_empty());
    }

    #[tokio::test]
    async fn a_blob_that_was_set_aside_is_gone_at_once_and_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let digest = blobs.put_bytes("x".into()).await.unwrap().digest;
        let aside = blobs.set_aside(&digest).unwrap().unwrap();
        assert!(!blobs.contains(&digest) && aside.exists());
        assert_eq!(blobs.set_aside(&digest).unwrap(), None);
        blobs.put_bytes("x".into()).await.unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        assert!(blobs.contains(&digest) && !aside.exists());
    }
}
