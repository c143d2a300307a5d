//! The rules, each a plugin of its own, and the table that names them all.

mod balanced_allocation;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_fit;
mod node_unschedulable;
mod pod_topology_spread;
mod scheduling_gates;
mod taint_toleration;
mod unsupported;
mod volume_binding;
mod volume_restrictions;

use std::borrow::Cow;

pub(crate) use self::{
    node_affinity::NodeRules, taint_toleration::is_tolerable, unsupported::unsupported,
};
use crate::{
    pod::Pod,
    snapshot::{Event, NodeState, Snapshot},
    storage::Step,
};

/// The best score that a plugin gives a node. kube-scheduler's is 100, whole numbers too: on large
/// machines a pod does not change such a score, and pods that should spread end up on few nodes
/// by chance. Only proportions count, so that the finer scale decides alike otherwise.
pub const MAX_SCORE: i64 = 1_000_000;

/// Every plugin, in the order in which they are asked, which is kube-scheduler's: the first that
/// refuses a node names the reason. Adding a rule is adding a line.
static TABLE: &[&dyn Plugin] = &[
    &scheduling_gates::SchedulingGates,
    &unsupported::Unsupported,
    &node_unschedulable::NodeUnschedulable,
    &node_name::NodeName,
    &taint_toleration::TaintToleration,
    &node_affinity::NodeAffinity,
    &node_ports::NodePorts,
    &node_resources_fit::NodeResourcesFit,
    &volume_restrictions::VolumeRestrictions,
    &volume_binding::VolumeBinding,
    &pod_topology_spread::PodTopologySpread,
    &inter_pod_affinity::InterPodAffinity,
    &balanced_allocation::NodeResourcesBalancedAllocation,
];

/// The plugins by whose rules a pod may be helped by what happens to other pods, to namespaces or to other nodes, without room
/// being made.
pub(crate) const BY_NEIGHBOURS: [&str; 2] = [pod_topology_spread::NAME, inter_pod_affinity::NAME];

/// A rule about where pods may or should go.
///
/// Each decision asks a plugin once what it has to say of the pod; what it answers with is then
/// asked of the nodes. Nothing is kept between decisions.
pub trait Plugin: Send + Sync {
    /// Its name, as Kubernetes has it.
    fn name(&self) -> &'static str;

    /// What restricts this pod's nodes. The default restricts nothing.
    fn pre_filter<'a>(&'a self, pod: &'a Pod, snapshot: &'a Snapshot) -> PreFilter<'a> {
        let _ = (pod, snapshot);
        PreFilter::Skip
    }

    /// What tells this pod's nodes apart. The default has no opinion.
    fn pre_score<'a>(
        &'a self,
        pod: &'a Pod,
        snapshot: &'a Snapshot,
    ) -> Option<Box<dyn Score + 'a>> {
        let _ = (pod, snapshot);
        None
    }

    /// What restricts this pod's nodes by the pods that lie in their domains. The default restricts nothing.
    fn scan<'a>(&'a self, pod: &'a Pod, snapshot: &'a Snapshot) -> Option<Box<dyn Scan + 'a>> {
        let _ = (pod, snapshot);
        None
    }

    /// What tells this pod's nodes apart by the pods that lie in their domains. The default has no opinion.
    fn rank<'a>(&'a self, pod: &'a Pod, snapshot: &'a Snapshot) -> Option<Box<dyn Rank + 'a>> {
        let _ = (pod, snapshot);
        None
    }

    /// What has to be written before this pod is bound to the node that was chosen for it. The
    /// default is nothing.
    fn reserve(&self, pod: &Pod, snapshot: &Snapshot, node: &NodeState) -> Vec<Step> {
        let _ = (pod, snapshot, node);
        Vec::new()
    }

    /// How much its scores count.
    fn weight(&self) -> i64 {
        1
    }

    /// Whether a change may help a pod that this plugin has turned away. It must not be `false`
    /// where it does: the pod would wait for minutes. The default is that nothing helps.
    fn helps(&self, pod: &Pod, event: &Event<'_>) -> bool {
        let _ = (pod, event);
        false
    }
}

/// What a plugin says of a pod before it sees a node.
pub enum PreFilter<'a> {
    /// It does not concern this pod.
    Skip,
    /// Every node has to be asked.
    Filter(Box<dyn Filter + 'a>),
    /// Only these nodes come into question, and have to be asked.
    Among(Vec<&'a str>, Box<dyn Filter + 'a>),
    /// No node will do.
    Reject {
        /// For the condition: `Unschedulable`, `SchedulingGated`.
        condition: &'static str,
        /// Why.
        message: String,
    },
}

/// Judges nodes for one pod.
pub trait Filter {
    /// Whether the pod may go to this node.
    ///
    /// # Errors
    /// Why not.
    fn check(&self, node: &NodeState) -> Result<(), Rejection>;
}

/// Why a pod may not go to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The plugin that says so.
    pub plugin: &'static str,
    /// In Kubernetes' words; counted over all nodes.
    pub reasons: Vec<Cow<'static, str>>,
    /// Taking other pods away from the node would change nothing.
    pub unresolvable: bool,
}

impl Rejection {
    fn unresolvable(plugin: &'static str, reason: &'static str) -> Self {
        Rejection {
            plugin,
            reasons: vec![Cow::Borrowed(reason)],
            unresolvable: true,
        }
    }

    fn resolvable(plugin: &'static str, reason: &'static str) -> Self {
        Rejection {
            unresolvable: false,
            ..Self::unresolvable(plugin, reason)
        }
    }
}

/// Judges all nodes for one pod by the pods that lie in their domains, of which any may have changed with the last pod.
pub trait Scan {
    /// Puts [`OUT`] in the place of the scores of nodes, by position, that will not do.
    fn sift(&self, totals: &mut [i64]);

    /// Whether the node at this position will do.
    ///
    /// # Errors
    /// Why not.
    fn check(&self, at: usize) -> Result<(), Rejection>;
}

/// Compares nodes for one pod by the pods that lie in their domains.
pub trait Rank {
    /// What nodes are worth by position, in 0..=[`MAX_SCORE`]; where the total is [`OUT`], it is of no interest.
    fn rank(&self, totals: &[i64]) -> Vec<i64>;
}

/// In the place of a sum of scores, what stands for a node that will not do.
pub const OUT: i64 = i64::MIN;

/// Compares nodes for one pod.
pub trait Score {
    /// How well a node suits the pod: from 0 on, in numbers of the plugin's own, for [`Self::scale`].
    fn score(&self, node: &NodeState) -> i64;

    /// How that is brought into 0..=[`MAX_SCORE`].
    fn scale(&self) -> Scale {
        Scale::AsItIs
    }
}

/// How a plugin's scores are brought into 0..=[`MAX_SCORE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// They are in it.
    AsItIs,
    /// The highest of the nodes that come into question becomes [`MAX_SCORE`], the others in proportion.
    Best,
    /// The same turned round: 0 is best, the highest gets nothing.
    Worst,
}

impl Scale {
    /// A score, where `highest` is the highest of all that are compared.
    pub(crate) fn apply(self, score: i64, highest: i64) -> i64 {
        let scaled = match highest {
            ..=0 => 0,
            _ => score.saturating_mul(MAX_SCORE) / highest,
        };
        match self {
            Scale::AsItIs => score,
            Scale::Best => scaled,
            Scale::Worst => MAX_SCORE - scaled,
        }
    }
}

/// A function of numbers that is asked for thousands, of which few are different: what it said is remembered, for divisions
/// are slow.
pub(crate) struct Remembered<F> {
    function: F,
    /// Argument and answer, by the argument's last bits.
    known: [Option<(i64, i64)>; 16],
}

impl<F: Fn(i64) -> i64> Remembered<F> {
    pub(crate) fn new(function: F) -> Self {
        let known = [None; 16];
        Self { function, known }
    }

    pub(crate) fn of(&mut self, number: i64) -> i64 {
        let known = &mut self.known[(number & 15) as usize];
        match known {
            Some((of, answer)) if *of == number => *answer,
            _ => known.insert((number, (self.function)(number))).1,
        }
    }
}

/// `part` of `whole`, out of `scale`, rounded down. `part` is 0 up to `whole`, which is not 0.
fn proportion(part: i64, whole: i64, scale: i64) -> i64 {
    match part.checked_mul(scale) {
        Some(product) => product / whole,
        // A product of more than 64 bits is rare, and dividing it slow.
        None => {
            let exact = i128::from(part) * i128::from(scale) / i128::from(whole);
            i64::try_from(exact).unwrap_or(scale)
        }
    }
}

/// A set of plugins.
#[derive(Clone)]
pub struct Plugins {
    all: Vec<&'static dyn Plugin>,
}

impl std::fmt::Debug for Plugins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.all.iter().map(|plugin| plugin.name());
        f.debug_list().entries(names).finish()
    }
}

impl Default for Plugins {
    /// All of them.
    fn default() -> Self {
        Plugins::of(TABLE.to_vec())
    }
}

impl Plugins {
    /// These plugins.
    #[must_use]
    pub fn of(all: Vec<&'static dyn Plugin>) -> Self {
        Plugins { all }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static dyn Plugin> {
        self.all.iter().copied()
    }

    /// Whether a change may help a pod that the plugins of these names have turned away.
    #[must_use]
    pub fn help(&self, rejected_by: &[&'static str], pod: &Pod, event: &Event<'_>) -> bool {
        self.iter()
            .any(|plugin| rejected_by.contains(&plugin.name()) && plugin.helps(pod, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = TABLE.iter().map(|plugin| plugin.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
    }

    #[test]
    fn proportions_are_exact_however_large() {
        for (part, whole, expected) in [
            (0, 1, 0),
            (1, 3, 33),
            (2, 3, 66),
            (i64::MAX, i64::MAX, 100),
            (i64::MAX / 2, i64::MAX, 49),
        ] {
            assert_eq!(proportion(part, whole, 100), expected, "{part} of {whole}");
        }
    }

    #[test]
    fn scores_are_scaled_to_the_highest() {
        let half = MAX_SCORE / 2;
        for (scale, score, highest, expected) in [
            (Scale::AsItIs, 5, 10, 5),
            (Scale::Best, 0, 10, 0),
            (Scale::Best, 5, 10, half),
            (Scale::Best, 10, 10, MAX_SCORE),
            (Scale::Worst, 0, 10, MAX_SCORE),
            (Scale::Worst, 5, 10, half),
            (Scale::Worst, 10, 10, 0),
            (Scale::Best, 0, 0, 0),
            (Scale::Worst, 0, 0, MAX_SCORE),
        ] {
            assert_eq!(
                scale.apply(score, highest),
                expected,
                "{scale:?} {score} of {highest}"
            );
        }
    }
}
