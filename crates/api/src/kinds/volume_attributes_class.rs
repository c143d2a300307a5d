//! VolumeAttributesClasses: attributes that a volume can change to.

use super::field::{map, same, text};
use super::{Hooks, storage_class};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "storage.k8s.io/v1 VolumeAttributesClass",
    validate,
    ..Hooks::NONE
};

fn validate(class: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let root = FieldPath::root();
    if let Some(old) = old {
        for field in ["driverName", "parameters"] {
            if !same(class.get(field), old.get(field)) {
                let why = format!("updates to {field} are forbidden.");
                errors.push(FieldError::forbidden(&root.child(field), &why));
            }
        }
    }
    let driver = text(class, "/driverName");
    storage_class::provisioner(driver, &root.child("driverName"), errors);
    let parameters = map(class, "/parameters");
    let path = root.child("parameters");
    storage_class::parameters(parameters, &path, errors);
    if parameters.is_none_or(serde_json::Map::is_empty) {
        let why = "must contain at least one key/value pair";
        errors.push(FieldError::required(&path, why));
    }
}
