//! Services: which backends an address and a port stand for.
//!
//! [`Services`] is what a node has heard, kept by deltas; a change touches its own Service only. What a connection
//! needs, a Service's backends as this node sees them, is made at the change, so that a connect costs one lookup.

mod affinity;
mod backends;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crate::Protocol;
use crate::claims::Claims;
use affinity::Affinity;
pub use backends::{Backends, Origin};

/// A namespace and a name in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// Its namespace.
    pub namespace: String,
    /// Its name there.
    pub name: String,
}

/// A Service, as far as connections go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its addresses inside the cluster; none where it is headless.
    pub cluster: Vec<Ipv4Addr>,
    /// Its addresses for the outside, which pods may use too.
    pub external: Vec<Ipv4Addr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// When it was made, in seconds: of several that claim an address or a port the oldest has it.
    pub since: i64,
    /// How long after its last connection a client meets the same backend again. None: each connection is
    /// balanced by itself.
    pub affinity: Option<Duration>,
    /// Connections to its cluster addresses stay on the node.
    pub internal_local: bool,
    /// Connections from outside stay on the node that they came to.
    pub external_local: bool,
    /// Endpoints on the client's own node come before those of its zone.
    pub prefers_node: bool,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The name by which slices refer to it; empty where a Service has one port without a name.
    pub name: String,
    /// How it is reached.
    pub protocol: Protocol,
    /// Its number at the Service's addresses.
    pub port: u16,
    /// Its number at every node's addresses.
    pub node_port: Option<u16>,
}

/// A port of a Service, as objects that name one do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortRef {
    /// By its number at the Service's addresses.
    Number(u16),
    /// By its name.
    Name(String),
}

/// Some of a Service's endpoints, which have the same ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// The endpoints' ports: the Service port's name, and the number there.
    pub ports: Vec<(String, Protocol, u16)>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// Where a Service is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// It may be sent to.
    pub ready: bool,
    /// It would be ready, were it not on its way out.
    pub serving: bool,
    /// It is on its way out.
    pub terminating: bool,
    /// The node it is on, where that is known.
    pub node: Option<String>,
    /// The nodes whose clients it is for; none where nothing is said.
    pub for_nodes: Vec<String>,
    /// The zones whose clients it is for; none where nothing is said.
    pub for_zones: Vec<String>,
}

/// Where this node is: what "local" and "near" mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The node's name.
    pub node: String,
    /// The zone that it is in, where it says so.
    pub zone: Option<String>,
}

/// An address and a port there.
type At = (Ipv4Addr, Protocol, u16);

#[derive(Debug, Default)]
struct Known {
    service: Option<Service>,
    slices: BTreeMap<String, Slice>,
    /// Who met whom, by port: outlives changes of the endpoints.
    affinities: HashMap<(Protocol, u16), Arc<Affinity>>,
    /// What it claims, since when.
    since: i64,
    at: Vec<At>,
    at_nodes: Vec<(Protocol, u16)>,
    /// Whom each of its ports leads to.
    backends: Vec<(ServicePort, Arc<Backends>)>,
}

/// All Services that a node has heard of.
#[derive(Debug, Default)]
pub struct Services {
    place: Place,
    known: HashMap<Name, Known>,
    inside: Claims<At, Arc<Backends>>,
    outside: Claims<At, Arc<Backends>>,
    by_node_port: Claims<(Protocol, u16), Arc<Backends>>,
    /// How many ports are at an address.
    addresses: HashMap<Ipv4Addr, usize>,
}

impl Services {
    /// No Services, seen from a node.
    pub fn new(place: Place) -> Self {
        Self {
            place,
            ..Self::default()
        }
    }

    /// Says that the node is elsewhere now.
    pub fn set_place(&mut self, place: Place) {
        if self.place == place {
            return;
        }
        self.place = place;
        let names: Vec<_> = self.known.keys().cloned().collect();
        names.iter().for_each(|name| self.settle(name));
    }

    /// Takes up a Service, or what has become of it. None: it is gone.
    pub fn set_service(&mut self, name: &Name, service: Option<Service>) {
        let known = self.known.entry(name.clone()).or_default();
        if known.service != service {
            known.service = service;
            self.settle(name);
        }
        self.forget_if_unknown(name);
    }

    /// Takes up a slice of a Service, or what has become of it. None: it is gone.
    pub fn set_slice(&mut self, service: &Name, slice: &str, endpoints: Option<Slice>) {
        let known = self.known.entry(service.clone()).or_default();
        let changed = match endpoints {
            Some(endpoints) => {
                let changed = known.slices.get(slice) != Some(&endpoints);
                known.slices.insert(slice.to_owned(), endpoints);
                changed
            }
            None => known.slices.remove(slice).is_some(),
        };
        if changed {
            self.settle(service);
        }
        self.forget_if_unknown(service);
    }

    /// What a Service's address and port stand for, and what a pod that connects there counts as.
    pub fn at(
        &self,
        address: Ipv4Addr,
        protocol: Protocol,
        port: u16,
    ) -> Option<(&Arc<Backends>, Origin)> {
        let at = (address, protocol, port);
        let inside = self.inside.get(&at).map(|found| (found, Origin::Inside));
        inside.or_else(|| Some((self.outside.get(&at)?, Origin::InsideByOutside)))
    }

    /// Whom the streams of a Service's port go to, whether or not it has an address. None: there is no such Service or port,
    /// or the Service is only a name.
    pub fn named(&self, service: &Name, port: &PortRef) -> Option<&Arc<Backends>> {
        let mut all = self.known.get(service)?.backends.iter();
        let meant = |of: &ServicePort| match port {
            PortRef::Number(number) => of.port == *number,
            PortRef::Name(name) => of.name == *name,
        };
        let found = all.find(|(of, _)| of.protocol == Protocol::Tcp && meant(of));
        found.map(|(_, backends)| backends)
    }

    /// Whether an address is a Service's, at whatever port.
    pub fn has_address(&self, address: Ipv4Addr) -> bool {
        self.addresses.contains_key(&address)
    }

    /// What a port of every node stands for.
    pub fn at_node_port(&self, protocol: Protocol, port: u16) -> Option<&Arc<Backends>> {
        self.by_node_port.get(&(protocol, port))
    }

    /// What one of the addresses for the outside stands for.
    pub(crate) fn at_outside(
        &self,
        address: Ipv4Addr,
        protocol: Protocol,
        port: u16,
    ) -> Option<&Arc<Backends>> {
        self.outside.get(&(address, protocol, port))
    }

    /// The nodes' ports that stand for Services.
    pub fn node_ports(&self) -> impl Iterator<Item = (Protocol, u16, &Name)> {
        let all = self.by_node_port.iter();
        all.map(|((protocol, port), name)| (*protocol, *port, name))
    }

    /// The ports at addresses for the outside.
    pub(crate) fn outside_ports(&self) -> impl Iterator<Item = (At, &Name)> {
        self.outside.iter().map(|(at, name)| (*at, name))
    }

    /// The name of the node that this is seen from.
    pub(crate) fn node(&self) -> &str {
        &self.place.node
    }

    fn forget_if_unknown(&mut self, name: &Name) {
        let known = self.known.get(name);
        if known.is_some_and(|k| k.service.is_none() && k.slices.is_empty()) {
            self.known.remove(name);
        }
    }

    /// Makes the backends of one Service anew.
    fn settle(&mut self, name: &Name) {
        let Some(mut known) = self.known.remove(name) else {
            return;
        };
        let claim = (known.since, name.clone());
        for at in known.at.drain(..) {
            self.inside.take_back(&at, &claim);
            self.outside.take_back(&at, &claim);
            if let Some(count) = self.addresses.get_mut(&at.0) {
                *count -= 1;
                if *count == 0 {
                    self.addresses.remove(&at.0);
                }
            }
        }
        for at in known.at_nodes.drain(..) {
            self.by_node_port.take_back(&at, &claim);
        }
        known.backends.clear();
        if let Some(service) = known.service.take() {
            self.enter(name, &service, &mut known);
            known.service = Some(service);
        }
        self.known.insert(name.clone(), known);
    }

    fn enter(&mut self, name: &Name, service: &Service, known: &mut Known) {
        known.follow(service);
        known.since = service.since;
        let claim = (service.since, name.clone());
        for port in &service.ports {
            let affinity = known.affinities.get(&(port.protocol, port.port)).cloned();
            let slices = known.slices.values();
            let backends = Arc::new(Backends::new(service, port, slices, &self.place, affinity));
            for (addresses, claims) in [
                (&service.cluster, &mut self.inside),
                (&service.external, &mut self.outside),
            ] {
                for address in addresses {
                    let at = (*address, port.protocol, port.port);
                    claims.claim(at, &claim, Arc::clone(&backends));
                    *self.addresses.entry(*address).or_default() += 1;
                    known.at.push(at);
                }
            }
            if let Some(number) = port.node_port {
                let at = (port.protocol, number);
                self.by_node_port.claim(at, &claim, Arc::clone(&backends));
                known.at_nodes.push(at);
            }
            known.backends.push((port.clone(), backends));
        }
    }
}

impl Known {
    /// Brings what is remembered of clients up to the Service's ports.
    fn follow(&mut self, service: &Service) {
        let Some(stay) = service.affinity else {
            self.affinities.clear();
            return;
        };
        let ports: Vec<_> = service.ports.iter().map(|p| (p.protocol, p.port)).collect();
        self.affinities.retain(|port, _| ports.contains(port));
        for port in ports {
            self.affinities.entry(port).or_default().set_stay(stay);
        }
    }
}
