//! ReplicaSet: as many pods of a template as `replicas` says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::Key;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;

use crate::owner::{self, controller_ref, target, to_value};
use crate::plan::{Plan, Write};
use crate::pods;
use crate::view::View;

/// Most pods that one reconciliation makes or removes, as in Kubernetes.
const BURST: usize = 500;

/// Brings the number of pods and the status of the replica set at `key` up to date.
pub(crate) fn reconcile(key: &Key, view: &View, now: Timestamp) -> Plan {
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
    adopt(set, view, &mut plan);
    let active: Vec<&Arc<Pod>> = view
        .pods
        .owned_by(owner::uid(&**set))
        .filter(|pod| pods::is_active(pod))
        .collect();
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    if active.len() < wanted {
        grow(set, (wanted - active.len()).min(BURST), &mut plan);
    } else {
        shrink(&active, active.len() - wanted, &mut plan);
    }
    report(set, &active, now, &mut plan);
    plan
}

/// Takes over pods that the selector chooses and that nobody controls.
fn adopt(set: &ReplicaSet, view: &View, plan: &mut Plan) {
    let Some(selector) = set.spec.as_ref().map(|s| &s.selector) else {
        return;
    };
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let orphans = view.pods.in_namespace(namespace).filter(|pod| {
        owner::controller_of(&pod.metadata).is_none()
            && pods::is_active(pod)
            && owner::selects(selector, pod.metadata.labels.as_ref())
    });
    for pod in orphans {
        let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
        owners.push(controller_ref(set));
        let patch = serde_json::json!({"metadata": {
            "ownerReferences": owners, "resourceVersion": pod.metadata.resource_version,
        }});
        plan.writes.push(Write::Patch {
            target: target(&**pod),
            subresource: None,
            patch,
        });
    }
}

fn grow(set: &ReplicaSet, missing: usize, plan: &mut Plan) {
    let Some(template) = set.spec.as_ref().and_then(|s| s.template.as_ref()) else {
        return;
    };
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let name = format!("{}-", set.metadata.name.as_deref().unwrap_or_default());
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
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        plan.note("SuccessfulDelete", format!("Deleted pod: {name}"));
        plan.writes.push(Write::delete(target(&**pod)));
    }
}

fn report(set: &ReplicaSet, active: &[&Arc<Pod>], now: Timestamp, plan: &mut Plan) {
    let spec = set.spec.as_ref();
    let min_ready =
        Duration::from_secs(spec.and_then(|s| s.min_ready_seconds).unwrap_or(0).max(0) as u64);
    let template_labels = spec
        .and_then(|s| s.template.as_ref())
        .and_then(|t| t.metadata.as_ref())
        .and_then(|m| m.labels.clone())
        .unwrap_or_default();
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
    let conditions: Vec<ReplicaSetCondition> = old
        .conditions
        .iter()
        .flatten()
        .filter(|c| c.type_ != "ReplicaFailure")
        .cloned()
        .collect();
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
        let object = to_value(&ReplicaSet {
            status: Some(status),
            ..set.clone()
        });
        plan.writes.push(Write::Status { object });
    }
}

/// Zero is left out, as Kubernetes leaves it out.
pub(crate) fn some_if(count: usize) -> Option<i32> {
    (count > 0).then_some(count as i32)
}
