//! How a pod's program finds the address of a name: what is in a pod's `/etc/hosts` and `/etc/resolv.conf` elsewhere, and
//! the rules of who reads them (resolv.conf(5): `search`, `ndots`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{End, Lookup, Names, is_name};

/// `ndots` of a pod with `dnsPolicy: ClusterFirst`.
pub const CLUSTER_NDOTS: u8 = 5;
/// No pod's `ndots` is larger: resolv.conf(5) caps it silently.
const MOST_NDOTS: u8 = 15;
/// Entries that Kubernetes lets a search list have, and characters in all of them with what parts them.
const MOST_SEARCHES: usize = 32;
const MOST_SEARCH_CHARACTERS: usize = 2_048;

/// What the `/etc/hosts` of every pod begins with, as Kubernetes writes it.
pub const LOCAL: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    fe00::0\tip6-mcastprefix\n\
    fe00::1\tip6-allnodes\n\
    fe00::2\tip6-allrouters\n";

/// Names that one pod alone knows, as in its `/etc/hosts`: `localhost`, its own hostname, its `hostAliases`.
#[derive(Clone, Debug, Default)]
pub struct Hosts(BTreeMap<String, Vec<IpAddr>>);

impl Hosts {
    /// What every pod calls [itself](LOCAL).
    pub fn new() -> Self {
        let mut hosts = Self::default();
        for line in LOCAL.lines() {
            let mut words = line.split_whitespace();
            let address: Option<IpAddr> = words.next().and_then(|word| word.parse().ok());
            for (name, address) in words.zip(address.into_iter().cycle()) {
                hosts.add(name, address);
            }
        }
        hosts
    }

    /// One more address for a name.
    pub fn add(&mut self, name: &str, address: impl Into<IpAddr>) {
        let address = address.into();
        let addresses = self.0.entry(name.to_ascii_lowercase()).or_default();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }

    fn find(&self, name: &str) -> Option<&[IpAddr]> {
        self.0.get(name).map(Vec::as_slice)
    }
}

/// A step on the way to a name's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// These are they.
    Found(Vec<IpAddr>),
    /// The host's resolver is asked for this full name, which has no dot at its end. Where it knows none, the next step
    /// counts.
    Outside(String),
    /// The name has no address.
    NotFound,
}

/// How one pod's names are looked up.
#[derive(Clone, Debug)]
pub struct Search {
    hosts: Hosts,
    cluster: bool,
    ndots: u8,
    searches: Vec<String>,
}

impl Search {
    /// `dnsPolicy: ClusterFirst`: short names are those of the pod's namespace first.
    pub fn cluster_first(hosts: Hosts, namespace: &str, domain: &str) -> Self {
        let searches = [
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.to_owned(),
        ];
        Self {
            ndots: CLUSTER_NDOTS,
            ..Self::none(hosts)
        }
        .and_searches(&searches)
    }

    /// `dnsPolicy: None`: nothing but what `dnsConfig` adds. The cluster's names are known by their full name.
    pub fn none(hosts: Hosts) -> Self {
        Self {
            hosts,
            cluster: true,
            ndots: 1,
            searches: Vec::new(),
        }
    }

    /// `dnsPolicy: Default`: the host's resolver alone, which does not know the cluster's names.
    pub fn host(hosts: Hosts) -> Self {
        Self {
            cluster: false,
            ..Self::none(hosts)
        }
    }

    /// Whether the cluster's own names are looked for, at its DNS server.
    pub(crate) fn asks_cluster(&self) -> bool {
        self.cluster
    }

    /// Adds the search list of a pod's `dnsConfig`, as far as Kubernetes lets it grow.
    #[must_use]
    pub fn and_searches(mut self, more: &[String]) -> Self {
        for search in more {
            let search = search
                .strip_suffix('.')
                .unwrap_or(search)
                .to_ascii_lowercase();
            let characters: usize = self.searches.iter().map(|search| search.len() + 1).sum();
            let fits = self.searches.len() < MOST_SEARCHES
                && characters + search.len() <= MOST_SEARCH_CHARACTERS;
            if fits && is_name(&search) && !self.searches.contains(&search) {
                self.searches.push(search);
            }
        }
        self
    }

    /// Takes the option `ndots` of a pod's `dnsConfig`.
    #[must_use]
    pub fn with_ndots(mut self, ndots: u8) -> Self {
        self.ndots = ndots.min(MOST_NDOTS);
        self
    }

    /// The addresses of a name that nobody else has to be asked for: one that is an address, or one of the pod's own.
    pub fn own(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if let Ok(address) = name.parse() {
            return Some(vec![address]);
        }
        // Whatever is below it is this host as well: RFC 6761, section 6.3.
        let is_local = name.ends_with(".localhost");
        let found = self.hosts.find(if is_local { "localhost" } else { &name });
        found.map(<[IpAddr]>::to_vec)
    }

    /// What to do for a name's addresses, in this order: steps outside, and as the last one either the addresses or that
    /// there are none. Several addresses begin with the one at `turn`, which the caller counts up.
    pub fn decide(&self, names: &Names, name: &str, turn: usize) -> Vec<Decision> {
        if let Some(addresses) = self.own(name) {
            return vec![Decision::Found(addresses)];
        }
        let (name, is_full) = match name.strip_suffix('.') {
            Some(name) => (name.to_ascii_lowercase(), true),
            None => (name.to_ascii_lowercase(), false),
        };
        let mut steps = Vec::new();
        for candidate in self.candidates(name, is_full) {
            match self.step(names, candidate, turn) {
                Decision::NotFound => {}
                Decision::Found(addresses) => {
                    steps.push(Decision::Found(addresses));
                    return steps;
                }
                outside if steps.contains(&outside) => {}
                outside => steps.push(outside),
            }
        }
        steps.push(Decision::NotFound);
        steps
    }

    /// The full names that a name may mean. One with `ndots` dots is tried as it is before the search list.
    fn candidates(&self, name: String, is_full: bool) -> Vec<String> {
        if is_full {
            return [name].into_iter().filter(|name| is_name(name)).collect();
        }
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        let searched = self
            .searches
            .iter()
            .map(|search| format!("{name}.{search}"));
        let mut candidates: Vec<String> = searched.collect();
        let at = if dots >= usize::from(self.ndots) {
            0
        } else {
            candidates.len()
        };
        candidates.insert(at, name);
        candidates.retain(|candidate| is_name(candidate));
        candidates
    }

    fn step(&self, names: &Names, name: String, turn: usize) -> Decision {
        if !self.cluster {
            return Decision::Outside(name);
        }
        match names.follow(&name).end {
            End::Name(name, Lookup::Outside) => Decision::Outside(name),
            End::Name(_, Lookup::Node(_, node)) => match node.addresses(turn) {
                addresses if addresses.is_empty() => Decision::NotFound,
                addresses => Decision::Found(addresses.into_iter().map(IpAddr::V4).collect()),
            },
            End::Name(_, Lookup::Missing(_)) | End::TooLong => Decision::NotFound,
        }
    }
}
