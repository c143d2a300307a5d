//! What is counted, by nodes and by their domains.

use std::collections::HashMap;

use super::{Counted, Eligible};
use crate::{node::Node, snapshot::NodeState};

/// The domain of nodes that lack the label, or do not count.
pub(crate) const NOWHERE: usize = usize::MAX;

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

    /// How many pods lie in a domain.
    pub(crate) fn pods_in(&self, domain: usize) -> u32 {
        self.pods.get(domain).copied().unwrap_or(0)
    }
}

/// Pods of one kind, by node and by domain.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(super) counted: Counted,
    pub(super) eligible: Eligible,
    /// Whether pods on a node count, and how many of the kind it has. By the nodes' positions.
    pub(super) at: Vec<(bool, u32)>,
    pub(super) tables: Vec<Table>,
    /// How many there are on nodes that count.
    pub(crate) total: u64,
    pub(super) used: u64,
}

impl Group {
    /// How many pods of the kind a node has, whether it counts or not.
    pub(crate) fn on_node(&self, at: usize) -> u32 {
        self.at[at].1
    }

    /// What is counted by the domains of a label, which somebody has asked to be.
    pub(crate) fn table(&self, key: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.key == key)
    }

    /// Takes a node into all sums.
    pub(super) fn enter(&mut self, keys: &[Key], at: usize) {
        let (counts, pods) = self.at[at];
        if counts {
            self.total += u64::from(pods);
            for table in &mut self.tables {
                table.add(domain_of(keys, &table.key, at), pods, 1);
            }
        }
    }

    /// Takes it out of them.
    pub(super) fn leave(&mut self, keys: &[Key], at: usize) {
        let (counts, pods) = self.at[at];
        if counts {
            self.total -= u64::from(pods);
            for table in &mut self.tables {
                table.take(domain_of(keys, &table.key, at), pods, 1);
            }
        }
    }

    pub(super) fn count(&mut self, keys: &[Key], at: usize, came: bool) {
        let (counts, pods) = &mut self.at[at];
        *pods = if came { *pods + 1 } else { *pods - 1 };
        if !*counts {
            return;
        }
        self.total = if came { self.total + 1 } else { self.total - 1 };
        for table in &mut self.tables {
            let domain = domain_of(keys, &table.key, at);
            match came {
                true => table.add(domain, 1, 0),
                false => table.take(domain, 1, 0),
            }
        }
    }
}

pub(super) fn domain_of(keys: &[Key], name: &str, at: usize) -> usize {
    let key = keys.iter().find(|key| key.name == name);
    key.map_or(NOWHERE, |key| key.of_node[at])
}
