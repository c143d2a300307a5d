//! What Ingresses' statuses say: at which nodes, and which of their ports, those that the nodes serve are reached.

#[cfg(test)]
mod tests;

use api::ingress::{Classes, PORTS, Ports};
use client::Key;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::{
    IngressLoadBalancerIngress, IngressLoadBalancerStatus, IngressPortStatus, IngressStatus,
};

use crate::owner;
use crate::plan::{Plan, Write};
use crate::service_status::{addresses, takes};
use crate::view::View;

/// Brings the status of the Ingress at `key` up to the nodes. One that others serve is left to them, but for what was said
/// of the nodes while these served it.
pub(crate) fn reconcile(key: &Key, view: &View) -> Plan {
    let mut plan = Plan::default();
    let Some(ingress) = view.ingresses.get(key) else {
        return plan;
    };
    let classes = Classes::new(view.ingress_classes.iter().map(|(_, class)| &**class));
    if owner::is_deleting(&**ingress) {
        return plan;
    }
    let old = ingress.status.as_ref();
    let told = old.and_then(|status| status.load_balancer.as_ref()?.ingress.as_deref());
    let told = told.unwrap_or_default();
    let nodes = || view.nodes.iter().map(|(_, node)| node);
    let all: Vec<_> = match classes.takes(ingress) {
        true => nodes().flat_map(|node| places(node)).collect(),
        false
            if told
                .iter()
                .all(|one| nodes().any(|node| is_place(one, node))) =>
        {
            Vec::new()
        }
        false => return plan,
    };
    if told != all {
        let new = IngressStatus {
            load_balancer: Some(IngressLoadBalancerStatus {
                ingress: Some(all).filter(|all| !all.is_empty()),
            }),
        };
        plan.writes.push(Write::status(&**ingress, old, &new));
    }
    plan
}

/// Whether this was said of a node: others who send clients to nodes' addresses do not name ports.
fn is_place(one: &IngressLoadBalancerIngress, node: &Node) -> bool {
    let ports = one.ports.as_deref().unwrap_or_default();
    let at = |ip: &String| addresses(node).contains(ip);
    !ports.is_empty() && one.hostname.is_none() && one.ip.as_ref().is_some_and(at)
}

/// Whether what a node is to Ingresses has changed.
pub(crate) fn differs(old: Option<&Node>, new: Option<&Node>) -> bool {
    let seen = |node: Option<&Node>| node.map(places).unwrap_or_default();
    seen(old) != seen(new)
}

/// Where a node serves Ingresses, if the outside is to be sent there.
fn places(node: &Node) -> Vec<IngressLoadBalancerIngress> {
    let annotations = node.metadata.annotations.as_ref();
    let said = annotations.and_then(|all| all.get(PORTS));
    let ports = Ports::parse(said.map_or("", String::as_str)).all();
    let ports: Vec<_> = ports
        .map(|port| IngressPortStatus {
            port: port.into(),
            protocol: "TCP".to_owned(),
            error: None,
        })
        .collect();
    if ports.is_empty() || !takes(node) {
        return Vec::new();
    }
    let place = |ip| IngressLoadBalancerIngress {
        ip: Some(ip),
        hostname: None,
        ports: Some(ports.clone()),
    };
    addresses(node).into_iter().map(place).collect()
}
