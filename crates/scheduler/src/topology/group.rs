//! What is counted, by nodes and by their domains.

use std::collections::HashMap;

use super::{Counted, Eligible};
use crate::{node::Node, snapshot::NodeState};

/// The domain of nodes that lack the label, or do not count.
pub(crate) const NOWHERE: usize = usize::MAX;

/// So many domains without nodes are nothing to care about.
const FEW: usize = 64;

/// The domains of one label.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) name: String,
    by_value: HashMap<String, usize>,
    /// By the nodes' positions.
    pub(super) of_node: Vec<usize>,
}

impl Key {
    pub(super) fn new(name: &str, nodes: &[NodeState]) -> Self {
        let mut key = Self {
            name: name.to_owned(),
            by_value: HashMap::new(),
            of_node: Vec::new(),
        };
        for state in nodes {
            let domain = key.domain(state.node());
            key.of_node.push(domain);
        }
        key
    }

    pub(super) fn domain(&mut self, node: &Node) -> usize {
        let Some(value) = node.labels.get(&self.name) else {
            return NOWHERE;
        };
        let next = self.by_value.len();
        match self.by_value.get(value) {
            Some(domain) => *domain,
            None => *self.by_value.entry(value.clone()).or_insert(next),
        }
    }

    /// Forgets domains that no node is in any more, where they are the most. Returns what the others are called from now on, by
    /// what they were called.
    pub(super) fn renumber(&mut self) -> Option<Vec<usize>> {
        if self.by_value.len() <= 2 * self.of_node.len() + FEW {
            return None;
        }
        let mut names = vec![NOWHERE; self.by_value.len()];
        let mut next = 0;
        for domain in self.of_node.iter_mut().filter(|domain| **domain != NOWHERE) {
            let name = &mut names[*domain];
            if *name == NOWHERE {
                *name = next;
                next += 1;
            }
            *domain = *name;
        }
        self.by_value.retain(|_, domain| {
            *domain = names[*domain];
            *domain != NOWHERE
        });
        Some(names)
    }
}

/// What is counted in the domains of one label.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(super) key: String,
    /// How many pods lie in each domain.
    pub(crate) pods: Vec<u32>,
    /// How many nodes count there.
    pub(crate) nodes: Vec<u32>,
}

impl Table {
    pub(super) fn of(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, domain: usize, pods: u32, nodes: u32) {
        if domain == NOWHERE {
            return;
        }
        if self.pods.len() <= domain {
            self.pods.resize(domain + 1, 0);
            self.nodes.resize(domain + 1, 0);
        }
        self.pods[domain] += pods;
        self.nodes[domain] += nodes;
    }

    pub(super) fn take(&mut self, domain: usize, pods: u32, nodes: u32) {
        // Of a domain of which nothing was ever counted, nothing is taken.
        let counts = self.pods.get_mut(domain).zip(self.nodes.get_mut(domain));
        if let Some((all_pods, all_nodes)) = counts {
            *all_pods -= pods;
            *all_nodes -= nodes;
        }
    }

    /// Calls domains as a key does from now on.
    pub(super) fn renumber(&mut self, names: &[usize]) {
        let before = std::mem::take(&mut self.pods).into_iter();
        let before = before.zip(std::mem::take(&mut self.nodes));
        for ((pods, nodes), name) in before.zip(names) {
            self.add(*name, pods, nodes);
        }
    }

    /// How many pods lie in a domain.
    pub(crate) fn pods_in(&self, domain: usize) -> u32 {
        self.pods.get(domain).copied().unwrap_or(0)
    }
}

/// Pods of one kind, by node and by the domains of one label.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(super) counted: Counted,
    pub(super) eligible: Eligible,
    /// Whether pods on a node count, and how many of the kind it has. By the nodes' positions.
    pub(super) at: Vec<(bool, u32)>,
    pub(crate) table: Table,
    pub(super) used: u64,
}

impl Group {
    pub(super) fn is(&self, counted: &Counted, eligible: &Eligible, key: &str) -> bool {
        self.table.key == key && self.counted == *counted && self.eligible == *eligible
    }

    /// How many pods of the kind a node has, whether it counts or not.
    pub(crate) fn on_node(&self, at: usize) -> u32 {
        self.at[at].1
    }

    /// Takes a node into the sums.
    pub(super) fn enter(&mut self, keys: &[Key], at: usize) {
        if let (true, pods) = self.at[at] {
            self.table
                .add(domain_of(keys, &self.table.key, at), pods, 1);
        }
    }

    /// Takes it out of them.
    pub(super) fn leave(&mut self, keys: &[Key], at: usize) {
        if let (true, pods) = self.at[at] {
            self.table
                .take(domain_of(keys, &self.table.key, at), pods, 1);
        }
    }

    pub(super) fn count(&mut self, keys: &[Key], at: usize, came: bool) {
        let (counts, pods) = &mut self.at[at];
        *pods = if came { *pods + 1 } else { *pods - 1 };
        let domain = domain_of(keys, &self.table.key, at);
        match came {
            true if *counts => self.table.add(domain, 1, 0),
            false if *counts => self.table.take(domain, 1, 0),
            _ => {}
        }
    }
}

pub(super) fn domain_of(keys: &[Key], name: &str, at: usize) -> usize {
    let key = keys.iter().find(|key| key.name == name);
    key.map_or(NOWHERE, |key| key.of_node[at])
}
