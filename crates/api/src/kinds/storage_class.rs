//! StorageClasses.

use super::field::{default_text, root, text};
use super::names::one_of;
use super::{Hooks, template};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

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

fn validate(class: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let root = FieldPath::root();
    if text(class, "/provisioner").is_empty() {
        errors.push(FieldError::required(&root.child("provisioner"), ""));
    }
    one_of(errors, class, "reclaimPolicy", &root, &["Delete", "Retain"]);
    let modes = ["Immediate", "WaitForFirstConsumer"];
    one_of(errors, class, "volumeBindingMode", &root, &modes);
    if let Some(old) = old {
        for field in [
            "parameters",
            "provisioner",
            "reclaimPolicy",
            "volumeBindingMode",
        ] {
            template::immutable(class, old, field, &root, errors);
        }
    }
}
