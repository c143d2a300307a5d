//! What a pod is to a Service: where it is reached, at which ports, and whether it may be now.
//!
//! The rules are those of Kubernetes' `endpointslice` package (`podToEndpoint`, `getEndpointPorts`).

use client::Key;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::view::View;
use crate::{owner, pods};

const ZONE: &str = "topology.kubernetes.io/zone";
const TCP: &str = "TCP";

/// A pod's address, if it has one and has not ended. One that is on its way out counts.
pub(crate) fn address(pod: &Pod) -> Option<&str> {
    if pods::is_finished(pod) {
        return None;
    }
    let address = pod.status.as_ref()?.pod_ip.as_deref()?;
    Some(address).filter(|a| !a.is_empty())
}

/// Whether a Service may send to a pod: it is ready and stays, or the Service asks for all.
pub(crate) fn is_ready(service: &Service, pod: &Pod) -> bool {
    publishes_unready(service) || (pods::is_ready(pod) && !owner::is_deleting(pod))
}

/// Whether a Service's endpoints count as ready whatever they say of themselves.
pub(crate) fn publishes_unready(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|s| s.publish_not_ready_addresses) == Some(true)
}

/// A Service's ports as this pod has them; one that is named there and not here is left out.
pub(crate) fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_deref());
    let ports = ports.unwrap_or_default().iter();
    ports
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(number(port, pod)?),
                protocol: Some(protocol(port).to_owned()),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or(TCP)
}

/// The pod's port that a Service's port stands for.
fn number(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let name = match port.target_port.as_ref() {
        None => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    api::ports::named(pod.spec.as_ref()?, name, protocol(port))
}

/// The pod as an endpoint of the Service. None: it has no address, or its node is not there.
pub(crate) fn endpoint(service: &Service, pod: &Pod, view: &View) -> Option<Endpoint> {
    let address = address(pod)?;
    let spec = pod.spec.as_ref()?;
    let node = spec.node_name.as_deref();
    let node = node.and_then(|name| view.nodes.get(&Key::new("", name)));
    if node.is_none() && !publishes_unready(service) {
        return None;
    }
    let zone = node.and_then(|node| zone(node)).cloned();
    let ready = is_ready(service, pod);
    Some(Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(pods::is_ready(pod)),
            terminating: Some(owner::is_deleting(pod)),
        }),
        deprecated_topology: None,
        hints: hints(service, node.map(|n| &**n), zone.as_deref()).filter(|_| ready),
        hostname: hostname(service, pod),
        node_name: spec.node_name.clone(),
        target_ref: Some(reference(pod)),
        zone,
    })
}

/// The zone that a node is in.
pub(crate) fn zone(node: &Node) -> Option<&String> {
    node.metadata.labels.as_ref()?.get(ZONE)
}

/// The name that a pod asks for below a headless Service's.
pub(crate) fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let own = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    let hostname = spec.hostname.clone().filter(|_| own);
    hostname.filter(|name| !name.is_empty())
}

/// The pod, as addresses refer to it.
pub(crate) fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// For whom an endpoint is near, where the Service prefers such.
fn hints(service: &Service, node: Option<&Node>, zone: Option<&str>) -> Option<EndpointHints> {
    let spec = service.spec.as_ref()?;
    let prefers = spec.traffic_distribution.as_deref()?;
    let for_zones = zone.map(|name| {
        vec![ForZone {
            name: name.to_owned(),
        }]
    });
    let for_nodes = match prefers {
        "PreferClose" | "PreferSameZone" => None,
        "PreferSameNode" => node.and_then(|node| {
            let name = node.metadata.name.clone()?;
            Some(vec![ForNode { name }])
        }),
        _ => return None,
    };
    let some = for_zones.is_some() || for_nodes.is_some();
    some.then_some(EndpointHints {
        for_nodes,
        for_zones,
    })
}
