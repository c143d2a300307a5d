//! Storage that is in use: a claim stays until no pod uses it, a volume until no claim has it.
//!
//! The API server gives both their finalizers when they are made; those that were made without get them here.

use std::time::Duration;

use api::storage;
use client::{Key, Kind};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

use crate::owner::{self, target};
use crate::plan::{Plan, Write};
use crate::pods::without_finalizer;
use crate::view::View;

/// What keeps a claim.
const CLAIM: &str = "kubernetes.io/pvc-protection";
/// What keeps a volume.
const VOLUME: &str = storage::PROTECTION;

/// When a claim is looked at again that could be let go.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Protects the claim at `key`, or lets it go.
pub(crate) fn reconcile_claim(key: &Key, view: &View) -> Plan {
    let mut plan = Plan::default();
    let Some(claim) = view.claims.get(key) else {
        return plan;
    };
    let is_used = || {
        let mut pods = view.pods.in_namespace(&key.namespace);
        pods.any(|pod| uses(pod, claim))
    };
    match step(&**claim, CLAIM) {
        Step::None => {}
        Step::Protect(patch) => plan.writes.push(Write::Patch {
            target: target(&**claim),
            patch,
        }),
        Step::LetGo(_) if is_used() => {}
        Step::LetGo(patch) => {
            // Who uses it after all may come and go without ever being in view.
            plan.again(LOOK_AGAIN);
            plan.writes.push(Write::LetGo {
                claim: claim.clone(),
                patch,
            });
        }
    }
    plan
}

/// Protects the volume at `key`, or lets it go.
pub(crate) fn reconcile_volume(key: &Key, view: &View) -> Plan {
    let mut plan = Plan::default();
    let Some(volume) = view.volumes.get(key) else {
        return plan;
    };
    let is_bound = || storage::phase(volume) == "Bound" || is_claimed(volume, view);
    let patch = match step(&**volume, VOLUME) {
        Step::None => return plan,
        Step::LetGo(_) if is_bound() => return plan,
        Step::LetGo(patch) | Step::Protect(patch) => patch,
    };
    plan.writes.push(Write::Patch {
        target: target(&**volume),
        patch,
    });
    plan
}

/// Whether the claim that a volume names has it: pods may use it before the volume's own status says so.
fn is_claimed(volume: &PersistentVolume, view: &View) -> bool {
    let Some(of) = storage::claim_of(volume) else {
        return false;
    };
    let key = Key::new(
        of.namespace.clone().unwrap_or_default(),
        of.name.clone().unwrap_or_default(),
    );
    let claim = view.claims.get(&key);
    claim.is_some_and(|claim| {
        claim.metadata.uid == of.uid && storage::volume_of(claim) == volume.metadata.name.as_deref()
    })
}

/// The claims that a pod names, those of its own making among them.
pub(crate) fn claims(pod: &Pod) -> impl Iterator<Item = Key> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter_map(move |volume| {
        let claim = volume.persistent_volume_claim.as_ref();
        let name = match &volume.ephemeral {
            Some(_) => own_claim(pod, &volume.name),
            None => claim?.claim_name.clone(),
        };
        Some(Key::new(namespace, name))
    })
}

/// Whether a pod uses the claim, as Kubernetes judges it: one without a node does not, for no node starts a pod whose
/// claim is being deleted. One that has finished does while it is there. Of a claim of the pod's own making nothing is
/// left to use when the pod has been ended: its deletion may be what the pod still waits for.
pub(crate) fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let Some(spec) = &pod.spec else {
        return false;
    };
    let is_placed = spec.node_name.as_ref().is_some_and(|n| !n.is_empty());
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let is_own = || {
        let of = owner::controller_of(&claim.metadata);
        of.is_some_and(|o| o.uid == owner::uid(pod)) && !is_shut_down(pod)
    };
    let mut volumes = spec.volumes.iter().flatten();
    is_placed
        && volumes.any(|volume| {
            let named = volume.persistent_volume_claim.as_ref();
            named.is_some_and(|named| named.claim_name == name)
                || volume.ephemeral.is_some() && own_claim(pod, &volume.name) == name && is_own()
        })
}

/// The claim that is made for an ephemeral volume.
fn own_claim(pod: &Pod, volume: &str) -> String {
    storage::ephemeral_claim(owner::named(pod).name, volume)
}

/// Its node has ended it, or nobody waits for that.
fn is_shut_down(pod: &Pod) -> bool {
    owner::is_deleting(pod) && pod.metadata.deletion_grace_period_seconds == Some(0)
}

/// What is to be done about an object's protection.
enum Step {
    None,
    Protect(Value),
    /// It is being deleted; with this patch it may go, if nobody uses it.
    LetGo(Value),
}

fn step<T: Kind>(object: &T, finalizer: &str) -> Step {
    let meta = object.metadata();
    let held = meta.finalizers.iter().flatten().any(|f| f == finalizer);
    match (owner::is_deleting(object), held) {
        (true, true) => Step::LetGo(without_finalizer(meta, finalizer)),
        (false, false) => {
            let mut all = meta.finalizers.clone().unwrap_or_default();
            all.push(finalizer.to_owned());
            let version = &meta.resource_version;
            Step::Protect(json!({"metadata": {"finalizers": all, "resourceVersion": version}}))
        }
        _ => Step::None,
    }
}

#[cfg(test)]
mod tests;
