//! The ports of nodes that lead to ports of pods: `hostPort`.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddrV4;

use crate::Protocol;
use crate::entrance::At;
use crate::services::Name;

/// All that a node has heard of, other nodes' too: pods may ask for those by the nodes' addresses.
#[derive(Debug, Default)]
pub struct HostPorts {
    by_port: BTreeMap<At, BTreeMap<Name, SocketAddrV4>>,
    by_pod: HashMap<Name, Vec<At>>,
}

impl HostPorts {
    /// Takes up the ports of a pod, each with the pod's own behind it, or what has become of them. None: they are gone.
    pub fn set(&mut self, pod: &Name, ports: &[(At, SocketAddrV4)]) {
        for at in self.by_pod.remove(pod).unwrap_or_default() {
            if let Some(claims) = self.by_port.get_mut(&at) {
                claims.remove(pod);
                if claims.is_empty() {
                    self.by_port.remove(&at);
                }
            }
        }
        for (at, to) in ports {
            self.by_port
                .entry(*at)
                .or_default()
                .insert(pod.clone(), *to);
            self.by_pod.entry(pod.clone()).or_default().push(*at);
        }
    }

    /// The pod's port behind a node's: of several that claim it the first by name has it, on every node alike.
    pub(crate) fn at(&self, protocol: Protocol, at: SocketAddrV4) -> Option<SocketAddrV4> {
        self.by_port.get(&(protocol, at))?.values().next().copied()
    }

    /// The nodes' ports, and whose they are.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&At, &Name)> {
        self.by_port
            .iter()
            .filter_map(|(at, claims)| Some((at, claims.keys().next()?)))
    }
}
