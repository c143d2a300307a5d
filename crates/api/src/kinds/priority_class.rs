//! PriorityClasses.

use super::field::{default_text, int, root, text};
use super::{Hooks, template};
use crate::priority::{self, HIGHEST_OF_USERS};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "scheduling.k8s.io/v1 PriorityClass",
    default: |class| {
        if let Some(class) = root(class) {
            default_text(class, "preemptionPolicy", "PreemptLowerPriority");
        }
    },
    validate,
    ..Hooks::NONE
};

fn validate(class: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let root = FieldPath::root();
    let name = text(class, "/metadata/name");
    let value = int(class, "/value");
    if name.starts_with("system-") {
        if priority::of_system(name).map(i64::from) != Some(value) {
            errors.push(FieldError::forbidden(
                &FieldPath::new("metadata").child("name"),
                "priority class names with 'system-' prefix are reserved for system use only",
            ));
        }
    } else if value > i64::from(HIGHEST_OF_USERS) {
        errors.push(FieldError::forbidden(
            &root.child("value"),
            &format!("maximum allowed value of a user defined priority is {HIGHEST_OF_USERS}"),
        ));
    }
    let policies = ["Never", "PreemptLowerPriority"];
    super::names::one_of(errors, class, "preemptionPolicy", &root, &policies);
    if let Some(old) = old {
        if int(old, "/value") != value {
            let path = root.child("value");
            errors.push(FieldError::forbidden(
                &path,
                "may not be changed in an update.",
            ));
        }
        template::immutable(class, old, "preemptionPolicy", &root, errors);
    }
}
