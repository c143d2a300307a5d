//! Rows of volumes, claims and what provides them.

use super::cell::{age, count, joined, name, or, string, words};
use crate::kinds::field::{flag, items, map, maybe_flag, present, text};
use jiff::Timestamp;
use serde_json::Value;

pub(super) fn persistent_volume(object: &Value, now: Timestamp) -> Vec<Value> {
    let claim = present(object, "/spec/claimRef")
        .map(|claim| format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")));
    vec![
        name(object),
        or(text(object, "/spec/capacity/storage"), "0").into(),
        access_modes(object, "/spec/accessModes").into(),
        string(object, "/spec/persistentVolumeReclaimPolicy"),
        phase(object),
        claim.unwrap_or_default().into(),
        class(object),
        or(text(object, "/spec/volumeAttributesClassName"), "<unset>").into(),
        string(object, "/status/reason"),
        age(object, now),
        or(text(object, "/spec/volumeMode"), "<unset>").into(),
    ]
}

pub(super) fn persistent_volume_claim(object: &Value, now: Timestamp) -> Vec<Value> {
    let volume = text(object, "/spec/volumeName");
    let (capacity, modes) = if volume.is_empty() {
        (String::new(), String::new())
    } else {
        (
            or(text(object, "/status/capacity/storage"), "0").to_owned(),
            access_modes(object, "/status/accessModes"),
        )
    };
    vec![
        name(object),
        phase(object),
        volume.into(),
        capacity.into(),
        modes.into(),
        class(object),
        or(text(object, "/spec/volumeAttributesClassName"), "<unset>").into(),
        age(object, now),
        or(text(object, "/spec/volumeMode"), "<unset>").into(),
    ]
}

fn phase(object: &Value) -> Value {
    if text(object, "/metadata/deletionTimestamp").is_empty() {
        string(object, "/status/phase")
    } else {
        "Terminating".into()
    }
}

/// Access modes by their short names, in a fixed order.
fn access_modes(object: &Value, pointer: &str) -> String {
    let given = items(object, pointer);
    [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ]
    .into_iter()
    .filter(|(mode, _)| given.iter().any(|held| held == mode))
    .map(|(_, short)| short)
    .collect::<Vec<_>>()
    .join(",")
}

/// The storage class: the annotation of old still wins over the field.
fn class(object: &Value) -> Value {
    map(object, "/metadata/annotations")
        .and_then(|annotations| annotations.get("volume.beta.kubernetes.io/storage-class"))
        .cloned()
        .unwrap_or_else(|| string(object, "/spec/storageClassName"))
}

/// The name, marked if the class is the one that is taken where none is named.
fn name_of_class(object: &Value, annotations: &[&str]) -> Value {
    let default = map(object, "/metadata/annotations").is_some_and(|held| {
        annotations
            .iter()
            .any(|key| held.get(*key).is_some_and(|value| value == "true"))
    });
    let name = text(object, "/metadata/name");
    if default {
        format!("{name} (default)").into()
    } else {
        name.into()
    }
}

pub(super) fn storage_class(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name_of_class(
            object,
            &[
                "storageclass.kubernetes.io/is-default-class",
                "storageclass.beta.kubernetes.io/is-default-class",
            ],
        ),
        string(object, "/provisioner"),
        or(text(object, "/reclaimPolicy"), "Delete").into(),
        or(text(object, "/volumeBindingMode"), "Immediate").into(),
        flag(object, "/allowVolumeExpansion").into(),
        age(object, now),
    ]
}

pub(super) fn volume_attributes_class(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name_of_class(
            object,
            &["volumeattributesclass.alpha.kubernetes.io/is-default-class"],
        ),
        string(object, "/driverName"),
        age(object, now),
    ]
}

pub(super) fn volume_attachment(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        string(object, "/spec/attacher"),
        string(object, "/spec/source/persistentVolumeName"),
        string(object, "/spec/nodeName"),
        flag(object, "/status/attached").into(),
        age(object, now),
    ]
}

pub(super) fn csi_driver(object: &Value, now: Timestamp) -> Vec<Value> {
    let tokens = present(object, "/spec/tokenRequests")
        .map(|_| words(items(object, "/spec/tokenRequests"), "/audience", ","));
    let modes = joined(items(object, "/spec/volumeLifecycleModes"), ",");
    vec![
        name(object),
        maybe_flag(object, "/spec/attachRequired")
            .unwrap_or(true)
            .into(),
        flag(object, "/spec/podInfoOnMount").into(),
        flag(object, "/spec/storageCapacity").into(),
        tokens.as_deref().unwrap_or("<unset>").into(),
        flag(object, "/spec/requiresRepublish").into(),
        or(&modes, "<none>").into(),
        age(object, now),
    ]
}

pub(super) fn csi_node(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        count(object, "/spec/drivers"),
        age(object, now),
    ]
}
