//! StorageClasses.

use super::field::{default_text, items, map, root, same, text};
use super::names::{self, one_of};
use super::{Hooks, template};
use crate::status::{FieldError, FieldPath};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "storage.k8s.io/v1 StorageClass",
    default: |class| {
        if let Some(class) = root(class) {
            default_text(class, "reclaimPolicy", "Delete");
            default_text(class, "volumeBindingMode", "Immediate");
        }
    },
    validate,
    ..Hooks::NONE
};

const MOST_PARAMETERS: usize = 512;
const MOST_PARAMETER_BYTES: usize = 256 * 1024;

fn validate(class: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let root = FieldPath::root();
    if let Some(old) = old {
        for field in ["parameters", "provisioner", "reclaimPolicy"] {
            if !same(class.get(field), old.get(field)) {
                let why = format!("updates to {field} are forbidden.");
                errors.push(FieldError::forbidden(&root.child(field), &why));
            }
        }
        template::immutable(class, old, "volumeBindingMode", &root, errors);
    }
    let name = text(class, "/provisioner");
    provisioner(name, &root.child("provisioner"), errors);
    parameters(map(class, "/parameters"), &root.child("parameters"), errors);
    one_of(errors, class, "reclaimPolicy", &root, &["Delete", "Retain"]);
    let modes = ["Immediate", "WaitForFirstConsumer"];
    one_of(errors, class, "volumeBindingMode", &root, &modes);
    for (index, term) in items(class, "/allowedTopologies").iter().enumerate() {
        let path = root.child("allowedTopologies").index(index);
        topology(term, &path.child("matchLabelExpressions"), errors);
    }
}

/// Judges the name of who makes the volumes.
pub(super) fn provisioner(name: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let lower = name.to_lowercase();
    names::check(errors, path, &lower, names::qualified_name);
}

/// Judges what the provisioner is told.
pub(super) fn parameters(
    parameters: Option<&Map<String, Value>>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let Some(parameters) = parameters else { return };
    if parameters.len() > MOST_PARAMETERS {
        errors.push(FieldError::too_long(path, MOST_PARAMETERS));
        return;
    }
    let mut size = 0;
    for (key, value) in parameters {
        if key.is_empty() {
            errors.push(FieldError::invalid(path, "", "field can not be empty."));
        }
        size += key.len() + text(value, "").len();
    }
    if size > MOST_PARAMETER_BYTES {
        errors.push(FieldError::too_long(path, MOST_PARAMETER_BYTES));
    }
}

fn topology(term: &Value, list: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut keys = BTreeSet::new();
    let expressions = items(term, "/matchLabelExpressions");
    for (index, expression) in expressions.iter().enumerate() {
        let path = list.index(index);
        let values = items(expression, "/values");
        let at = path.child("values");
        if values.is_empty() {
            errors.push(FieldError::required(&at, ""));
        }
        for (index, value) in values.iter().enumerate() {
            if values[..index].contains(value) {
                errors.push(FieldError::duplicate(&at.index(index), value.clone()));
            }
        }
        let key = text(expression, "/key");
        names::check(errors, &path.child("key"), key, names::qualified_name);
        if !keys.insert(key) {
            errors.push(FieldError::duplicate(&path.child("key"), key));
        }
    }
}
