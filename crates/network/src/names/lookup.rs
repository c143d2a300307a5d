//! From a name to what it stands for.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::reverse::{self, Reverse};
use super::{
    Endpoint, Endpoints, Names, Namespace, Port, Protocol, SCHEMA_VERSION, Service, ServiceKind,
    is_label, is_name,
};

/// Addresses, or servers, that one name gives at most: no message has room for more.
const MOST: usize = 4_096;

/// The name of the zone that a name is in: the cluster's domain, or one of its reverse zones.
pub type Zone<'a> = Cow<'a, str>;

/// What is known about a name.
#[derive(Clone, Debug)]
pub enum Lookup<'a> {
    /// It is not the cluster's: somebody else has to be asked.
    Outside,
    /// It is the cluster's, and neither it nor anything below it is there.
    Missing(Zone<'a>),
    /// It is there, though maybe not with the record that was asked for.
    Node(Zone<'a>, Node<'a>),
}

/// A name that is there.
#[derive(Clone, Debug)]
pub struct Node<'a>(Place<'a>);

#[derive(Clone, Debug)]
enum Place<'a> {
    /// The cluster's domain itself.
    Apex,
    /// Only others stand below it.
    Inner,
    Version,
    Pod(Ipv4Addr),
    ClusterIp(ServiceAt<'a>, Ipv4Addr),
    Headless(ServiceAt<'a>, &'a Endpoints),
    External(&'a str),
    /// `_port._protocol` of a Service.
    Port(ServiceAt<'a>, Option<&'a Endpoints>, String, Protocol),
    Endpoint(ServiceAt<'a>, &'a Endpoints, String),
    Address(Vec<String>),
}

#[derive(Clone, Copy, Debug)]
struct ServiceAt<'a> {
    domain: &'a str,
    namespace: &'a str,
    name: &'a str,
    service: &'a Service,
}

/// Where a port is served: one SRV record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// The name of the Service, or of the endpoint.
    pub target: String,
    /// The port's number there.
    pub port: u16,
    /// What the target's name stands for.
    pub address: Ipv4Addr,
}

impl Names {
    /// What a full name stands for. A dot at its end makes no difference.
    pub fn lookup(&self, name: &str) -> Lookup<'_> {
        let name = normal(name);
        if let Some(labels) = labels_below(&name, reverse::SUFFIX) {
            return self.reverse(&Reverse::new(&labels));
        }
        let Some(labels) = labels_below(&name, &self.domain) else {
            return Lookup::Outside;
        };
        let zone = Cow::Borrowed(self.domain());
        match self.place(&labels) {
            Some(place) => Lookup::Node(zone, Node(place)),
            None => Lookup::Missing(zone),
        }
    }

    /// The place of a name in the cluster's domain, of which these are the labels, the last one first.
    fn place(&self, labels: &[&str]) -> Option<Place<'_>> {
        match labels {
            [] => Some(Place::Apex),
            ["dns-version"] => Some(Place::Version),
            ["svc" | "pod"] => Some(Place::Inner),
            // Which namespaces there are is not known here. The specification asks for these names with any.
            ["pod", namespace] => is_label(namespace).then_some(Place::Inner),
            ["pod", namespace, pod] => {
                let address = is_label(namespace).then(|| dashed(pod))??;
                Some(Place::Pod(address))
            }
            ["svc", namespace, below @ ..] => {
                let (namespace, names) = self.namespaces.get_key_value(*namespace)?;
                names.place(&self.domain, namespace, below)
            }
            _ => None,
        }
    }

    fn reverse(&self, name: &Reverse) -> Lookup<'_> {
        let zone = self.ranges.iter().find_map(|range| name.zone(*range));
        let pointers = name
            .address()
            .map(|address| self.pointers(address))
            .unwrap_or_default();
        match (zone, name.address()) {
            // A headless Service may have endpoints that lie outside of the cluster.
            (zone, Some(address)) if !pointers.is_empty() => {
                let zone = zone.unwrap_or_else(|| reverse::of(address));
                Lookup::Node(zone.into(), Node(Place::Address(pointers)))
            }
            (Some(zone), _) if name.is_inner() => Lookup::Node(zone.into(), Node(Place::Inner)),
            (Some(zone), _) => Lookup::Missing(zone.into()),
            (None, _) => Lookup::Outside,
        }
    }

    /// The names of whoever has an address: a Service before endpoints.
    fn pointers(&self, address: Ipv4Addr) -> Vec<String> {
        let owners = self.cluster_ips.get(&address);
        if let Some((namespace, name)) = owners.and_then(|owners| owners.first()) {
            return vec![format!("{name}.{namespace}.svc.{}", self.domain)];
        }
        let holders = self.holders.get(&address).into_iter().flatten();
        let headless = holders.filter(|holder| {
            let names = self.namespaces.get(&holder.namespace);
            let service = names.and_then(|names| names.services.get(&holder.service));
            service.is_some_and(|service| service.kind == ServiceKind::Headless)
        });
        let names = headless.map(|holder| {
            let (label, service, namespace) = (&holder.label, &holder.service, &holder.namespace);
            format!("{label}.{service}.{namespace}.svc.{}", self.domain)
        });
        distinct(names.take(MOST))
    }
}

impl Namespace {
    /// The place of a name of this namespace, of which these are the labels, the last one first.
    fn place<'a>(
        &'a self,
        domain: &'a str,
        namespace: &'a str,
        labels: &[&str],
    ) -> Option<Place<'a>> {
        let [name, below @ ..] = labels else {
            return (!self.services.is_empty()).then_some(Place::Inner);
        };
        let (name, service) = self.services.get_key_value(*name)?;
        let endpoints = self.endpoints.get(name);
        let at = ServiceAt {
            domain,
            namespace,
            name,
            service,
        };
        match (below, &service.kind) {
            ([], ServiceKind::ClusterIp(address)) => Some(Place::ClusterIp(at, *address)),
            ([], ServiceKind::Headless) => Some(Place::Headless(at, endpoints?)),
            ([], ServiceKind::ExternalName(target)) => {
                let leads = is_name(target) && target.parse::<Ipv4Addr>().is_err();
                leads.then_some(Place::External(target))
            }
            // It has nothing but its own name.
            (_, ServiceKind::ExternalName(_)) => None,
            ([label], _) => match Protocol::of_label(label) {
                Some(protocol) => at
                    .has_port(endpoints, |port| port.is(&port.name, protocol))
                    .then_some(Place::Inner),
                None => {
                    let label = (*label).to_owned();
                    let endpoints =
                        endpoints.filter(|endpoints| endpoints.by_label.contains_key(&label))?;
                    Some(Place::Endpoint(at, endpoints, label))
                }
            },
            ([protocol, port], _) => {
                let (protocol, port) = (Protocol::of_label(protocol)?, port.strip_prefix('_')?);
                let there = at.has_port(endpoints, |other| other.is(port, protocol));
                there.then(|| Place::Port(at, endpoints, port.to_owned(), protocol))
            }
            _ => None,
        }
    }
}

impl<'a> ServiceAt<'a> {
    fn full_name(&self) -> String {
        format!("{}.{}.svc.{}", self.name, self.namespace, self.domain)
    }

    /// Whether there is such a port: a headless Service has those of its endpoints.
    fn has_port(&self, endpoints: Option<&Endpoints>, wanted: impl Fn(&Port) -> bool) -> bool {
        match self.service.kind {
            ServiceKind::Headless => {
                let slices = endpoints
                    .into_iter()
                    .flat_map(|endpoints| endpoints.slices.values());
                slices.flat_map(|slice| &slice.ports).any(wanted)
            }
            _ => self.service.ports.iter().any(wanted),
        }
    }

    fn servers(
        &self,
        endpoints: Option<&Endpoints>,
        wanted: impl Fn(&Port) -> bool,
    ) -> Vec<Server> {
        if let ServiceKind::ClusterIp(address) = self.service.kind {
            let ports = self.service.ports.iter().filter(|port| wanted(port));
            let target = self.full_name();
            let servers = ports.map(|port| Server {
                target: target.clone(),
                port: port.number,
                address,
            });
            return distinct(servers);
        }
        let slices = endpoints
            .into_iter()
            .flat_map(|endpoints| endpoints.slices.values());
        let servers = slices.flat_map(|slice| {
            let ports = || slice.ports.iter().filter(|port| wanted(port));
            let servers = |endpoint| ports().map(move |port| self.server(endpoint, port));
            slice.endpoints.iter().flat_map(servers).collect::<Vec<_>>()
        });
        distinct(servers)
    }

    fn server(&self, endpoint: &Endpoint, port: &Port) -> Server {
        Server {
            target: format!("{}.{}", endpoint.label(), self.full_name()),
            port: port.number,
            address: endpoint.address,
        }
    }
}

impl Endpoints {
    fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let endpoints = self.slices.values().flat_map(|slice| &slice.endpoints);
        endpoints.map(|endpoint| endpoint.address)
    }
}

impl Node<'_> {
    /// Whether it is the cluster's domain itself.
    pub fn is_apex(&self) -> bool {
        matches!(self.0, Place::Apex)
    }

    /// The name that it is another word for, without a dot at its end.
    pub fn alias(&self) -> Option<&str> {
        match &self.0 {
            Place::External(target) => Some(target),
            _ => None,
        }
    }

    /// Its addresses in the cluster's order, from the one at `turn` on, each once.
    pub fn addresses(&self, turn: usize) -> Vec<Ipv4Addr> {
        let all = match &self.0 {
            Place::Pod(address) | Place::ClusterIp(_, address) => vec![*address],
            Place::Headless(_, endpoints) => distinct(endpoints.addresses()),
            Place::Endpoint(_, endpoints, label) => {
                let places = endpoints.by_label.get(label).into_iter().flatten();
                distinct(places.map(|(_, address)| *address))
            }
            _ => Vec::new(),
        };
        turned(all, turn)
    }

    /// Who serves the port that it names, in the cluster's order, from the one at `turn` on. The name of a Service or of
    /// an endpoint names all of its ports, as CoreDNS has it.
    pub fn servers(&self, turn: usize) -> Vec<Server> {
        let all = match &self.0 {
            Place::ClusterIp(at, _) => at.servers(None, |_| true),
            Place::Headless(at, endpoints) => at.servers(Some(endpoints), |_| true),
            Place::Port(at, endpoints, name, protocol) => {
                at.servers(*endpoints, |port| port.is(name, *protocol))
            }
            Place::Endpoint(at, endpoints, label) => {
                let places = endpoints.by_label.get(label).into_iter().flatten();
                let servers = places.flat_map(|(slice, address)| {
                    let ports = endpoints
                        .slices
                        .get(slice)
                        .map_or(&[][..], |slice| &slice.ports);
                    let target = format!("{label}.{}", at.full_name());
                    let server = move |port: &Port| Server {
                        target: target.clone(),
                        port: port.number,
                        address: *address,
                    };
                    ports.iter().map(server)
                });
                distinct(servers)
            }
            _ => Vec::new(),
        };
        turned(all, turn)
    }

    /// The names of the address that it is the reverse name of.
    pub fn pointers(&self) -> &[String] {
        match &self.0 {
            Place::Address(names) => names,
            _ => &[],
        }
    }

    /// Its text.
    pub fn text(&self) -> Option<&'static str> {
        matches!(self.0, Place::Version).then_some(SCHEMA_VERSION)
    }
}

/// Lower case, and without the dot that makes a name a full one.
pub(super) fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The labels in front of a domain, the last one first; none at all when the name is the domain itself.
fn labels_below<'n>(name: &'n str, domain: &str) -> Option<Vec<&'n str>> {
    match name.strip_suffix(domain)? {
        "" => Some(Vec::new()),
        below => Some(below.strip_suffix('.')?.rsplit('.').collect()),
    }
}

/// The address that a pod's label spells.
fn dashed(label: &str) -> Option<Ipv4Addr> {
    label.replace('-', ".").parse().ok()
}

/// Each once, in the order of their first.
fn distinct<T: Clone + Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    all.filter(|one| seen.insert(one.clone())).collect()
}

fn turned<T>(mut all: Vec<T>, turn: usize) -> Vec<T> {
    if !all.is_empty() {
        let first = turn % all.len();
        all.rotate_left(first);
    }
    all.truncate(MOST);
    all
}
