//! Questions that several controllers ask of a pod, and the pod that a template makes.

use std::cmp::Reverse;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde_json::{Value, json};

use crate::owner;

/// What a user says it costs to lose a pod, as a whole number.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A pod's phase; `Pending` where none was reported.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or("Pending")
}

/// Ended, whichever way.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Counts as a replica: neither finished nor on its way out.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !owner::is_deleting(pod)
}

/// The `Ready` condition holds.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    ready_since(pod).is_some()
}

fn ready_since(pod: &Pod) -> Option<Option<jiff::Timestamp>> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let ready = conditions
        .iter()
        .find(|c| c.type_ == "Ready" && c.status == "True")?;
    Some(ready.last_transition_time.as_ref().map(|Time(t)| *t))
}

/// How long until a ready pod has been ready for `min_ready`: zero when it is available, `None`
/// when it is not ready.
pub(crate) fn available_in(
    pod: &Pod,
    min_ready: Duration,
    now: jiff::Timestamp,
) -> Option<Duration> {
    let since = ready_since(pod)?;
    if min_ready.is_zero() {
        return Some(Duration::ZERO);
    }
    let for_long = since.map_or(Duration::ZERO, |t| {
        Duration::try_from(now.duration_since(t)).unwrap_or_default()
    });
    Some(min_ready.saturating_sub(for_long))
}

/// The order in which surplus pods go, as Kubernetes has it: not yet placed, pending, not ready,
/// cheaper by their annotation, from the node that holds most of them (`on_node`), ready for a
/// shorter time, more restarts, younger; the name decides among equals, so that the order is one.
pub(crate) fn removal_rank(pod: &Pod, on_node: usize) -> impl Ord + use<> {
    let placed = pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
    let phase = match phase(pod) {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    };
    let restarts: i32 = pod
        .status
        .iter()
        .flat_map(|s| s.container_statuses.iter().flatten())
        .map(|c| c.restart_count)
        .max()
        .unwrap_or(0);
    let cost: i32 = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(DELETION_COST)?.parse().ok())
        .unwrap_or(0);
    let age = Reverse(owner::created(pod));
    let ready = ready_since(pod);
    (
        placed,
        phase,
        ready.is_some(),
        cost,
        Reverse(on_node),
        Reverse(ready.flatten()),
        Reverse(restarts),
        age,
        pod.metadata.name.clone(),
    )
}

/// The pod that `template` describes, for an owner in `namespace`.
///
/// `name` ending in `-` asks for a generated name.
pub(crate) fn from_template(
    template: &PodTemplateSpec,
    namespace: &str,
    name: &str,
    controller: OwnerReference,
) -> Pod {
    let given = template.metadata.clone().unwrap_or_default();
    let generate = name.ends_with('-');
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: (!generate).then(|| name.to_owned()),
            generate_name: generate.then(|| name.to_owned()),
            labels: given.labels,
            annotations: given.annotations,
            finalizers: given.finalizers,
            owner_references: Some(vec![controller]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The merge patch that leaves `finalizers` without `gone`.
pub(crate) fn without_finalizer(meta: &ObjectMeta, gone: &str) -> Value {
    let left: Vec<&String> = meta
        .finalizers
        .iter()
        .flatten()
        .filter(|f| *f != gone)
        .collect();
    // The version makes sure that no finalizer which came meanwhile is lost.
    json!({"metadata": {"finalizers": left, "resourceVersion": meta.resource_version}})
}
