//! What pods' containers say of their ports.

use api::not_served::Port;
pub(crate) use api::ports::declared;
use network::Protocol;

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
