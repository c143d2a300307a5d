//! A replica set for a template: whether one is of it, and a new one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::Key;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use sha2::{Digest, Sha256};

use super::{
    DESIRED, HASH, MAX, REVISION, Sets, is_recreate, max_surge, replicas, revision, roll, size,
};
use crate::owner::{self, controller_ref, to_value};
use crate::plan::{Plan, Write};
use crate::view::View;

/// How soon a hash that was taken is tried anew.
const AGAIN: Duration = Duration::from_millis(10);

/// What came of making a replica set.
pub(super) enum Start {
    /// One of this name is to be made.
    Made(String),
    /// The name is another's: the next attempt takes one more collision in.
    Collision,
}

/// Makes the replica set for a template that none has yet.
pub(super) fn start(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    sets: &Sets<'_>,
    view: &View,
    plan: &mut Plan,
) -> Start {
    let owner::Named { namespace, name } = owner::named(deployment);
    let collisions = deployment.status.as_ref().and_then(|s| s.collision_count);
    let hash = hash(&spec.template, collisions.unwrap_or(0));
    let name = format!("{name}-{hash}");
    let key = Key::new(namespace, name.clone());
    if view.replica_sets.get(&key).is_some() {
        plan.again(AGAIN);
        return Start::Collision;
    }
    let first = first_size(spec, sets, view);
    if first > 0 {
        plan.note(
            "ScalingReplicaSet",
            format!("Scaled up replica set {name} from 0 to {first}"),
        );
    }
    let set = replica_set(deployment, spec, sets, &name, &hash, first);
    plan.writes.push(Write::Create {
        namespace: namespace.to_owned(),
        object: to_value(&set),
    });
    Start::Made(name)
}

fn first_size(spec: &DeploymentSpec, sets: &Sets<'_>, view: &View) -> i32 {
    let wanted = replicas(spec);
    if !is_recreate(spec) {
        return wanted.min(roll::room(spec, sets, view));
    }
    let quiet = |set: &Arc<ReplicaSet>| size(set) == 0 && roll::unfinished(set, view) == 0;
    if sets.old.iter().all(|set| quiet(set)) {
        wanted
    } else {
        0
    }
}

fn replica_set(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    sets: &Sets<'_>,
    name: &str,
    hash: &str,
    first: i32,
) -> ReplicaSet {
    let with_hash = |labels: Option<BTreeMap<String, String>>| {
        let mut labels = labels.unwrap_or_default();
        labels.insert(HASH.into(), hash.to_owned());
        Some(labels)
    };
    let mut template = spec.template.clone();
    let meta = template.metadata.get_or_insert_default();
    meta.labels = with_hash(meta.labels.take());
    let labels = meta.labels.clone();
    let wanted = replicas(spec);
    let max = wanted.saturating_add(max_surge(spec));
    let mut annotations = revision::copied(deployment);
    let newest = revision::newest(sets.all());
    annotations.insert(REVISION.into(), (newest + 1).to_string());
    annotations.insert(DESIRED.into(), wanted.to_string());
    annotations.insert(MAX.into(), max.to_string());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: deployment.metadata.namespace.clone(),
            labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_ref(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(first),
            min_ready_seconds: spec.min_ready_seconds,
            selector: LabelSelector {
                match_labels: with_hash(spec.selector.match_labels.clone()),
                match_expressions: spec.selector.match_expressions.clone(),
            },
            template: Some(template),
        }),
        status: None,
    }
}

/// Whether a replica set was made from `template`, its hash label aside.
pub(super) fn is_of(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let theirs = set.spec.as_ref().and_then(|s| s.template.as_ref());
    let normal = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        let meta = template.metadata.get_or_insert_default();
        meta.creation_timestamp = None;
        if let Some(labels) = meta.labels.as_mut() {
            labels.remove(HASH);
        }
        meta.labels = meta.labels.take().filter(|l| !l.is_empty());
        meta.annotations = meta.annotations.take().filter(|a| !a.is_empty());
        template
    };
    theirs.is_some_and(|theirs| normal(theirs) == normal(template))
}

/// Ten characters that no vowel can turn into a word, from the template's own bytes.
pub(super) fn hash(template: &PodTemplateSpec, collisions: i32) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(template).expect("API types have string keys"));
    if collisions > 0 {
        hash.update(collisions.to_le_bytes());
    }
    hash.finalize()
        .iter()
        .take(10)
        .map(|b| ALPHABET[*b as usize % ALPHABET.len()] as char)
        .collect()
}
