//! What the reconcilers see: every kind that any of them needs, as one immutable picture.

use std::any::Any;
use std::sync::Arc;

use api::storage;
use client::{Key, Kind};
use imbl::{OrdMap, OrdSet};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service,
    ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::api::storage::v1::StorageClass;

use crate::{job, owner};

/// A picture of the cluster. Cloning copies pointers only.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// All pods.
    pub pods: Table<Pod>,
    /// All replica sets.
    pub replica_sets: Table<ReplicaSet>,
    /// All deployments.
    pub deployments: Table<Deployment>,
    /// All jobs.
    pub jobs: Table<Job>,
    /// All namespaces.
    pub namespaces: Table<Namespace>,
    /// All nodes.
    pub nodes: Table<Node>,
    /// The nodes' heartbeats, in namespace `kube-node-lease`.
    pub leases: Table<Lease>,
    /// All service accounts.
    pub service_accounts: Table<ServiceAccount>,
    /// All cluster roles.
    pub cluster_roles: Table<ClusterRole>,
    /// The `kube-root-ca.crt` of each namespace.
    pub config_maps: Table<ConfigMap>,
    /// All services.
    pub services: Table<Service>,
    /// All slices of endpoints.
    pub endpoint_slices: Table<EndpointSlice>,
    /// All endpoints of the older kind.
    pub endpoints: Table<Endpoints>,
    /// All ingresses.
    pub ingresses: Table<Ingress>,
    /// What says whose each of them is.
    pub ingress_classes: Table<IngressClass>,
    /// All claims of storage.
    pub claims: Table<PersistentVolumeClaim>,
    /// All storage that can be claimed.
    pub volumes: Table<PersistentVolume>,
    /// All classes of storage.
    pub storage_classes: Table<StorageClass>,
    /// The cluster's CA certificate, PEM.
    pub root_ca: Arc<str>,
}

/// All objects of one kind, with an index from a controller to what it owns, and one by labels of those kinds that are
/// looked for by these.
#[derive(Clone, Debug)]
pub struct Table<T> {
    objects: OrdMap<Key, Arc<T>>,
    owned: OrdSet<(Owner, Key)>,
    /// By [`file`].
    filed: OrdSet<(String, Key)>,
}

/// Namespace, kind, name and uid of a controller: in this order, so that those of one name are
/// neighbours.
type Owner = (String, String, String, String);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table {
            objects: OrdMap::new(),
            owned: OrdSet::new(),
            filed: OrdSet::new(),
        }
    }
}

impl<T: Kind> Table<T> {
    /// Takes in what is now at `key`: `None` where it is gone.
    pub fn set(&mut self, key: &Key, object: Option<Arc<T>>) {
        self.file(key, object.as_deref());
        if let Some(old) = self.objects.get(key) {
            for owner in owners(&**old) {
                self.owned.remove(&(owner, key.clone()));
            }
        }
        match object {
            Some(object) => {
                for owner in owners(&*object) {
                    self.owned.insert((owner, key.clone()));
                }
                self.objects.insert(key.clone(), object);
            }
            None => {
                self.objects.remove(key);
            }
        }
    }

    /// Files what is now at `key`, before it is.
    fn file(&mut self, key: &Key, object: Option<&T>) {
        let old = self.objects.get(key).map(|old| files(&**old));
        let (old, new) = (
            old.unwrap_or_default(),
            object.map(files).unwrap_or_default(),
        );
        if old == new {
            return;
        }
        for file in old {
            self.filed.remove(&(file, key.clone()));
        }
        for file in new {
            self.filed.insert((file, key.clone()));
        }
    }

    /// The object at `key`.
    pub fn get(&self, key: &Key) -> Option<&Arc<T>> {
        self.objects.get(key)
    }

    /// All objects, by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<T>)> {
        self.objects.iter()
    }

    /// The objects of one namespace, by name.
    pub fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<T>> {
        self.objects
            .range(Key::new(namespace, "")..)
            .take_while(move |(key, _)| key.namespace == namespace)
            .map(|(_, object)| object)
    }

    /// Pods and slices of a namespace that have this label, and Services whose selector begins with it, by name. Other
    /// kinds are not looked for by labels.
    pub fn labelled<'a>(
        &'a self,
        namespace: &'a str,
        label: (&str, &str),
    ) -> impl Iterator<Item = &'a Arc<T>> + use<'a, T> {
        self.filed_from(label, namespace)
            .take_while(move |(key, _)| key.namespace == namespace)
            .map(|(_, object)| object)
    }

    /// What has a label, from a namespace on.
    fn filed_from(
        &self,
        label: (&str, &str),
        namespace: &str,
    ) -> impl Iterator<Item = (&Key, &Arc<T>)> + use<'_, T> {
        let file = file(label);
        self.filed
            .range((file.clone(), Key::new(namespace, ""))..)
            .take_while(move |(of, _)| *of == file)
            .filter_map(|(_, key)| Some((key, self.objects.get(key)?)))
    }

    /// The objects that `owner` controls, by name.
    pub fn owned_by<O: Kind>(&self, owner: &O) -> impl Iterator<Item = &Arc<T>> + use<'_, T, O> {
        let meta = owner.metadata();
        let owner = (
            meta.namespace.clone().unwrap_or_default(),
            O::KIND.to_owned(),
            meta.name.clone().unwrap_or_default(),
            meta.uid.clone().unwrap_or_default(),
        );
        self.owned
            .range((owner.clone(), Key::new("", ""))..)
            .take_while(move |(of, _)| *of == owner)
            .filter_map(|(_, key)| self.objects.get(key))
    }

    /// The objects that are or were controlled by one of this kind and name, whatever its uid;
    /// also pods that a job no longer controls but must still let go.
    pub fn owned_by_name<'a>(
        &'a self,
        kind: &'a str,
        owner: &'a Key,
    ) -> impl Iterator<Item = &'a Arc<T>> {
        let first = (
            owner.namespace.clone(),
            kind.to_owned(),
            owner.name.clone(),
            String::new(),
        );
        self.owned
            .range((first, Key::new("", ""))..)
            .take_while(move |((namespace, of, name, _), _)| {
                *namespace == owner.namespace && of == kind && *name == owner.name
            })
            .filter_map(|(_, key)| self.objects.get(key))
    }
}

impl Table<PersistentVolume> {
    /// The volumes that name this claim, by name.
    pub fn set_aside_for(
        &self,
        claim: &Key,
    ) -> impl Iterator<Item = &Arc<PersistentVolume>> + use<'_> {
        let claim = format!("{}/{}", claim.namespace, claim.name);
        self.labelled("", (CLAIM, &claim))
    }

    /// The volumes of a class that name no claim, by name.
    pub fn free_of_class(
        &self,
        class: &str,
    ) -> impl Iterator<Item = &Arc<PersistentVolume>> + use<'_> {
        self.labelled("", (CLASS, class))
    }
}

impl Table<PersistentVolumeClaim> {
    /// The claims that name this volume, by namespace and name.
    pub fn naming(
        &self,
        volume: &str,
    ) -> impl Iterator<Item = (&Key, &Arc<PersistentVolumeClaim>)> + use<'_> {
        self.filed_from((VOLUME, volume), "")
    }

    /// The claims of a class that name no volume, by namespace and name.
    pub fn waiting_of_class(
        &self,
        class: &str,
    ) -> impl Iterator<Item = (&Key, &Arc<PersistentVolumeClaim>)> + use<'_> {
        self.filed_from((CLASS, class), "")
    }
}

/// By what volumes and claims are filed, as if these were labels: by the other one that they name, or else by their class.
const CLAIM: &str = "spec.claimRef";
const VOLUME: &str = "spec.volumeName";
const CLASS: &str = "spec.storageClassName";

/// A label, in which there is no NUL.
fn file((name, value): (&str, &str)) -> String {
    format!("{name}\0{value}")
}

/// By which labels an object is looked for: see [`Table::labelled`].
fn files<T: Kind>(object: &T) -> Vec<String> {
    let labels = object.metadata().labels.iter().flatten();
    let label = |(name, value): (&String, &String)| file((name, value));
    let object: &dyn Any = object;
    if let Some(service) = object.downcast_ref::<Service>() {
        let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
        return selector
            .and_then(|s| s.first_key_value())
            .map(label)
            .into_iter()
            .collect();
    }
    if let Some(volume) = object.downcast_ref::<PersistentVolume>() {
        let filed = match storage::claim_of(volume) {
            None => file((CLASS, storage::class_of_volume(volume))),
            Some(of) => {
                let namespace = of.namespace.as_deref().unwrap_or_default();
                let name = of.name.as_deref().unwrap_or_default();
                file((CLAIM, &format!("{namespace}/{name}")))
            }
        };
        return vec![filed];
    }
    if let Some(claim) = object.downcast_ref::<PersistentVolumeClaim>() {
        return vec![match storage::volume_of(claim) {
            None => file((CLASS, storage::class_of_claim(claim))),
            Some(volume) => file((VOLUME, volume)),
        }];
    }
    match object.is::<Pod>() || object.is::<EndpointSlice>() {
        true => labels.map(label).collect(),
        false => Vec::new(),
    }
}

/// The owner that is marked as the controller, and the job that must let go what it no longer
/// controls: that one has no uid.
fn owners<T: Kind>(object: &T) -> impl Iterator<Item = Owner> {
    let meta = object.metadata();
    let owner = |kind: &str, name: &str, uid: &str| {
        let namespace = meta.namespace.clone().unwrap_or_default();
        (namespace, kind.to_owned(), name.to_owned(), uid.to_owned())
    };
    let controller = owner::controller_of(meta).map(|o| owner(&o.kind, &o.name, &o.uid));
    let job = job::counted_for(meta).map(|name| owner("Job", name, ""));
    controller.into_iter().chain(job)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set<T: Kind>(table: &mut Table<T>, name: &str, object: Value) {
        let mut object = object;
        object["metadata"]["namespace"] = json!("ns");
        object["metadata"]["name"] = json!(name);
        let object = serde_json::from_value(object).expect("an object");
        table.set(&Key::new("ns", name), Some(Arc::new(object)));
    }

    fn labelled<T: Kind>(table: &Table<T>, namespace: &str, label: (&str, &str)) -> Vec<String> {
        let found = table.labelled(namespace, label);
        found.map(|object| object.name().to_owned()).collect()
    }

    #[test]
    fn pods_are_found_by_their_labels() {
        let mut pods = Table::<Pod>::default();
        let labels = |labels: Value| json!({"metadata": {"labels": labels}});
        set(
            &mut pods,
            "b",
            labels(json!({"app": "web", "tier": "front"})),
        );
        set(&mut pods, "a", labels(json!({"app": "web"})));
        set(&mut pods, "c", labels(json!({"app": "we"})));
        assert_eq!(labelled(&pods, "ns", ("app", "web")), ["a", "b"]);
        assert_eq!(labelled(&pods, "ns", ("tier", "front")), ["b"]);
        assert!(labelled(&pods, "n", ("app", "web")).is_empty());
        set(
            &mut pods,
            "b",
            labels(json!({"app": "db", "tier": "front"})),
        );
        pods.set(&Key::new("ns", "c"), None);
        assert_eq!(labelled(&pods, "ns", ("app", "web")), ["a"]);
        assert_eq!(labelled(&pods, "ns", ("tier", "front")), ["b"]);
        pods.set(&Key::new("ns", "a"), None);
        pods.set(&Key::new("ns", "b"), None);
        assert!(pods.filed.is_empty());
    }

    #[test]
    fn claims_are_found_by_their_volume_or_else_by_their_class() {
        let mut claims = Table::<PersistentVolumeClaim>::default();
        let mut set = |key: &str, spec: Option<Value>| {
            let (namespace, name) = key.split_once('/').expect("two parts");
            let claim = spec.map(|spec| {
                let metadata = json!({"namespace": namespace, "name": name});
                let claim = json!({"metadata": metadata, "spec": spec});
                Arc::new(serde_json::from_value(claim).expect("a claim"))
            });
            claims.set(&Key::new(namespace, name), claim);
            let keys = |found: Vec<&Key>| {
                let keys = found
                    .iter()
                    .map(|key| format!("{}/{}", key.namespace, key.name));
                keys.collect::<Vec<_>>().join(" ")
            };
            (
                keys(claims.naming("v").map(|(key, _)| key).collect()),
                keys(claims.waiting_of_class("c").map(|(key, _)| key).collect()),
            )
        };
        let found = |naming: &str, waiting: &str| (naming.to_owned(), waiting.to_owned());
        let (of_class, of_volume) = (
            json!({"storageClassName": "c"}),
            json!({"storageClassName": "c", "volumeName": "v"}),
        );
        set("b/one", Some(of_class.clone()));
        set("a/two", Some(of_volume.clone()));
        set("a/other", Some(json!({"storageClassName": "cc"})));
        assert_eq!(set("a/one", Some(of_class)), found("a/two", "a/one b/one"));
        assert_eq!(set("b/one", Some(of_volume)), found("a/two b/one", "a/one"));
        set("a/one", None);
        set("a/two", None);
        set("a/other", None);
        assert_eq!(set("b/one", None), found("", ""));
        assert!(claims.filed.is_empty());
    }

    #[test]
    fn services_are_found_by_the_beginning_of_what_they_select() {
        let mut services = Table::<Service>::default();
        let selector = |selector: Value| json!({"metadata": {"labels": {"app": "web"}}, "spec": {"selector": selector}});
        set(
            &mut services,
            "a",
            selector(json!({"tier": "front", "app": "web"})),
        );
        set(&mut services, "b", selector(json!(null)));
        assert_eq!(labelled(&services, "ns", ("app", "web")), ["a"]);
        assert!(labelled(&services, "ns", ("tier", "front")).is_empty());
        let mut sets = Table::<ReplicaSet>::default();
        set(
            &mut sets,
            "a",
            json!({"metadata": {"labels": {"app": "web"}}}),
        );
        assert!(sets.filed.is_empty());
    }
}
