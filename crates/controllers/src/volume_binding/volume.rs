//! A volume: whether its claim is still there, and what becomes of it when that has gone.

use api::storage;
use client::Key;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use serde_json::json;

use crate::owner::target;
use crate::plan::{Plan, Target, Write};
use crate::view::View;

/// What the volume at `key` needs.
pub(crate) fn reconcile(key: &Key, view: &View) -> Plan {
    let mut plan = Plan::default();
    let Some(volume) = view.volumes.get(key) else {
        return plan;
    };
    let claim = storage::claim_of(volume);
    let Some(of) = claim.filter(|of| of.uid.as_ref().is_some_and(|uid| !uid.is_empty())) else {
        // Nobody's, or set aside for a claim that has not been there.
        report(&mut plan, volume, "Available");
        return plan;
    };
    let at = Key::new(
        of.namespace.clone().unwrap_or_default(),
        of.name.clone().unwrap_or_default(),
    );
    let claim = view.claims.get(&at);
    let claim = claim.filter(|claim| claim.metadata.uid == of.uid);
    match claim.map(|claim| storage::volume_of(claim)) {
        None => let_go(&mut plan, volume, of, &at),
        // It is about to be bound.
        Some(None) => {}
        Some(Some(name)) if name == key.name => report(&mut plan, volume, "Bound"),
        Some(Some(_)) => unbind(&mut plan, volume),
    }
    plan
}

/// The claim is gone.
fn let_go(plan: &mut Plan, volume: &PersistentVolume, of: &ObjectReference, claim: &Key) {
    match storage::phase(volume) {
        "Released" => reclaim(plan, volume),
        "Failed" => {}
        _ => plan.writes.push(Write::Release {
            volume: target(volume),
            claim: Target {
                api_version: "v1".to_owned(),
                kind: <PersistentVolumeClaim as k8s_openapi::Resource>::KIND.to_owned(),
                key: claim.clone(),
                uid: of.uid.clone().unwrap_or_default(),
            },
            patch: status(volume, "Released", None),
        }),
    }
}

/// Nobody but who made a volume knows how to remove what is on it, or to empty it.
fn reclaim(plan: &mut Plan, volume: &PersistentVolume) {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let spec = volume.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let is_made = storage::annotation(&volume.metadata, storage::PROVISIONED_BY).is_some();
    let (reason, why) = match policy {
        Some("Delete") if !is_made => {
            let why = format!(
                "error getting deleter volume plugin for volume \"{name}\": no deletable volume plugin matched"
            );
            ("VolumeFailedDelete", why)
        }
        Some("Recycle") => {
            let why = "No recycler plugin found for the volume!".to_owned();
            ("VolumeFailedRecycle", why)
        }
        _ => return,
    };
    plan.writes.push(Write::Status {
        target: target(volume),
        patch: status(volume, "Failed", Some(&why)),
    });
    plan.warn(reason, why);
}

/// The claim that it was meant for has another volume. One that was made for it is of no use to anybody else; any other is
/// free again, but keeps what its owner wrote.
fn unbind(plan: &mut Plan, volume: &PersistentVolume) {
    let meta = &volume.metadata;
    let spec = volume.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    if storage::annotation(meta, storage::PROVISIONED_BY).is_some() && policy == Some("Delete") {
        return report(plan, volume, "Released");
    }
    let patch = match storage::annotation(meta, storage::BOUND_BY_CONTROLLER) {
        Some(_) => json!({
            "metadata": {
                "resourceVersion": meta.resource_version,
                "annotations": {storage::BOUND_BY_CONTROLLER: null},
            },
            "spec": {"claimRef": null},
        }),
        None => json!({
            "metadata": {"resourceVersion": meta.resource_version},
            "spec": {"claimRef": {"uid": null, "resourceVersion": null}},
        }),
    };
    plan.writes.push(Write::Patch {
        target: target(volume),
        patch,
    });
}

/// Changes the volume's phase, if that is a change.
fn report(plan: &mut Plan, volume: &PersistentVolume, phase: &str) {
    if storage::phase(volume) != phase {
        plan.writes.push(Write::Status {
            target: target(volume),
            patch: status(volume, phase, None),
        });
    }
}

/// The patch of a volume's status, on the condition that it is as it was seen.
fn status(volume: &PersistentVolume, phase: &str, message: Option<&str>) -> serde_json::Value {
    json!({
        "metadata": {"resourceVersion": volume.metadata.resource_version},
        "status": {"phase": phase, "message": message},
    })
}
