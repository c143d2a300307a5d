//! Revisions: which template came when, for `kubectl rollout history` and `undo`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use serde_json::{Value, json};

use super::{DESIRED, MAX, REVISION, REVISION_HISTORY, Sets};
use crate::owner::target;
use crate::plan::{Plan, Write};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The revision that a replica set stands for; 0 for none.
pub(super) fn of(set: &ReplicaSet) -> i64 {
    let text = set
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(REVISION));
    text.and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// The newest revision there is among these.
pub(super) fn newest<'a>(sets: impl Iterator<Item = &'a Arc<ReplicaSet>>) -> i64 {
    sets.map(|set| of(set)).max().unwrap_or(0)
}

/// Makes a template that comes back (a rollback) the newest revision again, and keeps what the
/// replica set tells of its deployment up to date.
pub(super) fn mark(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    sets: &Sets<'_>,
    plan: &mut Plan,
) {
    let Some(current) = sets.current else {
        return;
    };
    let newest = newest(sets.old.iter().copied());
    let mine = of(current);
    let wanted = if mine > newest { mine } else { newest + 1 };
    let mut annotations: BTreeMap<String, String> = copied(deployment);
    if wanted != mine {
        annotations.insert(REVISION.into(), wanted.to_string());
        if mine > 0 {
            annotations.insert(REVISION_HISTORY.into(), history(current, mine));
        }
    }
    let has = current.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, value| has.get(key) != Some(value));
    let min_ready = |seconds: Option<i32>| seconds.unwrap_or(0);
    let theirs = current.spec.as_ref().and_then(|s| s.min_ready_seconds);
    let mut patch = json!({});
    if !annotations.is_empty() {
        patch["metadata"]["annotations"] = json!(annotations);
    }
    if min_ready(theirs) != min_ready(spec.min_ready_seconds) {
        patch["spec"]["minReadySeconds"] = min_ready(spec.min_ready_seconds).into();
    }
    if patch != json!({}) {
        push(target(&**current), patch, plan);
    }
    let noted = deployment.metadata.annotations.as_ref();
    if noted.and_then(|a| a.get(REVISION)) != Some(&wanted.to_string()) {
        let patch = json!({"metadata": {"annotations": {REVISION: wanted.to_string()}}});
        push(target(deployment), patch, plan);
    }
}

fn push(target: crate::plan::Target, patch: Value, plan: &mut Plan) {
    plan.writes.push(Write::Patch { target, patch });
}

/// The revisions that a replica set was before, this one included.
fn history(set: &ReplicaSet, mine: i64) -> String {
    let before = set.metadata.annotations.as_ref();
    match before.and_then(|a| a.get(REVISION_HISTORY)) {
        Some(before) if !before.is_empty() => format!("{before},{mine}"),
        _ => mine.to_string(),
    }
}

/// The annotations that a deployment hands on to its replica sets.
pub(super) fn copied(deployment: &Deployment) -> BTreeMap<String, String> {
    let own = [LAST_APPLIED, REVISION, REVISION_HISTORY, DESIRED, MAX];
    let given = deployment.metadata.annotations.clone().unwrap_or_default();
    given
        .into_iter()
        .filter(|(key, _)| !own.contains(&key.as_str()))
        .collect()
}
