//! The names of the cluster: what Services, their endpoints and pods are called, and what those names stand for.
//!
//! The rules are those of the [Kubernetes DNS-Based Service Discovery][spec] specification, version 1.1.0. Where it
//! leaves a choice, the answer is that of CoreDNS with its `kubernetes` plugin, which most clusters run.
//!
//! [`Names`] is kept up to date by whoever watches the cluster, a change at a time, in any order: a slice may come
//! before its Service and go after it. It has no lock, no clock and no I/O. Case does not count in names.
//!
//! [spec]: https://github.com/kubernetes/dns/blob/master/docs/specification.md

mod follow;
mod lookup;
mod reverse;
pub mod search;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::Cidr;

pub use follow::{Alias, Chain, End};
pub use lookup::{Lookup, Node, Server, Zone};

/// The schema's version, which `dns-version.<domain>` tells.
pub const SCHEMA_VERSION: &str = "1.1.0";

/// The domain of clusters that are given none.
pub const DOMAIN: &str = "cluster.local";

/// The transport of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// `TCP`
    Tcp,
    /// `UDP`
    Udp,
    /// `SCTP`
    Sctp,
}

impl Protocol {
    /// The label that stands for it in the name of a port.
    fn of_label(label: &str) -> Option<Self> {
        match label {
            "_tcp" => Some(Self::Tcp),
            "_udp" => Some(Self::Udp),
            "_sctp" => Some(Self::Sctp),
            _ => None,
        }
    }
}

/// A port of a Service, or of a slice's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Empty where a Service's only port has none; it has no record of its own then.
    pub name: String,
    /// Its transport.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

impl Port {
    fn is(&self, name: &str, protocol: Protocol) -> bool {
        self.protocol == protocol && !name.is_empty() && self.name.eq_ignore_ascii_case(name)
    }
}

/// What a Service's name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// An address of its own.
    ClusterIp(Ipv4Addr),
    /// The endpoints themselves: `clusterIP: None`.
    Headless,
    /// Another name. One that is none, or that is an address, leads nowhere.
    ExternalName(String),
}

/// A Service, as far as names go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What its name leads to.
    pub kind: ServiceKind,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its pod's hostname, where the pod's subdomain is this Service.
    pub hostname: Option<String>,
    /// Whether it has names. A Service with `publishNotReadyAddresses` makes all of its endpoints ready.
    pub ready: bool,
}

impl Endpoint {
    /// The label in front of its Service's name: the address with dashes where it has no hostname.
    fn label(&self) -> String {
        match &self.hostname {
            Some(hostname) if !hostname.is_empty() => hostname.to_ascii_lowercase(),
            _ => self.address.to_string().replace('.', "-"),
        }
    }
}

/// An EndpointSlice, as far as names go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Its endpoints, in the cluster's order.
    pub endpoints: Vec<Endpoint>,
    /// The ports that each of them has.
    pub ports: Vec<Port>,
}

/// The ready endpoints of one Service.
#[derive(Debug, Default)]
struct Endpoints {
    /// By the slice's name. None is without endpoints.
    slices: BTreeMap<String, Slice>,
    /// By [`Endpoint::label`]: the slice, and the address in it.
    by_label: BTreeMap<String, BTreeSet<(String, Ipv4Addr)>>,
}

/// The names of one namespace.
#[derive(Debug, Default)]
struct Namespace {
    services: BTreeMap<String, Service>,
    /// By Service. It may be gone, or yet to come.
    endpoints: BTreeMap<String, Endpoints>,
    /// Which Service each slice with endpoints belongs to.
    slices: BTreeMap<String, String>,
}

impl Namespace {
    fn is_empty(&self) -> bool {
        self.services.is_empty() && self.endpoints.is_empty()
    }
}

/// An endpoint that has an address.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Holder {
    namespace: String,
    service: String,
    label: String,
    slice: String,
}

/// A domain that names cannot end with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a domain like cluster.local")]
pub struct DomainError(String);

/// All names of a cluster.
#[derive(Debug)]
pub struct Names {
    /// Lower case, without a dot at its end.
    domain: String,
    /// The addresses whose reverse names are the cluster's even where nobody has them.
    ranges: Vec<Cidr>,
    namespaces: BTreeMap<String, Namespace>,
    /// The Services by their cluster IP. One address has two while it is handed on.
    cluster_ips: BTreeMap<Ipv4Addr, BTreeSet<(String, String)>>,
    /// The endpoints by address, those of Services with a cluster IP too.
    holders: BTreeMap<Ipv4Addr, BTreeSet<Holder>>,
    changes: u32,
}

impl Default for Names {
    /// No names yet, below [`DOMAIN`].
    fn default() -> Self {
        Self {
            domain: DOMAIN.to_owned(),
            ranges: Vec::new(),
            namespaces: BTreeMap::new(),
            cluster_ips: BTreeMap::new(),
            holders: BTreeMap::new(),
            changes: 0,
        }
    }
}

impl Names {
    /// No names yet, below a domain such as `cluster.local`. `ranges` are those of the pods and of the Services.
    ///
    /// # Errors
    /// When the domain is none.
    pub fn new(domain: &str, ranges: &[Cidr]) -> Result<Self, DomainError> {
        let name = domain.strip_suffix('.').unwrap_or(domain);
        if !is_name(name) {
            return Err(DomainError(domain.to_owned()));
        }
        Ok(Self {
            domain: name.to_ascii_lowercase(),
            ranges: ranges.to_vec(),
            ..Self::default()
        })
    }

    /// Says which addresses are the pods' and the Services': those that nobody has have no names, here or outside.
    pub fn set_ranges(&mut self, ranges: &[Cidr]) {
        self.ranges = ranges.to_vec();
    }

    /// The cluster's domain, without a dot at its end.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// How often the names changed, which is the zone's serial number.
    pub fn changes(&self) -> u32 {
        self.changes
    }

    /// A Service is there, or is not what it was.
    pub fn set_service(&mut self, namespace: &str, name: &str, mut service: Service) {
        self.remove_service(namespace, name);
        if let ServiceKind::ExternalName(target) = &mut service.kind {
            *target = target
                .strip_suffix('.')
                .unwrap_or(target)
                .to_ascii_lowercase();
        }
        if let ServiceKind::ClusterIp(address) = service.kind {
            let owner = (namespace.to_owned(), name.to_owned());
            self.cluster_ips.entry(address).or_default().insert(owner);
        }
        let services = &mut self
            .namespaces
            .entry(namespace.to_owned())
            .or_default()
            .services;
        services.insert(name.to_owned(), service);
    }

    /// A Service is gone.
    pub fn remove_service(&mut self, namespace: &str, name: &str) {
        self.changes = self.changes.wrapping_add(1);
        let Some(names) = self.namespaces.get_mut(namespace) else {
            return;
        };
        let removed = names.services.remove(name);
        if names.is_empty() {
            self.namespaces.remove(namespace);
        }
        if let Some(Service {
            kind: ServiceKind::ClusterIp(address),
            ..
        }) = removed
        {
            let owner = (namespace.to_owned(), name.to_owned());
            forget(&mut self.cluster_ips, &address, &owner);
        }
    }

    /// A slice of a Service's endpoints is there, or is not what it was. It may have belonged to another Service.
    pub fn set_slice(&mut self, namespace: &str, service: &str, name: &str, mut slice: Slice) {
        self.remove_slice(namespace, name);
        slice.endpoints.retain(|endpoint| endpoint.ready);
        if slice.endpoints.is_empty() {
            return;
        }
        let names = self.namespaces.entry(namespace.to_owned()).or_default();
        names.slices.insert(name.to_owned(), service.to_owned());
        let endpoints = names.endpoints.entry(service.to_owned()).or_default();
        for endpoint in &slice.endpoints {
            let place = (name.to_owned(), endpoint.address);
            endpoints
                .by_label
                .entry(endpoint.label())
                .or_default()
                .insert(place);
            let holder = Holder::new(namespace, service, name, endpoint);
            self.holders
                .entry(endpoint.address)
                .or_default()
                .insert(holder);
        }
        endpoints.slices.insert(name.to_owned(), slice);
    }

    /// A slice is gone.
    pub fn remove_slice(&mut self, namespace: &str, name: &str) {
        self.changes = self.changes.wrapping_add(1);
        let Some(names) = self.namespaces.get_mut(namespace) else {
            return;
        };
        let Some(service) = names.slices.remove(name) else {
            return;
        };
        let Some(endpoints) = names.endpoints.get_mut(&service) else {
            return;
        };
        let slice = endpoints.slices.remove(name).unwrap_or_default();
        for endpoint in &slice.endpoints {
            let place = (name.to_owned(), endpoint.address);
            forget(&mut endpoints.by_label, &endpoint.label(), &place);
            let holder = Holder::new(namespace, &service, name, endpoint);
            forget(&mut self.holders, &endpoint.address, &holder);
        }
        if endpoints.slices.is_empty() {
            names.endpoints.remove(&service);
        }
        if names.is_empty() {
            self.namespaces.remove(namespace);
        }
    }
}

impl Holder {
    fn new(namespace: &str, service: &str, slice: &str, endpoint: &Endpoint) -> Self {
        Self {
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            label: endpoint.label(),
            slice: slice.to_owned(),
        }
    }
}

/// Takes a value out of a set, and the set out of the index when it was the last.
fn forget<K: Ord, V: Ord>(index: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(values) = index.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            index.remove(key);
        }
    }
}

/// Whether DNS can carry this, and hosts may be called so. An underscore stands in front of ports and protocols.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&label.len()) && label.bytes().all(allowed)
}
