//! Slices of what somebody wrote into the Endpoints of a Service that selects nothing.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};

use super::placing::{Endpoints, identity};
use super::slices::{Origin, Wanted, text};
use crate::owner;

/// Says of Endpoints that they stand for themselves.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints on which somebody elects a leader stand for nothing.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// How many addresses of a subset are mirrored, as in Kubernetes.
const MOST: usize = 1_000;

/// What slices there are to be for Endpoints. None: they are not to be mirrored.
pub(super) fn wanted(endpoints: &core::Endpoints) -> Option<(Origin, Wanted)> {
    let meta = &endpoints.metadata;
    let skipped = meta.labels.as_ref().and_then(|l| l.get(SKIP));
    let elects = meta
        .annotations
        .as_ref()
        .is_some_and(|a| a.contains_key(LEADER));
    if skipped.is_some_and(|skip| skip == "true") || elects || owner::is_deleting(endpoints) {
        return None;
    }
    let mut groups: BTreeMap<String, (Vec<EndpointPort>, Endpoints)> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<_> = subset.ports.iter().flatten().map(port).collect();
        let group = groups
            .entry(text(&ports))
            .or_insert_with(|| (ports, Endpoints::new()));
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let unready = subset
            .not_ready_addresses
            .iter()
            .flatten()
            .map(|a| (a, false));
        // Pods have addresses of one kind, and so have what they reach.
        let known =
            |(address, _): &(&core::EndpointAddress, bool)| address.ip.parse::<Ipv4Addr>().is_ok();
        for (address, ready) in ready.chain(unready).filter(known).take(MOST) {
            let endpoint = endpoint(address, ready);
            group.1.insert(identity(&endpoint), endpoint);
        }
    }
    let wanted: Wanted = groups
        .into_values()
        .filter(|(_, e)| !e.is_empty())
        .collect();
    let origin = Origin {
        labels: meta.labels.clone().unwrap_or_default(),
        owner: owner::controller_ref(endpoints),
    };
    Some((origin, wanted))
}

fn port(port: &core::EndpointPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: port.protocol.clone(),
        app_protocol: port.app_protocol.clone(),
    }
}

fn endpoint(address: &core::EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(ready),
            terminating: None,
        }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}
