//! What pods' containers say of their ports.

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
