//! The Endpoints of Services that select pods: what came before EndpointSlices, for those who still read it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use client::Key;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use crate::endpoint_slice::{self, endpoint};
use crate::owner::{self, target};
use crate::plan::{Plan, Write, difference};
use crate::view::View;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
/// Says of Endpoints that they do not tell all.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// The most addresses that are told, as in Kubernetes.
const CAPACITY: usize = 1_000;

type Labels = BTreeMap<String, String>;

/// Brings the Endpoints of the Service at `key` up to its pods. Where that selects none they are left as they are, whoever
/// made them, and those that somebody else made also where there is no Service.
pub(crate) fn reconcile(key: &Key, view: &View) -> Plan {
    let mut plan = Plan::default();
    let old = view.endpoints.get(key);
    let service = view.services.get(key);
    if service.is_some_and(|s| endpoint_slice::selects_none(s)) {
        return plan;
    }
    let Some(service) = service.filter(|s| endpoint_slice::has_endpoints(s)) else {
        let own = old.filter(|old| is_own(old));
        plan.writes
            .extend(own.map(|old| Write::delete(target(&**old))));
        return plan;
    };
    if owner::is_deleting(&**service) {
        return plan;
    }
    let mut subsets = subsets(service, view);
    let truncated = truncate(&mut subsets);
    let labels = labels(service);
    let annotations =
        truncated.then(|| Labels::from([(OVER_CAPACITY.to_owned(), "truncated".to_owned())]));
    plan.writes.extend(match old {
        None => Some(create(service, subsets, labels, annotations)),
        Some(old) => update(old, &subsets, &labels, truncated),
    });
    plan
}

fn is_own(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels
        .and_then(|l| l.get(MANAGED_BY))
        .is_some_and(|by| by == MANAGER)
}

fn create(
    service: &Service,
    subsets: Vec<EndpointSubset>,
    labels: Labels,
    annotations: Option<Labels>,
) -> Write {
    let meta = &service.metadata;
    let endpoints = Endpoints {
        metadata: ObjectMeta {
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            labels: Some(labels),
            annotations,
            ..ObjectMeta::default()
        },
        subsets: Some(subsets).filter(|s| !s.is_empty()),
    };
    Write::Create {
        namespace: meta.namespace.clone().unwrap_or_default(),
        object: owner::to_value(&endpoints),
    }
}

fn update(
    old: &Endpoints,
    subsets: &[EndpointSubset],
    labels: &Labels,
    truncated: bool,
) -> Option<Write> {
    let meta = &old.metadata;
    let was = meta.annotations.as_ref().and_then(|a| a.get(OVER_CAPACITY));
    let was = was.is_some_and(|v| v == "truncated");
    if old.subsets.as_deref().unwrap_or_default() == subsets
        && meta.labels.as_ref() == Some(labels)
        && was == truncated
    {
        return None;
    }
    let over = truncated.then_some("truncated");
    Some(Write::Patch {
        target: target(old),
        patch: json!({
            "metadata": {
                "labels": difference(&json!(meta.labels), &json!(labels)),
                "annotations": {OVER_CAPACITY: over},
                "resourceVersion": meta.resource_version,
            },
            "subsets": if subsets.is_empty() { json!(null) } else { json!(subsets) },
        }),
    })
}

fn labels(service: &Service) -> Labels {
    let mut labels = endpoint_slice::labels(service);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

/// An address as it is sorted and told from others: where, and of which pod; and whether it is ready.
type Place = (String, String, bool);
/// A port as it is sorted and told from others: its number, protocol and name.
type PortKey = (i32, String, String);

/// The Service's addresses, in groups with the same ports: ports that the same pods have are one group.
/// This is Kubernetes' `RepackSubsets`.
fn subsets(service: &Service, view: &View) -> Vec<EndpointSubset> {
    let all = endpoint::publishes_unready(service);
    let mut addresses: BTreeMap<Place, EndpointAddress> = BTreeMap::new();
    // Headless Services may have no port at all: then what is behind them is behind none.
    let mut by_port = BTreeMap::<Option<PortKey>, (Option<EndpointPort>, BTreeSet<Place>)>::new();
    for pod in endpoint_slice::selected(service, view) {
        if owner::is_deleting(&**pod) && !all {
            continue;
        }
        let Some(found) = address(service, pod) else {
            continue;
        };
        let place = (
            found.ip.clone(),
            owner::uid(&**pod).to_owned(),
            endpoint::is_ready(service, pod),
        );
        addresses.insert(place.clone(), found);
        let ports = endpoint::ports(service, pod);
        let has_none = service
            .spec
            .as_ref()
            .is_none_or(|s| s.ports.as_deref().unwrap_or_default().is_empty());
        if has_none {
            by_port.entry(None).or_default().1.insert(place);
            continue;
        }
        for port in ports {
            let port = EndpointPort {
                name: port.name.filter(|name| !name.is_empty()),
                port: port.port.unwrap_or_default(),
                protocol: port.protocol,
                app_protocol: port.app_protocol,
            };
            let key = (
                port.port,
                port.protocol.clone().unwrap_or_default(),
                port.name.clone().unwrap_or_default(),
            );
            let entry = by_port
                .entry(Some(key))
                .or_insert((Some(port), BTreeSet::new()));
            entry.1.insert(place.clone());
        }
    }
    let mut groups: Vec<(BTreeSet<Place>, Vec<EndpointPort>)> = Vec::new();
    for (port, places) in by_port.into_values() {
        match groups.iter_mut().find(|(same, _)| *same == places) {
            Some((_, ports)) => ports.extend(port),
            None => groups.push((places, port.into_iter().collect())),
        }
    }
    groups
        .into_iter()
        .map(|(places, ports)| subset(&places, ports, &addresses))
        .collect()
}

fn subset(
    places: &BTreeSet<Place>,
    ports: Vec<EndpointPort>,
    addresses: &BTreeMap<Place, EndpointAddress>,
) -> EndpointSubset {
    let of = |ready: bool| {
        let chosen = places.iter().filter(|place| place.2 == ready);
        let chosen: Vec<_> = chosen
            .filter_map(|place| addresses.get(place).cloned())
            .collect();
        Some(chosen).filter(|c| !c.is_empty())
    };
    EndpointSubset {
        addresses: of(true),
        not_ready_addresses: of(false),
        ports: Some(ports).filter(|p| !p.is_empty()),
    }
}

fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    Some(EndpointAddress {
        ip: endpoint::address(pod)?.to_owned(),
        hostname: endpoint::hostname(service, pod),
        node_name: pod.spec.as_ref()?.node_name.clone(),
        target_ref: Some(endpoint::reference(pod)),
    })
}

/// Leaves out what is beyond the capacity, unready addresses first, and groups of which nothing is left: the API takes none
/// without addresses. Says whether anything was.
fn truncate(subsets: &mut Vec<EndpointSubset>) -> bool {
    let ready = |s: &EndpointSubset| s.addresses.as_ref().map_or(0, Vec::len);
    let unready = |s: &EndpointSubset| s.not_ready_addresses.as_ref().map_or(0, Vec::len);
    let total: usize = subsets.iter().map(|s| ready(s) + unready(s)).sum();
    if total <= CAPACITY {
        return false;
    }
    let mut left = CAPACITY;
    for kind in [0, 1] {
        for subset in subsets.iter_mut() {
            let list = match kind {
                0 => &mut subset.addresses,
                _ => &mut subset.not_ready_addresses,
            };
            if let Some(addresses) = list {
                addresses.truncate(left);
                left -= addresses.len();
            }
            if list.as_ref().is_some_and(Vec::is_empty) {
                *list = None;
            }
        }
    }
    subsets.retain(|subset| ready(subset) + unready(subset) > 0);
    true
}
