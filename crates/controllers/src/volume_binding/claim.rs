//! A claim: which volume it gets.

use std::time::Duration;

use api::storage::{self, Seeker};
use client::Key;
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus,
};
use serde_json::{Value, json};

use crate::owner::{self, target};
use crate::plan::{Plan, Write};
use crate::storage_protection;
use crate::view::View;
use crate::volume_binding::Promises;

/// When to look again at a claim that found nothing but what others were promised: they may not get it.
const PROMISES_ARE_KEPT_WITHIN: Duration = Duration::from_secs(1);

/// What the claim at `key` needs. Others were `promised` volumes.
pub(crate) fn reconcile(key: &Key, view: &View, promised: &Promises) -> Plan {
    let mut plan = Plan::default();
    let Some(claim) = view.claims.get(key) else {
        return plan;
    };
    let was_bound = storage::annotation(&claim.metadata, storage::BIND_COMPLETED).is_some();
    match storage::volume_of(claim) {
        name if was_bound => keep(&mut plan, claim, name, view),
        // It would be bound for nobody.
        _ if owner::is_deleting(&**claim) => {}
        Some(name) => take(&mut plan, claim, name, view),
        None => choose(&mut plan, claim, view, promised),
    }
    plan
}

/// A claim that was bound stays so, or has lost its volume.
fn keep(plan: &mut Plan, claim: &PersistentVolumeClaim, name: Option<&str>, view: &View) {
    let Some(name) = name else {
        let why = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lose(plan, claim, "ClaimLost", why);
    };
    let Some(volume) = view.volumes.get(&Key::new("", name)) else {
        let why = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
        return lose(plan, claim, "ClaimLost", why);
    };
    if storage::claim_of(volume).is_none() || storage::is_for(volume, claim) {
        return bind(plan, claim, volume);
    }
    let why = "Two claims are bound to the same volume, this one is bound incorrectly";
    lose(plan, claim, "ClaimMisbound", why);
}

/// The volume that the user names.
fn take(plan: &mut Plan, claim: &PersistentVolumeClaim, name: &str, view: &View) {
    let Some(volume) = view.volumes.get(&Key::new("", name)) else {
        return wait(plan, claim);
    };
    if storage::is_for(volume, claim) {
        return bind(plan, claim, volume);
    }
    let why = match storage::claim_of(volume) {
        Some(_) => {
            let why = format!("volume \"{name}\" already bound to a different claim.");
            Some(("FailedBinding", why))
        }
        None => storage::misfit(volume, claim).map(|why| {
            let why = format!("Cannot bind to requested volume \"{name}\": {why}");
            ("VolumeMismatch", why)
        }),
    };
    let Some((reason, why)) = why else {
        return bind(plan, claim, volume);
    };
    plan.warn(reason, why);
    wait(plan, claim);
}

/// Any volume that fits.
fn choose(plan: &mut Plan, claim: &PersistentVolumeClaim, view: &View, promised: &Promises) {
    let name = storage::class_of_claim(claim);
    let class = view.storage_classes.get(&Key::new("", name));
    let waits = class.is_some_and(|class| storage::waits(class));
    let key = owner::key_of(claim);
    let best = |taken: &dyn Fn(&PersistentVolume) -> bool| {
        let volumes = view.volumes.set_aside_for(&key);
        let volumes = volumes.chain(view.volumes.free_of_class(name));
        let seeker = Seeker::Claim { waits };
        storage::best(claim, volumes.map(|v| &**v), seeker, taken)
    };
    let is_promised = |volume: &PersistentVolume| {
        promised.has(owner::named(volume).name) && !storage::is_for(volume, claim)
    };
    if let Some(volume) = best(&is_promised) {
        return bind(plan, claim, volume);
    }
    if best(&|_| false).is_some() {
        plan.again(PROMISES_ARE_KEPT_WITHIN);
    }
    if let Some(default) = later_default(claim, view) {
        plan.writes.push(Write::Patch {
            target: target(claim),
            patch: json!({
                "metadata": {"resourceVersion": claim.metadata.resource_version},
                "spec": {"storageClassName": default},
            }),
        });
        return;
    }
    let is_selected = storage::annotation(&claim.metadata, storage::SELECTED_NODE).is_some();
    match class {
        _ if name.is_empty() => plan.note(
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set",
        ),
        None => plan.warn(
            "ProvisioningFailed",
            format!("storageclass.storage.k8s.io \"{name}\" not found"),
        ),
        Some(_) if waits && !is_selected => tell_what_it_waits_for(plan, claim, view),
        Some(class) => have_made(plan, claim, &class.provisioner),
    }
    wait(plan, claim);
}

/// The class of a claim that asks for none, and was made when there was no default.
fn later_default<'v>(claim: &PersistentVolumeClaim, view: &'v View) -> Option<&'v str> {
    if storage::asks_for_class(claim) {
        return None;
    }
    let classes = view
        .storage_classes
        .iter()
        .map(|(_, class)| &class.metadata);
    storage::default_of(classes, storage::DEFAULT_MARKS)
}

fn tell_what_it_waits_for(plan: &mut Plan, claim: &PersistentVolumeClaim, view: &View) {
    let key = owner::key_of(claim);
    let mut pods = view.pods.in_namespace(&key.namespace);
    let unplaced = pods.find(|pod| {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        node.unwrap_or_default().is_empty() && storage_protection::claims(pod).any(|c| c == key)
    });
    match unplaced {
        Some(pod) => {
            let name = owner::named(&**pod).name;
            let why = format!("waiting for pod {name} to be scheduled");
            plan.note("WaitForPodScheduled", why);
        }
        None => plan.note(
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding",
        ),
    }
}

/// Has the class's provisioner make a volume.
fn have_made(plan: &mut Plan, claim: &PersistentVolumeClaim, provisioner: &str) {
    // Those of this name were parts of Kubernetes itself, and are none of carob.
    if provisioner.starts_with("kubernetes.io/") {
        let why = format!("no volume plugin matched name: {provisioner}");
        return plan.warn("ProvisioningFailed", why);
    }
    let names = [
        storage::STORAGE_PROVISIONER,
        storage::ELDER_STORAGE_PROVISIONER,
    ];
    let is_told = |name| storage::annotation(&claim.metadata, name) == Some(provisioner);
    if names.into_iter().all(is_told) {
        return;
    }
    plan.note("ExternalProvisioning", format!("Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."));
    plan.writes.push(Write::Patch {
        target: target(claim),
        patch: json!({"metadata": {
            "resourceVersion": claim.metadata.resource_version,
            "annotations": names.map(|name| (name, provisioner)).into_iter().collect::<Value>(),
        }}),
    });
}

/// The next write of four.
fn bind(plan: &mut Plan, claim: &PersistentVolumeClaim, volume: &PersistentVolume) {
    let named = storage::claim_of(volume);
    if named.and_then(|of| of.uid.as_ref()) != claim.metadata.uid.as_ref() {
        plan.writes.push(Write::Patch {
            target: target(volume),
            patch: name_claim(claim, volume),
        });
        return;
    }
    let name = owner::named(volume).name;
    if storage::volume_of(claim) != Some(name) || !storage::is_bound(claim) {
        let mut annotations = json!({storage::BIND_COMPLETED: "yes"});
        if storage::volume_of(claim).is_none() {
            annotations[storage::BOUND_BY_CONTROLLER] = "yes".into();
        }
        plan.writes.push(Write::Patch {
            target: target(claim),
            patch: json!({
                "metadata": {"resourceVersion": claim.metadata.resource_version, "annotations": annotations},
                "spec": {"volumeName": name},
            }),
        });
        return;
    }
    let spec = volume.spec.as_ref();
    report(plan, claim, |status| {
        status.phase = Some("Bound".to_owned());
        status.access_modes = spec.and_then(|spec| spec.access_modes.clone());
        status.capacity = spec.and_then(|spec| spec.capacity.clone());
    });
}

/// The patch by which a volume is set aside for a claim, on the condition that it is as it was seen.
fn name_claim(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Value {
    let meta = &claim.metadata;
    let mut patch = json!({
        "metadata": {"resourceVersion": volume.metadata.resource_version},
        "spec": {"claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        }},
    });
    if storage::claim_of(volume).is_none() {
        patch["metadata"]["annotations"] = json!({storage::BOUND_BY_CONTROLLER: "yes"});
    }
    patch
}

fn wait(plan: &mut Plan, claim: &PersistentVolumeClaim) {
    // What the plan writes of the claim comes first: a status is of the claim as it was seen.
    if plan.writes.is_empty() {
        report(plan, claim, |status| {
            status.phase = Some("Pending".to_owned())
        });
    }
}

fn lose(plan: &mut Plan, claim: &PersistentVolumeClaim, reason: &'static str, why: &str) {
    report(plan, claim, |status| {
        status.phase = Some("Lost".to_owned());
        status.access_modes = None;
        status.capacity = None;
    });
    if !plan.writes.is_empty() {
        plan.warn(reason, why);
    }
}

/// Changes the claim's status, if that is a change.
fn report(
    plan: &mut Plan,
    claim: &PersistentVolumeClaim,
    change: impl FnOnce(&mut PersistentVolumeClaimStatus),
) {
    let mut status = claim.status.clone().unwrap_or_default();
    change(&mut status);
    if claim.status.as_ref() != Some(&status) {
        plan.writes
            .push(Write::status(claim, claim.status.as_ref(), &status));
    }
}
