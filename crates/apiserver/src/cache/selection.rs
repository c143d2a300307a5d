//! Which objects of a resource a request is about.

use std::ops::Bound;
use std::sync::Arc;

use api::selector::{FieldSelector, LabelSelector};
use api::{Object, Resource, Status};
use bytes::Bytes;

use super::{Cache, Snapshot};
use crate::node_index::Referent;
use crate::request::Query;

/// A part of a resource's objects: a namespace or all, narrowed by selectors.
pub(crate) struct Selection {
    prefix: Vec<u8>,
    /// Whether a name is all that a key has behind the prefix.
    placed: bool,
    labels: LabelSelector,
    fields: FieldSelector,
    /// Only what pods of a node refer to.
    followed: Option<Followed>,
}

/// A node, and of which kind it follows the objects that its pods refer to.
struct Followed {
    cache: Arc<Cache>,
    kind: Referent,
    node: String,
}

impl Followed {
    /// Whether a pod of the node refers to the object now.
    ///
    /// Judged when an object is shown, by an index that knows all pods up to that object's revision at least: it is fed
    /// first (`Cache::apply`). So a change that came after a pod was bound is shown, and one that is left out came
    /// before, when the node has yet to read the object for that pod. Should the index know later pods, too, a change
    /// from before is shown that need not be, of an object that the node may read by then.
    fn takes(&self, namespaced_name: &[u8]) -> bool {
        std::str::from_utf8(namespaced_name).is_ok_and(|place| {
            let nodes = self.cache.nodes.read();
            nodes.refers_to(&self.node, self.kind, place)
        })
    }

    /// What of a snapshot pods of the node refer to now, behind a key. Each object is looked up, for a node's pods refer
    /// to few of all that there are.
    fn found<'a>(
        &self,
        prefix: &[u8],
        snapshot: &'a Snapshot,
        after: Option<&[u8]>,
    ) -> Vec<(&'a Bytes, &'a Object)> {
        let nodes = self.cache.nodes.read();
        let places = nodes.places(&self.node, self.kind);
        let keys = places.map(|place| [prefix, place.as_bytes()].concat());
        let keys = keys.filter(|key| after.is_none_or(|after| key.as_slice() > after));
        keys.filter_map(|key| snapshot.objects.get_key_value(key.as_slice()))
            .collect()
    }
}

impl Selection {
    /// What pods of a node refer to, in all namespaces; narrowed by labels, if the query says so.
    pub(crate) fn followed(
        resource: &'static Resource,
        query: &Query,
        cache: &Arc<Cache>,
        kind: Referent,
        node: &str,
    ) -> Result<Selection, Status> {
        Ok(Selection {
            prefix: resource.prefix(None).into_bytes(),
            placed: false,
            labels: LabelSelector::parse(query.text("labelSelector").unwrap_or_default())?,
            fields: FieldSelector::default(),
            followed: Some(Followed {
                cache: Arc::clone(cache),
                kind,
                node: node.to_owned(),
            }),
        })
    }

    /// Reads it from a request. `name` is that of a watch on a single object's path.
    pub(crate) fn read(
        resource: &'static Resource,
        namespace: Option<&str>,
        name: Option<&str>,
        query: &Query,
    ) -> Result<Selection, Status> {
        let mut selection = Selection {
            prefix: resource.prefix(namespace).into_bytes(),
            placed: !resource.namespaced || namespace.is_some(),
            labels: LabelSelector::parse(query.text("labelSelector").unwrap_or_default())?,
            fields: FieldSelector::parse(
                resource,
                query.text("fieldSelector").unwrap_or_default(),
            )?,
            followed: None,
        };
        if let Some(name) = name {
            // Beside what the query demands: authorization may have relied on that.
            selection.fields = selection.fields.named(name);
        }
        Ok(selection)
    }

    /// Whether an object of this key in the store may be shown, if the selectors take it.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        let rest = key.strip_prefix(self.prefix.as_slice());
        rest.is_some_and(|rest| self.followed.as_ref().is_none_or(|by| by.takes(rest)))
    }

    /// Whether nothing narrows it.
    pub(crate) fn is_everything(&self) -> bool {
        self.followed.is_none() && self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether the selectors take an object that the selection covers.
    pub(crate) fn matches(&self, object: &Object) -> bool {
        self.labels.matches_object(object) && self.fields.matches(object)
    }

    /// The objects of a snapshot.
    pub(crate) fn of<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Object> {
        self.after(snapshot, None).map(|(_, object)| object)
    }

    /// The objects of a snapshot behind a key, with their keys.
    pub(crate) fn after<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        after: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a Bytes, &'a Object)> {
        let followed = self.followed.as_ref();
        let found = followed.map(|by| by.found(&self.prefix, snapshot, after));
        let scanned = found.is_none().then(|| self.scan(snapshot, after));
        let found = found.into_iter().flatten();
        found
            .chain(scanned.into_iter().flatten())
            .filter(|(_, object)| self.matches(object))
    }

    /// Those whose keys are covered, if it were not for a node's pods.
    fn scan<'a>(
        &self,
        snapshot: &'a Snapshot,
        after: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a Bytes, &'a Object)> + use<'a> {
        // One named object is looked up: agents watch many single ConfigMaps and Secrets.
        let named = self.only_key();
        let prefix = named.as_deref().unwrap_or(&self.prefix).to_vec();
        let start = match after {
            Some(after) if after >= prefix.as_slice() => Bound::Excluded(after),
            _ => Bound::Included(prefix.as_slice()),
        };
        let range: (Bound<&[u8]>, Bound<&[u8]>) = (start, Bound::Unbounded);
        snapshot
            .objects
            .range::<_, [u8]>(range)
            .take_while(move |(key, _)| key.starts_with(&prefix))
    }

    /// The key that the selection comes down to, if it names one object and where it lies.
    fn only_key(&self) -> Option<Vec<u8>> {
        let name = self.fields.exact("metadata.name").filter(|_| self.placed)?;
        Some([self.prefix.as_slice(), name.as_bytes()].concat())
    }
}
