//! PersistentVolumeClaims. Different from a stock API server: no `pvc-protection` finalizer is
//! added while no controller would take it away.

use super::Hooks;
use super::field::{default, default_text, entry, items, map, present, root, same, text};
use super::names::one_of;
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
    access_modes(spec, &path, errors);
    let storage = map(spec, "/resources/requests").and_then(|held| held.get("storage"));
    if storage.is_none() {
        let path = path.child("resources").key("storage");
        errors.push(FieldError::required(&path, ""));
    }
    one_of(errors, spec, "volumeMode", &path, &["Block", "Filesystem"]);
    if let Some(old) = old {
        update(spec, &old["spec"], &path, errors);
    }
}

/// At least one mode, all of them known.
pub(super) fn access_modes(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let path = path.child("accessModes");
    let modes = items(spec, "/accessModes");
    if modes.is_empty() {
        errors.push(FieldError::required(
            &path,
            "at least 1 access mode is required",
        ));
    }
    for (index, mode) in modes.iter().enumerate() {
        let mode = text(mode, "");
        if !ACCESS_MODES.contains(&mode) {
            errors.push(FieldError::not_supported(
                &path.index(index),
                mode,
                &ACCESS_MODES,
            ));
        }
    }
}

fn update(new: &Value, old: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let fixed = |spec: &Value| {
        let mut spec = spec.clone();
        if let Some(held) = spec.as_object_mut() {
            for field in ["resources", "volumeAttributesClassName"] {
                held.remove(field);
            }
            // The binding controller names the volume, once.
            if present(old, "/volumeName").is_none_or(|name| name == "") {
                held.remove("volumeName");
            }
        }
        spec
    };
    if !same(Some(&fixed(new)), Some(&fixed(old))) {
        errors.push(FieldError::forbidden(
            path,
            "spec is immutable after creation except resources.requests and \
             volumeAttributesClassName for bound claims",
        ));
    }
}
