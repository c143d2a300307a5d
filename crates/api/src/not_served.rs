//! Which of its ports a node cannot serve: its agent says it, and Services' statuses repeat it.

use std::collections::BTreeSet;
use std::fmt;

/// Which of its ports a Node does not serve: `TCP 192.0.2.1:80,UDP 192.0.2.1:53`. Absent where it serves all.
pub const NOT_SERVED: &str = "carob.dev/ports-not-served";

/// A port at one of a node's addresses: `TCP 192.0.2.1:80`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// An IP address, as the Node has it.
    pub address: String,
    /// Its number.
    pub number: u16,
}

impl Port {
    fn parse(text: &str) -> Option<Self> {
        let (protocol, at) = text.split_once(' ')?;
        let (address, number) = at.rsplit_once(':')?;
        let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
        Some(Self {
            protocol: protocol.to_owned(),
            address: bare.unwrap_or(address).to_owned(),
            number: number.parse().ok().filter(|number| *number != 0)?,
        })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            address,
            number,
        } = self;
        match address.contains(':') {
            true => write!(f, "{protocol} [{address}]:{number}"),
            false => write!(f, "{protocol} {address}:{number}"),
        }
    }
}

/// What a Node says by [`NOT_SERVED`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotServed(BTreeSet<Port>);

impl NotServed {
    /// What is malformed counts as not said.
    pub fn parse(text: &str) -> Self {
        text.split(',').filter_map(Port::parse).collect()
    }

    /// Whether a port is among them.
    pub fn contains(&self, port: &Port) -> bool {
        self.0.contains(port)
    }
}

impl FromIterator<Port> for NotServed {
    fn from_iter<All: IntoIterator<Item = Port>>(ports: All) -> Self {
        Self(ports.into_iter().collect())
    }
}

impl fmt::Display for NotServed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, port) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{port}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(protocol: &str, address: &str, number: u16) -> Port {
        Port {
            protocol: protocol.to_owned(),
            address: address.to_owned(),
            number,
        }
    }

    #[test]
    fn ports_are_told_and_read() {
        for (text, ports) in [
            ("", vec![]),
            (
                "TCP 192.0.2.1:80,UDP 192.0.2.1:53",
                vec![port("UDP", "192.0.2.1", 53), port("TCP", "192.0.2.1", 80)],
            ),
            ("TCP [2001:db8::1]:80", vec![port("TCP", "2001:db8::1", 80)]),
        ] {
            let all: NotServed = ports.iter().cloned().collect();
            assert_eq!(
                (NotServed::parse(text), all.to_string()),
                (all, text.to_owned())
            );
            assert!(
                ports
                    .iter()
                    .all(|port| NotServed::parse(text).contains(port))
            );
        }
        for odd in [
            "TCP",
            "TCP 192.0.2.1",
            "TCP 192.0.2.1:0",
            "TCP 192.0.2.1:65536",
            "192.0.2.1:80",
        ] {
            assert_eq!(NotServed::parse(odd), NotServed::default(), "{odd}");
        }
    }
}
