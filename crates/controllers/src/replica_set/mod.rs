//! ReplicaSet: as many pods of a template as `replicas` says.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Key, Kind};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use serde_json::json;

use crate::controller::Refusal;
use crate::owner::{self, controller_ref, target, to_value};
use crate::plan::{Plan, Write};
use crate::pods;
use crate::view::View;

/// Most pods that one reconciliation makes or removes, as in Kubernetes.
const BURST: usize = 500;
/// The condition that tells of pods that the API would not make or delete.
pub(crate) const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Brings the number of pods and the status of the replica set at `key` up to date.
pub(crate) fn reconcile(key: &Key, view: &View, refused: Option<&Refusal>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(set) = view.replica_sets.get(key) else {
        return plan;
    };
    let Some(spec) = set.spec.as_ref() else {
        return plan;
    };
    if owner::is_deleting(&**set) {
        return plan;
    }
    claim(set, spec, view, &mut plan);
    if !plan.writes.is_empty() {
        // Whether a claim succeeds decides how many pods there are: count afterwards.
        return plan;
    }
    let active: Vec<&Arc<Pod>> = view
        .pods
        .owned_by(&**set)
        .filter(|pod| pods::is_active(pod))
        .collect();
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    if active.len() < wanted {
        grow(set, spec, (wanted - active.len()).min(BURST), &mut plan);
    } else {
        shrink(&active, active.len() - wanted, &mut plan);
    }
    // Only while there is still something to be made or deleted.
    let refused = refused.filter(|_| !plan.writes.is_empty());
    report(set, spec, &active, refused, now, &mut plan);
    plan
}

/// Takes over pods that the selector chooses and nobody controls, and lets go of those that it
/// does not choose any more.
fn claim(set: &ReplicaSet, spec: &ReplicaSetSpec, view: &View, plan: &mut Plan) {
    let chosen = |pod: &Pod| owner::selects(&spec.selector, pod.metadata.labels.as_ref());
    let orphans = view
        .pods
        .in_namespace(owner::named(set).namespace)
        .filter(|pod| owner::controller_of(&pod.metadata).is_none());
    for pod in orphans.filter(|pod| pods::is_active(pod) && chosen(pod)) {
        let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
        owners.push(controller_ref(set));
        plan.writes.push(with_owners(&**pod, &owners));
    }
    let strangers = view
        .pods
        .owned_by(set)
        .filter(|pod| pods::is_active(pod) && !chosen(pod));
    for pod in strangers {
        let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
        owners.retain(|o| o.uid != owner::uid(set));
        plan.writes.push(with_owners(&**pod, &owners));
    }
}

/// Gives an object these owners, on condition that nobody else did meanwhile.
pub(crate) fn with_owners<T: Kind>(object: &T, owners: &[OwnerReference]) -> Write {
    let version = &object.metadata().resource_version;
    Write::Patch {
        target: target(object),
        patch: json!({"metadata": {"ownerReferences": owners, "resourceVersion": version}}),
    }
}

fn grow(set: &ReplicaSet, spec: &ReplicaSetSpec, missing: usize, plan: &mut Plan) {
    let Some(template) = spec.template.as_ref() else {
        return;
    };
    let owner::Named { namespace, name } = owner::named(set);
    let name = format!("{name}-");
    for _ in 0..missing {
        let pod = pods::from_template(template, namespace, &name, controller_ref(set));
        plan.writes.push(Write::Create {
            namespace: namespace.to_owned(),
            object: to_value(&pod),
        });
    }
}

fn shrink(active: &[&Arc<Pod>], surplus: usize, plan: &mut Plan) {
    if surplus == 0 {
        return;
    }
    fn node(pod: &Pod) -> Option<&str> {
        pod.spec.as_ref().and_then(|s| s.node_name.as_deref())
    }
    let mut on_node: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    for pod in active {
        *on_node.entry(node(pod)).or_default() += 1;
    }
    let mut candidates: Vec<&Arc<Pod>> = active.to_vec();
    candidates.sort_by_cached_key(|pod| pods::removal_rank(pod, on_node[&node(pod)]));
    for pod in candidates.into_iter().take(surplus.min(BURST)) {
        plan.writes.push(Write::delete(target(&**pod)));
    }
}

fn report(
    set: &ReplicaSet,
    spec: &ReplicaSetSpec,
    active: &[&Arc<Pod>],
    refused: Option<&Refusal>,
    now: Timestamp,
    plan: &mut Plan,
) {
    let min_ready = min_ready(spec.min_ready_seconds);
    let template = spec.template.as_ref().and_then(|t| t.metadata.as_ref());
    let template_labels = template.and_then(|m| m.labels.clone()).unwrap_or_default();
    let has_template_labels = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        template_labels
            .iter()
            .all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v))
    };
    let mut available = 0;
    for pod in active {
        match pods::available_in(pod, min_ready, now) {
            Some(Duration::ZERO) => available += 1,
            Some(wait) => plan.again(wait),
            None => {}
        }
    }
    let old = set.status.clone().unwrap_or_default();
    let conditions = conditions(&old, refused, now);
    let status = ReplicaSetStatus {
        replicas: active.len() as i32,
        fully_labeled_replicas: some_if(active.iter().filter(|p| has_template_labels(p)).count()),
        ready_replicas: some_if(active.iter().filter(|p| pods::is_ready(p)).count()),
        available_replicas: some_if(available),
        observed_generation: set.metadata.generation,
        conditions: (!conditions.is_empty()).then_some(conditions),
        terminating_replicas: old.terminating_replicas,
    };
    if set.status.as_ref() != Some(&status) {
        plan.writes
            .push(Write::status(set, set.status.as_ref(), &status));
    }
}

/// The conditions with `ReplicaFailure` as it is now. One that stays for the same reason keeps its
/// time and its message, which may name another pod with each attempt.
fn conditions(
    old: &ReplicaSetStatus,
    refused: Option<&Refusal>,
    now: Timestamp,
) -> Vec<ReplicaSetCondition> {
    let (failures, mut conditions): (Vec<_>, Vec<_>) = old
        .conditions
        .iter()
        .flatten()
        .cloned()
        .partition(|c| c.type_ == REPLICA_FAILURE);
    conditions.extend(refused.map(|refused| {
        let same = |c: &ReplicaSetCondition| c.reason.as_deref() == Some(refused.reason);
        failures
            .into_iter()
            .find(same)
            .unwrap_or_else(|| ReplicaSetCondition {
                type_: REPLICA_FAILURE.into(),
                status: "True".into(),
                reason: Some(refused.reason.into()),
                message: Some(refused.message.clone()),
                last_transition_time: Some(Time(now)),
            })
    }));
    conditions
}

/// `minReadySeconds` as a duration.
pub(crate) fn min_ready(seconds: Option<i32>) -> Duration {
    Duration::from_secs(u64::try_from(seconds.unwrap_or(0)).unwrap_or(0))
}

/// Zero is left out, as Kubernetes leaves it out.
pub(crate) fn some_if(count: usize) -> Option<i32> {
    (count > 0).then_some(count as i32)
}
