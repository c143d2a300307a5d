//! Domains of nodes, and how many pods of which kind lie in each.
//!
//! Rules about other pods ask how many of some kind lie in a node's domain: all nodes that have the same value of a label.
//! What rules in use ask for is counted here as pods come and go, so that a decision costs the same however many pods there
//! are. A kind of pods, and the nodes on which it counts, make a [`Group`].

mod group;

use std::{
    collections::{BTreeMap, HashMap},
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
    at: Vec<u32>,
    pub(crate) table: Table,
    total: u64,
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
    fn group(&self, counted: &Counted, eligible: &Eligible) -> Option<&Group> {
        let mut groups = self.groups.iter();
        groups.find(|group| group.counted == *counted && group.eligible == *eligible)
    }

    /// The pods that all of these terms mean.
    pub(crate) fn near(&self, terms: &[Term]) -> Option<&Group> {
        self.group(&Counted::near(terms), &Eligible::default())
    }

    /// The pods that one of a pod's constraints speaks of.
    pub(crate) fn even(&self, pod: &Pod, spread: &Spread) -> Option<&Group> {
        self.group(&Counted::even(spread), &Eligible::even(pod, spread))
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
        if !required.is_empty() {
            for term in required {
                self.have(
                    Counted::near(required),
                    Eligible::default(),
                    &term.key,
                    nodes,
                );
            }
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
        self.know(key, nodes);
        let is_it = |group: &Group| group.counted == counted && group.eligible == eligible;
        let at = self.groups.iter().position(is_it).unwrap_or_else(|| {
            self.make_room();
            let at = nodes.iter().map(|state| {
                let pods = state
                    .pods()
                    .filter(|pod| counted.covers(pod, &self.namespaces));
                let pods = u32::try_from(pods.count()).unwrap_or(u32::MAX);
                (eligible.is(state.node()), pods)
            });
            let at: Vec<_> = at.collect();
            let total = at.iter().filter(|(counts, _)| *counts);
            self.groups.push(Group {
                total: total.map(|(_, pods)| u64::from(*pods)).sum(),
                counted,
                eligible,
                at,
                tables: Vec::new(),
                used: 0,
            });
            self.groups.len() - 1
        });
        let group = &mut self.groups[at];
        group.used = self.uses;
        if group.table(key).is_none() {
            let mut table = Table {
                key: key.to_owned(),
                ..Table::default()
            };
            for (at, (counts, pods)) in group.at.iter().enumerate() {
                if *counts {
                    table.add(domain_of(&self.keys, key, at), *pods, 1);
                }
            }
            group.tables.push(table);
        }
    }

    fn make_room(&mut self) {
        while self.groups.len() >= GROUPS {
            let groups = self.groups.iter().enumerate();
            // One that this very pod needs may go, too, where it needs as many: its rule then counts nobody. The API bounds
            // objects' sizes, and nobody writes hundreds of terms.
            let Some((oldest, _)) = groups.min_by_key(|(_, group)| group.used) else {
                return;
            };
            self.groups.swap_remove(oldest);
        }
    }

    fn know(&mut self, key: &str, nodes: &[NodeState]) {
        if !self.keys.iter().any(|one| one.name == key) {
            self.keys.push(Key::new(key, nodes));
        }
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
        for carried in self.carried.values_mut() {
            carried.at.push(0);
        }
    }

    /// Forgets a node and its pods; the last one takes its position.
    pub(crate) fn node_left(&mut self, at: usize) {
        for group in &mut self.groups {
            group.leave(&self.keys, at);
            group.at.swap_remove(at);
        }
        for carried in self.carried.values_mut() {
            let pods = carried.at[at];
            carried
                .table
                .take(domain_of(&self.keys, &carried.term.key, at), pods, 0);
            carried.total -= u64::from(pods);
            carried.at.swap_remove(at);
        }
        self.carried.retain(|_, carried| carried.total > 0);
        for key in &mut self.keys {
            key.of_node.swap_remove(at);
        }
    }

    /// Takes up another state of a node.
    pub(crate) fn node_changed(&mut self, at: usize, node: &Node) {
        for group in &mut self.groups {
            group.leave(&self.keys, at);
        }
        let carried = self.carried.values_mut();
        for one in carried {
            one.table
                .take(domain_of(&self.keys, &one.term.key, at), one.at[at], 0);
        }
        for key in &mut self.keys {
            key.of_node[at] = key.domain(node);
        }
        for group in &mut self.groups {
            group.at[at].0 = group.eligible.is(node);
            group.enter(&self.keys, at);
        }
        for one in self.carried.values_mut() {
            one.table
                .add(domain_of(&self.keys, &one.term.key, at), one.at[at], 0);
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
                at: vec![0; nodes.len()],
                table: Table::default(),
                total: 0,
            });
            carried.at[at] += 1;
            carried.total += 1;
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
            carried.at[at] -= 1;
            carried.total -= 1;
            carried
                .table
                .take(domain_of(&self.keys, &term.key, at), 1, 0);
            if carried.total == 0 {
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
