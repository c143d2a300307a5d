//! What a node knows of the cluster beyond its own pods, and what becomes of an address by it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use crate::Protocol;
use crate::entrance::{Claimant, Wanted};
use crate::host_ports::HostPorts;
use crate::link::Peer;
use crate::names::Names;
use crate::nodes::{Node, Nodes};
use crate::policy::Policies;
use crate::services::{Backends, Origin, Place, Services};

/// What there is in the cluster, as far as a node has heard. Kept by deltas, read at each connect.
#[derive(Debug, Default)]
pub struct Table {
    /// The Services.
    pub services: Services,
    /// What they and their endpoints are called.
    pub names: Names,
    /// The address at which this node's pods find the cluster's DNS server.
    pub dns: Option<Ipv4Addr>,
    /// The node's own address among its pods'.
    pub gateway: Option<Ipv4Addr>,
    /// The ports of nodes that lead to ports of pods.
    pub host_ports: HostPorts,
    /// The nodes.
    pub nodes: Nodes,
    /// Who may talk to whom.
    pub policies: Policies,
    /// Whether pods reach what is no pod, by the node's own sockets.
    pub outside: bool,
}

/// What an address stands for.
#[derive(Debug)]
pub(crate) enum Meaning<'a> {
    /// A Service, for a pod that connects there as it says.
    Service(&'a Arc<Backends>, Origin),
    /// A pod, by a port of its node.
    Pod(SocketAddrV4),
    /// Nobody: the address is Services', and none of them has the port.
    Nobody,
    /// Itself.
    Itself,
}

/// What a port of a node stands for.
#[derive(Debug)]
pub(crate) enum Published<'a> {
    /// A Service.
    Service(&'a Arc<Backends>),
    /// A port of a pod.
    Pod(SocketAddrV4),
}

/// How an address is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Road {
    /// It is a pod's of another node, which takes links there.
    Link(Peer),
    /// It is a pod's of a node that takes no links yet, or lies outside and nobody may go there.
    Nowhere,
    /// It is no pod's.
    Outside,
}

impl Table {
    /// What there is for a node that knows nothing yet.
    pub fn new(place: Place) -> Self {
        Self {
            services: Services::new(place),
            names: Names::default(),
            dns: None,
            gateway: None,
            host_ports: HostPorts::default(),
            nodes: Nodes::default(),
            policies: Policies::default(),
            outside: false,
        }
    }

    /// What an address that a pod sends to stands for.
    pub(crate) fn meaning(&self, to: SocketAddrV4, protocol: Protocol) -> Meaning<'_> {
        let ip = *to.ip();
        // A node of a local cluster may have this address: it stays the pod's own.
        if ip == Ipv4Addr::LOCALHOST {
            return Meaning::Itself;
        }
        if let Some((backends, origin)) = self.services.at(ip, protocol, to.port()) {
            return Meaning::Service(backends, origin);
        }
        if self.node_at(ip).is_some() {
            return match self.published(protocol, to) {
                Some(Published::Pod(pod)) => Meaning::Pod(pod),
                Some(Published::Service(backends)) => {
                    Meaning::Service(backends, Origin::InsideByOutside)
                }
                None => Meaning::Itself,
            };
        }
        match self.services.has_address(ip) {
            true => Meaning::Nobody,
            false => Meaning::Itself,
        }
    }

    /// What a port at a node's address stands for: the cluster gave out the Services' own, others may only ask for theirs.
    pub(crate) fn published(&self, protocol: Protocol, at: SocketAddrV4) -> Option<Published<'_>> {
        let by_number = self.services.at_node_port(protocol, at.port());
        let by_address = || self.services.at_outside(*at.ip(), protocol, at.port());
        let service = by_number.or_else(by_address).map(Published::Service);
        service.or_else(|| {
            let node = self.node_at(*at.ip())?;
            Some(Published::Pod(self.host_ports.at(node, (protocol, at))?))
        })
    }

    /// The node that has an address.
    fn node_at(&self, address: Ipv4Addr) -> Option<&Arc<Node>> {
        self.nodes.at(address, self.services.node())
    }

    /// The ports of this node that stand for something, and for what: as of [`published`](Self::published).
    pub(crate) fn published_here(&self) -> Wanted {
        let addresses = self.own_addresses();
        let mut ports = BTreeMap::new();
        for ((address, protocol, port), service) in self.services.outside_ports() {
            if addresses.contains(&address) {
                let at = (protocol, SocketAddrV4::new(address, port));
                ports.insert(at, Claimant::Service(service.clone()));
            }
        }
        for (protocol, port, service) in self.services.node_ports() {
            for address in addresses {
                let at = (protocol, SocketAddrV4::new(*address, port));
                ports.insert(at, Claimant::Service(service.clone()));
            }
        }
        let mut shut_out = BTreeMap::new();
        let asked = self.own().map(|node| self.host_ports.of(node));
        for (at, pods) in asked.into_iter().flatten() {
            for (_, pod) in pods {
                let asks = Claimant::Pod(pod.clone());
                let has = ports.entry(at).or_insert_with(|| asks.clone());
                if *has != asks {
                    shut_out.insert((at, pod.clone()), has.clone());
                }
            }
        }
        Wanted { ports, shut_out }
    }

    /// This node.
    fn own(&self) -> Option<&Arc<Node>> {
        self.nodes.named(self.services.node())
    }

    /// This node's own addresses.
    pub(crate) fn own_addresses(&self) -> &[Ipv4Addr] {
        self.own().map_or(&[], |node| &node.addresses)
    }

    /// How an address that is none of this node's pods' is reached.
    pub(crate) fn road(&self, to: Ipv4Addr) -> Road {
        match self.nodes.of_pod(to) {
            None if self.outside => Road::Outside,
            None => Road::Nowhere,
            Some(node) => node.link.map_or(Road::Nowhere, |address| {
                Road::Link(Peer {
                    name: node.name.clone(),
                    address,
                })
            }),
        }
    }
}
