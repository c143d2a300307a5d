//! IP addresses and address blocks in fields, read as leniently as Kubernetes reads them: a part of
//! an IPv4 address may have zeros in front.

use crate::status::{FieldError, FieldPath};
use std::net::IpAddr;

/// The address that the text says.
pub(super) fn ip(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse().ok();
    }
    let decimal = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = text.splitn(5, '.').collect();
    if parts.len() != 4 || !parts.iter().all(|part| decimal(part)) {
        return None;
    }
    let plain: Vec<&str> = parts
        .iter()
        .map(|part| match part.trim_start_matches('0') {
            "" => "0",
            rest => rest,
        })
        .collect();
    plain.join(".").parse().ok()
}

/// The address and the length of the block that the text says.
pub(super) fn cidr(text: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = text.split_once('/')?;
    let address = ip(address)?;
    if !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let length: u32 = length.parse().ok()?;
    (length <= bits(address)).then_some((address, length))
}

fn bits(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Whether the second block lies within the first and is smaller.
pub(super) fn contains((outer, long): (IpAddr, u32), (inner, longer): (IpAddr, u32)) -> bool {
    if outer.is_ipv4() != inner.is_ipv4() || longer <= long {
        return false;
    }
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    let host = bits(outer) - long;
    let network = |address| number(address).checked_shr(host).unwrap_or(0);
    network(outer) == network(inner)
}

/// Appends a fault unless the text is an address.
pub(super) fn check_ip(errors: &mut Vec<FieldError>, path: &FieldPath, text: &str) {
    if ip(text).is_none() {
        errors.push(FieldError::invalid(
            path,
            text,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ));
    }
}

/// Appends a fault unless the text is an address block.
pub(super) fn check_cidr(errors: &mut Vec<FieldError>, path: &FieldPath, text: &str) {
    if cidr(text).is_none() {
        errors.push(FieldError::invalid(
            path,
            text,
            "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ));
    }
}

/// As [`check_not_special`], but for loopback addresses where a cluster's API servers may have them: all nodes of a local
/// cluster are on one machine.
pub(super) fn check_endpoint(
    errors: &mut Vec<FieldError>,
    path: &FieldPath,
    text: &str,
    of_api_servers: bool,
) {
    if !(of_api_servers && ip(text).is_some_and(|ip| ip.is_loopback())) {
        check_not_special(errors, path, text);
    }
}

/// Whether this is the namespace and name of the Service that the API servers are behind.
pub(super) fn is_api_service(namespace: &str, name: &str) -> bool {
    namespace == "default" && name == "kubernetes"
}

/// Appends a fault where nothing outside of one machine or link can be reached at the address.
pub(super) fn check_not_special(errors: &mut Vec<FieldError>, path: &FieldPath, text: &str) {
    let Some(address) = ip(text) else {
        errors.push(FieldError::invalid(
            path,
            text,
            "must be a valid IP address",
        ));
        return;
    };
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(address) => (
            address.is_link_local(),
            address.octets()[..3] == [224, 0, 0],
        ),
        IpAddr::V6(address) => (
            address.is_unicast_link_local(),
            address.segments()[0] & 0xff0f == 0xff02,
        ),
    };
    let unspecified = format!("may not be unspecified ({text})");
    for (is, why) in [
        (address.is_unspecified(), unspecified.as_str()),
        (
            address.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            link_local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ),
        (
            link_local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
    ] {
        if is {
            errors.push(FieldError::invalid(path, text, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_blocks() {
        for good in ["10.0.0.1", "010.000.0.1", "::1", "2001:db8::ffff"] {
            assert!(ip(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "x",
            "10.0.0",
            "10.0.0.256",
            "1.2.3.4.5",
            "+1.2.3.4",
            "1..2.3",
        ] {
            assert!(ip(bad).is_none(), "{bad}");
        }
        for good in ["10.0.0.0/8", "0.0.0.0/0", "::/128", "10.0.0.1/24"] {
            assert!(cidr(good).is_some(), "{good}");
        }
        for bad in [
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/",
            "::/129",
            "10.0.0.0/+8",
        ] {
            assert!(cidr(bad).is_none(), "{bad}");
        }
        let block = |text: &str| cidr(text).expect("a block");
        for (outer, inner, is) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/8", "11.0.0.0/16", false),
            ("10.0.0.0/8", "10.0.0.0/8", false),
            ("0.0.0.0/0", "1.2.3.4/32", true),
            ("::/0", "1.2.3.4/32", false),
            ("::/0", "fd00::/8", true),
        ] {
            assert_eq!(contains(block(outer), block(inner)), is, "{outer} {inner}");
        }
    }

    #[test]
    fn addresses_that_lead_nowhere() {
        for (text, fault) in [
            ("10.0.0.1", ""),
            ("2001:db8::1", ""),
            ("x", "must be a valid IP address"),
            ("0.0.0.0", "may not be unspecified (0.0.0.0)"),
            ("127.1.2.3", "loopback"),
            ("::1", "loopback"),
            ("169.254.1.1", "link-local range"),
            ("fe80::1", "link-local range"),
            ("224.0.0.7", "link-local multicast"),
            ("ff02::1", "link-local multicast"),
        ] {
            let mut errors = Vec::new();
            check_not_special(&mut errors, &FieldPath::new("ip"), text);
            match errors.as_slice() {
                [] => assert!(fault.is_empty(), "{text}"),
                [error] => assert!(!fault.is_empty() && error.message.contains(fault), "{text}"),
                more => panic!("{text}: {more:?}"),
            }
        }
    }
}
