//! Domains of nodes, and how many pods of which kind lie in each.
//!
//! Rules about other pods ask how many of some kind lie in a node's domain: all nodes that have the same value of a label.
//! What rules in use ask for is counted here as pods come and go, so that a decision costs the same however many pods there
//! are. A kind of pods, and the nodes on which it counts, make a [`Group`].

mod group;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Toleration;

pub(crate) use self::group::{Group, NOWHERE, Table};
use self::group::{Key, domain_of};
use crate::{
    node::Node,
    plugins::{NodeRules, is_tolerable},
    pod::Pod,
    rules::{Labels, Scope, Spread, Term},
    snapshot::NodeState,
};

/// How many groups are counted; of more, those that were not asked for longest are forgotten.
const GROUPS: usize = 500;

/// Which pods are counted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Counted {
    /// Those whom all of these mean.
    scopes: Vec<Arc<Scope>>,
    /// But for those that are being deleted.
    alive: bool,
}

impl Counted {
    /// Those that all of these terms mean.
    pub(crate) fn near(terms: &[Term]) -> Self {
        Self {
            scopes: terms.iter().map(|term| Arc::clone(&term.scope)).collect(),
            alive: false,
        }
    }

    fn even(spread: &Spread) -> Self {
        Self {
            scopes: vec![Arc::clone(&spread.scope)],
            alive: true,
        }
    }

    fn covers(&self, pod: &Pod, known: &BTreeMap<String, Labels>) -> bool {
        let is_alive = !(self.alive && pod.deleting);
        is_alive
            && self
                .scopes
                .iter()
                .all(|scope| scope.covers(&pod.namespace, &pod.labels, known))
    }
}

/// The nodes on which pods count.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Eligible {
    /// They have all of these labels.
    keys: Vec<String>,
    rules: Option<NodeRules>,
    tolerations: Option<Vec<Toleration>>,
}

impl Eligible {
    /// Those on which the pods count that a pod's constraints speak of, of which this is one.
    fn even(pod: &Pod, spread: &Spread) -> Self {
        let alike = pod
            .rules
            .spreads
            .iter()
            .filter(|one| one.is_required == spread.is_required);
        Self {
            keys: alike.map(|one| one.key.clone()).collect(),
            rules: spread.honors_affinity.then(|| pod.node_rules.required()),
            tolerations: spread.honors_taints.then(|| pod.tolerations.clone()),
        }
    }

    fn is(&self, node: &Node) -> bool {
        let rules = self.rules.as_ref();
        let tolerations = self.tolerations.as_ref();
        self.keys.iter().all(|key| node.labels.contains_key(key))
            && rules.is_none_or(|rules| rules.allow(node))
            && tolerations.is_none_or(|all| is_tolerable(all, node))
    }
}

/// What a placed pod's rule means for others that its term speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Meaning {
    /// They may not come near.
    Refused,
    /// It needs some of them near, and is glad of each.
    Required,
    /// Their nearness is worth so much.
    Preferred(i64),
}

/// A rule that placed pods have, and where those lie.
#[derive(Debug, Clone)]
pub(crate) struct Carried {
    pub(crate) term: Term,
    pub(crate) meaning: Meaning,
    /// How many of them are on which nodes, by position.
    at: BTreeMap<usize, u32>,
    pub(crate) table: Table,
}

impl Carried {
    fn on_node(&self, at: usize) -> u32 {
        self.at.get(&at).copied().unwrap_or(0)
    }
}

/// Domains, groups and rules.
#[derive(Debug, Clone, Default)]
pub(crate) struct Topology {
    keys: Vec<Key>,
    groups: Vec<Group>,
    carried: HashMap<(Term, Meaning), Carried>,
    namespaces: BTreeMap<String, Labels>,
    uses: u64,
}

impl Topology {
    /// The domain of each node, by position, of a label that is in use.
    pub(crate) fn domains(&self, key: &str) -> &[usize] {
        let key = self.keys.iter().find(|one| one.name == key);
        key.map_or(&[], |key| &key.of_node)
    }

    /// The group, if it is counted: it is from [`Topology::prepare`] on.
    fn group(&self, counted: &Counted, eligible: &Eligible, key: &str) -> Option<&Group> {
        let mut groups = self.groups.iter();
        groups.find(|group| group.is(counted, eligible, key))
    }

    /// The pods that all of these terms mean, by domains of this label.
    pub(crate) fn near(&self, terms: &[Term], key: &str) -> Option<&Group> {
        self.group(&Counted::near(terms), &Eligible::default(), key)
    }

    /// The pods that one of a pod's constraints speaks of.
    pub(crate) fn even(&self, pod: &Pod, spread: &Spread) -> Option<&Group> {
        self.group(
            &Counted::even(spread),
            &Eligible::even(pod, spread),
            &spread.key,
        )
    }

    /// The rules of placed pods that speak of this one.
    pub(crate) fn speaking_of(&self, pod: &Pod) -> impl Iterator<Item = &Carried> {
        let carried = self.carried.values();
        carried.filter(|one| self.covers(&one.term, pod))
    }

    /// Whether a term means a pod.
    pub(crate) fn covers(&self, term: &Term, pod: &Pod) -> bool {
        term.scope
            .covers(&pod.namespace, &pod.labels, &self.namespaces)
    }

    /// Counts from now on what this pod's rules ask for.
    pub(crate) fn prepare(&mut self, pod: &Pod, nodes: &[NodeState]) {
        self.uses += 1;
        let neighbours = &pod.rules.neighbours;
        let required = &neighbours.required;
        for term in required {
            self.have(
                Counted::near(required),
                Eligible::default(),
                &term.key,
                nodes,
            );
        }
        let preferred = neighbours.preferred.iter().map(|(_, term)| term);
        for term in neighbours.refused.iter().chain(preferred) {
            let counted = Counted::near(std::slice::from_ref(term));
            self.have(counted, Eligible::default(), &term.key, nodes);
        }
        for spread in &pod.rules.spreads {
            let eligible = Eligible::even(pod, spread);
            self.have(Counted::even(spread), eligible, &spread.key, nodes);
        }
    }

    fn have(&mut self, counted: Counted, eligible: Eligible, key: &str, nodes: &[NodeState]) {
        let mut groups = self.groups.iter_mut();
        if let Some(known) = groups.find(|group| group.is(&counted, &eligible, key)) {
            known.used = self.uses;
            return;
        }
        self.make_room();
        self.know(key, nodes);
        let at = nodes.iter().map(|state| {
            let pods = state.pods();
            let pods = pods.filter(|pod| counted.covers(pod, &self.namespaces));
            let pods = u32::try_from(pods.count()).unwrap_or(u32::MAX);
            (eligible.is(state.node()), pods)
        });
        let mut group = Group {
            at: at.collect(),
            counted,
            eligible,
            table: Table::of(key),
            used: self.uses,
        };
        for at in 0..nodes.len() {
            group.enter(&self.keys, at);
        }
        self.groups.push(group);
    }

    /// Forgets what was not asked for longest; nothing that the pod at hand asks for, however much that is.
    fn make_room(&mut self) {
        while self.groups.len() >= GROUPS {
            let groups = self.groups.iter().enumerate();
            let oldest = groups.min_by_key(|(_, group)| group.used);
            match oldest.filter(|(_, group)| group.used < self.uses) {
                Some((oldest, _)) => self.groups.swap_remove(oldest),
                None => return,
            };
        }
    }

    fn know(&mut self, key: &str, nodes: &[NodeState]) {
        if self.keys.iter().any(|one| one.name == key) {
            return;
        }
        // Pods may come with ever new labels: those that nobody asks for any more are forgotten.
        let groups = self.groups.iter().map(|group| &group.table);
        let tables = groups.chain(self.carried.values().map(|rule| &rule.table));
        let used: BTreeSet<String> = tables.map(|table| table.key.clone()).collect();
        self.keys.retain(|key| used.contains(&key.name));
        self.keys.push(Key::new(key, nodes));
    }

    /// Takes up a node at the end, without pods.
    pub(crate) fn node_came(&mut self, node: &Node) {
        for key in &mut self.keys {
            let domain = key.domain(node);
            key.of_node.push(domain);
        }
        for group in &mut self.groups {
            let at = group.at.len();
            group.at.push((group.eligible.is(node), 0));
            group.enter(&self.keys, at);
        }
    }

    /// Forgets a node and its pods; the one at the `last` position takes its.
    pub(crate) fn node_left(&mut self, at: usize, last: usize) {
        for group in &mut self.groups {
            group.leave(&self.keys, at);
            group.at.swap_remove(at);
        }
        for rule in self.carried.values_mut() {
            let pods = rule.at.remove(&at).unwrap_or(0);
            let domain = domain_of(&self.keys, &rule.table.key, at);
            rule.table.take(domain, pods, 0);
            if let Some(pods) = rule.at.remove(&last) {
                rule.at.insert(at, pods);
            }
        }
        self.carried.retain(|_, rule| !rule.at.is_empty());
        for key in &mut self.keys {
            key.of_node.swap_remove(at);
            let Some(names) = key.renumber() else {
                continue;
            };
            let groups = self.groups.iter_mut().map(|group| &mut group.table);
            let carried = self.carried.values_mut().map(|rule| &mut rule.table);
            for table in groups.chain(carried).filter(|table| table.key == key.name) {
                table.renumber(&names);
            }
        }
    }

    /// Takes up another state of a node.
    pub(crate) fn node_changed(&mut self, at: usize, node: &Node) {
        for group in &mut self.groups {
            group.leave(&self.keys, at);
        }
        for rule in self.carried.values_mut() {
            let domain = domain_of(&self.keys, &rule.table.key, at);
            rule.table.take(domain, rule.on_node(at), 0);
        }
        for key in &mut self.keys {
            key.of_node[at] = key.domain(node);
        }
        for group in &mut self.groups {
            group.at[at].0 = group.eligible.is(node);
            group.enter(&self.keys, at);
        }
        for rule in self.carried.values_mut() {
            let domain = domain_of(&self.keys, &rule.table.key, at);
            rule.table.add(domain, rule.on_node(at), 0);
        }
    }

    /// A pod counts on a node from now on; `nodes` are all that there are.
    pub(crate) fn pod_came(&mut self, pod: &Pod, at: usize, nodes: &[NodeState]) {
        for group in &mut self.groups {
            if group.counted.covers(pod, &self.namespaces) {
                group.count(&self.keys, at, true);
            }
        }
        for (term, meaning) in rules(pod) {
            self.know(&term.key, nodes);
            let domain = domain_of(&self.keys, &term.key, at);
            let carried = self.carried.entry((term.clone(), meaning));
            let carried = carried.or_insert_with(|| Carried {
                term: term.clone(),
                meaning,
                at: BTreeMap::new(),
                table: Table::of(&term.key),
            });
            *carried.at.entry(at).or_default() += 1;
            carried.table.add(domain, 1, 0);
        }
    }

    /// It does not any more. It is the same as when it came.
    pub(crate) fn pod_left(&mut self, pod: &Pod, at: usize) {
        for group in &mut self.groups {
            if group.counted.covers(pod, &self.namespaces) {
                group.count(&self.keys, at, false);
            }
        }
        for (term, meaning) in rules(pod) {
            let rule = (term.clone(), meaning);
            let Some(carried) = self.carried.get_mut(&rule) else {
                continue;
            };
            let domain = domain_of(&self.keys, &term.key, at);
            carried.table.take(domain, 1, 0);
            if let Entry::Occupied(mut pods) = carried.at.entry(at) {
                *pods.get_mut() -= 1;
                if *pods.get() == 0 {
                    pods.remove();
                }
            }
            if carried.at.is_empty() {
                self.carried.remove(&rule);
            }
        }
    }

    /// Takes up the labels of a namespace; `None`: it is gone. Returns whether they are others.
    pub(crate) fn set_namespace(&mut self, name: &str, labels: Option<Labels>) -> bool {
        let before = self.namespaces.get(name);
        if before == labels.as_ref() {
            return false;
        }
        match labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels),
            None => self.namespaces.remove(name),
        };
        // Whom they mean may be others now. They are counted anew when somebody asks.
        let by_label = |group: &Group| {
            group
                .counted
                .scopes
                .iter()
                .any(|scope| scope.goes_by_labels())
        };
        self.groups.retain(|group| !by_label(group));
        true
    }
}

/// The rules by which a placed pod has a say in where others go.
fn rules(pod: &Pod) -> impl Iterator<Item = (&Term, Meaning)> {
    let neighbours = &pod.rules.neighbours;
    let refused = neighbours
        .refused
        .iter()
        .map(|term| (term, Meaning::Refused));
    let required = neighbours
        .required
        .iter()
        .map(|term| (term, Meaning::Required));
    let preferred = neighbours.preferred.iter();
    let preferred = preferred.map(|(worth, term)| (term, Meaning::Preferred(*worth)));
    refused.chain(required).chain(preferred)
}

#[cfg(test)]
mod tests;
