//! Deployment: a replica set for each template it ever had, and an orderly way from one to the next.

mod resize;
mod revision;
mod roll;
mod status;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::Key;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::owner::{self, controller_ref, target};
use crate::plan::{Plan, Write};
use crate::replica_set::with_owners;
use crate::view::View;

const HASH: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// The replica sets of one deployment.
struct Sets<'a> {
    /// That of the present template.
    current: Option<&'a Arc<ReplicaSet>>,
    /// All others, the oldest first.
    old: Vec<&'a Arc<ReplicaSet>>,
}

impl<'a> Sets<'a> {
    fn all(&self) -> impl Iterator<Item = &'a Arc<ReplicaSet>> + use<'a, '_> {
        self.old.iter().copied().chain(self.current)
    }

    /// Those that are to have pods.
    fn sized(&self) -> Vec<&'a Arc<ReplicaSet>> {
        self.all().filter(|set| size(set) > 0).collect()
    }
}

/// Brings the replica sets and the status of the deployment at `key` up to date.
pub(crate) fn reconcile(key: &Key, view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(deployment) = view.deployments.get(key) else {
        return plan;
    };
    let Some(spec) = deployment.spec.as_ref() else {
        return plan;
    };
    if owner::is_deleting(&**deployment) {
        return plan;
    }
    claim(deployment, spec, view, &mut plan);
    if !plan.writes.is_empty() {
        return plan;
    }
    let sets = find(deployment, spec, view);
    // The revision first, in a step of its own: it is written on the same objects.
    revision::mark(deployment, spec, &sets, &mut plan);
    if !plan.writes.is_empty() {
        return plan;
    }
    let mut made = None;
    let mut collided = false;
    let paused = spec.paused == Some(true);
    if paused || resize::is_due(spec, &sets) {
        resize::all(deployment, spec, &sets, &mut plan);
    } else if sets.current.is_some() {
        roll::step(spec, &sets, view, now, &mut plan);
    } else {
        match template::start(deployment, spec, &sets, view, &mut plan) {
            template::Start::Made(name) => made = Some(name),
            template::Start::Collision => collided = true,
        }
    }
    clean_up(deployment, spec, &sets, &mut plan);
    let news = status::News { made, collided };
    status::report(deployment, spec, &sets, &news, now, &mut plan);
    plan
}

/// Takes over replica sets that the selector chooses and nobody controls, such as those that an
/// orphaning deletion left, and lets go of those that it does not choose any more.
fn claim(deployment: &Deployment, spec: &DeploymentSpec, view: &View, plan: &mut Plan) {
    let namespace = owner::named(deployment).namespace;
    for set in view.replica_sets.in_namespace(namespace) {
        let mut owners = set.metadata.owner_references.clone().unwrap_or_default();
        let chosen = owner::selects(&spec.selector, set.metadata.labels.as_ref());
        match owner::controller_of(&set.metadata) {
            None if chosen && !owner::is_deleting(&**set) => {
                owners.push(controller_ref(deployment));
            }
            Some(o) if !chosen && o.uid == owner::uid(deployment) => {
                owners.retain(|o| o.uid != owner::uid(deployment));
            }
            _ => continue,
        }
        plan.writes.push(with_owners(&**set, &owners));
    }
}

fn find<'a>(deployment: &Deployment, spec: &DeploymentSpec, view: &'a View) -> Sets<'a> {
    let mut old: Vec<&Arc<ReplicaSet>> = view.replica_sets.owned_by(deployment).collect();
    old.sort_by_key(|set| (owner::created(&***set), set.metadata.name.clone()));
    let at = old
        .iter()
        .position(|set| template::is_of(set, &spec.template));
    let current = at.map(|at| old.remove(at));
    Sets { current, old }
}

/// Removes the oldest empty replica sets beyond `revisionHistoryLimit`, once the roll is over.
fn clean_up(deployment: &Deployment, spec: &DeploymentSpec, sets: &Sets<'_>, plan: &mut Plan) {
    let Some(status) = deployment.status.as_ref() else {
        return;
    };
    if !status::is_complete(deployment, spec, status) {
        return;
    }
    let keep = usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
    let is_empty = |set: &ReplicaSet| {
        let status = set.status.as_ref();
        size(set) == 0
            && status.is_some_and(|s| {
                s.replicas == 0 && s.observed_generation >= set.metadata.generation
            })
            && !owner::is_deleting(set)
    };
    let mut empty: Vec<_> = sets.old.iter().filter(|set| is_empty(set)).collect();
    empty.sort_by_key(|set| revision::of(set));
    let surplus = empty.len().saturating_sub(keep);
    for set in empty.into_iter().take(surplus) {
        plan.writes.push(Write::delete(target(&***set)));
    }
}

fn is_recreate(spec: &DeploymentSpec) -> bool {
    spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate")
}

fn replicas(spec: &DeploymentSpec) -> i32 {
    spec.replicas.unwrap_or(1).max(0)
}

fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

fn available(set: &ReplicaSet) -> i32 {
    let status = set.status.as_ref();
    status.and_then(|s| s.available_replicas).unwrap_or(0)
}

fn max_surge(spec: &DeploymentSpec) -> i32 {
    let strategy = spec.strategy.as_ref();
    let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
    let surge = rolling.and_then(|r| r.max_surge.as_ref());
    match is_recreate(spec) {
        true => 0,
        false => share(surge, replicas(spec), true),
    }
}

/// Never zero together with the surge, or nothing could move.
fn max_unavailable(spec: &DeploymentSpec) -> i32 {
    if is_recreate(spec) || replicas(spec) == 0 {
        return 0;
    }
    let strategy = spec.strategy.as_ref();
    let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
    let unavailable = rolling.and_then(|r| r.max_unavailable.as_ref());
    match share(unavailable, replicas(spec), false) {
        0 if max_surge(spec) == 0 => 1,
        share => share.min(replicas(spec)),
    }
}

/// A number, or a percentage of `of`; 25 % where nothing is said.
fn share(value: Option<&IntOrString>, of: i32, round_up: bool) -> i32 {
    let percent = |p: i64| {
        let product = i64::from(of).saturating_mul(p.max(0));
        let rounded = if round_up {
            product.saturating_add(99) / 100
        } else {
            product / 100
        };
        i32::try_from(rounded).unwrap_or(i32::MAX)
    };
    match value {
        None => percent(25),
        Some(IntOrString::Int(n)) => (*n).max(0),
        Some(IntOrString::String(text)) => percent(text.trim_end_matches('%').parse().unwrap_or(0)),
    }
}
