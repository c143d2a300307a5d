//! New sizes of replica sets: single ones, and all in proportion when the deployment's changes in
//! the midst of a roll.

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use serde_json::json;

use super::{DESIRED, MAX, Sets, is_recreate, max_surge, replicas, revision, size};
use crate::owner::{self, target};
use crate::plan::{Plan, Write};

/// Sets a replica set's size and the annotations that describe the roll, where they differ.
pub(super) fn one(set: &ReplicaSet, to: i32, spec: &DeploymentSpec, plan: &mut Plan) {
    let from = size(set);
    let desired = replicas(spec).to_string();
    let max = replicas(spec).saturating_add(max_surge(spec)).to_string();
    let has = |key: &str, value: &String| annotation(set, key) == Some(value.as_str());
    if from == to && (to == 0 || (has(DESIRED, &desired) && has(MAX, &max))) {
        return;
    }
    if from != to {
        let direction = if to > from { "up" } else { "down" };
        let name = owner::named(set).name;
        plan.note(
            "ScalingReplicaSet",
            format!("Scaled {direction} replica set {name} from {from} to {to}"),
        );
    }
    let patch = json!({
        "metadata": {
            "annotations": {DESIRED: desired, MAX: max},
            "resourceVersion": set.metadata.resource_version,
        },
        "spec": {"replicas": to},
    });
    plan.writes.push(Write::Patch {
        target: target(set),
        patch,
    });
}

/// Whether the deployment was resized since its replica sets were.
pub(super) fn is_due(spec: &DeploymentSpec, sets: &Sets<'_>) -> bool {
    let desired = replicas(spec);
    let noted = |set: &Arc<ReplicaSet>| annotation(set, DESIRED)?.parse::<i32>().ok();
    sets.sized()
        .into_iter()
        .filter_map(noted)
        .any(|n| n != desired)
}

/// Resizes without rolling: the one active replica set takes all, several share in proportion to
/// what they have.
pub(super) fn all(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    sets: &Sets<'_>,
    plan: &mut Plan,
) {
    let wanted = replicas(spec);
    let sized = sets.sized();
    if let Some(only) = match sized.as_slice() {
        [] => sets.current.or(sets.old.last().copied()),
        [one] => Some(*one),
        _ => None,
    } {
        return one(only, wanted, spec, plan);
    }
    if sets.current.is_some_and(|set| is_saturated(set, wanted)) {
        for set in sized {
            let is_current = sets
                .current
                .is_some_and(|c| owner::uid(&**c) == owner::uid(&**set));
            one(set, if is_current { wanted } else { 0 }, spec, plan);
        }
    } else if !is_recreate(spec) {
        in_proportion(deployment, spec, sized, plan);
    }
}

fn is_saturated(set: &ReplicaSet, wanted: i32) -> bool {
    size(set) == wanted
        && super::available(set) == wanted
        && annotation(set, DESIRED) == Some(&wanted.to_string())
}

/// Shares what is to be added or taken away, the larger first; the largest takes what is left.
fn in_proportion(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    mut sets: Vec<&Arc<ReplicaSet>>,
    plan: &mut Plan,
) {
    let wanted = replicas(spec);
    let allowed = match wanted {
        0 => 0,
        n => n.saturating_add(max_surge(spec)),
    };
    let total: i32 = sets.iter().map(|set| size(set)).sum();
    let change = allowed - total;
    // Growing favours the newer among equals, shrinking takes from the older.
    sets.sort_by_key(|set| {
        let age = revision::of(set);
        (Reverse(size(set)), if change > 0 { -age } else { age })
    });
    let mut changed = 0;
    let mut sizes = Vec::new();
    for set in &sets {
        let left = change - changed;
        let share = match change {
            0 => 0,
            n if n > 0 => fraction(set, deployment, wanted, allowed).min(left).max(0),
            _ => fraction(set, deployment, wanted, allowed).max(left).min(0),
        };
        changed += share;
        sizes.push(size(set) + share);
    }
    if let Some(largest) = sizes.first_mut() {
        *largest = (*largest + change - changed).max(0);
    }
    for (set, to) in sets.into_iter().zip(sizes) {
        one(set, to, spec, plan);
    }
}

/// By how much a replica set's size changes if its share of the whole stays the same.
fn fraction(set: &ReplicaSet, deployment: &Deployment, wanted: i32, allowed: i32) -> i32 {
    let size = size(set);
    if wanted == 0 {
        return -size;
    }
    let noted = annotation(set, MAX).and_then(|n| n.parse::<i64>().ok());
    let reported = || deployment.status.as_ref().and_then(|s| s.replicas);
    let before = noted
        .filter(|n| *n > 0)
        .unwrap_or_else(|| reported().unwrap_or(0).into());
    if before <= 0 {
        return 0;
    }
    let product = i64::from(size) * i64::from(allowed);
    let rounded = (2 * product + before) / (2 * before);
    i32::try_from(rounded).unwrap_or(i32::MAX) - size
}

fn annotation<'a>(set: &'a ReplicaSet, key: &str) -> Option<&'a str> {
    set.metadata
        .annotations
        .as_ref()?
        .get(key)
        .map(String::as_str)
}
