//! NetworkPolicies, pods and namespaces, as they come and go, and what they make of each pod's network.
//!
//! [`Index`] is told of each object that a watch reports and keeps [`Policies`] up to date: what is judged by there are
//! addresses, groups and ports; labels are only known here. A pod's change costs a look at the policies and groups of
//! its namespace, a policy's one at the pods of its namespace and of those that its peers are in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use network::policy::{Group, Isolation, PodPolicy, Policies, Rule};

mod compile;
mod facts;
mod groups;

use compile::Policy;
use facts::Facts;
use groups::Groups;

/// What came of a change.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "open connections may have to be judged again"]
pub struct Changed {
    /// Whatever may pass now and might not before, or the other way about, has one of these pods at an end.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// What of the policy has no effect here, and why, for the log.
    pub ignored: Vec<String>,
}

/// All pods, namespaces and NetworkPolicies, as far as watches have told of them. The order in which they do has no
/// influence on what it comes to.
#[derive(Debug, Default)]
pub struct Index {
    policies: Policies,
    namespaces: BTreeMap<String, Space>,
    groups: Groups,
    /// Which pods say that an address is theirs, by namespace and name: more than one while a watch is behind.
    claims: BTreeMap<Ipv4Addr, BTreeSet<(String, String)>>,
}

/// A namespace and what is in it.
#[derive(Debug, Default)]
struct Space {
    /// `None` until the Namespace itself has been seen: its pods may come first.
    labels: Option<BTreeMap<String, String>>,
    pods: BTreeMap<String, Member>,
    policies: BTreeMap<Arc<str>, Arc<Policy>>,
    /// The groups that mean pods of this namespace.
    groups: BTreeSet<Group>,
}

#[derive(Debug)]
struct Member {
    facts: Facts,
    /// The policies of its namespace that are about it.
    selected_by: BTreeMap<Arc<str>, Arc<Policy>>,
    groups: BTreeSet<Group>,
}

impl Index {
    /// Without any object: whatever is asked of its policies is allowed.
    pub fn new() -> Self {
        Self::default()
    }

    /// What to judge by; a handle that stays up to date.
    pub fn policies(&self) -> Policies {
        self.policies.clone()
    }

    /// How many sets of pods the policies' peers mean.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Takes up a pod as it is now; `None` if it is gone.
    pub fn set_pod(&mut self, namespace: &str, name: &str, pod: Option<&Pod>) -> Changed {
        let facts = pod.and_then(Facts::of);
        let known = self.namespaces.get(namespace);
        let known = known.and_then(|space| space.pods.get(name));
        if known.map(|member| &member.facts) == facts.as_ref() {
            return Changed::default();
        }
        let mut touched = BTreeSet::new();
        let space = space(&mut self.namespaces, &self.groups, namespace);
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(old) = space.pods.remove(name) {
            let address = old.facts.address;
            touched.insert(address);
            if let Some(claims) = self.claims.get_mut(&address) {
                claims.remove(&key);
                if claims.is_empty() {
                    self.claims.remove(&address);
                }
            }
        }
        if let Some(facts) = facts {
            touched.insert(facts.address);
            self.claims.entry(facts.address).or_default().insert(key);
            let member = space.member(facts, &self.groups);
            space.pods.insert(name.to_owned(), member);
        }
        self.forget_if_empty(namespace);
        self.publish(&touched, &touched)
    }

    /// Takes up a namespace's labels as they are now; `None` if it is gone.
    pub fn set_namespace(&mut self, name: &str, namespace: Option<&Namespace>) -> Changed {
        let labels = namespace.map(|n| n.metadata.labels.clone().unwrap_or_default());
        let known = self.namespaces.get(name);
        if known.and_then(|space| space.labels.as_ref()) == labels.as_ref() {
            return Changed::default();
        }
        let space = space(&mut self.namespaces, &self.groups, name);
        space.labels = labels;
        let groups = self.groups.spanning(name, space.labels.as_ref());
        let left: Vec<Group> = space.groups.difference(&groups).copied().collect();
        let entered: Vec<Group> = groups.difference(&space.groups).copied().collect();
        let mut touched = space.leave(&left);
        touched.extend(space.enter(&entered, &self.groups));
        self.forget_if_empty(name);
        self.publish(&touched, &touched)
    }

    /// Takes up a policy as it is now; `None` if it is gone.
    pub fn set_policy(
        &mut self,
        namespace: &str,
        name: &str,
        policy: Option<&NetworkPolicy>,
    ) -> Changed {
        let mut ignored = Vec::new();
        let new = policy.map(|policy| {
            let spec = policy.spec.clone().unwrap_or_default();
            let read = compile::policy(&spec, namespace, &mut self.groups, &mut ignored);
            Arc::new(read)
        });
        let space = space(&mut self.namespaces, &self.groups, namespace);
        let old = match &new {
            _ if space.policies.get(name) == new.as_ref() => {
                self.forget_if_empty(namespace);
                return Changed::default();
            }
            Some(new) => space.policies.insert(name.into(), new.clone()),
            None => space.policies.remove(name),
        };
        let selected = space.select(name, new.as_ref());
        let fresh = new.map_or_else(Vec::new, |new| self.groups.hold(&new.uses));
        let unused = old.map_or_else(Vec::new, |old| self.groups.release(&old.uses));
        let mut touched = selected.clone();
        for (name, space) in &mut self.namespaces {
            let spans = |g: &Group| self.groups.spans(*g, name, space.labels.as_ref());
            let entered: Vec<Group> = fresh.iter().copied().filter(spans).collect();
            touched.extend(space.leave(&unused));
            touched.extend(space.enter(&entered, &self.groups));
        }
        self.forget_if_empty(namespace);
        // Who is in a group that only this policy names is judged differently only by the pods that it selects.
        let changed = self.publish(&touched, &selected);
        Changed { ignored, ..changed }
    }

    /// Hands the policies of these addresses over, and says which of those that matter are not as they were.
    fn publish(&self, touched: &BTreeSet<Ipv4Addr>, matter: &BTreeSet<Ipv4Addr>) -> Changed {
        let mut changes = Vec::new();
        let mut changed = Changed::default();
        for address in touched {
            let (new, old) = (self.at(*address), self.policies.get(*address));
            if new.as_ref() != old.as_deref() {
                changes.push((*address, new));
                changed
                    .addresses
                    .extend(matter.contains(address).then_some(*address));
            }
        }
        self.policies.update(changes);
        changed
    }

    /// What is to be known of an address. Of the pods that claim it the youngest has it: an older one's end is still to
    /// be heard of.
    fn at(&self, address: Ipv4Addr) -> Option<PodPolicy> {
        let claims = self.claims.get(&address)?.iter();
        let members = claims.filter_map(|key| {
            let member = self.namespaces.get(&key.0)?.pods.get(&key.1)?;
            Some((member.facts.created, key, member))
        });
        let (_, _, member) = members.max_by_key(|(created, key, _)| (*created, *key))?;
        Some(member.policy())
    }

    fn forget_if_empty(&mut self, namespace: &str) {
        let empty = |s: &Space| s.labels.is_none() && s.pods.is_empty() && s.policies.is_empty();
        if self.namespaces.get(namespace).is_some_and(empty) {
            self.namespaces.remove(namespace);
        }
    }
}

/// The namespace, begun if nothing was known of it.
fn space<'a>(
    namespaces: &'a mut BTreeMap<String, Space>,
    groups: &Groups,
    name: &str,
) -> &'a mut Space {
    namespaces.entry(name.to_owned()).or_insert_with(|| Space {
        groups: groups.spanning(name, None),
        ..Space::default()
    })
}

impl Space {
    /// A pod of this namespace.
    fn member(&self, facts: Facts, groups: &Groups) -> Member {
        let about = |p: &Policy| p.selector.matches_labels(Some(&facts.labels));
        let policies = self.policies.iter().filter(|(_, policy)| about(policy));
        let spanning = self.groups.iter().copied();
        Member {
            selected_by: policies.map(|(n, p)| (n.clone(), p.clone())).collect(),
            groups: spanning
                .filter(|g| groups.takes(*g, &facts.labels))
                .collect(),
            facts,
        }
    }

    /// Puts a policy in the place of the one of this name. Returns the pods that either is about.
    fn select(&mut self, name: &str, policy: Option<&Arc<Policy>>) -> BTreeSet<Ipv4Addr> {
        let mut touched = BTreeSet::new();
        let name: Arc<str> = name.into();
        for member in self.pods.values_mut() {
            let labels = Some(&member.facts.labels);
            let before = member.selected_by.remove(&name).is_some();
            let now = policy.filter(|p| p.selector.matches_labels(labels));
            if let Some(policy) = now {
                member.selected_by.insert(name.clone(), policy.clone());
            }
            if before || now.is_some() {
                touched.insert(member.facts.address);
            }
        }
        touched
    }

    /// Its pods belong to these groups no more. Returns those that did.
    fn leave(&mut self, groups: &[Group]) -> BTreeSet<Ipv4Addr> {
        let mut touched = BTreeSet::new();
        for group in groups {
            if !self.groups.remove(group) {
                continue;
            }
            let members = self.pods.values_mut();
            let left = members.filter_map(|m| m.groups.remove(group).then_some(m.facts.address));
            touched.extend(left);
        }
        touched
    }

    /// These groups mean its pods, too. Returns those that belong to one.
    fn enter(&mut self, entered: &[Group], groups: &Groups) -> BTreeSet<Ipv4Addr> {
        let mut touched = BTreeSet::new();
        self.groups.extend(entered);
        for member in self.pods.values_mut() {
            for group in entered {
                if groups.takes(*group, &member.facts.labels) {
                    member.groups.insert(*group);
                    touched.insert(member.facts.address);
                }
            }
        }
        touched
    }
}

impl Member {
    fn policy(&self) -> PodPolicy {
        let policies = || self.selected_by.values();
        PodPolicy {
            uid: self.facts.uid.clone(),
            ingress: isolation(policies().filter_map(|p| p.ingress.as_deref())),
            egress: isolation(policies().filter_map(|p| p.egress.as_deref())),
            groups: self.groups.clone(),
            ports: self.facts.ports.clone(),
            node: self.facts.node,
        }
    }
}

/// What several policies let pass together, each with its rules.
fn isolation<'a>(policies: impl Iterator<Item = &'a [Arc<Rule>]>) -> Isolation {
    policies.fold(Isolation::None, |sum, rules| {
        let mut all = match sum {
            Isolation::None => Vec::new(),
            Isolation::Only(all) => all,
        };
        all.extend_from_slice(rules);
        Isolation::Only(all)
    })
}
