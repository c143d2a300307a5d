//! Deployment: a replica set for each template it ever had, and an orderly way from one to the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::Key;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec,
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::owner::{self, controller_ref, target, to_value};
use crate::plan::{Plan, Write};
use crate::pods;
use crate::replica_set::some_if;
use crate::view::View;

const HASH: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";

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
    let sets: Vec<&Arc<ReplicaSet>> = view
        .replica_sets
        .owned_by(owner::uid(&**deployment))
        .collect();
    let current = sets
        .iter()
        .copied()
        .find(|set| same_template(set, &spec.template));
    let old: Vec<&Arc<ReplicaSet>> = sets
        .iter()
        .copied()
        .filter(|set| current.is_none_or(|c| owner::uid(&**c) != owner::uid(&***set)))
        .collect();
    let mut deployment = Deployment::clone(deployment);
    if spec.paused != Some(true) {
        match current {
            None => start(&mut deployment, spec, &sets, view, &mut plan),
            Some(current) => {
                mark_revision(&deployment, current, &old, &mut plan);
                roll(spec, current, &old, view, &mut plan);
                clean_up(spec, current, &old, &mut plan);
            }
        }
    } else if let Some(current) = current {
        // Paused stops the roll, not the scaling.
        let missing = replicas(spec) - total(&old);
        scale(current, missing.max(0), spec, &mut plan);
    }
    report(&deployment, spec, current, &sets, now, &mut plan);
    plan
}

/// Makes the replica set for a template that none has yet.
fn start(
    deployment: &mut Deployment,
    spec: &DeploymentSpec,
    sets: &[&Arc<ReplicaSet>],
    view: &View,
    plan: &mut Plan,
) {
    let namespace = deployment.metadata.namespace.clone().unwrap_or_default();
    let collisions = deployment
        .status
        .as_ref()
        .and_then(|s| s.collision_count)
        .unwrap_or(0);
    let hash = template_hash(&spec.template, collisions);
    let name = format!(
        "{}-{hash}",
        deployment.metadata.name.as_deref().unwrap_or_default()
    );
    if let Some(taken) = view
        .replica_sets
        .get(&Key::new(namespace.clone(), name.clone()))
    {
        if !sets
            .iter()
            .any(|set| owner::uid(&***set) == owner::uid(&**taken))
            || !same_template(taken, &spec.template)
        {
            // Another template hashes alike: the next attempt takes the collision in.
            deployment.status.get_or_insert_default().collision_count = Some(collisions + 1);
            plan.again(Duration::from_millis(10));
        }
        return;
    }
    let with_hash = |labels: Option<BTreeMap<String, String>>| {
        let mut labels = labels.unwrap_or_default();
        labels.insert(HASH.into(), hash.clone());
        Some(labels)
    };
    let mut template = spec.template.clone();
    let meta = template.metadata.get_or_insert_default();
    meta.labels = with_hash(meta.labels.take());
    let selector = LabelSelector {
        match_labels: with_hash(spec.selector.match_labels.clone()),
        match_expressions: spec.selector.match_expressions.clone(),
    };
    let room = (replicas(spec) + max_surge(spec) - total(sets)).max(0);
    let first = if is_recreate(spec) {
        if total(sets) == 0 && sets.iter().all(|set| running(set, view) == 0) {
            replicas(spec)
        } else {
            0
        }
    } else {
        replicas(spec).min(room)
    };
    let mut annotations = copied_annotations(deployment);
    annotations.insert(REVISION.into(), (newest_revision(sets) + 1).to_string());
    annotations.insert(DESIRED.into(), replicas(spec).to_string());
    annotations.insert(MAX.into(), (replicas(spec) + max_surge(spec)).to_string());
    let set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            labels: template.metadata.as_ref().and_then(|m| m.labels.clone()),
            annotations: Some(annotations),
            owner_references: Some(vec![controller_ref(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(first),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    };
    plan.note(
        "ScalingReplicaSet",
        format!("Scaled up replica set {name} from 0 to {first}"),
    );
    plan.writes.push(Write::Create {
        namespace,
        object: to_value(&set),
    });
}

/// One step of the way from the old replica sets to the current one.
fn roll(
    spec: &DeploymentSpec,
    current: &Arc<ReplicaSet>,
    old: &[&Arc<ReplicaSet>],
    view: &View,
    plan: &mut Plan,
) {
    let wanted = replicas(spec);
    if is_recreate(spec) {
        if old.iter().any(|set| size(set) > 0) {
            for set in old {
                scale(set, 0, spec, plan);
            }
        } else if old.iter().all(|set| running(set, view) == 0) {
            scale(current, wanted, spec, plan);
        }
        return;
    }
    let everything = size(current) + total(old);
    let grown = if size(current) > wanted {
        wanted
    } else {
        let room = (wanted + max_surge(spec) - everything).max(0);
        (size(current) + room).min(wanted)
    };
    scale(current, grown, spec, plan);
    // Old pods that are not available help nobody: they go first and cost no availability.
    let available = |set: &ReplicaSet| {
        set.status
            .as_ref()
            .and_then(|s| s.available_replicas)
            .unwrap_or(0)
    };
    let floor = (wanted - max_unavailable(spec)).max(0);
    let new_unavailable = (size(current) - available(current)).max(0);
    let mut budget = (everything - floor - new_unavailable).max(0);
    let mut by_age: Vec<&Arc<ReplicaSet>> = old.to_vec();
    by_age.sort_by_key(|set| (owner::created(&***set), set.metadata.name.clone()));
    let mut sizes: Vec<i32> = by_age.iter().map(|set| size(set)).collect();
    for (set, left) in by_age.iter().zip(&mut sizes) {
        let unhealthy = (*left - available(set)).max(0).min(budget);
        *left -= unhealthy;
        budget -= unhealthy;
    }
    let all_available = available(current) + by_age.iter().map(|set| available(set)).sum::<i32>();
    let mut spare = (all_available - floor).max(0);
    for left in &mut sizes {
        let step = (*left).min(spare);
        *left -= step;
        spare -= step;
    }
    for (set, left) in by_age.iter().zip(sizes) {
        scale(set, left, spec, plan);
    }
}

/// Sets a replica set's size and the annotations that describe the roll, where they differ.
fn scale(set: &ReplicaSet, to: i32, spec: &DeploymentSpec, plan: &mut Plan) {
    let from = size(set);
    let desired = replicas(spec).to_string();
    let max = (replicas(spec) + max_surge(spec)).to_string();
    let has = |key: &str, value: &String| {
        set.metadata.annotations.as_ref().and_then(|a| a.get(key)) == Some(value)
    };
    if from == to && (to == 0 || (has(DESIRED, &desired) && has(MAX, &max))) {
        return;
    }
    if from != to {
        let direction = if to > from { "up" } else { "down" };
        let name = set.metadata.name.as_deref().unwrap_or_default();
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
        subresource: None,
        patch,
    });
}

/// A template that comes back (a rollback) becomes the newest revision again.
fn mark_revision(
    deployment: &Deployment,
    current: &ReplicaSet,
    old: &[&Arc<ReplicaSet>],
    plan: &mut Plan,
) {
    let newest = newest_revision(old);
    let mine = revision(current);
    let wanted = if mine > newest { mine } else { newest + 1 };
    if wanted != mine {
        let patch = json!({"metadata": {"annotations": {REVISION: wanted.to_string()}}});
        plan.writes.push(Write::Patch {
            target: target(current),
            subresource: None,
            patch,
        });
    }
    let noted = deployment
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(REVISION));
    if noted != Some(&wanted.to_string()) {
        let patch = json!({"metadata": {"annotations": {REVISION: wanted.to_string()}}});
        plan.writes.push(Write::Patch {
            target: target(deployment),
            subresource: None,
            patch,
        });
    }
}

/// Removes the oldest empty replica sets beyond `revisionHistoryLimit`, once the roll is over.
fn clean_up(
    spec: &DeploymentSpec,
    current: &ReplicaSet,
    old: &[&Arc<ReplicaSet>],
    plan: &mut Plan,
) {
    if size(current) != replicas(spec) || total(old) > 0 {
        return;
    }
    let keep = spec.revision_history_limit.unwrap_or(10).max(0) as usize;
    let mut empty: Vec<&&Arc<ReplicaSet>> = old
        .iter()
        .filter(|set| size(set) == 0 && set.status.as_ref().is_some_and(|s| s.replicas == 0))
        .filter(|set| !owner::is_deleting(&****set))
        .collect();
    empty.sort_by_key(|set| revision(set));
    let surplus = empty.len().saturating_sub(keep);
    for set in empty.into_iter().take(surplus) {
        plan.writes.push(Write::delete(target(&***set)));
    }
}

fn report(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    current: Option<&Arc<ReplicaSet>>,
    sets: &[&Arc<ReplicaSet>],
    now: Timestamp,
    plan: &mut Plan,
) {
    let sum = |of: fn(&ReplicaSet) -> i32| sets.iter().map(|set| of(set)).sum::<i32>();
    let total = sum(|s| s.status.as_ref().map_or(0, |s| s.replicas));
    let ready = sum(|s| {
        s.status
            .as_ref()
            .and_then(|s| s.ready_replicas)
            .unwrap_or(0)
    });
    let available = sum(|s| {
        s.status
            .as_ref()
            .and_then(|s| s.available_replicas)
            .unwrap_or(0)
    });
    let updated = current
        .and_then(|set| set.status.as_ref())
        .map_or(0, |s| s.replicas);
    let old = deployment.status.clone().unwrap_or_default();
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let enough = available >= replicas(spec) - max_unavailable(spec);
    let (reason, message) = match enough {
        true => (
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        ),
        false => (
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        ),
    };
    set_condition(
        &mut conditions,
        "Available",
        enough,
        reason,
        message.into(),
        now,
    );
    let status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some_if(total.max(0) as usize),
        updated_replicas: some_if(updated.max(0) as usize),
        ready_replicas: some_if(ready.max(0) as usize),
        available_replicas: some_if(available.max(0) as usize),
        unavailable_replicas: some_if((replicas(spec).max(total) - available).max(0) as usize),
        collision_count: old.collision_count,
        conditions: old.conditions.clone(),
        terminating_replicas: old.terminating_replicas,
    };
    progress(spec, current, &status, &old, &mut conditions, now, plan);
    let status = DeploymentStatus {
        conditions: Some(conditions),
        ..status
    };
    let before = deployment.status.as_ref();
    if before != Some(&status) {
        let object = to_value(&Deployment {
            status: Some(status),
            ..deployment.clone()
        });
        plan.writes.push(Write::Status { object });
    }
}

/// The `Progressing` condition: complete, moving, or stuck for longer than the deadline.
fn progress(
    spec: &DeploymentSpec,
    current: Option<&Arc<ReplicaSet>>,
    status: &DeploymentStatus,
    old: &DeploymentStatus,
    conditions: &mut Vec<DeploymentCondition>,
    now: Timestamp,
    plan: &mut Plan,
) {
    let name = current
        .and_then(|set| set.metadata.name.as_deref())
        .unwrap_or_default();
    let wanted = replicas(spec);
    let complete = status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted;
    let before = conditions
        .iter()
        .find(|c| c.type_ == "Progressing")
        .cloned();
    if spec.paused == Some(true) {
        let message = "Deployment is paused".to_owned();
        return set_condition(
            conditions,
            "Progressing",
            true,
            "DeploymentPaused",
            message,
            now,
        );
    }
    if current.is_none() {
        let message = "Created new replica set".to_owned();
        return set_condition(
            conditions,
            "Progressing",
            true,
            "NewReplicaSetCreated",
            message,
            now,
        );
    }
    if complete {
        let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
        return set_condition(
            conditions,
            "Progressing",
            true,
            "NewReplicaSetAvailable",
            message,
            now,
        );
    }
    let counts = |s: &DeploymentStatus| {
        (
            s.replicas,
            s.updated_replicas,
            s.ready_replicas,
            s.available_replicas,
        )
    };
    let moved = counts(status) != counts(old)
        || before
            .as_ref()
            .is_none_or(|c| c.reason.as_deref() == Some("NewReplicaSetAvailable"));
    if moved {
        conditions.retain(|c| c.type_ != "Progressing" || c.status == "True");
        let message = format!("ReplicaSet \"{name}\" is progressing.");
        set_condition(
            conditions,
            "Progressing",
            true,
            "ReplicaSetUpdated",
            message,
            now,
        );
        if let Some(c) = conditions.iter_mut().find(|c| c.type_ == "Progressing") {
            c.last_update_time = Some(Time(now));
        }
    }
    let deadline = Duration::from_secs(spec.progress_deadline_seconds.unwrap_or(600).max(0) as u64);
    let since = conditions
        .iter()
        .find(|c| c.type_ == "Progressing")
        .and_then(|c| c.last_update_time.as_ref())
        .map_or(Duration::ZERO, |Time(t)| {
            Duration::try_from(now.duration_since(*t)).unwrap_or_default()
        });
    if since < deadline {
        plan.again(deadline - since);
    } else {
        let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
        set_condition(
            conditions,
            "Progressing",
            false,
            "ProgressDeadlineExceeded",
            message,
            now,
        );
    }
}

fn set_condition(
    conditions: &mut Vec<DeploymentCondition>,
    type_: &str,
    holds: bool,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let status = if holds { "True" } else { "False" };
    let old = conditions
        .iter()
        .position(|c| c.type_ == type_)
        .map(|at| conditions.remove(at));
    if let Some(same) = &old
        && same.status == status
        && same.reason.as_deref() == Some(reason)
        && same.message.as_deref() == Some(message.as_str())
    {
        conditions.push(same.clone());
        return;
    }
    let kept = old
        .filter(|o| o.status == status)
        .and_then(|o| o.last_transition_time);
    conditions.push(DeploymentCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(kept.unwrap_or(Time(now))),
    });
}

/// Whether a replica set was made from `template`, its hash label aside.
fn same_template(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let Some(mut theirs) = set.spec.as_ref().and_then(|s| s.template.clone()) else {
        return false;
    };
    if let Some(labels) = theirs.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove(HASH);
    }
    let normal = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        let meta = template.metadata.get_or_insert_default();
        meta.creation_timestamp = None;
        meta.labels = meta.labels.take().filter(|l| !l.is_empty());
        template
    };
    normal(&theirs) == normal(template)
}

/// Ten characters that no vowel can turn into a word, from the template's own bytes.
fn template_hash(template: &PodTemplateSpec, collisions: i32) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(template).unwrap_or_default());
    if collisions > 0 {
        hash.update(collisions.to_le_bytes());
    }
    hash.finalize()
        .iter()
        .take(10)
        .map(|b| ALPHABET[*b as usize % ALPHABET.len()] as char)
        .collect()
}

fn copied_annotations(deployment: &Deployment) -> BTreeMap<String, String> {
    let own = [
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        DESIRED,
        MAX,
    ];
    let given = deployment.metadata.annotations.clone().unwrap_or_default();
    given
        .into_iter()
        .filter(|(key, _)| !own.contains(&key.as_str()))
        .collect()
}

fn newest_revision(sets: &[&Arc<ReplicaSet>]) -> i64 {
    sets.iter().map(|set| revision(set)).max().unwrap_or(0)
}

fn revision(set: &ReplicaSet) -> i64 {
    let text = set
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(REVISION));
    text.and_then(|r| r.parse().ok()).unwrap_or(0)
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

fn total(sets: &[&Arc<ReplicaSet>]) -> i32 {
    sets.iter().map(|set| size(set)).sum()
}

/// Pods of a replica set that have not ended, those being deleted included.
fn running(set: &ReplicaSet, view: &View) -> usize {
    view.pods
        .owned_by(owner::uid(set))
        .filter(|pod| !pods::is_finished(pod))
        .count()
}

fn max_surge(spec: &DeploymentSpec) -> i32 {
    let rolling = spec
        .strategy
        .as_ref()
        .and_then(|s| s.rolling_update.as_ref());
    match is_recreate(spec) {
        true => 0,
        false => share(
            rolling.and_then(|r| r.max_surge.as_ref()),
            replicas(spec),
            true,
        ),
    }
}

/// Never zero together with the surge, or nothing could move.
fn max_unavailable(spec: &DeploymentSpec) -> i32 {
    if is_recreate(spec) || replicas(spec) == 0 {
        return 0;
    }
    let rolling = spec
        .strategy
        .as_ref()
        .and_then(|s| s.rolling_update.as_ref());
    let share = share(
        rolling.and_then(|r| r.max_unavailable.as_ref()),
        replicas(spec),
        false,
    );
    if share == 0 && max_surge(spec) == 0 {
        1
    } else {
        share.min(replicas(spec))
    }
}

/// A number, or a percentage of `of`; 25 % where nothing is said.
fn share(value: Option<&IntOrString>, of: i32, round_up: bool) -> i32 {
    let percent = |p: i64| {
        let product = i64::from(of) * p.max(0);
        let rounded = if round_up {
            (product + 99) / 100
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
