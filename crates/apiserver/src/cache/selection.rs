//! Which objects of a resource a request is about.

use std::ops::Bound;

use api::selector::{FieldSelector, LabelSelector};
use api::{Object, Resource, Status};
use bytes::Bytes;

use super::Snapshot;
use crate::request::Query;

/// A part of a resource's objects: a namespace or all, narrowed by selectors.
pub(crate) struct Selection {
    prefix: Vec<u8>,
    /// Whether a name is all that a key has behind the prefix.
    placed: bool,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
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
        };
        if let Some(name) = name {
            // Beside what the query demands: authorization may have relied on that.
            selection.fields = selection.fields.named(name);
        }
        Ok(selection)
    }

    /// What the store's keys of all its objects begin with.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Whether no selector narrows it.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether the selectors take an object that the prefix covers.
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
            .filter(|(_, object)| self.matches(object))
    }

    /// The key that the selection comes down to, if it names one object and where it lies.
    fn only_key(&self) -> Option<Vec<u8>> {
        let name = self.fields.exact("metadata.name").filter(|_| self.placed)?;
        Some([self.prefix.as_slice(), name.as_bytes()].concat())
    }
}
