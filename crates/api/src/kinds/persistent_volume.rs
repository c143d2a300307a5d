//! PersistentVolumes. Different from a stock API server: no `pv-protection` finalizer is added
//! while no controller would take it away.

use super::field::{child, default, default_text, map, present, same, spec, text};
use super::names::one_of;
use super::persistent_volume_claim::access_modes;
use super::{Hooks, names, pod_spec, quantities, template, volume_source};
use crate::status::{FieldError, FieldPath};
use crate::write::Context;
use serde_json::{Value, json};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "v1 PersistentVolume",
    default: fill,
    prepare,
    validate,
};

fn fill(volume: &mut Value) {
    let Some(spec) = spec(volume) else { return };
    default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    default_text(spec, "volumeMode", "Filesystem");
    if let Some(path) = child(spec, "hostPath") {
        default(path, "type", "");
    }
    pod_spec::azure_disk(spec);
}

fn prepare(volume: &mut Value, old: Option<&Value>, context: &Context) {
    if old.is_none() {
        let now = crate::time::format(context.now);
        volume["status"] = json!({"phase": "Pending", "lastPhaseTransitionTime": now});
    }
}

/// Fields of the spec that are not where the files come from.
const NO_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn validate(volume: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &volume["spec"];
    if old.is_some_and(|old| old["spec"] == *spec) {
        return;
    }
    let path = FieldPath::new("spec");
    access_modes(spec, "", &path, errors);
    capacity(spec, &path.child("capacity"), errors);
    let policies = ["Delete", "Recycle", "Retain"];
    let policy = "persistentVolumeReclaimPolicy";
    one_of(errors, spec, policy, &path, &policies);
    if let Some(affinity) = present(spec, "/nodeAffinity") {
        let at = path.child("nodeAffinity").child("required");
        match present(affinity, "/required") {
            Some(selector) => pod_spec::node_selector(selector, &at, errors),
            None => errors.push(FieldError::required(
                &at,
                "must specify required node constraints",
            )),
        }
    }
    source(spec, &path, errors);
    let at = text(spec, "/hostPath/path");
    let root = !at.is_empty() && at.split('/').all(|part| matches!(part, "" | "."));
    if root && text(spec, "/persistentVolumeReclaimPolicy") == "Recycle" {
        errors.push(FieldError::forbidden(
            &path.child(policy),
            "may not be 'recycle' for a hostPath mount of '/'",
        ));
    }
    let class = text(spec, "/storageClassName");
    if !class.is_empty() {
        let path = path.child("storageClassName");
        names::check(errors, &path, class, names::dns_subdomain);
    }
    one_of(errors, spec, "volumeMode", &path, &["Block", "Filesystem"]);
    attributes_class(spec, &path, errors);
    if let Some(old) = old {
        update(spec, &old["spec"], &path, errors);
    }
}

fn capacity(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let held = map(spec, "/capacity");
    if held.is_none_or(serde_json::Map::is_empty) {
        errors.push(FieldError::required(path, ""));
    } else if held.is_some_and(|held| held.len() > 1 || !held.contains_key("storage")) {
        let held = spec["capacity"].clone();
        errors.push(FieldError::not_supported(path, held, &["storage"]));
    }
    for (resource, amount) in held.into_iter().flatten() {
        quantities::positive(amount, &path.key(resource), errors);
    }
}

/// Judges the one source that must be there.
fn source(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut seen = false;
    let fields = map(spec, "").into_iter().flatten();
    let is_source = |field: &str| !NO_SOURCES.contains(&field);
    for (kind, held) in fields.filter(|(field, held)| is_source(field) && !held.is_null()) {
        let at = path.child(kind);
        if seen {
            let why = "may not specify more than 1 volume type";
            errors.push(FieldError::forbidden(&at, why));
            continue;
        }
        seen = true;
        match kind.as_str() {
            "csi" => driver(held, &at, errors),
            "local" if present(spec, "/nodeAffinity").is_none() => {
                volume_source::validate(kind, held, &at, errors);
                errors.push(FieldError::required(
                    &path.child("nodeAffinity"),
                    "Local volume requires node affinity",
                ));
            }
            _ => volume_source::validate(kind, held, &at, errors),
        }
    }
    if !seen {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
}

fn driver(source: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let name = text(source, "/driver");
    volume_source::driver_name(name, &path.child("driver"), errors);
    if text(source, "/volumeHandle").is_empty() {
        errors.push(FieldError::required(&path.child("volumeHandle"), ""));
    }
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let Some(secret) = present(source, &format!("/{field}")) else {
            continue;
        };
        for part in ["name", "namespace"] {
            let rule = if part == "name" {
                names::dns_subdomain
            } else {
                names::dns_label
            };
            let path = path.child(field).child(part);
            match text(secret, &format!("/{part}")) {
                "" => errors.push(FieldError::required(&path, "")),
                value => names::check(errors, &path, value, rule),
            }
        }
    }
}

fn attributes_class(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(class) = spec
        .get("volumeAttributesClassName")
        .and_then(Value::as_str)
    else {
        return;
    };
    let at = path.child("volumeAttributesClassName");
    if class.is_empty() {
        errors.push(FieldError::required(&at, "an empty string is disallowed"));
    } else {
        names::check(errors, &at, class, names::dns_subdomain);
    }
    if present(spec, "/csi").is_none() {
        errors.push(FieldError::required(
            &path.child("csi"),
            "has to be specified when using volumeAttributesClassName",
        ));
    }
}

/// Where the files come from is fixed, but that a secret for growing may be named later.
fn update(new: &Value, old: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let source = |spec: &Value| {
        let mut spec = spec.clone();
        if let Some(held) = spec.as_object_mut() {
            held.retain(|field, _| !NO_SOURCES.contains(&field.as_str()));
        }
        spec
    };
    let mut now = source(new);
    if present(old, "/csi/controllerExpandSecretRef").is_none()
        && let Some(csi) = now.pointer_mut("/csi").and_then(Value::as_object_mut)
    {
        csi.remove("controllerExpandSecretRef");
    }
    if !same(Some(&now), Some(&source(old))) {
        errors.push(FieldError::forbidden(
            &path.child("persistentvolumesource"),
            "spec.persistentvolumesource is immutable after creation",
        ));
    }
    template::immutable(new, old, "volumeMode", &FieldPath::root(), errors);
    let class = "/volumeAttributesClassName";
    if present(old, class).is_some() && present(new, class).is_none() {
        errors.push(FieldError::forbidden(
            &path.child("volumeAttributesClassName"),
            "update from non-nil value to nil is forbidden",
        ));
    }
}
