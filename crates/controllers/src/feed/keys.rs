//! Which keys must be looked at when an object has changed.

use client::{Key, Kind};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::api::rbac::v1::ClusterRole;

use super::{Change, Work, storage};
use crate::controller::Controller;
use crate::view::View;
use crate::{
    cluster_role, endpoint_slice, ingress_status, job, owner, pods, service_status,
    storage_protection,
};

/// A role itself, and all that gather: which of them chose or choose it, they say themselves.
pub(super) fn on_cluster_role(change: Change<'_, ClusterRole>) -> Vec<Work> {
    let gathering = change.view.cluster_roles.iter();
    let gathering = gathering.filter(|(_, role)| cluster_role::gathers(role));
    gathering
        .map(|(key, _)| (Controller::ClusterRole, key.clone()))
        .collect()
}

pub(super) fn on_namespace(change: Change<'_, Namespace>) -> Vec<Work> {
    change.each(|namespace| vec![(Controller::Namespace, owner::key_of(namespace))])
}

/// The default account or the root CA of a namespace may have been taken away.
pub(super) fn on_birth_gift<T: Kind>(change: Change<'_, T>) -> Vec<Work> {
    change.each(|object| {
        vec![(
            Controller::Namespace,
            Key::new("", owner::key_of(object).namespace),
        )]
    })
}

pub(super) fn on_service(change: Change<'_, Service>) -> Vec<Work> {
    let mut work = change.each(|service| {
        let key = owner::key_of(service);
        let mut work = both(&key);
        work.push((Controller::ServiceStatus, key));
        work
    });
    let rivals = service_status::rivals(change.old, change.new, change.view);
    work.extend(
        rivals
            .into_iter()
            .map(|key| (Controller::ServiceStatus, key.clone())),
    );
    work
}

/// The statuses of all Services that load balancers lead to.
fn balanced(view: &View) -> impl Iterator<Item = Work> {
    let services = view.services.iter();
    let balanced = services.filter(|(_, service)| service_status::is_balanced(service));
    balanced.map(|(key, _)| (Controller::ServiceStatus, key.clone()))
}

/// Both kinds of endpoints of the Service at `key`.
pub(super) fn both(key: &Key) -> Vec<Work> {
    [Controller::EndpointSlice, Controller::Endpoints]
        .map(|controller| (controller, key.clone()))
        .to_vec()
}

/// The Service that a slice says it is of: what is balanced may depend on where its endpoints are.
pub(super) fn on_slice(change: Change<'_, EndpointSlice>) -> Vec<Work> {
    let service_of = |slice: &EndpointSlice| {
        let labels = slice.metadata.labels.as_ref()?;
        let name = labels.get(endpoint_slice::SERVICE_NAME)?;
        let namespace = slice.metadata.namespace.clone().unwrap_or_default();
        Some(Key::new(namespace, name))
    };
    change.each(|slice| {
        let Some(key) = service_of(slice) else {
            return Vec::new();
        };
        let mut work = vec![(Controller::EndpointSlice, key.clone())];
        let service = change.view.services.get(&key);
        if service.is_some_and(|service| service_status::is_balanced(service)) {
            work.push((Controller::ServiceStatus, key));
        }
        work
    })
}

/// The endpoints of all Services that select a pod.
fn services_of(pod: &Pod, view: &View) -> Vec<Work> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let labels = pod.metadata.labels.iter().flatten();
    let services = labels.flat_map(|(k, v)| view.services.labelled(namespace, (k, v)));
    services
        .filter(|service| endpoint_slice::selects(service, pod))
        .flat_map(|service| both(&owner::key_of(&**service)))
        .collect()
}

pub(super) fn on_node(change: Change<'_, Node>) -> Vec<Work> {
    let mut work = vec![(Controller::NodeIpam, Key::new("", ""))];
    work.extend(change.each(|node| vec![(Controller::NodeLifecycle, owner::key_of(node))]));
    work.extend(storage::on_node(&change));
    if service_status::differs(change.old, change.new) {
        work.extend(balanced(change.view));
    }
    if ingress_status::differs(change.old, change.new) {
        work.extend(all_ingresses(change.view));
    }
    if change.new.is_none_or(|new| {
        change.old.is_none_or(|old| {
            endpoint_slice::endpoint::zone(old) != endpoint_slice::endpoint::zone(new)
        })
    }) {
        // Endpoints say where they are, and those of a node that is gone are none.
        let name = change
            .old
            .or(change.new)
            .and_then(|n| n.metadata.name.clone());
        let there = change.view.pods.iter().map(|(_, pod)| pod);
        let there =
            there.filter(|p| p.spec.as_ref().and_then(|s| s.node_name.as_ref()) == name.as_ref());
        work.extend(there.flat_map(|pod| services_of(pod, change.view)));
    }
    if let (Some(gone), None) = (change.old, change.new) {
        let name = gone.metadata.name.as_deref();
        let left = change
            .view
            .pods
            .iter()
            .filter(|(_, p)| p.spec.as_ref().and_then(|s| s.node_name.as_deref()) == name);
        work.extend(left.map(|(key, _)| (Controller::PodGarbage, key.clone())));
    }
    work
}

pub(super) fn on_ingress(change: Change<'_, Ingress>) -> Vec<Work> {
    change.each(|ingress| vec![(Controller::IngressStatus, owner::key_of(ingress))])
}

/// Whose the Ingresses are that name a class, or none, may be another now.
pub(super) fn on_ingress_class(change: Change<'_, IngressClass>) -> Vec<Work> {
    all_ingresses(change.view).collect()
}

fn all_ingresses(view: &View) -> impl Iterator<Item = Work> {
    let all = view.ingresses.iter();
    all.map(|(key, _)| (Controller::IngressStatus, key.clone()))
}

pub(super) fn on_pod(change: Change<'_, Pod>) -> Vec<Work> {
    let mut work = change.each(|pod| {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let mut work = Vec::new();
        let within = |name: &str| Key::new(namespace.clone(), name);
        work.extend(services_of(pod, change.view));
        work.extend(storage::on_pod(pod));
        let claims = storage_protection::claims(pod);
        work.extend(claims.map(|claim| (Controller::ClaimProtection, claim)));
        // Whoever controls it now.
        let job = job::counted_for(&pod.metadata);
        work.extend(job.map(|name| (Controller::Job, within(name))));
        match owner::controller_of(&pod.metadata) {
            Some(o) if o.kind == "ReplicaSet" => {
                work.push((Controller::ReplicaSet, within(&o.name)));
            }
            Some(o) if o.kind == "Job" => work.push((Controller::Job, within(&o.name))),
            Some(_) => {}
            None => {
                let matching = change
                    .view
                    .replica_sets
                    .in_namespace(&namespace)
                    .filter(|set| {
                        set.spec.as_ref().is_some_and(|s| {
                            owner::selects(&s.selector, pod.metadata.labels.as_ref())
                        })
                    });
                work.extend(matching.map(|set| (Controller::ReplicaSet, owner::key_of(&**set))));
            }
        }
        work
    });
    // A deployment that recreates waits for the last old pod, of whose end no replica set tells.
    if let Some(gone) = change.old
        && change.new.is_none_or(pods::is_finished)
        && let Some(o) = owner::controller_of(&gone.metadata).filter(|o| o.kind == "ReplicaSet")
    {
        let namespace = gone.metadata.namespace.clone().unwrap_or_default();
        let set = change
            .view
            .replica_sets
            .get(&Key::new(namespace, o.name.clone()));
        work.extend(set.and_then(|set| deployment_of(set)));
    }
    if let Some(pod) = change.new
        && let Some(node) = pod.spec.as_ref().and_then(|s| s.node_name.as_deref())
        && change.view.nodes.get(&Key::new("", node)).is_none()
    {
        work.push((Controller::PodGarbage, owner::key_of(pod)));
    }
    work
}

pub(super) fn on_replica_set(change: Change<'_, ReplicaSet>) -> Vec<Work> {
    change.each(|set| {
        let key = owner::key_of(set);
        let deployment = deployment_of(set);
        let orphan = owner::controller_of(&set.metadata).is_none();
        let claimants = change
            .view
            .deployments
            .in_namespace(&key.namespace)
            .filter(|d| {
                let labels = set.metadata.labels.as_ref();
                orphan
                    && d.spec
                        .as_ref()
                        .is_some_and(|s| owner::selects(&s.selector, labels))
            })
            .map(|d| (Controller::Deployment, owner::key_of(&**d)));
        let claimants: Vec<Work> = claimants.collect();
        std::iter::once((Controller::ReplicaSet, key))
            .chain(deployment)
            .chain(claimants)
            .collect()
    })
}

fn deployment_of(set: &ReplicaSet) -> Option<Work> {
    let owner = owner::controller_of(&set.metadata).filter(|o| o.kind == "Deployment")?;
    let namespace = set.metadata.namespace.clone().unwrap_or_default();
    Some((
        Controller::Deployment,
        Key::new(namespace, owner.name.clone()),
    ))
}
