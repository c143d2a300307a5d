//! The ports of nodes that lead to ports of pods: `hostPort`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::Protocol;
use crate::claims::{Claim, Claims};
use crate::entrance::At;
use crate::nodes::Node;
use crate::services::Name;

/// What a pod asks of its node, as the pod's object has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPorts {
    /// The node that it was bound to.
    pub node: String,
    /// When it was made, in seconds: of several at one port the oldest has it.
    pub since: i64,
    /// The pod's own address, as its node says.
    pub address: Ipv4Addr,
    /// The ports.
    pub ports: Vec<HostPort>,
}

/// A port of a pod's node, and the pod's own behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// How it is reached.
    pub protocol: Protocol,
    /// At which of the node's addresses; none where any will do, which is the first then.
    pub address: Option<Ipv4Addr>,
    /// Its number there.
    pub port: u16,
    /// The pod's.
    pub to: u16,
}

/// A port of a node, at the address that was asked for.
type Asked = (Protocol, Option<Ipv4Addr>, u16);

impl HostPort {
    fn asked(&self) -> Asked {
        (self.protocol, self.address, self.port)
    }
}

/// What all pods have asked for, other nodes' too: pods may ask for those by the nodes' addresses.
///
/// A pod's status is its node's word, and a node has a say about its own ports and pods alone: what counts is judged at
/// each look by the Node that the pod was bound to.
#[derive(Debug, Default)]
pub struct HostPorts {
    by_node: BTreeMap<String, Claims<Asked, SocketAddrV4>>,
    by_pod: BTreeMap<Name, PodPorts>,
}

impl HostPorts {
    /// Takes up what a pod asks for, or what has become of it. None: nothing any more.
    pub fn set(&mut self, pod: &Name, ports: Option<PodPorts>) {
        if let Some(old) = self.by_pod.remove(pod) {
            self.take_back(pod, &old);
        }
        let Some(new) = ports.filter(|ports| !ports.ports.is_empty()) else {
            return;
        };
        let claims = self.by_node.entry(new.node.clone()).or_default();
        for port in &new.ports {
            let to = SocketAddrV4::new(new.address, port.to);
            claims.claim(port.asked(), &(new.since, pod.clone()), to);
        }
        self.by_pod.insert(pod.clone(), new);
    }

    fn take_back(&mut self, pod: &Name, old: &PodPorts) {
        let Some(claims) = self.by_node.get_mut(&old.node) else {
            return;
        };
        let claim = (old.since, pod.clone());
        for port in &old.ports {
            claims.take_back(&port.asked(), &claim);
        }
        if claims.is_empty() {
            self.by_node.remove(&old.node);
        }
    }

    /// The pod's port behind one of a node's, at an address of that node.
    pub(crate) fn at(&self, node: &Node, (protocol, at): At) -> Option<SocketAddrV4> {
        let claims = self.by_node.get(&node.name)?;
        let asked = [Some(*at.ip()), None];
        let all = asked
            .iter()
            .filter(|asked| place(node, **asked) == Some(*at.ip()))
            .flat_map(|asked| claims.at(&(protocol, *asked, at.port())));
        let own = all.filter(|(_, to)| is_own(node, **to));
        own.min_by_key(|(by, _)| *by).map(|(_, to)| *to)
    }

    /// A node's ports that its pods ask for, with all who do: the first has it.
    pub(crate) fn of(&self, node: &Node) -> BTreeMap<At, BTreeSet<&Claim>> {
        let mut all = BTreeMap::<At, BTreeSet<&Claim>>::new();
        let claims = self.by_node.get(&node.name).into_iter();
        for ((protocol, asked, port), by, to) in claims.flat_map(Claims::all) {
            if let Some(address) = place(node, *asked).filter(|_| is_own(node, *to)) {
                let at = (*protocol, SocketAddrV4::new(address, *port));
                all.entry(at).or_default().insert(by);
            }
        }
        all
    }
}

/// The node's address that was asked for, if it has it.
fn place(node: &Node, asked: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
    match asked {
        Some(address) => node.addresses.contains(&address).then_some(address),
        None => node.addresses.first().copied(),
    }
}

/// Whether a pod of this node can have the address.
fn is_own(node: &Node, to: SocketAddrV4) -> bool {
    node.pods.is_some_and(|range| range.contains(*to.ip()))
}

#[cfg(test)]
mod tests;
