//! Feeds the cache from the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Object;
use bytes::Bytes;
use imbl::OrdMap;
use store::{Event, EventKind, State, Store};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::change::{Change, EventType};
use super::{Cache, Shelf};
use crate::rbac::{Index, Kind};

/// What the keys of objects start with.
const REGISTRY: &[u8] = b"/registry/";
/// The shelves that the nodes' index is made from.
const PODS: &[u8] = b"/registry/core/pods/";
const INGRESSES: &[u8] = b"/registry/networking.k8s.io/ingresses/";
const CLASSES: &[u8] = b"/registry/networking.k8s.io/ingressclasses/";
/// The shelves that the index of rights is made from.
const RIGHTS: [(&[u8], Kind); 4] = [
    (
        b"/registry/rbac.authorization.k8s.io/clusterroles/",
        Kind::Role,
    ),
    (b"/registry/rbac.authorization.k8s.io/roles/", Kind::Role),
    (
        b"/registry/rbac.authorization.k8s.io/clusterrolebindings/",
        Kind::Binding,
    ),
    (
        b"/registry/rbac.authorization.k8s.io/rolebindings/",
        Kind::Binding,
    ),
];

impl Cache {
    /// Keeps the cache up to date until told to stop or the store stops.
    pub(crate) async fn feed(self: Arc<Self>, store: Store, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let state = store.state();
            let mut watch = match store.watch(state.revision()) {
                Ok(watch) => watch,
                Err(store::Error::Compacted { .. }) => continue,
                Err(error) => {
                    error!(%error, "the watch cache cannot follow the store");
                    return;
                }
            };
            // Loading parses every object: not on a thread that others' requests wait for.
            let loader = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || loader.load(&state))
                .await
                .is_err()
            {
                error!("the watch cache could not be loaded");
                return;
            }
            loop {
                let next = tokio::select! {
                    next = watch.next() => next,
                    () = shutdown.cancelled() => return,
                };
                match next {
                    Ok(batch) => self.apply(&batch),
                    Err(store::Error::Compacted { oldest, .. }) => {
                        warn!(oldest, "the watch cache fell behind and starts anew");
                        break;
                    }
                    Err(store::Error::Stopped(_)) => return,
                    Err(error) => {
                        error!(%error, "the watch cache cannot follow the store");
                        return;
                    }
                }
            }
        }
    }

    /// Takes up a whole state.
    fn load(&self, state: &State) {
        let mut all: BTreeMap<&[u8], OrdMap<Bytes, Object>> = self
            .shelves
            .keys()
            .map(|prefix| (prefix.as_bytes(), OrdMap::new()))
            .collect();
        for (key, entry) in state.range(REGISTRY) {
            let Some(objects) = prefix(key).and_then(|p| all.get_mut(p)) else {
                continue;
            };
            if let Some(object) = read(key, &entry.value, entry.modified) {
                objects.insert(key.clone(), object);
            }
        }
        let mut nodes = self.nodes.write();
        *nodes = Default::default();
        for (key, object) in all.get(PODS).into_iter().flatten() {
            if let Some((namespace, name)) = scoped_name(PODS, key) {
                nodes.put(namespace, name, object.bytes());
            }
        }
        for (key, object) in all.get(INGRESSES).into_iter().flatten() {
            if let Some((namespace, name)) = scoped_name(INGRESSES, key) {
                nodes.certificates.put(namespace, name, object.bytes());
            }
        }
        for (key, object) in all.get(CLASSES).into_iter().flatten() {
            if let Some((_, name)) = scoped_name(CLASSES, key) {
                nodes.certificates.put_class(name, object.bytes());
            }
        }
        drop(nodes);
        let mut rights = Index::default();
        for (prefix, kind) in RIGHTS {
            for (key, object) in all.get(prefix).into_iter().flatten() {
                if let Some((namespace, name)) = scoped_name(prefix, key) {
                    rights.put(kind, namespace, name, object.bytes());
                }
            }
        }
        *self.rights.write() = rights;
        for (prefix, shelf) in &self.shelves {
            let objects = all.remove(prefix.as_bytes()).unwrap_or_default();
            shelf.reset(objects, state.revision());
        }
        self.users.send_replace(());
        self.applied.send_replace(state.revision());
    }

    /// Takes up one batch of the store's events.
    fn apply(&self, batch: &[Event]) {
        let mut changes: BTreeMap<&[u8], (&Arc<Shelf>, Vec<Change>)> = BTreeMap::new();
        for event in batch {
            let Some(prefix) = prefix(&event.key) else {
                if event.key.starts_with(crate::users::PREFIX.as_bytes()) {
                    self.users.send_replace(());
                }
                continue;
            };
            let Some(shelf) = std::str::from_utf8(prefix)
                .ok()
                .and_then(|p| self.shelves.get(p))
            else {
                continue;
            };
            let (_, pending) = changes.entry(prefix).or_insert_with(|| (shelf, Vec::new()));
            if let Some(change) = change(event, shelf, pending) {
                pending.push(change);
            }
        }
        // The indexes before the shelves: by them it is judged who may be shown what is there.
        if let Some((_, pods)) = changes.get(PODS) {
            self.index(pods);
        }
        if let Some((_, ingresses)) = changes.get(INGRESSES) {
            self.index_ingresses(ingresses);
        }
        if let Some((_, classes)) = changes.get(CLASSES) {
            self.index_classes(classes);
        }
        for (prefix, kind) in RIGHTS {
            if let Some((_, changes)) = changes.get(prefix) {
                self.index_rights(prefix, kind, changes);
            }
        }
        for (shelf, changes) in changes.into_values() {
            shelf.apply(changes);
        }
        if let Some(last) = batch.last() {
            self.applied.send_replace(last.revision);
        }
    }

    fn index(&self, pods: &[Change]) {
        let mut nodes = self.nodes.write();
        for change in pods {
            let Some((namespace, name)) = scoped_name(PODS, &change.key) else {
                continue;
            };
            match change.kind {
                EventType::Deleted => nodes.remove(namespace, name),
                EventType::Added | EventType::Modified => {
                    nodes.put(namespace, name, change.object.bytes());
                }
            }
        }
    }
}

impl Cache {
    fn index_ingresses(&self, ingresses: &[Change]) {
        let mut nodes = self.nodes.write();
        for change in ingresses {
            let Some((namespace, name)) = scoped_name(INGRESSES, &change.key) else {
                continue;
            };
            match change.kind {
                EventType::Deleted => nodes.certificates.remove(namespace, name),
                EventType::Added | EventType::Modified => {
                    nodes
                        .certificates
                        .put(namespace, name, change.object.bytes());
                }
            }
        }
    }

    fn index_classes(&self, classes: &[Change]) {
        let mut nodes = self.nodes.write();
        for change in classes {
            let Some((_, name)) = scoped_name(CLASSES, &change.key) else {
                continue;
            };
            let certificates = &mut nodes.certificates;
            match change.kind {
                EventType::Deleted => certificates.remove_class(name),
                EventType::Added | EventType::Modified => {
                    certificates.put_class(name, change.object.bytes());
                }
            }
        }
    }

    fn index_rights(&self, prefix: &[u8], kind: Kind, changes: &[Change]) {
        let mut rights = self.rights.write();
        for change in changes {
            let Some((namespace, name)) = scoped_name(prefix, &change.key) else {
                continue;
            };
            match change.kind {
                EventType::Deleted => rights.remove(kind, namespace, name),
                EventType::Added | EventType::Modified => {
                    rights.put(kind, namespace, name, change.object.bytes());
                }
            }
        }
    }
}

/// `/registry/core/pods/` of `/registry/core/pods/default/web`.
fn prefix(key: &[u8]) -> Option<&[u8]> {
    let rest = key.strip_prefix(REGISTRY)?;
    let mut slashes = rest.iter().enumerate().filter(|(_, b)| **b == b'/');
    let (second, _) = slashes.nth(1)?;
    key.get(..REGISTRY.len() + second + 1)
}

/// Namespace and name behind a resource's prefix; no namespace where there is only a name.
fn scoped_name<'a>(prefix: &[u8], key: &'a [u8]) -> Option<(&'a str, &'a str)> {
    let rest = std::str::from_utf8(key.strip_prefix(prefix)?).ok()?;
    Some(rest.split_once('/').unwrap_or(("", rest)))
}

fn read(key: &[u8], value: &Bytes, revision: u64) -> Option<Object> {
    match Object::from_stored(value, revision) {
        Ok(object) => Some(object),
        Err(error) => {
            error!(key = %key.escape_ascii(), revision, %error, "a stored object cannot be read and is left out");
            None
        }
    }
}

/// The change that an event makes. `pending` are the changes before it in the same batch.
fn change(event: &Event, shelf: &Shelf, pending: &[Change]) -> Option<Change> {
    let before = match &event.previous {
        None => None,
        Some(entry) => {
            // Nearly always the one that is cached; else one of the same batch.
            let is_it = |o: &Object| o.revision() == entry.modified;
            let known = shelf.get(&event.key).filter(is_it).or_else(|| {
                let mut same = pending.iter().rev().filter(|c| c.key == event.key);
                same.next().map(|c| c.object.clone()).filter(is_it)
            });
            known
                .or_else(|| read(&event.key, &entry.value, entry.modified))
                .map(|object| (object, entry.value.clone()))
        }
    };
    let (kind, object) = match &event.kind {
        EventKind::Put { value, .. } => (
            if before.is_some() {
                EventType::Modified
            } else {
                EventType::Added
            },
            read(&event.key, value, event.revision)?,
        ),
        EventKind::Delete => {
            let (_, stored) = before.as_ref()?;
            (
                EventType::Deleted,
                read(&event.key, stored, event.revision)?,
            )
        }
    };
    Some(Change::new(
        event.revision,
        event.key.clone(),
        kind,
        object,
        before,
    ))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

    use super::*;

    #[test]
    fn prefixes() {
        assert_eq!(
            prefix(b"/registry/core/pods/default/web"),
            Some(&b"/registry/core/pods/"[..])
        );
        assert_eq!(
            prefix(b"/registry/core/nodes/n"),
            Some(&b"/registry/core/nodes/"[..])
        );
        assert_eq!(prefix(b"/registry/core"), None);
        assert_eq!(prefix(b"/images/tags/a/b"), None);
        assert_eq!(
            scoped_name(PODS, b"/registry/core/pods/default/web"),
            Some(("default", "web"))
        );
    }

    #[test]
    fn the_nodes_index_comes_from_the_keys_of_its_resources() {
        for (prefix, resource) in [
            (PODS, api::Resource::of::<Pod>()),
            (INGRESSES, api::Resource::of::<Ingress>()),
            (CLASSES, api::Resource::of::<IngressClass>()),
        ] {
            assert_eq!(resource.prefix(None).as_bytes(), prefix);
        }
    }

    #[test]
    fn rights_come_from_the_keys_of_their_resources() {
        for ((prefix, _), plural) in RIGHTS.into_iter().zip([
            "clusterroles",
            "roles",
            "clusterrolebindings",
            "rolebindings",
        ]) {
            let resource = api::resource::by_path(crate::rbac::GROUP, "v1", plural).unwrap();
            assert_eq!(resource.prefix(None).as_bytes(), prefix);
            let home = if resource.namespaced { "ns" } else { "" };
            let key = resource.key(Some(home), "system:x");
            assert_eq!(
                scoped_name(prefix, key.as_bytes()),
                Some((home, "system:x"))
            );
        }
    }
}
