//! What pods' containers say of their ports.

use api::not_served::Port;
use k8s_openapi::api::core::v1::{ContainerPort, PodSpec};
use network::Protocol;

/// The ports of the containers that run side by side: the sidecars' and the others'.
pub(crate) fn declared(spec: &PodSpec) -> impl Iterator<Item = &ContainerPort> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let containers = sidecars.chain(&spec.containers);
    containers.flat_map(|container| container.ports.iter().flatten())
}

/// What carries it. None of a protocol that this network does not have: SCTP has no carrier.
pub(crate) fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        _ => None,
    }
}

/// A port of a node as others are told of it.
pub(crate) fn told(protocol: Protocol, address: impl ToString, number: u16) -> Port {
    let protocol = match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    Port {
        protocol: protocol.to_owned(),
        address: address.to_string(),
        number,
    }
}
