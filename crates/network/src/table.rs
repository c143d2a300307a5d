//! What a node knows of the cluster beyond its own pods, and what becomes of an address by it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use crate::Protocol;
use crate::link::Peer;
use crate::names::Names;
use crate::nodes::Nodes;
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
    /// Nobody: the address is Services', and none of them has the port.
    Nobody,
    /// Itself.
    Itself,
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
            nodes: Nodes::default(),
            policies: Policies::default(),
            outside: false,
        }
    }

    /// What an address that a pod sends to stands for.
    pub(crate) fn meaning(&self, to: SocketAddrV4, protocol: Protocol) -> Meaning<'_> {
        let ip = *to.ip();
        let published = self.nodes.at(ip).is_some() && ip != Ipv4Addr::LOCALHOST;
        let found = self.services.at(ip, protocol, to.port()).or_else(|| {
            let found = self.services.at_node_port(protocol, to.port());
            Some((found.filter(|_| published)?, Origin::InsideByOutside))
        });
        match found {
            Some((backends, origin)) => Meaning::Service(backends, origin),
            None if self.services.has_address(ip) && !published => Meaning::Nobody,
            None => Meaning::Itself,
        }
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
