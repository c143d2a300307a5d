//! Who has to go so that a more important pod can come: kube-scheduler's `DefaultPreemption`.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api::selector::LabelSelector;
use jiff::Timestamp;
use k8s_openapi::api::policy::v1 as policy;
use rand::{Rng as _, RngCore};

use crate::{
    decide::prepare,
    plugins::{Plugins, Rejection},
    pod::Pod,
    snapshot::{NodeState, Snapshot},
};

/// Of so many nodes the best is taken, of many nodes of a tenth of them: kube-scheduler's figures.
const CANDIDATES: usize = 100;
const SHARE: usize = 10;

/// How many pods of some kind may be missing.
#[derive(Debug, Clone)]
pub struct Budget {
    namespace: String,
    selector: LabelSelector,
    allowed: i32,
    /// Those whose end is counted in it already.
    disrupted: BTreeSet<String>,
}

impl From<&policy::PodDisruptionBudget> for Budget {
    fn from(budget: &policy::PodDisruptionBudget) -> Self {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let status = budget.status.as_ref();
        let disrupted = status.and_then(|status| status.disrupted_pods.as_ref());
        Self {
            namespace: budget.metadata.namespace.clone().unwrap_or_default(),
            // The API takes none that cannot be read.
            selector: LabelSelector::from_meta(selector)
                .unwrap_or_else(|_| LabelSelector::nothing()),
            allowed: status
                .and_then(|status| status.disruptions_allowed)
                .unwrap_or(0),
            disrupted: disrupted
                .into_iter()
                .flat_map(BTreeMap::keys)
                .cloned()
                .collect(),
        }
    }
}

impl Budget {
    fn is_for(&self, pod: &Pod) -> bool {
        // A pod without labels is in no budget.
        self.namespace == pod.namespace
            && !pod.labels.is_empty()
            && self.selector.matches_labels(Some(&pod.labels))
    }
}

/// Pods that have to leave a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Preemption {
    /// Where the pod can go then.
    pub node: String,
    /// Who has to go.
    pub victims: Vec<Arc<Pod>>,
    /// For how many of them that is more than a budget allows.
    violations: usize,
}

impl Preemption {
    /// The least is best: kube-scheduler's order. Priorities are counted from the lowest on, so that of two sums of many the
    /// one of fewer is less.
    fn order(&self) -> impl Ord + use<> {
        let priorities = self.victims.iter().map(|victim| i64::from(victim.priority));
        let highest = priorities.clone().max();
        let sum: i64 = priorities
            .map(|priority| priority - i64::from(i32::MIN))
            .sum();
        // How long the most important of them have run.
        let of_highest = self
            .victims
            .iter()
            .filter(|victim| Some(i64::from(victim.priority)) == highest);
        let earliest = of_highest.map(|victim| since(victim)).min();
        (
            self.violations,
            highest,
            sum,
            self.victims.len(),
            Reverse(earliest),
        )
    }
}

fn since(pod: &Pod) -> Timestamp {
    pod.started.unwrap_or(Timestamp::MAX)
}

/// Why nobody was found, counted over the nodes that were tried.
pub(crate) type Reasons = BTreeMap<Cow<'static, str>, usize>;

/// Finds who has to go so that the pod fits on one of these nodes, by position; all of them have pods of lower priority.
///
/// # Errors
/// Why nobody's end would help.
pub(crate) fn preempt(
    pod: &Pod,
    snapshot: &mut Snapshot,
    plugins: &Plugins,
    nodes: &[usize],
    rng: &mut impl RngCore,
) -> Result<Preemption, Reasons> {
    let enough = CANDIDATES.max(snapshot.nodes().len() / SHARE);
    let start = if nodes.is_empty() {
        0
    } else {
        rng.random_range(0..nodes.len())
    };
    let (before, after) = nodes.split_at(start);
    let claimants = claimants(pod, snapshot);
    let mut found: Vec<Preemption> = Vec::new();
    let mut reasons = Reasons::new();
    for at in after.iter().chain(before) {
        if found.len() >= enough {
            break;
        }
        let others = claimants.get(at).map(Vec::as_slice).unwrap_or_default();
        match victims(pod, snapshot, plugins, *at, others) {
            Ok(preemption) => found.push(preemption),
            Err(why) => {
                for reason in why {
                    *reasons.entry(reason).or_default() += 1;
                }
            }
        }
    }
    found
        .into_iter()
        .min_by_key(Preemption::order)
        .ok_or(reasons)
}

/// The fewest and least important pods of a node without which the pod fits there beside its `claimants`.
fn victims(
    pod: &Pod,
    snapshot: &mut Snapshot,
    plugins: &Plugins,
    at: usize,
    claimants: &[Arc<Pod>],
) -> Result<Preemption, Vec<Cow<'static, str>>> {
    let state = &snapshot.nodes()[at];
    let node = state.node().name.clone();
    let mut lower: Vec<Arc<Pod>> = state.lower(pod.priority).collect();
    // The most important first: as many as can stay.
    lower.sort_by_key(|pod| (Reverse(pod.priority), since(pod)));
    let budgets: Vec<Budget> = snapshot.budgets().cloned().collect();
    let (violating, others) = violating(lower, &budgets);
    let mut without = Without {
        snapshot,
        node: &node,
        pods: BTreeMap::new(),
    };
    for pod in violating.iter().chain(&others) {
        without.take(pod);
    }
    fits_beside(pod, without.snapshot, plugins, at, claimants)
        .map_err(|refused| refused.reasons)?;
    let (mut victims, mut violations) = (Vec::new(), 0);
    for (pods, violates) in [(violating, true), (others, false)] {
        for one in pods {
            without.give_back(&one);
            if fits_beside(pod, without.snapshot, plugins, at, claimants).is_err() {
                without.take(&one);
                violations += usize::from(violates);
                victims.push(one);
            }
        }
    }
    drop(without);
    Ok(Preemption {
        node,
        victims,
        violations,
    })
}

/// Those whose end is more than a budget allows, each counted after the ones before it, and the others.
fn violating(pods: Vec<Arc<Pod>>, budgets: &[Budget]) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    let mut left: Vec<i32> = budgets.iter().map(|budget| budget.allowed).collect();
    pods.into_iter().partition(|pod| {
        let mut violates = false;
        for (budget, left) in budgets.iter().zip(&mut left) {
            if budget.is_for(pod) && !budget.disrupted.contains(&pod.name) {
                *left -= 1;
                violates |= *left < 0;
            }
        }
        violates
    })
}

/// Pods of a node that are thought away; when this is dropped they are there again, whatever happened.
struct Without<'a> {
    snapshot: &'a mut Snapshot,
    node: &'a str,
    pods: BTreeMap<String, Arc<Pod>>,
}

impl Without<'_> {
    fn take(&mut self, pod: &Arc<Pod>) {
        self.pods.insert(pod.uid.clone(), Arc::clone(pod));
        self.snapshot.remove_pod(&pod.key());
    }

    fn give_back(&mut self, pod: &Arc<Pod>) {
        self.pods.remove(&pod.uid);
        self.snapshot.place(Arc::clone(pod), self.node);
    }
}

impl Drop for Without<'_> {
    fn drop(&mut self) {
        for pod in std::mem::take(&mut self.pods).into_values() {
            self.snapshot.place(pod, self.node);
        }
    }
}

/// The nodes, by position, where the pod does not fit beside those that have a claim to room there; with the reason.
pub(crate) fn reserved(
    pod: &Pod,
    snapshot: &mut Snapshot,
    plugins: &Plugins,
) -> Vec<(usize, Rejection)> {
    let claimants = claimants(pod, snapshot).into_iter();
    let refused = claimants.filter_map(|(at, others)| {
        let with = With::all(&others, snapshot, at);
        let refused = fits(pod, with.snapshot, plugins, at).err();
        refused.map(|refused| (at, refused))
    });
    refused.collect()
}

/// Those more important than a pod, or as important, for which room is being made: by the positions of the nodes.
fn claimants(pod: &Pod, snapshot: &Snapshot) -> BTreeMap<usize, Vec<Arc<Pod>>> {
    let mut by_node: BTreeMap<usize, Vec<Arc<Pod>>> = BTreeMap::new();
    for (other, node) in snapshot.nominated() {
        let counts = other.priority >= pod.priority && other.uid != pod.uid;
        let found = snapshot.find(node).filter(|_| counts);
        // One that is decided counts already.
        if let Some((at, _)) = found.filter(|_| snapshot.placement(&other.key()).is_none()) {
            by_node.entry(at).or_default().push(Arc::clone(other));
        }
    }
    by_node
}

/// Whether the pod fits on the node at this position, whether or not the claimants come.
///
/// # Errors
/// Why not.
fn fits_beside(
    pod: &Pod,
    snapshot: &mut Snapshot,
    plugins: &Plugins,
    at: usize,
    claimants: &[Arc<Pod>],
) -> Result<(), Rejection> {
    fits(pod, snapshot, plugins, at)?;
    if claimants.is_empty() {
        return Ok(());
    }
    let with = With::all(claimants, snapshot, at);
    fits(pod, with.snapshot, plugins, at)
}

/// Pods that are thought to be on a node until this is dropped.
struct With<'a> {
    snapshot: &'a mut Snapshot,
    others: &'a [Arc<Pod>],
}

impl<'a> With<'a> {
    fn all(others: &'a [Arc<Pod>], snapshot: &'a mut Snapshot, at: usize) -> Self {
        let node = snapshot.nodes()[at].node().name.clone();
        let with = Self { snapshot, others };
        for other in others {
            with.snapshot.place(Arc::clone(other), &node);
        }
        with
    }
}

impl Drop for With<'_> {
    fn drop(&mut self) {
        for other in self.others {
            self.snapshot.remove_pod(&other.key());
        }
    }
}

/// Whether the pod fits on the node at this position, as it is now.
///
/// # Errors
/// Why not.
pub(crate) fn fits(
    pod: &Pod,
    snapshot: &Snapshot,
    plugins: &Plugins,
    at: usize,
) -> Result<(), Rejection> {
    let prepared = prepare(pod, snapshot, plugins).map_err(|held| Rejection {
        plugin: held.plugins.first().copied().unwrap_or_default(),
        reasons: vec![held.message.into()],
        unresolvable: true,
    })?;
    let state: &NodeState = &snapshot.nodes()[at];
    prepared
        .questions
        .filters
        .iter()
        .try_for_each(|filter| filter.check(state))?;
    prepared.scans.iter().try_for_each(|scan| scan.check(at))
}
