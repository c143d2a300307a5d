//! EndpointSlices: where what Services stand for is reached. Of Services that select pods they are made from the
//! pods, of others from the Endpoints that somebody wrote for them.

pub(crate) mod endpoint;
mod mirror;
mod placing;
mod slices;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use client::Key;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointPort;

use crate::owner;
use crate::plan::Plan;
use crate::view::View;
use placing::{Endpoints, identity};
use slices::{Origin, Wanted, text};

pub(crate) use slices::SERVICE_NAME;

/// Who makes slices from pods.
const BY_PODS: &str = "endpointslice-controller.k8s.io";
/// Who makes slices from Endpoints.
const BY_ENDPOINTS: &str = "endpointslicemirroring-controller.k8s.io";
/// Marks what belongs to a Service without an address of its own.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// Brings the slices of the Service at `key` up to its pods, or to its Endpoints where it selects none.
///
/// What else is labelled as the Service's is left to whoever made it. Slices that stand for nothing any more go; those that
/// were made from pods stay as they are while the Service selects none.
pub(crate) fn reconcile(key: &Key, view: &View) -> Plan {
    let mut plan = Plan::default();
    let service = view.services.get(key);
    if service.is_some_and(|s| owner::is_deleting(&**s)) {
        return plan;
    }
    let mirrored = service.filter(|s| selects_none(s));
    if mirrored.is_none() {
        let selecting = service.filter(|s| has_endpoints(s));
        let by_pods = selecting.map(|s| (origin(s), wanted(s, view)));
        slices::keep(key, BY_PODS, by_pods, view, &mut plan);
    }
    let by_endpoints = mirrored.and_then(|_| mirror::wanted(view.endpoints.get(key)?));
    slices::keep(key, BY_ENDPOINTS, by_endpoints, view, &mut plan);
    plan
}

/// Whether a Service's endpoints are pods that it selects.
pub(crate) fn has_endpoints(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|spec| spec.type_.as_deref() != Some("ExternalName")) && !selects_none(service)
}

/// Whether a Service's endpoints are what somebody else says.
pub(crate) fn selects_none(service: &Service) -> bool {
    let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
    selector.is_none_or(BTreeMap::is_empty)
}

/// Whether a Service selects a pod.
pub(crate) fn selects(service: &Service, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
    has_endpoints(service)
        && selector.is_some_and(|selector| {
            let mut pairs = selector.iter();
            pairs.all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v))
        })
}

/// The pods that a Service selects.
pub(crate) fn selected<'a>(
    service: &'a Service,
    view: &'a View,
) -> impl Iterator<Item = &'a Arc<Pod>> {
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
    let first = selector.and_then(|selector| selector.first_key_value());
    let pods = first.map(|(k, v)| view.pods.labelled(namespace, (k, v)));
    let pods = pods.into_iter().flatten();
    pods.filter(move |pod| selects(service, pod))
}

/// A Service's endpoints by the ports that their pods have for it. Where there is none, nothing is
/// behind no ports, so that there always is a slice.
fn wanted(service: &Service, view: &View) -> Wanted {
    let mut groups: BTreeMap<String, (Vec<EndpointPort>, Endpoints)> = BTreeMap::new();
    for pod in selected(service, view) {
        if let Some(endpoint) = endpoint::endpoint(service, pod, view) {
            let ports = endpoint::ports(service, pod);
            let group = groups
                .entry(text(&ports))
                .or_insert_with(|| (ports, Endpoints::new()));
            group.1.insert(identity(&endpoint), endpoint);
        }
    }
    if groups.is_empty() {
        return vec![Default::default()];
    }
    groups.into_values().collect()
}

/// Whose a Service's slices are.
fn origin(service: &Service) -> Origin {
    Origin {
        labels: labels(service),
        owner: owner::controller_ref(service),
    }
}

/// The labels that a Service's endpoints have from it.
pub(crate) fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

/// Whether a Service has no address of its own.
fn is_headless(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|s| {
        s.type_.as_deref() != Some("ExternalName") && s.cluster_ip.as_deref() == Some("None")
    })
}
