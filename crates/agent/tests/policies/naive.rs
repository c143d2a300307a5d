//! Judges one connection straight from the objects, as the API's reference describes it: slow, and with nothing kept.

use std::net::{Ipv4Addr, SocketAddrV4};

use api::selector::LabelSelector;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as Selector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use network::Protocol;

use crate::changes::Objects;

type Placed<'a> = (&'a str, &'a Pod);

/// The end of a connection that has no rules in this direction, and where it goes to.
struct Other<'a> {
    address: Ipv4Addr,
    pod: Option<Placed<'a>>,
    destination: Option<Placed<'a>>,
    port: u16,
    protocol: &'static str,
}

pub(crate) fn allows(objects: &Objects, from: Ipv4Addr, to: SocketAddrV4, by: Protocol) -> bool {
    let (source, destination) = (at(objects, from), at(objects, *to.ip()));
    let other = |address, pod| Other {
        address,
        pod,
        destination,
        port: to.port(),
        protocol: match by {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        },
    };
    let out = source.is_none_or(|of| passes(objects, of, "Egress", &other(*to.ip(), destination)));
    let into = destination.is_none_or(|of| passes(objects, of, "Ingress", &other(from, source)));
    from == *to.ip() || (out && into)
}

/// The youngest pod of this address that has not ended.
fn at(objects: &Objects, address: Ipv4Addr) -> Option<Placed<'_>> {
    let there = objects.pods.iter().filter(|(_, pod)| {
        let status = pod.status.clone().unwrap_or_default();
        status.pod_ip == Some(address.to_string()) && status.phase.as_deref() != Some("Succeeded")
    });
    there
        .max_by_key(|(key, pod)| (pod.metadata.creation_timestamp.clone(), *key))
        .map(|(key, pod)| (key.0, pod))
}

fn passes(objects: &Objects, of: Placed<'_>, direction: &str, other: &Other<'_>) -> bool {
    let about: Vec<_> = objects
        .policies
        .iter()
        .filter(|((namespace, _), policy)| {
            let spec = policy.spec.clone().unwrap_or_default();
            let default = match spec.egress.as_deref() {
                None | Some([]) => vec!["Ingress".to_owned()],
                Some(_) => vec!["Ingress".to_owned(), "Egress".to_owned()],
            };
            let types = spec.policy_types.unwrap_or(default);
            let selected = selects(spec.pod_selector.as_ref(), of.1);
            *namespace == of.0 && selected && types.iter().any(|t| t == direction)
        })
        .map(|(_, policy)| rules(policy, direction))
        .collect();
    let lets = |(peers, ports): &(Vec<NetworkPolicyPeer>, Vec<NetworkPolicyPort>)| {
        let peer = peers.is_empty() || peers.iter().any(|p| is_peer(objects, of.0, p, other));
        peer && (ports.is_empty() || ports.iter().any(|p| is_port(p, other)))
    };
    about.is_empty() || about.iter().flatten().any(lets)
}

fn rules(
    policy: &NetworkPolicy,
    direction: &str,
) -> Vec<(Vec<NetworkPolicyPeer>, Vec<NetworkPolicyPort>)> {
    let spec = policy.spec.clone().unwrap_or_default();
    let ingress = spec
        .ingress
        .into_iter()
        .flatten()
        .map(|r| (r.from, r.ports));
    let egress = spec.egress.into_iter().flatten().map(|r| (r.to, r.ports));
    let rules: Vec<_> = match direction {
        "Ingress" => ingress.collect(),
        _ => egress.collect(),
    };
    let or_none = |(peers, ports): (Option<_>, Option<_>)| {
        (peers.unwrap_or_default(), ports.unwrap_or_default())
    };
    rules.into_iter().map(or_none).collect()
}

fn selects(selector: Option<&Selector>, pod: &Pod) -> bool {
    let selector = LabelSelector::from_meta(selector).unwrap();
    selector.matches_labels(pod.metadata.labels.as_ref())
}

fn is_peer(objects: &Objects, own: &str, peer: &NetworkPolicyPeer, other: &Other<'_>) -> bool {
    if let Some(block) = &peer.ip_block {
        let within = |cidr: &str| {
            let (base, length) = cidr.split_once('/').unwrap();
            let base = u32::from(base.parse::<Ipv4Addr>().unwrap());
            let hosts = 32 - length.parse::<u32>().unwrap();
            u32::from(other.address) >> hosts == base >> hosts
        };
        let except = block.except.iter().flatten();
        return within(&block.cidr) && !except.into_iter().any(|cidr| within(cidr));
    }
    let Some((namespace, pod)) = other.pod else {
        return false;
    };
    let in_namespace = match &peer.namespace_selector {
        None => namespace == own,
        some => objects.namespaces.get(namespace).is_some_and(|object| {
            let selector = LabelSelector::from_meta(some.as_ref()).unwrap();
            selector.matches_labels(object.metadata.labels.as_ref())
        }),
    };
    in_namespace && (peer.pod_selector.is_none() || selects(peer.pod_selector.as_ref(), pod))
}

fn is_port(port: &NetworkPolicyPort, other: &Other<'_>) -> bool {
    let number = i32::from(other.port);
    let calls = |name: &str| {
        let spec = other.destination.and_then(|(_, pod)| pod.spec.as_ref());
        let ports = spec.into_iter().flat_map(|s| &s.containers);
        ports.flat_map(|c| c.ports.iter().flatten()).any(|p| {
            let protocol = p.protocol.as_deref().unwrap_or("TCP");
            p.name.as_deref() == Some(name)
                && p.container_port == number
                && protocol == other.protocol
        })
    };
    let numbered = match &port.port {
        None => true,
        Some(IntOrString::Int(first)) => {
            (*first..=port.end_port.unwrap_or(*first)).contains(&number)
        }
        Some(IntOrString::String(name)) => calls(name),
    };
    port.protocol.as_deref().unwrap_or("TCP") == other.protocol && numbered
}
