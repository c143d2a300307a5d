//! The provisioner `carob.dev/local-path`: volumes that are directories on the nodes' own disks.
//!
//! It makes the object of a volume for a claim whose node the scheduler has chosen. The directory is the node's to make, when the volume is
//! first mounted, and to remove. A finalizer keeps the object until it has; where the directory is to be kept, or the
//! node is gone for ever, it goes without.

#[cfg(test)]
mod tests;

use api::storage;
use client::Key;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

use crate::owner::{self, target};
use crate::plan::{Plan, Write};
use crate::pods::without_finalizer;
use crate::view::View;

/// What a claim may be used as: its volume is on one node.
const MODES: [&str; 2] = ["ReadWriteOnce", "ReadWriteOncePod"];

/// Makes the volume of the claim at `key`, if that is wanted here.
pub(crate) fn reconcile_claim(key: &Key, view: &View) -> Plan {
    let mut plan = Plan::default();
    let Some(claim) = view.claims.get(key) else {
        return plan;
    };
    if storage::is_bound(claim) {
        grow(&mut plan, claim, view);
        return plan;
    }
    let asked = storage::annotation(&claim.metadata, storage::STORAGE_PROVISIONER);
    let is_done = storage::volume_of(claim).is_some() || owner::is_deleting(&**claim);
    let name = storage::class_of_claim(claim);
    let class = view.storage_classes.get(&Key::new("", name));
    let Some(class) = class.filter(|class| class.provisioner == storage::PROVISIONER) else {
        return plan;
    };
    let volume = format!("pvc-{}", owner::uid(&**claim));
    let is_there = view.volumes.get(&Key::new("", volume.as_str())).is_some();
    if asked != Some(storage::PROVISIONER) || is_done || is_there {
        return plan;
    }
    let made = match node_for(claim, view) {
        Ok(node) => {
            refusal(claim, class).map_or_else(|| Ok(object(claim, class, &volume, &node)), Err)
        }
        // It waits for a pod.
        Err(Unplaced::Nowhere) if storage::waits(class) => return plan,
        Err(Unplaced::Nowhere) => Err("configuration error, no node was specified".to_owned()),
        Err(Unplaced::Gone(node)) => {
            // So that the scheduler chooses another.
            plan.writes.push(Write::Patch {
                target: target(&**claim),
                patch: json!({"metadata": {
                    "resourceVersion": claim.metadata.resource_version,
                    "annotations": {storage::SELECTED_NODE: null},
                }}),
            });
            Err(format!("node \"{node}\" not found"))
        }
    };
    match made {
        Ok(object) => {
            let (namespace, claim) = (&key.namespace, &key.name);
            let why = format!(
                "External provisioner is provisioning volume for claim \"{namespace}/{claim}\""
            );
            plan.note("Provisioning", why);
            plan.writes.push(Write::Create {
                namespace: String::new(),
                object,
            });
            let why = format!("Successfully provisioned volume {volume}");
            plan.note("ProvisioningSucceeded", why);
        }
        Err(why) => {
            let why = format!("failed to provision volume with StorageClass \"{name}\": {why}");
            plan.warn("ProvisioningFailed", why);
        }
    }
    plan
}

/// Gives a claim that asks for more a larger volume, where its class says so. Its directory has no size.
fn grow(plan: &mut Plan, claim: &PersistentVolumeClaim, view: &View) {
    let name = storage::volume_of(claim).unwrap_or_default();
    let class = Key::new("", storage::class_of_claim(claim));
    let may_grow = view.storage_classes.get(&class).is_some_and(|class| {
        class.allow_volume_expansion == Some(true) && class.provisioner == storage::PROVISIONER
    });
    let volume = view.volumes.get(&Key::new("", name)).filter(|_| may_grow);
    let is_small = |volume: &PersistentVolume| {
        storage::is_for(volume, claim) && storage::capacity(volume) < storage::asked(claim)
    };
    if let Some(volume) = volume.filter(|volume| is_small(volume)) {
        plan.writes.push(Write::Patch {
            target: target(&**volume),
            patch: json!({
                "metadata": {"resourceVersion": volume.metadata.resource_version},
                "spec": {"capacity": {"storage": size(claim)}},
            }),
        });
        plan.note("VolumeResizeSuccessful", "Resize volume succeeded");
    }
}

/// What a claim asks for, as it says it.
fn size(claim: &PersistentVolumeClaim) -> Value {
    let asked = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let asked = asked.and_then(|resources| resources.requests.as_ref()?.get("storage"));
    json!(asked)
}

/// Why it is not known where a volume is to lie.
enum Unplaced {
    /// No pod that uses the claim was placed.
    Nowhere,
    /// The node is not there any more.
    Gone(String),
}

fn node_for(claim: &PersistentVolumeClaim, view: &View) -> Result<String, Unplaced> {
    let node = storage::annotation(&claim.metadata, storage::SELECTED_NODE);
    let node = node.ok_or(Unplaced::Nowhere)?;
    match view.nodes.get(&Key::new("", node)) {
        Some(_) => Ok(node.to_owned()),
        None => Err(Unplaced::Gone(node.to_owned())),
    }
}

/// What of a claim or its class cannot be had.
fn refusal(claim: &PersistentVolumeClaim, class: &StorageClass) -> Option<String> {
    let modes = storage::modes_of_claim(claim);
    if !modes.iter().all(|mode| MODES.contains(&mode.as_str())) {
        return Some(format!(
            "{} only supports the access modes ReadWriteOnce and ReadWriteOncePod",
            storage::PROVISIONER
        ));
    }
    let spec = claim.spec.as_ref();
    if spec.is_some_and(|spec| spec.volume_mode.as_deref() == Some("Block")) {
        return Some(format!(
            "{} does not support block volume provisioning",
            storage::PROVISIONER
        ));
    }
    if spec.is_some_and(|spec| spec.selector.is_some()) {
        return Some("claim.Spec.Selector is not supported".to_owned());
    }
    if spec.is_some_and(|spec| spec.data_source.is_some() || spec.data_source_ref.is_some()) {
        return Some("claim.Spec.DataSource is not supported".to_owned());
    }
    let options = class.mount_options.as_deref().unwrap_or_default();
    if !options.is_empty() {
        return Some(format!(
            "Mount options are not supported by the provisioner but StorageClass has mount options {options:?}"
        ));
    }
    let unknown = class.parameters.iter().flatten().next();
    unknown.map(|(name, _)| format!("invalid parameter \"{name}\""))
}

/// The volume, set aside for its claim.
fn object(claim: &PersistentVolumeClaim, class: &StorageClass, name: &str, node: &str) -> Value {
    let meta = &claim.metadata;
    let on_node = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "annotations": {storage::PROVISIONED_BY: storage::PROVISIONER},
            "labels": {storage::NODE: node},
            "finalizers": [storage::PROVISIONER],
        },
        "spec": {
            "accessModes": storage::modes_of_claim(claim),
            "capacity": {"storage": size(claim)},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": meta.namespace,
                "name": meta.name,
                "uid": meta.uid,
                "resourceVersion": meta.resource_version,
            },
            // Below the node's own directory of volumes.
            "local": {"path": name},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}},
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "storageClassName": class.metadata.name,
            "volumeMode": "Filesystem",
        },
    })
}

/// Deletes the volume at `key` when its claim has gone and it is to go, too; and lets go what no node will remove.
pub(crate) fn reconcile_volume(key: &Key, view: &View) -> Plan {
    let mut plan = Plan::default();
    let Some(volume) = view.volumes.get(key) else {
        return plan;
    };
    let made_by = storage::annotation(&volume.metadata, storage::PROVISIONED_BY);
    if made_by != Some(storage::PROVISIONER) {
        return plan;
    }
    let spec = volume.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let is_removed = policy == Some("Delete");
    if !owner::is_deleting(&**volume) {
        if is_removed && storage::phase(volume) == "Released" {
            plan.writes.push(Write::delete(target(&**volume)));
        }
        return plan;
    }
    let held = |name| {
        volume
            .metadata
            .finalizers
            .iter()
            .flatten()
            .any(|f| f == name)
    };
    if !held(storage::PROVISIONER) || held(storage::PROTECTION) {
        return plan;
    }
    if !is_removed || !is_node_there(volume, view) {
        plan.writes.push(Write::Patch {
            target: target(&**volume),
            patch: without_finalizer(&volume.metadata, storage::PROVISIONER),
        });
    }
    plan
}

fn is_node_there(volume: &PersistentVolume, view: &View) -> bool {
    let node = volume
        .metadata
        .labels
        .as_ref()
        .and_then(|l| l.get(storage::NODE));
    node.is_some_and(|node| view.nodes.get(&Key::new("", node.as_str())).is_some())
}
