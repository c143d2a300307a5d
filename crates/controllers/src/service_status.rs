//! What Services' statuses say: where those of type `LoadBalancer` are reached, which is every ready node at its own
//! address, and which of their ports are not served.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use api::not_served::{NOT_SERVED, NotServed, Port};
use client::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    LoadBalancerIngress, LoadBalancerStatus, Node, PortStatus, Service, ServicePort, ServiceStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::endpoint_slice::SERVICE_NAME;
use crate::owner::{self, Named};
use crate::plan::{Plan, Write};
use crate::view::View;

/// Keeps a node out of all load balancers.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
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
    let taken = taken(service, view);
    let ingress = match is_balanced(service) {
        true => ingress(service, &taken, view),
        false => Vec::new(),
    };
    new.conditions = conditions(&old, &ingress, &taken, service, now);
    // Once for each time that it comes about. Of what else is not served the nodes tell.
    let said =
        |status: &ServiceStatus| ports_error(status).map(|condition| condition.message.clone());
    let is_news = !taken.is_empty() && said(&old) != said(&new);
    if let Some(message) = said(&new).filter(|_| is_news) {
        plan.warn(REASON, message);
    }
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

fn ingress(service: &Service, taken: &Taken<'_>, view: &View) -> Vec<LoadBalancerIngress> {
    let ports: Vec<_> = ports_of(service).collect();
    let local = local_nodes(service, view);
    let mut all = Vec::new();
    for (key, node) in view.nodes.iter() {
        let is_asked = local.as_ref().is_none_or(|names| names.contains(&key.name));
        if !is_asked || !takes(node) {
            continue;
        }
        let failed = not_served(node);
        for address in addresses(node) {
            let ports = ports.iter().map(|port| {
                let taken = taken.contains_key(&(protocol(port), port.port));
                port_status(port, &address, &failed, taken)
            });
            let ports: Vec<_> = ports.collect();
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

fn not_served(node: &Node) -> NotServed {
    let annotations = node.metadata.annotations.as_ref();
    let said = annotations.and_then(|all| all.get(NOT_SERVED));
    NotServed::parse(said.map_or("", String::as_str))
}

/// A port of nodes: its protocol and its number.
type NodePort<'a> = (&'a str, i32);

/// What a Service has of a port of nodes. The least has it, as the nodes see it: whose node port it is, then the oldest
/// of the balanced Services, the first by name of those of one moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Claim<'a> {
    by_age: bool,
    made: Option<Timestamp>,
    namespace: &'a str,
    name: &'a str,
}

fn claims(service: &Service) -> impl Iterator<Item = (NodePort<'_>, Claim<'_>)> {
    let Named { namespace, name } = owner::named(service);
    let made = owner::created(service);
    let claim = move |by_age| Claim {
        by_age,
        made,
        namespace,
        name,
    };
    let is_ours = is_balanced(service) && !is_anothers(service);
    ports_of(service).flat_map(move |port| {
        let given = port.node_port;
        let given = given.map(|number| ((protocol(port), number), claim(false)));
        let asked = is_ours.then(|| ((protocol(port), port.port), claim(true)));
        given.into_iter().chain(asked)
    })
}

/// Those of a balanced Service's ports that are others', and whose.
type Taken<'a> = BTreeMap<NodePort<'a>, Named<'a>>;

fn taken<'a>(service: &'a Service, view: &'a View) -> Taken<'a> {
    if !is_balanced(service) {
        return Taken::new();
    }
    let own: BTreeSet<NodePort<'_>> = ports_of(service).map(|p| (protocol(p), p.port)).collect();
    let all = view.services.iter().flat_map(|(_, holder)| claims(holder));
    let mut held = BTreeMap::<NodePort<'_>, Claim<'_>>::new();
    for (at, claim) in all.filter(|(at, _)| own.contains(at)) {
        let least = held.entry(at).or_insert(claim);
        *least = claim.min(*least);
    }
    let Named { namespace, name } = owner::named(service);
    let others = held.into_iter().map(|(at, held)| {
        let Claim {
            namespace, name, ..
        } = held;
        (at, Named { namespace, name })
    });
    others
        .filter(|(_, holder)| (holder.namespace, holder.name) != (namespace, name))
        .collect()
}

/// The Services of which a port may be another's than before, once one Service is not any more what it was: those that come
/// after it at that port.
pub(crate) fn rivals<'a>(
    old: Option<&Service>,
    new: Option<&Service>,
    view: &'a View,
) -> Vec<&'a Key> {
    let claimed =
        |service: Option<_>| -> BTreeSet<_> { service.into_iter().flat_map(claims).collect() };
    let [old, new] = [old, new].map(claimed);
    let mut changed = BTreeMap::<NodePort<'_>, Claim<'_>>::new();
    for (at, claim) in old.symmetric_difference(&new) {
        let least = changed.entry(*at).or_insert(*claim);
        *least = (*claim).min(*least);
    }
    if changed.is_empty() {
        return Vec::new();
    }
    let comes_after = |service: &Service| {
        let mut own = claims(service).filter(|(_, own)| own.by_age);
        own.any(|(at, own)| changed.get(&at).is_some_and(|first| *first < own))
    };
    let services = view.services.iter();
    let rivals = services.filter(|(_, service)| comes_after(service));
    rivals.map(|(key, _)| key).collect()
}

fn ports_of(service: &Service) -> impl Iterator<Item = &ServicePort> {
    let spec = service.spec.iter();
    spec.flat_map(|spec| spec.ports.iter().flatten())
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn ports_error(status: &ServiceStatus) -> Option<&Condition> {
    let mut all = status.conditions.iter().flatten();
    all.find(|condition| condition.type_ == PORTS_ERROR)
}

fn port_status(port: &ServicePort, address: &str, failed: &NotServed, taken: bool) -> PortStatus {
    let protocol = protocol(port);
    let fails = |number| {
        failed.contains(&Port {
            protocol: protocol.to_owned(),
            address: address.to_owned(),
            number,
        })
    };
    let is_failed = taken || protocol == SCTP || u16::try_from(port.port).is_ok_and(fails);
    PortStatus {
        error: is_failed.then(|| REASON.to_owned()),
        port: port.port,
        protocol: protocol.to_owned(),
    }
}

/// Says which ports are not served; what others said stays.
fn conditions(
    old: &ServiceStatus,
    ingress: &[LoadBalancerIngress],
    taken: &Taken<'_>,
    service: &Service,
    now: Timestamp,
) -> Option<Vec<Condition>> {
    let mut all = old.conditions.clone().unwrap_or_default();
    let wanted = [
        (PORTS_ERROR, "True", REASON, failed(ingress, taken)),
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
fn failed(ingress: &[LoadBalancerIngress], taken: &Taken<'_>) -> Option<String> {
    let mut failed = BTreeMap::<_, Vec<_>>::new();
    for one in ingress {
        for port in one
            .ports
            .iter()
            .flatten()
            .filter(|port| port.error.is_some())
        {
            let at = failed
                .entry((port.protocol.as_str(), port.port))
                .or_default();
            at.extend(one.ip.clone());
        }
    }
    let ports = failed.iter().map(|(port, at)| {
        let whose = taken.get(port);
        let (protocol, port) = port;
        match whose {
            Some(Named { namespace, name }) => {
                format!("{protocol} port {port} is that of the Service {namespace}/{name}")
            }
            None => format!("{protocol} port {port} is not served at {}", at.join(", ")),
        }
    });
    sentence(ports.collect())
}

/// The ports that speak what nothing here carries.
fn uncarried(service: &Service) -> Option<String> {
    let sctp = ports_of(service).filter(|port| port.protocol.as_deref() == Some(SCTP));
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
