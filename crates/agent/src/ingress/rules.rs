//! What Ingresses come to: which Service a request is for. Pure.
//!
//! Kubernetes' rules: a rule of the request's very host comes before one of a wildcard, and that before one for any
//! host; among a host's rules the longest path wins, and an exact one before a prefix. Of two rules for the same, the
//! older Ingress has it. Paths are compared as they are sent, element by element.
//!
//! What none of a host's paths is for goes to the default backend of its own Ingress, and else only to rules of the
//! namespaces that have a rule for the host: one tenant's requests are no business of another's.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use api::ingress::Classes;
use client::Key;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressClass, IngressRule,
};

use network::services::{Name, PortRef};

use super::certificates::Wanted;

/// The longest path of a rule, in bytes.
const LONGEST: usize = 4096;

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    /// The Service.
    pub(crate) service: Name,
    /// Which of its ports.
    pub(crate) port: PortRef,
}

/// What becomes of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// They are passed on.
    Service(Backend),
    /// The rule is there, and what it names cannot be asked.
    Unserved,
}

/// The rules of one host, or of all whose first label is open.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<String, Rule>,
    prefixes: Node,
    /// What none of the rules is for: the default backend of the oldest Ingress with a rule for the host and one of its own.
    rest: Option<Rule>,
    /// The namespaces whose Ingresses have a rule for the host.
    owners: BTreeSet<String>,
}

/// What a rule leads to.
#[derive(Clone, Debug)]
struct Rule {
    /// The namespace of its Ingress.
    owner: String,
    target: Target,
}

/// The rules for what begins with the elements that lead here.
#[derive(Debug, Default)]
struct Node {
    rule: Option<Rule>,
    below: HashMap<String, Node>,
}

impl Drop for Node {
    /// One after the other: a path leads as many nodes down as it has elements, too many for each to be dropped within
    /// the one above it.
    fn drop(&mut self) {
        let mut all: Vec<Node> = std::mem::take(&mut self.below).into_values().collect();
        while let Some(mut node) = all.pop() {
            all.extend(std::mem::take(&mut node.below).into_values());
        }
    }
}

/// All rules.
#[derive(Debug, Default)]
pub(crate) struct Router {
    exact: HashMap<String, Paths>,
    /// By what follows the star and its dot.
    wildcard: HashMap<String, Paths>,
    any: Paths,
    default: Option<(Key, Target)>,
}

/// What Ingresses and their classes come to.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    /// Where requests go.
    pub(crate) router: Router,
    /// The Ingresses that are served here.
    pub(crate) ours: Vec<Key>,
    /// The certificates that they ask for; of two for one host the first is meant.
    pub(crate) certificates: Vec<Wanted>,
    /// What of each has no effect, and why.
    pub(crate) ignored: Vec<(Key, String)>,
}

impl Compiled {
    /// Compiles what there is. The order in which it comes has no influence.
    pub(crate) fn new<'a>(
        ingresses: impl IntoIterator<Item = &'a Ingress>,
        classes: impl IntoIterator<Item = &'a IngressClass>,
    ) -> Self {
        let classes = Classes::new(classes);
        let ours = ingresses
            .into_iter()
            .filter(|ingress| classes.takes(ingress));
        let by_age: BTreeMap<(Option<Timestamp>, Key), &Ingress> = ours
            .map(|ingress| {
                let created = ingress
                    .metadata
                    .creation_timestamp
                    .as_ref()
                    .map(|time| time.0);
                ((created, Key::of(ingress)), ingress)
            })
            .collect();
        let mut compiled = Self::default();
        for ((_, key), ingress) in by_age {
            compiled.take(&key, ingress);
            compiled.ours.push(key);
        }
        compiled
    }

    fn take(&mut self, key: &Key, ingress: &Ingress) {
        let Some(spec) = &ingress.spec else { return };
        let default = spec.default_backend.as_ref();
        let default = default.map(|backend| self.target(key, backend, "its default backend"));
        let rules = spec.rules.as_deref().unwrap_or_default();
        for rule in rules {
            self.rule(key, rule, default.as_ref());
        }
        if let Some(target) = default {
            self.rest(key, rules, target);
        }
        for tls in spec.tls.iter().flatten() {
            let name = tls.secret_name.as_deref().unwrap_or_default();
            // Without one the hosts are served by the node's own certificate, which needs no word.
            if !name.is_empty() {
                self.certificates.push(Wanted {
                    ingress: key.clone(),
                    secret: Key::new(key.namespace.as_str(), name),
                    hosts: tls.hosts.clone().unwrap_or_default(),
                });
            }
        }
    }

    /// An Ingress' default backend is for what none of its rules is for: of their hosts, or where there are none of all.
    fn rest(&mut self, key: &Key, rules: &[IngressRule], target: Target) {
        for rule in rules {
            let host = rule.host.as_deref().unwrap_or_default();
            let rest = &mut self.router.paths(host).rest;
            rest.get_or_insert_with(|| Rule::new(key, target.clone()));
        }
        match &self.router.default {
            _ if !rules.is_empty() => {}
            None => self.router.default = Some((key.clone(), target)),
            Some((older, _)) => {
                let what = format!("its default backend has no effect: that of {older} is older");
                self.ignored.push((key.clone(), what));
            }
        }
    }

    fn rule(&mut self, key: &Key, rule: &IngressRule, default: Option<&Target>) {
        let host = rule.host.as_deref().unwrap_or_default();
        let owners = &mut self.router.paths(host).owners;
        owners.insert(key.namespace.clone());
        let Some(http) = &rule.http else {
            // Kubernetes leaves open what a host without paths means: all of it, to the Ingress' own default.
            if let Some(target) = default {
                self.enter(key, host, Kind::Prefix, "/", target.clone());
            }
            return;
        };
        for of in &http.paths {
            let Some((kind, path)) = self.kind(key, of) else {
                continue;
            };
            let target = self.target(key, &of.backend, &format!("the backend of path {path}"));
            self.enter(key, host, kind, path, target);
        }
    }

    fn kind<'p>(&mut self, key: &Key, of: &'p HTTPIngressPath) -> Option<(Kind, &'p str)> {
        let path = of.path.as_deref().filter(|path| !path.is_empty());
        let path = path.unwrap_or("/");
        let kind = match of.path_type.as_str() {
            "Exact" => Kind::Exact,
            "Prefix" | "ImplementationSpecific" => Kind::Prefix,
            other => {
                let what = format!("path {path} has no effect: its type {other} is not known");
                self.ignored.push((key.clone(), what));
                return None;
            }
        };
        if path.len() > LONGEST {
            let what = format!("a path has no effect: it is longer than {LONGEST} bytes");
            self.ignored.push((key.clone(), what));
            return None;
        }
        Some((kind, path))
    }

    fn target(&mut self, key: &Key, backend: &IngressBackend, what: &str) -> Target {
        match of(&key.namespace, backend) {
            Ok(backend) => Target::Service(backend),
            Err(why) => {
                let said = format!("{what} cannot be asked, and 503 is answered: {why}");
                self.ignored.push((key.clone(), said));
                Target::Unserved
            }
        }
    }

    fn enter(&mut self, key: &Key, host: &str, kind: Kind, path: &str, target: Target) {
        let rule = Rule::new(key, target);
        if !self.router.paths(host).enter(kind, path, rule) {
            let host = if host.is_empty() { "any host" } else { host };
            let what = format!("path {path} of {host} has no effect: an earlier rule has it");
            self.ignored.push((key.clone(), what));
        }
    }
}

/// Whether the same comes of an Ingress before and after a change.
pub(crate) fn is_same(old: &Ingress, new: &Ingress) -> bool {
    let of = |ingress: &Ingress| {
        let meta = &ingress.metadata;
        // One that was deleted and made again has another age, and annotations may name the class.
        let created = meta.creation_timestamp.clone();
        (created, meta.annotations.clone())
    };
    old.spec == new.spec && of(old) == of(new)
}

/// How a rule's path is compared.
#[derive(Clone, Copy)]
enum Kind {
    Exact,
    Prefix,
}

fn of(namespace: &str, backend: &IngressBackend) -> Result<Backend, String> {
    if backend.resource.is_some() {
        return Err("resources are not supported as backends".to_owned());
    }
    let service = backend.service.as_ref().ok_or("it names no Service")?;
    let port = service.port.as_ref().ok_or("it names no port")?;
    let number = port.number.filter(|number| *number != 0);
    let port = match (number, &port.name) {
        (Some(number), _) => PortRef::Number(
            u16::try_from(number).map_err(|_| format!("{number} is no port's number"))?,
        ),
        (None, Some(name)) if !name.is_empty() => PortRef::Name(name.clone()),
        (None, _) => return Err("it names no port".to_owned()),
    };
    Ok(Backend {
        service: Name {
            namespace: namespace.to_owned(),
            name: service.name.clone(),
        },
        port,
    })
}

impl Router {
    /// Where a request goes, by its host (with or without a port) and path. None: no rule is for it.
    pub(crate) fn route(&self, host: &str, path: &str) -> Option<&Target> {
        let host = name_of(host);
        let exact = self.exact.get(&host);
        let wildcard = host.split_once('.');
        let wildcard = wildcard.and_then(|(_, rest)| self.wildcard.get(rest));
        let owners = exact.or(wildcard).map(|paths| &paths.owners);
        let may = |owner: &str| owners.is_none_or(|owners| owners.contains(owner));
        let all = [exact, wildcard, Some(&self.any)];
        let mut found = all.iter().flatten().filter_map(|p| p.find(path, may));
        let mut rests = all.iter().flatten().filter_map(|p| p.rest.as_ref());
        let rest = || rests.find(|rest| may(&rest.owner)).map(|rest| &rest.target);
        let default = self.default.as_ref().filter(|(key, _)| may(&key.namespace));
        let default = || default.map(|(_, target)| target);
        found.next().or_else(rest).or_else(default)
    }

    fn paths(&mut self, host: &str) -> &mut Paths {
        let host = host.to_ascii_lowercase();
        match host.strip_prefix("*.") {
            _ if host.is_empty() => &mut self.any,
            Some(rest) => self.wildcard.entry(rest.to_owned()).or_default(),
            None => self.exact.entry(host).or_default(),
        }
    }
}

/// A host as rules have it: without port, and the dot after which no more may come.
fn name_of(host: &str) -> String {
    let name = match host.strip_prefix('[') {
        // An address, which no rule is for.
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    let name = name.unwrap_or_default();
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl Rule {
    fn new(ingress: &Key, target: Target) -> Self {
        Self {
            owner: ingress.namespace.clone(),
            target,
        }
    }
}

impl Paths {
    /// Takes up a rule; whether there was none for the same.
    fn enter(&mut self, kind: Kind, path: &str, rule: Rule) -> bool {
        let place = match kind {
            Kind::Exact if self.exact.contains_key(path) => return false,
            Kind::Exact => return self.exact.insert(path.to_owned(), rule).is_none(),
            Kind::Prefix => elements(path).fold(&mut self.prefixes, |node, element| {
                node.below.entry(element.to_owned()).or_default()
            }),
        };
        if place.rule.is_some() {
            return false;
        }
        place.rule = Some(rule);
        true
    }

    /// What the path leads to by the rules of those who `may` have it.
    fn find(&self, path: &str, may: impl Fn(&str) -> bool) -> Option<&Target> {
        let may = |rule: &&Rule| may(&rule.owner);
        // No prefix of a path is longer than the path.
        if let Some(exact) = self.exact.get(path).filter(may) {
            return Some(&exact.target);
        }
        let mut node = &self.prefixes;
        let mut found = node.rule.as_ref().filter(may);
        for element in elements(path) {
            let Some(next) = node.below.get(element) else {
                break;
            };
            node = next;
            found = node.rule.as_ref().filter(may).or(found);
        }
        found.map(|rule| &rule.target)
    }
}

/// What is between a path's slashes; one at its end counts for nothing.
fn elements(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/').filter(move |_| !path.is_empty())
}

#[cfg(test)]
mod tests;
