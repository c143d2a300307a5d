//! Tainted nodes take only pods that tolerate their taints.

use k8s_openapi::api::core::v1::Toleration;

use super::{Filter, Plugin, PreFilter, Rejection, Scale, Score};
use crate::{
    node::{Node, Taint},
    pod::Pod,
    snapshot::{Event, NodeState, Snapshot},
};

pub(super) struct TaintToleration;

const NAME: &str = "TaintToleration";

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        NAME
    }

    fn weight(&self) -> i64 {
        3
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> PreFilter<'a> {
        PreFilter::Filter(Box::new(Tolerating(pod)))
    }

    fn pre_score<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> Option<Box<dyn Score + 'a>> {
        Some(Box::new(Tolerating(pod)))
    }

    fn helps(&self, pod: &Pod, event: &Event<'_>) -> bool {
        match event {
            Event::Node(state) => Tolerating(pod).check(state).is_ok(),
            _ => false,
        }
    }
}

struct Tolerating<'a>(&'a Pod);

impl Filter for Tolerating<'_> {
    fn check(&self, node: &NodeState) -> Result<(), Rejection> {
        if is_tolerable(&self.0.tolerations, &node.node) {
            return Ok(());
        }
        Err(Rejection::unresolvable(
            NAME,
            "node(s) had untolerated taint(s)",
        ))
    }
}

impl Score for Tolerating<'_> {
    /// The number of taints that would rather not have the pod.
    fn score(&self, node: &NodeState) -> i64 {
        let averse =
            |taint: &&Taint| taint.effect == "PreferNoSchedule" && !tolerates(self.0, taint);
        let count = node.node.taints.iter().filter(averse).count();
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    fn scale(&self) -> Scale {
        Scale::Worst
    }
}

/// Whether these are for all taints that keep pods away from a node.
pub(crate) fn is_tolerable(tolerations: &[Toleration], node: &Node) -> bool {
    let repels = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    let mut taints = node.taints.iter().filter(repels);
    taints.all(|taint| {
        tolerations
            .iter()
            .any(|toleration| is_for(toleration, taint))
    })
}

/// Whether any of the pod's tolerations is for this taint.
pub(super) fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    pod.tolerations
        .iter()
        .any(|toleration| is_for(toleration, taint))
}

fn is_for(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |field: &Option<String>| field.clone().unwrap_or_default();
    let (key, effect) = (given(&toleration.key), given(&toleration.effect));
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    if !key.is_empty() && key != taint.key {
        return false;
    }
    let value = given(&toleration.value);
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => !key.is_empty() && value == taint.value,
        "Exists" => true,
        operator @ ("Lt" | "Gt") => match (taint.value.parse::<i64>(), value.parse::<i64>()) {
            (Ok(actual), Ok(bound)) if operator == "Lt" => actual < bound,
            (Ok(actual), Ok(bound)) => actual > bound,
            _ => false,
        },
        _ => false,
    }
}
