//! The nodes and what is on them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use api::resources::{Resources, Scored};
use client::Key;
use k8s_openapi::api::core::v1::PersistentVolume;

use crate::{
    host_ports::HostPorts, node::Node, pod::Pod, preempt::Budget, storage::Storage,
    topology::Topology,
};

/// A node with the pods that are on it, counted up.
#[derive(Debug, Clone, Default)]
pub struct NodeState {
    pub(crate) node: Arc<Node>,
    /// What its pods ask for.
    pub(crate) requested: Resources,
    /// What they count as in scores.
    pub(crate) scored: Scored,
    /// Which of its ports they have taken.
    pub(crate) host_ports: HostPorts,
    pods: BTreeMap<Key, Arc<Pod>>,
    /// How many of them have which priority.
    priorities: BTreeMap<i32, usize>,
}

impl NodeState {
    /// The node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The pods that are on it, or are assumed to be.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().map(AsRef::as_ref)
    }

    /// Whether any of them has a lower priority than this.
    pub(crate) fn has_lower(&self, priority: i32) -> bool {
        let lowest = self.priorities.keys().next();
        lowest.is_some_and(|lowest| *lowest < priority)
    }

    /// Those that have.
    pub(crate) fn lower(&self, priority: i32) -> impl Iterator<Item = Arc<Pod>> {
        let pods = self.pods.values();
        pods.filter(move |pod| pod.priority < priority).cloned()
    }

    /// One of them.
    pub(crate) fn pod(&self, key: &Key) -> Option<Arc<Pod>> {
        self.pods.get(key).cloned()
    }

    /// A pod that is not here yet.
    fn insert(&mut self, pod: Arc<Pod>) {
        let key = pod.key();
        self.requested.add(&pod.requests.asked);
        self.host_ports.add(&pod.host_ports);
        let more = pod.requests.scored;
        self.scored.milli_cpu = self.scored.milli_cpu.saturating_add(more.milli_cpu);
        self.scored.memory = self.scored.memory.saturating_add(more.memory);
        *self.priorities.entry(pod.priority).or_default() += 1;
        self.pods.insert(key, pod);
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<Pod>> {
        let pod = self.pods.remove(key)?;
        self.requested.subtract(&pod.requests.asked);
        self.host_ports.remove(&pod.host_ports);
        let less = pod.requests.scored;
        self.scored.milli_cpu = self.scored.milli_cpu.saturating_sub(less.milli_cpu);
        self.scored.memory = self.scored.memory.saturating_sub(less.memory);
        if let Some(count) = self.priorities.get_mut(&pod.priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&pod.priority);
            }
        }
        Some(pod)
    }
}

/// Which nodes have changed, one after the other, as far back as anybody gains by knowing.
#[derive(Debug, Clone, Default)]
struct Log {
    /// How many changes there were before the first of these.
    forgotten: u64,
    /// Positions of nodes.
    nodes: VecDeque<usize>,
}

impl Log {
    /// Notes a change. Who has missed as many as there are nodes looks at all nodes as fast.
    fn push(&mut self, at: usize, most: usize) {
        self.nodes.push_back(at);
        while self.nodes.len() > most {
            self.nodes.pop_front();
            self.forgotten += 1;
        }
    }
}

/// What a decision is made on: every node, and what runs there or is about to.
///
/// Kept incrementally: taking up a change costs the same however large the cluster is.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    nodes: Vec<NodeState>,
    index: BTreeMap<String, usize>,
    /// Where each pod counts.
    placed: BTreeMap<Key, String>,
    /// Pods on nodes that are not there (yet, or any more).
    elsewhere: BTreeMap<String, BTreeMap<Key, Arc<Pod>>>,
    /// The pods that count somewhere and use a claim.
    users: BTreeMap<Key, BTreeSet<Key>>,
    /// Claims and what there is for them.
    pub storage: Storage,
    topology: Topology,
    budgets: BTreeMap<Key, Budget>,
    /// Pods for which room is being made, and where.
    nominated: BTreeMap<Key, (Arc<Pod>, String)>,
    log: Log,
    /// Counts how often a node has come or gone, so that others may have taken its position.
    layout: u64,
}

/// A change that may let a pod be placed that could not be before.
#[derive(Debug)]
pub enum Event<'a> {
    /// A node has come, or has changed.
    Node(&'a NodeState),
    /// A node has gone, and what it had does not count any more.
    NodeGone,
    /// This pod has left this node, or needs less of it.
    Freed(&'a NodeState, &'a Pod),
    /// This pod counts on a node now.
    Placed(&'a Pod),
    /// A namespace has come, has other labels or has gone.
    Namespace,
    /// A claim has come, has changed or has gone.
    Claim(&'a Key),
    /// A volume has come, has changed, or is free again.
    Volume(&'a PersistentVolume),
    /// A class of volumes has come, has changed or has gone.
    Class,
    /// A pod that counted somewhere does not use this claim any more.
    Unused(&'a Key),
}

impl<'a> Event<'a> {
    /// The node that there is more of, if it is about one.
    pub(crate) fn node(&self) -> Option<&'a NodeState> {
        match self {
            Event::Node(state) | Event::Freed(state, _) => Some(state),
            Event::NodeGone
            | Event::Placed(_)
            | Event::Namespace
            | Event::Claim(_)
            | Event::Volume(_)
            | Event::Class
            | Event::Unused(_) => None,
        }
    }
}

impl Snapshot {
    /// By how much the nodes have changed so far: how often some came or went, and how often one was another than before.
    pub(crate) fn version(&self) -> (u64, u64) {
        let seen = self.log.forgotten + self.log.nodes.len() as u64;
        (self.layout, seen)
    }

    /// The positions of the nodes that have changed since, some of them more than once; `None` where that is not known: any
    /// may have.
    pub(crate) fn changed_since(
        &self,
        (layout, seen): (u64, u64),
    ) -> Option<impl Iterator<Item = usize>> {
        let known = seen
            .checked_sub(self.log.forgotten)
            .filter(|_| layout == self.layout)?;
        let known = usize::try_from(known).ok()?;
        Some(self.log.nodes.iter().skip(known).copied())
    }

    /// Which pods lie where.
    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Counts from now on what a pod's rules ask for.
    pub(crate) fn prepare(&mut self, pod: &Pod) {
        self.topology.prepare(pod, &self.nodes);
    }

    /// Takes up the labels of a namespace; `None`: it is gone. Returns whether that differs from what it was.
    pub fn set_namespace(&mut self, name: &str, labels: Option<BTreeMap<String, String>>) -> bool {
        self.topology.set_namespace(name, labels)
    }

    /// Takes up a budget; `None`: it is gone.
    pub fn set_budget(&mut self, key: Key, budget: Option<Budget>) {
        match budget {
            Some(budget) => self.budgets.insert(key, budget),
            None => self.budgets.remove(&key),
        };
    }

    pub(crate) fn budgets(&self) -> impl Iterator<Item = &Budget> {
        self.budgets.values()
    }

    /// Sets room on a node aside for a pod, as far as others are concerned that are no more important.
    pub fn nominate(&mut self, pod: &Arc<Pod>, node: &str) {
        self.nominated
            .insert(pod.key(), (Arc::clone(pod), node.to_owned()));
    }

    /// Sets nothing aside for it any more. Returns where something was.
    pub fn unnominate(&mut self, key: &Key) -> Option<(Arc<Pod>, String)> {
        self.nominated.remove(key)
    }

    /// Where room is being made for a pod; for its namesake before it does not count.
    pub(crate) fn nomination(&self, pod: &Pod) -> Option<&str> {
        let (known, node) = self.nominated.get(&pod.key())?;
        (known.uid == pod.uid).then_some(node)
    }

    /// Those less important than this one for which room is set aside on a node.
    pub(crate) fn less_important(&self, pod: &Pod, node: &str) -> Vec<Arc<Pod>> {
        let there = self
            .nominated()
            .filter(|(other, at)| *at == node && other.priority < pod.priority);
        there.map(|(other, _)| Arc::clone(other)).collect()
    }

    /// The pods for which room is being made, and where.
    pub(crate) fn nominated(&self) -> impl Iterator<Item = (&Arc<Pod>, &str)> {
        self.nominated
            .values()
            .map(|(pod, node)| (pod, node.as_str()))
    }

    /// Counts a pod on the node at this position, in the place of what was known of it there.
    fn insert(&mut self, pod: Arc<Pod>, at: usize) {
        self.remove(&pod.key(), at);
        self.topology.pod_came(&pod, at, &self.nodes);
        self.nodes[at].insert(pod);
        self.changed(at);
    }

    fn remove(&mut self, key: &Key, at: usize) -> Option<Arc<Pod>> {
        let pod = self.nodes[at].remove(key)?;
        self.topology.pod_left(&pod, at);
        self.changed(at);
        Some(pod)
    }

    fn changed(&mut self, at: usize) {
        self.log.push(at, self.nodes.len());
    }

    /// Every node, in no particular order.
    #[must_use]
    pub fn nodes(&self) -> &[NodeState] {
        &self.nodes
    }

    /// One node.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeState> {
        self.index.get(name).map(|at| &self.nodes[*at])
    }

    /// One node, with its position.
    pub(crate) fn find(&self, name: &str) -> Option<(usize, &NodeState)> {
        let at = *self.index.get(name)?;
        Some((at, &self.nodes[at]))
    }

    /// Takes up a node as it is now. Returns whether that differs from what it was.
    pub fn set_node(&mut self, node: Arc<Node>) -> bool {
        if let Some(&at) = self.index.get(&node.name) {
            let state = &mut self.nodes[at];
            let differs = !alike(&state.node, &node);
            state.node = node;
            if differs {
                self.topology.node_changed(at, &self.nodes[at].node);
                self.changed(at);
            }
            return differs;
        }
        let at = self.nodes.len();
        self.index.insert(node.name.clone(), at);
        self.topology.node_came(&node);
        self.nodes.push(NodeState {
            node: Arc::clone(&node),
            ..NodeState::default()
        });
        self.layout += 1;
        let waiting = self.elsewhere.remove(&node.name).unwrap_or_default();
        for pod in waiting.into_values() {
            self.insert(pod, at);
        }
        true
    }

    /// Forgets a node. Its pods still count should it come back.
    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.index.remove(name) else {
            return;
        };
        let state = self.nodes.swap_remove(at);
        self.topology.node_left(at, self.nodes.len());
        self.layout += 1;
        if let Some(moved) = self.nodes.get(at) {
            self.index.insert(moved.node.name.clone(), at);
        }
        if !state.pods.is_empty() {
            self.elsewhere.insert(name.to_owned(), state.pods);
        }
    }

    /// Counts a pod on a node: because it is there, or because it is assumed to be soon.
    pub fn place(&mut self, pod: Arc<Pod>, node: &str) {
        let key = pod.key();
        if self.placed.get(&key).is_some_and(|at| at != node) {
            self.remove_pod(&key);
        }
        for named in &pod.claims {
            let users = self.users.entry(named.claim.clone()).or_default();
            users.insert(key.clone());
        }
        match self.index.get(node).copied() {
            Some(at) => self.insert(pod, at),
            None => {
                let homeless = self.elsewhere.entry(node.to_owned()).or_default();
                homeless.insert(key.clone(), pod);
            }
        }
        self.placed.insert(key, node.to_owned());
    }

    /// Stops counting a pod; returns it if it was on a node that is there.
    pub fn remove_pod(&mut self, key: &Key) -> Option<Arc<Pod>> {
        let node = self.placed.remove(key)?;
        if let Some(&at) = self.index.get(&node) {
            let pod = self.remove(key, at);
            self.unused(pod.as_deref());
            return pod;
        }
        if let Some(homeless) = self.elsewhere.get_mut(&node) {
            let pod = homeless.remove(key);
            if homeless.is_empty() {
                self.elsewhere.remove(&node);
            }
            self.unused(pod.as_deref());
        }
        None
    }

    fn unused(&mut self, pod: Option<&Pod>) {
        let Some(pod) = pod else { return };
        for named in &pod.claims {
            if let Some(users) = self.users.get_mut(&named.claim) {
                users.remove(&pod.key());
                if users.is_empty() {
                    self.users.remove(&named.claim);
                }
            }
        }
    }

    /// Whether a pod other than this one counts somewhere and uses the claim.
    pub(crate) fn is_used_by_another(&self, claim: &Key, pod: &Pod) -> bool {
        let own = pod.key();
        let users = self.users.get(claim);
        users.is_some_and(|users| users.iter().any(|user| *user != own))
    }

    /// The claims of a pod that counts somewhere.
    pub(crate) fn claims_of(&self, key: &Key) -> Vec<Key> {
        // Most pods have none, and of those nothing is looked up.
        if self.users.is_empty() {
            return Vec::new();
        }
        let node = self.placed.get(key);
        let pod = node.and_then(|node| match self.node(node) {
            Some(state) => state.pods.get(key),
            None => self.elsewhere.get(node)?.get(key),
        });
        let claims = pod.into_iter().flat_map(|pod| &pod.claims);
        claims.map(|named| named.claim.clone()).collect()
    }

    /// Where a pod counts.
    #[must_use]
    pub fn placement(&self, key: &Key) -> Option<&str> {
        self.placed.get(key).map(String::as_str)
    }
}

/// Whether two states of a node are the same to the scheduler: heartbeats are no change.
fn alike(one: &Node, other: &Node) -> bool {
    one.labels == other.labels
        && one.taints == other.taints
        && one.unschedulable == other.unschedulable
        && one.allocatable == other.allocatable
}

#[cfg(test)]
mod tests;
