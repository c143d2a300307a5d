//! What Services' statuses say: where those of type `LoadBalancer` are reached, which is every ready node at its own
//! address, and which of their ports are not served.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use client::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    LoadBalancerIngress, LoadBalancerStatus, Node, PortStatus, Service, ServicePort, ServiceStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::endpoint_slice::SERVICE_NAME;
use crate::owner;
use crate::plan::{Plan, Write};
use crate::view::View;

/// Keeps a node out of all load balancers.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Which of its ports a node cannot serve: as its agent writes it.
const NOT_SERVED: &str = "carob.dev/ports-not-served";
/// Kubernetes' condition of a Service some of whose ports a load balancer cannot serve.
const PORTS_ERROR: &str = "LoadBalancerPortsError";
/// Why: the error of a port and the reason of the condition.
const REASON: &str = "PortNotServed";
/// Says of a Service, where that is so, that nothing carries what some of its ports speak.
const PORTS_SERVED: &str = "carob.dev/PortsServed";
const SCTP: &str = "SCTP";

/// Brings the status of the Service at `key` up to the nodes. One that another implementation is to balance is left to it.
pub(crate) fn reconcile(key: &Key, view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(service) = view.services.get(key) else {
        return plan;
    };
    if owner::is_deleting(&**service) || is_anothers(service) {
        return plan;
    }
    let old = service.status.clone().unwrap_or_default();
    let mut new = old.clone();
    let ingress = match is_balanced(service) {
        true => ingress(service, view),
        false => Vec::new(),
    };
    new.conditions = conditions(&old, &ingress, service, now);
    new.load_balancer = Some(LoadBalancerStatus {
        ingress: Some(ingress).filter(|all| !all.is_empty()),
    });
    if !same(&old, &new) {
        let write = Write::status(&**service, service.status.as_ref(), &new);
        plan.writes.push(write);
    }
    plan
}

/// Whether what a node is to load balancers has changed.
pub(crate) fn differs(old: Option<&Node>, new: Option<&Node>) -> bool {
    let seen = |node: Option<&Node>| {
        let node = node.filter(|node| takes(node))?;
        Some((addresses(node), not_served(node)))
    };
    seen(old) != seen(new)
}

/// Whether a Service is reached by load balancers.
pub(crate) fn is_balanced(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"))
}

fn is_anothers(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let class = spec.and_then(|spec| spec.load_balancer_class.as_deref());
    is_balanced(service) && class.is_some_and(|class| !class.is_empty())
}

/// Whether nothing is to be written; a status without a list is one with an empty list.
fn same(old: &ServiceStatus, new: &ServiceStatus) -> bool {
    let ingress = |status: &ServiceStatus| {
        let balancer = status.load_balancer.as_ref();
        let mut all = balancer.and_then(|b| b.ingress.clone()).unwrap_or_default();
        // What the API fills in.
        all.iter_mut().for_each(|one| one.ip_mode = None);
        all
    };
    let conditions = |status: &ServiceStatus| status.conditions.clone().unwrap_or_default();
    ingress(old) == ingress(new) && conditions(old) == conditions(new)
}

fn ingress(service: &Service, view: &View) -> Vec<LoadBalancerIngress> {
    let ports = service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten());
    let ports: Vec<_> = ports.collect();
    let local = local_nodes(service, view);
    let mut all = Vec::new();
    for (key, node) in view.nodes.iter() {
        let is_asked = local.as_ref().is_none_or(|names| names.contains(&key.name));
        if !is_asked || !takes(node) {
            continue;
        }
        for address in addresses(node) {
            let failed = not_served(node);
            let ports: Vec<_> = ports
                .iter()
                .map(|port| port_status(port, &address, &failed))
                .collect();
            // Ports are said only where there is something to say.
            let ports = Some(ports).filter(|ports| ports.iter().any(|port| port.error.is_some()));
            all.push(LoadBalancerIngress {
                ip: Some(address),
                ports,
                ..LoadBalancerIngress::default()
            });
        }
    }
    all
}

/// Of a Service whose connections stay on the node they come to: the nodes that have somebody to answer.
fn local_nodes(service: &Service, view: &View) -> Option<BTreeSet<String>> {
    let spec = service.spec.as_ref()?;
    if spec.external_traffic_policy.as_deref() != Some("Local") {
        return None;
    }
    let key = owner::key_of(service);
    let label = (SERVICE_NAME, key.name.as_str());
    let own = view.endpoint_slices.labelled(&key.namespace, label);
    let endpoints = own.flat_map(|slice| slice.endpoints.iter().flatten());
    let ready = endpoints.filter(|e| e.conditions.as_ref().and_then(|c| c.ready) != Some(false));
    Some(ready.filter_map(|e| e.node_name.clone()).collect())
}

/// Whether the outside is to be sent to a node.
pub(crate) fn takes(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let excluded = labels.is_some_and(|labels| labels.contains_key(EXCLUDED));
    let conditions = node
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    let mut ready = conditions.filter(|c| c.type_ == "Ready" && c.status == "True");
    !excluded && !owner::is_deleting(node) && ready.next().is_some()
}

/// The addresses by which the outside reaches a node: the others where it has none of that kind.
pub(crate) fn addresses(node: &Node) -> Vec<String> {
    let of = |kind: &str| -> Vec<String> {
        let all = node
            .status
            .iter()
            .flat_map(|s| s.addresses.iter().flatten());
        all.filter(|a| a.type_ == kind)
            .map(|a| a.address.clone())
            .collect()
    };
    match of("ExternalIP") {
        external if external.is_empty() => of("InternalIP"),
        external => external,
    }
}

fn not_served(node: &Node) -> BTreeSet<String> {
    let annotations = node.metadata.annotations.as_ref();
    let text = annotations
        .and_then(|all| all.get(NOT_SERVED))
        .map_or("", String::as_str);
    text.split(',').map(str::to_owned).collect()
}

fn port_status(port: &ServicePort, address: &str, failed: &BTreeSet<String>) -> PortStatus {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let is_failed =
        protocol == SCTP || failed.contains(&format!("{protocol} {address}:{}", port.port));
    PortStatus {
        error: is_failed.then(|| REASON.to_owned()),
        port: port.port,
        protocol,
    }
}

/// Says which ports are not served; what others said stays.
fn conditions(
    old: &ServiceStatus,
    ingress: &[LoadBalancerIngress],
    service: &Service,
    now: Timestamp,
) -> Option<Vec<Condition>> {
    let mut all = old.conditions.clone().unwrap_or_default();
    let wanted = [
        (PORTS_ERROR, "True", REASON, failed(ingress)),
        (
            PORTS_SERVED,
            "False",
            "ProtocolNotSupported",
            uncarried(service),
        ),
    ];
    for (kind, status, reason, message) in wanted {
        let before = all
            .iter()
            .position(|c| c.type_ == kind)
            .map(|at| all.remove(at));
        let Some(message) = message else { continue };
        let since = before
            .filter(|c| c.status == status)
            .map(|c| c.last_transition_time);
        all.push(Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            last_transition_time: since.unwrap_or(Time(now)),
            observed_generation: service.metadata.generation,
        });
    }
    Some(all).filter(|all| !all.is_empty())
}

/// The ports that not every node can serve.
fn failed(ingress: &[LoadBalancerIngress]) -> Option<String> {
    let mut failed = BTreeMap::<_, Vec<_>>::new();
    for one in ingress {
        for port in one
            .ports
            .iter()
            .flatten()
            .filter(|port| port.error.is_some())
        {
            let at = failed
                .entry((port.protocol.clone(), port.port))
                .or_default();
            at.extend(one.ip.clone());
        }
    }
    let ports = failed.iter().map(|((protocol, port), at)| {
        format!("{protocol} port {port} is not served at {}", at.join(", "))
    });
    sentence(ports.collect())
}

/// The ports that speak what nothing here carries.
fn uncarried(service: &Service) -> Option<String> {
    let ports = service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten());
    let sctp = ports.filter(|port| port.protocol.as_deref() == Some(SCTP));
    let ports = sctp.map(|port| {
        format!(
            "SCTP port {} is stored, and nothing carries SCTP",
            port.port
        )
    });
    sentence(ports.collect())
}

fn sentence(ports: Vec<String>) -> Option<String> {
    (!ports.is_empty()).then(|| ports.join("; "))
}
