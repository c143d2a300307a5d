//! Finished pods that nobody has deleted: only so many are kept.

use std::sync::Arc;
use std::time::Duration;

use api::static_pods::MIRROR;
use client::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::node_lifecycle;
use crate::owner::{self, target};
use crate::plan::{Plan, Write};
use crate::pods::is_finished;
use crate::view::View;

/// How many finished pods are kept, as in Kubernetes.
const KEPT: usize = 12_500;
/// How often they are counted, as in Kubernetes: the number need not be exact.
const EVERY: Duration = Duration::from_secs(20);

/// The key under which all finished pods are counted; every other key is one pod's.
pub(crate) fn all() -> Key {
    Key::new("", "")
}

/// Ends the pod at `key` if its node is gone, or deletes the oldest finished ones of all.
pub(crate) fn reconcile(key: &Key, view: &View, now: Timestamp) -> Plan {
    match *key == all() {
        true => keep(KEPT, view),
        false => node_lifecycle::reconcile_pod(key, view, now),
    }
}

/// Deletes the finished pods beyond the `kept` newest; those that were evicted go first.
fn keep(kept: usize, view: &View) -> Plan {
    let mut plan = Plan::default();
    plan.again(EVERY);
    let finished = view.pods.iter().map(|(_, pod)| pod);
    let mut finished: Vec<&Arc<Pod>> = finished
        .filter(|pod| is_finished(pod) && !owner::is_deleting(&***pod) && !is_mirror(pod))
        .collect();
    let surplus = finished.len().saturating_sub(kept);
    if surplus == 0 {
        return plan;
    }
    finished.sort_by_cached_key(|pod| {
        (
            !is_evicted(pod),
            owner::created(&***pod),
            owner::key_of(&***pod),
        )
    });
    let oldest = finished.into_iter().take(surplus);
    plan.writes
        .extend(oldest.map(|pod| Write::delete(target(&**pod))));
    plan
}

/// Whether its node would make it again: it has the pod from a file.
fn is_mirror(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.is_some_and(|held| held.contains_key(MIRROR))
}

fn is_evicted(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    status.and_then(|s| s.reason.as_deref()) == Some("Evicted")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{EVERY, MIRROR, keep};
    use crate::simulation::Simulation;

    #[test]
    fn the_evicted_and_then_the_oldest_finished_pods_go() {
        let mut sim = Simulation::new(1);
        for (name, phase, reason) in [
            ("runs", "Running", ""),
            ("mirror", "Failed", "Evicted"),
            ("oldest", "Succeeded", ""),
            ("older", "Failed", ""),
            ("newer", "Failed", ""),
            ("evicted", "Failed", "Evicted"),
        ] {
            let annotations = match name {
                "mirror" => json!({MIRROR: "h"}),
                _ => json!({}),
            };
            sim.create(json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": "ns", "annotations": annotations},
                "spec": {"containers": []}, "status": {"phase": phase, "reason": reason}}));
            sim.pass(1);
        }
        let plan = keep(4, &sim.view);
        assert!(plan.is_empty());
        assert_eq!(plan.again_after, Some(EVERY));
        let plan = keep(2, &sim.view);
        sim.apply(&plan);
        let left: Vec<_> = sim.pods().into_iter().map(|(key, _)| key.name).collect();
        assert_eq!(left, ["mirror", "newer", "older", "runs"]);
    }
}
