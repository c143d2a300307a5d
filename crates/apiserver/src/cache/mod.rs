//! The watch cache: every object of the cluster in memory, fed by the store's watch.
//!
//! For each resource an immutable ordered map (a snapshot is a pointer copy) and a ring of recent
//! changes. `resourceVersion` is spliced into an object's bytes once, when it is taken up; a list is
//! a concatenation of these bytes, a watch event is encoded once whoever watches. A list at an earlier
//! revision (a continued or exact one) is the newest map with later changes undone, so any server can
//! go on with another's pages and nothing has to be pinned.

mod change;
mod feed;
mod selection;
mod shelf;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{Object, Resource};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::node_index::NodeIndex;
use crate::rbac;

pub(crate) use change::{Change, EventType, line};
pub(crate) use selection::Selection;
pub(crate) use shelf::{Cursor, Shelf, Snapshot, TooOld};

/// The cache of one server.
pub(crate) struct Cache {
    /// By the first three segments of the store's keys: `/registry/core/pods/`.
    shelves: BTreeMap<String, Arc<Shelf>>,
    /// Up to which revision every shelf is complete; 0 before the first load.
    applied: watch::Sender<u64>,
    /// What nodes may read.
    pub(crate) nodes: RwLock<NodeIndex>,
    /// Says that some user was made or revoked.
    pub(crate) users: watch::Sender<()>,
    /// What roles and bindings give to whom.
    pub(crate) rights: RwLock<rbac::Index>,
}

impl Cache {
    pub(crate) fn new() -> Cache {
        Cache {
            shelves: api::resource::all()
                .iter()
                .filter(|r| !r.is_virtual)
                .map(|r| (r.prefix(None), Arc::new(Shelf::new())))
                .collect(),
            applied: watch::Sender::new(0),
            nodes: RwLock::default(),
            users: watch::Sender::new(()),
            rights: RwLock::default(),
        }
    }

    /// Up to which revision the cache is complete. 0: it has not been loaded yet.
    pub(crate) fn revision(&self) -> u64 {
        *self.applied.borrow()
    }

    /// Says when the cache has moved on.
    pub(crate) fn progress(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Waits until the cache is complete up to a revision. False: not in this time.
    pub(crate) async fn reach(&self, revision: u64, within: Duration) -> bool {
        if self.revision() >= revision {
            return true;
        }
        let mut progress = self.progress();
        let reached = progress.wait_for(|applied| *applied >= revision);
        matches!(tokio::time::timeout(within, reached).await, Ok(Ok(_)))
    }

    /// The shelf of a resource. None: the store keeps none of its objects.
    pub(crate) fn shelf(&self, resource: &Resource) -> Option<&Arc<Shelf>> {
        self.shelves.get(&resource.prefix(None))
    }

    /// An object as the cache knows it.
    pub(crate) fn get(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<Object> {
        self.shelf(resource)?
            .get(resource.key(namespace, name).as_bytes())
    }

    /// All objects of a resource now, and where to watch on from.
    pub(crate) fn snapshot(&self, shelf: &Shelf) -> (Snapshot, Cursor) {
        // Read first: what is complete up to here is in the snapshot taken after it.
        let applied = self.revision();
        shelf.snapshot(applied)
    }

    /// The objects of a resource at a revision that the cache has reached.
    pub(crate) fn at(&self, shelf: &Shelf, revision: u64) -> Result<Snapshot, TooOld> {
        shelf.at(revision)
    }

    /// Where a watch from a revision begins.
    pub(crate) fn cursor(&self, shelf: &Shelf, revision: u64) -> Result<Cursor, TooOld> {
        shelf.cursor(revision)
    }

    /// How many objects each resource has.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&str, usize)> {
        self.shelves
            .iter()
            .map(|(prefix, shelf)| (prefix.as_str(), shelf.snapshot(0).0.objects.len()))
    }
}
