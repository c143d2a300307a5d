//! What the reconcilers see: every kind that any of them needs, as one immutable picture.

use std::sync::Arc;

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
    /// The cluster's CA certificate, PEM.
    pub root_ca: Arc<str>,
}

/// All objects of one kind, with an index from a controller to what it owns.
#[derive(Clone, Debug)]
pub struct Table<T> {
    objects: OrdMap<Key, Arc<T>>,
    owned: OrdSet<(Owner, Key)>,
}

/// Namespace, kind, name and uid of a controller: in this order, so that those of one name are
/// neighbours.
type Owner = (String, String, String, String);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table {
            objects: OrdMap::new(),
            owned: OrdSet::new(),
        }
    }
}

impl<T: Kind> Table<T> {
    /// Takes in what is now at `key`: `None` where it is gone.
    pub fn set(&mut self, key: &Key, object: Option<Arc<T>>) {
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
