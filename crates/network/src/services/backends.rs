//! Which of a Service's endpoints a connection may go to, and in which order it tries them.
//!
//! The rules are those of Kubernetes' `pkg/proxy/topology.go` (`CategorizeEndpoints`).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use super::affinity::Affinity;
use super::{Endpoint, Place, Service, ServicePort, Slice};
use crate::Protocol;

/// How many backends one connection tries before it counts as refused.
const TRIES: usize = 8;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From a pod, to one of the Service's addresses inside the cluster.
    Inside,
    /// From a pod, to a node's port or an address for the outside. It never counts as foreign: traffic policies
    /// for the outside do not bind it.
    InsideByOutside,
    /// From outside the cluster.
    Outside,
}

/// The backends of one port of a Service, as one node sees them.
#[derive(Debug)]
pub struct Backends {
    protocol: Protocol,
    /// For whom no policy binds to the node.
    cluster: Vec<SocketAddrV4>,
    /// Those on this node.
    local: Vec<SocketAddrV4>,
    internal_local: bool,
    external_local: bool,
    affinity: Option<Arc<Affinity>>,
    next: AtomicUsize,
}

impl Backends {
    pub(super) fn new<'a>(
        service: &Service,
        port: &ServicePort,
        slices: impl Iterator<Item = &'a Slice>,
        place: &Place,
        affinity: Option<Arc<Affinity>>,
    ) -> Self {
        let mut endpoints = Vec::new();
        for slice in slices {
            let mut ports = slice.ports.iter();
            let port = ports.find(|(name, p, _)| *name == port.name && *p == port.protocol);
            let Some((_, _, number)) = port else { continue };
            let there = slice.endpoints.iter().filter_map(|e| Some((e, e.address?)));
            endpoints.extend(there.map(|(e, address)| (e, SocketAddrV4::new(address, *number))));
        }
        // An endpoint may be in two slices while it moves from one to the other.
        endpoints.sort_by_key(|(_, at)| *at);
        endpoints.dedup_by_key(|(_, at)| *at);
        let local = |e: &Endpoint| e.node.as_ref() == Some(&place.node);
        let near = nearness(service, &endpoints, place);
        let cluster = usable(&endpoints, |e| near.fits(e, place));
        let cluster = match cluster.is_empty() {
            // Nobody is ready: whoever still serves on its way out, near or not.
            true => usable(&endpoints, |_| true),
            false => cluster,
        };
        Self {
            protocol: port.protocol,
            cluster,
            local: usable(&endpoints, local),
            internal_local: service.internal_local,
            external_local: service.external_local,
            affinity,
            next: AtomicUsize::new(rand::random::<u32>() as usize),
        }
    }

    /// How they are reached.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whom a connection from `client` tries, in order: all in turn are the first, so that each gets as many; others
    /// are tried only where that refuses. Empty: there is none.
    pub fn choose(&self, from: Origin, client: Ipv4Addr, now: Instant) -> Vec<SocketAddrV4> {
        let among = self.among(from);
        if among.is_empty() {
            return Vec::new();
        }
        let kept = self.affinity.as_ref().and_then(|a| a.kept(client, now));
        let kept = kept.and_then(|backend| among.iter().position(|b| *b == backend));
        let first = kept.unwrap_or_else(|| self.next.fetch_add(1, Ordering::Relaxed) % among.len());
        let tries = among.len().min(TRIES);
        among
            .iter()
            .cycle()
            .skip(first)
            .take(tries)
            .copied()
            .collect()
    }

    /// Whether somebody's connections may go to a backend.
    pub(crate) fn has(&self, from: Origin, backend: SocketAddrV4) -> bool {
        self.among(from).contains(&backend)
    }

    fn among(&self, from: Origin) -> &[SocketAddrV4] {
        match from {
            Origin::Inside if self.internal_local => &self.local,
            Origin::Outside if self.external_local => &self.local,
            _ => &self.cluster,
        }
    }

    /// Says whom a connection from `client` has met, for Services whose clients stay.
    pub fn met(&self, client: Ipv4Addr, backend: SocketAddrV4, now: Instant) {
        if let Some(affinity) = &self.affinity {
            affinity.keep(client, backend, now);
        }
    }
}

/// Those among the ready endpoints that count; where none of them is ready, those that still serve.
fn usable(
    endpoints: &[(&Endpoint, SocketAddrV4)],
    counts: impl Fn(&Endpoint) -> bool,
) -> Vec<SocketAddrV4> {
    let of = |wanted: fn(&Endpoint) -> bool| -> Vec<SocketAddrV4> {
        let found = endpoints.iter().filter(|(e, _)| wanted(e) && counts(e));
        found.map(|(_, at)| *at).collect()
    };
    let ready = of(|e| e.ready);
    match ready.is_empty() {
        true => of(|e| e.serving && e.terminating),
        false => ready,
    }
}

/// How near a backend has to be.
enum Nearness {
    Anywhere,
    Zone,
    Node,
}

impl Nearness {
    fn fits(&self, endpoint: &Endpoint, place: &Place) -> bool {
        match self {
            Nearness::Anywhere => true,
            Nearness::Zone => is_for_zone(endpoint, place),
            Nearness::Node => endpoint.for_nodes.contains(&place.node),
        }
    }
}

fn is_for_zone(endpoint: &Endpoint, place: &Place) -> bool {
    let zone = place.zone.as_ref();
    zone.is_some_and(|zone| endpoint.for_zones.contains(zone))
}

/// Hints count only where every ready endpoint has them and one is for this place: a Service is not half followed.
fn nearness(service: &Service, endpoints: &[(&Endpoint, SocketAddrV4)], place: &Place) -> Nearness {
    let ready = || endpoints.iter().map(|(e, _)| e).filter(|e| e.ready);
    let node = ready().all(|e| !e.for_nodes.is_empty())
        && ready().any(|e| e.for_nodes.contains(&place.node));
    let zone = ready().all(|e| !e.for_zones.is_empty()) && ready().any(|e| is_for_zone(e, place));
    match () {
        () if node && service.prefers_node => Nearness::Node,
        () if zone => Nearness::Zone,
        () => Nearness::Anywhere,
    }
}
