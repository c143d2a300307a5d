//! Names of addresses: `4.3.2.1.in-addr.arpa` (RFC 1035, section 3.5).

use std::net::Ipv4Addr;

use crate::Cidr;

/// What all names of IPv4 addresses end with.
pub(super) const SUFFIX: &str = "in-addr.arpa";

/// A name below [`SUFFIX`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reverse {
    /// As many leading octets as the name has, at most four.
    octets: Vec<u8>,
    /// Whether it has labels in front of those that are octets.
    more: bool,
}

impl Reverse {
    /// Reads the labels in front of [`SUFFIX`], the last one first.
    pub(super) fn new(labels: &[&str]) -> Self {
        let octets: Vec<u8> = labels
            .iter()
            .map_while(|label| octet(label))
            .take(4)
            .collect();
        let more = octets.len() < labels.len();
        Self { octets, more }
    }

    /// The address, where it is the name of one.
    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.octets.as_slice().try_into().ok()?;
        (!self.more).then(|| octets.into())
    }

    /// Whether other names stand below this one.
    pub(super) fn is_inner(&self) -> bool {
        !self.more && self.octets.len() < 4
    }

    /// The zone of this range that the name is in: the largest that ends at a dot and holds no foreign address.
    pub(super) fn zone(&self, range: Cidr) -> Option<String> {
        let labels = usize::from(range.length().div_ceil(8));
        let within = self.octets.get(..labels)?;
        let mut first = [0; 4];
        first[..labels].copy_from_slice(within);
        range.contains(first.into()).then(|| name(within))
    }
}

fn octet(label: &str) -> Option<u8> {
    let number: u8 = label.parse().ok()?;
    // `01` and `+1` are numbers to Rust, and other names to DNS.
    (number.to_string() == label).then_some(number)
}

/// The name of so many leading octets.
fn name(octets: &[u8]) -> String {
    let labels = octets.iter().rev().map(|octet| format!("{octet}."));
    labels.collect::<String>() + SUFFIX
}

/// The name of an address.
pub(super) fn of(address: Ipv4Addr) -> String {
    name(&address.octets())
}
