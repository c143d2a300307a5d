//! PersistentVolumeClaims. Different from a stock API server: no `pvc-protection` finalizer is
//! added while no controller would take it away.

use super::field::{default, default_text, entry, items, map, present, restore, root, same, text};
use super::names::one_of;
use super::template::{immutable, label_selector};
use super::{Hooks, names, quantities};
use crate::status::{FieldError, FieldPath};
use crate::write::Context;
use serde_json::{Map, Value, json};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "v1 PersistentVolumeClaim",
    default: |claim| {
        if let Some(claim) = root(claim) {
            fill_claim(claim);
        }
    },
    prepare,
    validate,
};

/// Fills a claim or a template of one.
pub(super) fn fill_claim(claim: &mut Map<String, Value>) {
    default(claim, "metadata", json!({}));
    if let Some(spec) = entry(claim, "spec") {
        default_text(spec, "volumeMode", "Filesystem");
    }
}

fn prepare(claim: &mut Value, old: Option<&Value>, _context: &Context) {
    if old.is_none() {
        claim["status"] = json!({"phase": "Pending"});
    }
}

pub(super) const ACCESS_MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];

fn validate(claim: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &claim["spec"];
    let path = FieldPath::new("spec");
    if old.is_some_and(|old| old["spec"] == *spec) {
        return;
    }
    validate_spec(spec, &path, errors);
    if let Some(old) = old {
        update(claim, old, &path, errors);
    }
}

/// Judges the spec of a claim, or of a template of claims.
pub(super) fn validate_spec(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    access_modes(spec, "at least 1 access mode is required", path, errors);
    label_selector(&spec["selector"], &path.child("selector"), errors);
    let at = path.child("resources").key("storage");
    match map(spec, "/resources/requests").and_then(|held| held.get("storage")) {
        None => errors.push(FieldError::required(&at, "")),
        Some(storage) => quantities::positive(storage, &at, errors),
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        let name = text(spec, &format!("/{field}"));
        if !name.is_empty() {
            names::check(errors, &path.child(field), name, names::dns_subdomain);
        }
    }
    one_of(errors, spec, "volumeMode", path, &["Block", "Filesystem"]);
    for field in ["dataSource", "dataSourceRef"] {
        if let Some(source) = present(spec, &format!("/{field}")) {
            data_source(source, &path.child(field), errors);
        }
    }
}

/// Judges what a volume is to be filled from.
fn data_source(source: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for field in ["name", "kind"] {
        if text(source, &format!("/{field}")).is_empty() {
            errors.push(FieldError::required(&path.child(field), ""));
        }
    }
    let (group, kind) = (text(source, "/apiGroup"), text(source, "/kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        errors.push(FieldError::invalid(
            path,
            kind,
            "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
        ));
    }
    if !group.is_empty() {
        let path = path.child("apiGroup");
        names::check(errors, &path, group, names::dns_subdomain);
    }
    let namespace = text(source, "/namespace");
    if !namespace.is_empty() {
        let path = path.child("namespace");
        names::check(errors, &path, namespace, names::dns_label);
    }
}

/// At least one mode, all of them known; who reserves a volume for one pod has no other mode.
pub(super) fn access_modes(
    spec: &Value,
    missing: &str,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let path = path.child("accessModes");
    let modes = items(spec, "/accessModes");
    if modes.is_empty() {
        errors.push(FieldError::required(&path, missing));
    }
    for mode in modes {
        let mode = text(mode, "");
        if !ACCESS_MODES.contains(&mode) {
            errors.push(FieldError::not_supported(&path, mode, &ACCESS_MODES));
        }
    }
    let known = |mode: &&Value| ACCESS_MODES.contains(&text(mode, ""));
    let alone = modes.iter().any(|mode| *mode == "ReadWriteOncePod");
    let others = modes
        .iter()
        .filter(known)
        .any(|mode| *mode != "ReadWriteOncePod");
    if alone && others {
        errors.push(FieldError::forbidden(
            &path,
            "may not use ReadWriteOncePod with other access modes",
        ));
    }
}

/// A claim's spec is fixed, but that a bound claim may ask for more and for another class of
/// attributes, and that what was left open may be named once.
fn update(claim: &Value, old_claim: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let (new, old) = (&claim["spec"], &old_claim["spec"]);
    if !same(Some(&masked(claim, old)), Some(old)) {
        errors.push(FieldError::forbidden(
            path,
            "spec is immutable after creation except resources.requests and \
             volumeAttributesClassName for bound claims",
        ));
    }
    let size = |object: &Value, list: &str| quantities::quantity(map(object, list), "storage");
    if let (Some(wanted), Some(before)) = (size(new, REQUESTS), size(old, REQUESTS))
        && wanted < before
        && size(old_claim, "/status/capacity").is_some_and(|held| wanted <= held)
    {
        errors.push(FieldError::forbidden(
            &path.child("resources").child("requests").child("storage"),
            "field can not be less than status.capacity",
        ));
    }
    immutable(new, old, "volumeMode", &FieldPath::root(), errors);
    let class = "volumeAttributesClassName";
    let why = match (present(old, &format!("/{class}")), new.get(class)) {
        (Some(_), None | Some(Value::Null)) => "update from non-nil value to nil is forbidden",
        (Some(_), Some(name)) if *name == "" && old[class] != "" => {
            "update from non-nil value to an empty string is forbidden"
        }
        _ => return,
    };
    errors.push(FieldError::forbidden(&path.child(class), why));
}

const REQUESTS: &str = "/resources/requests";

/// The claim's spec with what may change put back to what it was.
fn masked(claim: &Value, old: &Value) -> Value {
    let new = &claim["spec"];
    let mut masked = new.clone();
    let bound = text(claim, "/status/phase") == "Bound";
    let storage = |spec: &Value| quantities::quantity(map(spec, REQUESTS), "storage");
    if let Some(held) = masked.pointer_mut(REQUESTS).and_then(Value::as_object_mut)
        && (bound || storage(new) == storage(old))
    {
        restore(held, &old["resources"]["requests"], "storage");
    }
    let Some(held) = masked.as_object_mut() else {
        return masked;
    };
    // The binding controller names the volume, once.
    if text(old, "/volumeName").is_empty() {
        restore(held, old, "volumeName");
    }
    // A default that came later.
    if present(old, "/storageClassName").is_none() {
        held.remove("storageClassName");
    }
    if bound && present(new, "/volumeAttributesClassName").is_some() {
        restore(held, old, "volumeAttributesClassName");
    }
    masked
}
