//! IPv4 and IPv6, as sockets have it.
//!
//! Pods have IPv4 addresses. An IPv6 socket is one of a port space of its own (`wasi:sockets` has IPv6 sockets take no
//! IPv4 traffic), in which the pod's loopback `::1` and the unspecified address `::` are what 127.0.0.1 and 0.0.0.0 are
//! in the other. Within this crate they are written as these, so that an IPv6 address is always one outside.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Which addresses a socket has. Each has a port space of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6 alone.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: &SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }

    /// Every address of the family, and any port.
    pub fn any(self) -> SocketAddr {
        match self {
            Self::V4 => (Ipv4Addr::UNSPECIFIED, 0).into(),
            Self::V6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
        }
    }

    /// An address as this crate has it: none where no socket of this family can mean it. What is outside has no scope:
    /// the pod has none of the node's links.
    pub(crate) fn inner(self, address: SocketAddr) -> Option<SocketAddr> {
        let (port, ip) = match (self, address) {
            (Self::V4, SocketAddr::V4(_)) => return Some(address),
            (Self::V6, SocketAddr::V6(address)) => (address.port(), *address.ip()),
            _ => return None,
        };
        let inside = |ip| SocketAddrV4::new(ip, port).into();
        match ip {
            Ipv6Addr::UNSPECIFIED => Some(inside(Ipv4Addr::UNSPECIFIED)),
            Ipv6Addr::LOCALHOST => Some(inside(Ipv4Addr::LOCALHOST)),
            // IPv4 in IPv6's clothes, which no rule about IPv4 would know: mapped, or in the deprecated way.
            ip if ip.to_ipv4().is_some() => None,
            ip => Some(SocketAddrV6::new(ip, port, 0, 0).into()),
        }
    }

    /// An address of the pods' network, as the holder of a socket of this family knows it.
    pub(crate) fn outer(self, address: SocketAddrV4) -> SocketAddr {
        let ip = match (self, address.ip().is_unspecified()) {
            (Self::V4, _) => return address.into(),
            (Self::V6, true) => Ipv6Addr::UNSPECIFIED,
            (Self::V6, false) => Ipv6Addr::LOCALHOST,
        };
        SocketAddrV6::new(ip, address.port(), 0, 0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_all_addresses_have_twins() {
        let table = [
            (Family::V4, "127.0.0.1:80", Some("127.0.0.1:80")),
            (Family::V4, "10.0.0.1:80", Some("10.0.0.1:80")),
            (Family::V4, "[::1]:80", None),
            (Family::V6, "127.0.0.1:80", None),
            (Family::V6, "[::1]:80", Some("127.0.0.1:80")),
            (Family::V6, "[::1%7]:80", Some("127.0.0.1:80")),
            (Family::V6, "[::]:80", Some("0.0.0.0:80")),
            (Family::V6, "[2001:db8::1]:80", Some("[2001:db8::1]:80")),
            (Family::V6, "[2001:db8::1%7]:80", Some("[2001:db8::1]:80")),
            (Family::V6, "[::ffff:10.0.0.1]:80", None),
            (Family::V6, "[::10.0.0.1]:80", None),
        ];
        for (family, address, inner) in table {
            let address: SocketAddr = address.parse().unwrap();
            let expected = inner.map(|inner| inner.parse().unwrap());
            assert_eq!(family.inner(address), expected, "{family:?} {address}");
            if let (Some(SocketAddr::V4(inner)), SocketAddr::V6(address)) = (expected, address) {
                let bare = SocketAddrV6::new(*address.ip(), address.port(), 0, 0);
                assert_eq!(family.outer(inner), bare.into());
            }
        }
    }
}
