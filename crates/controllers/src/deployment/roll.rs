//! One step of the way from the old replica sets to the current one.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentSpec, ReplicaSet};

use super::{Sets, is_recreate, max_surge, max_unavailable, replicas, resize, size};
use crate::plan::Plan;
use crate::pods;
use crate::replica_set::min_ready;
use crate::view::View;

/// Grows the current replica set and shrinks the old ones as far as the bounds let it.
pub(super) fn step(
    spec: &DeploymentSpec,
    sets: &Sets<'_>,
    view: &View,
    now: Timestamp,
    plan: &mut Plan,
) {
    let Some(current) = sets.current else {
        return;
    };
    if is_recreate(spec) {
        return recreate(spec, current, &sets.old, view, plan);
    }
    let wanted = replicas(spec);
    let grown = if size(current) > wanted {
        wanted
    } else {
        let room = room(spec, sets, view);
        size(current).saturating_add(room).min(wanted)
    };
    resize::one(current, grown, spec, plan);
    for (set, to) in sets
        .old
        .iter()
        .zip(shrunk(spec, current, &sets.old, view, now))
    {
        resize::one(set, to, spec, plan);
    }
}

/// How many pods may be added. Pods that a replica set is yet to remove count: a size that was
/// just written is no pod gone.
pub(super) fn room(spec: &DeploymentSpec, sets: &Sets<'_>, view: &View) -> i32 {
    let there: i32 = sets.all().map(|set| size(set).max(active(set, view))).sum();
    let bound = replicas(spec).saturating_add(max_surge(spec));
    bound.saturating_sub(there).max(0)
}

/// The sizes that the old replica sets, oldest first, are to have.
fn shrunk(
    spec: &DeploymentSpec,
    current: &ReplicaSet,
    old: &[&Arc<ReplicaSet>],
    view: &View,
    now: Timestamp,
) -> Vec<i32> {
    let min_ready = min_ready(spec.min_ready_seconds);
    let available = |set: &ReplicaSet| available(set, view, min_ready, now);
    let floor = (replicas(spec) - max_unavailable(spec)).max(0);
    let mut sizes: Vec<i32> = old.iter().map(|set| size(set)).collect();
    let everything = size(current) + sizes.iter().sum::<i32>();
    let unavailable = (size(current) - available(current)).max(0);
    // Were all that go available ones, this many might.
    let mut budget = (everything - floor - unavailable).max(0);
    // Old pods that are not available help nobody: they go first and cost no availability.
    for (set, left) in old.iter().zip(&mut sizes) {
        let unhealthy = (*left - available(set)).clamp(0, budget);
        *left -= unhealthy;
        budget -= unhealthy;
    }
    let all_available = available(current) + old.iter().map(|set| available(set)).sum::<i32>();
    let mut spare = (all_available - floor).clamp(0, budget);
    for left in &mut sizes {
        let step = (*left).clamp(0, spare);
        *left -= step;
        spare -= step;
    }
    sizes
}

/// How many available pods a replica set can be counted on for: by its report, which may be
/// behind, by its pods, and by its size, for more than that it is about to remove.
fn available(set: &ReplicaSet, view: &View, min_ready: Duration, now: Timestamp) -> i32 {
    let there = view.pods.owned_by(set).filter(|pod| {
        pods::is_active(pod) && pods::available_in(pod, min_ready, now) == Some(Duration::ZERO)
    });
    super::available(set).min(count(there)).min(size(set))
}

fn recreate(
    spec: &DeploymentSpec,
    current: &ReplicaSet,
    old: &[&Arc<ReplicaSet>],
    view: &View,
    plan: &mut Plan,
) {
    if old.iter().any(|set| size(set) > 0) {
        for set in old {
            resize::one(set, 0, spec, plan);
        }
    } else if old.iter().all(|set| unfinished(set, view) == 0) {
        resize::one(current, replicas(spec), spec, plan);
    }
}

/// Pods of a replica set that have not ended, those being deleted included.
pub(super) fn unfinished(set: &ReplicaSet, view: &View) -> i32 {
    let pods = view.pods.owned_by(set);
    count(pods.filter(|pod| !pods::is_finished(pod)))
}

fn active(set: &ReplicaSet, view: &View) -> i32 {
    count(view.pods.owned_by(set).filter(|pod| pods::is_active(pod)))
}

fn count<T>(of: impl Iterator<Item = T>) -> i32 {
    i32::try_from(of.count()).unwrap_or(i32::MAX)
}
