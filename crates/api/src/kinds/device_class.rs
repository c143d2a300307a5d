//! DeviceClasses: kinds of devices that claims can ask for.

use super::field::{items, text};
use super::{Hooks, quantities, resource_claim};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "resource.k8s.io/v1 DeviceClass",
    validate,
    ..Hooks::NONE
};

fn validate(class: &Value, _old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &class["spec"];
    let path = FieldPath::new("spec");
    resource_claim::selectors(spec, &path, errors);
    for (index, held) in items(spec, "/config").iter().enumerate() {
        let path = path.child("config").index(index);
        resource_claim::configuration(held, &path, errors);
    }
    let name = text(spec, "/extendedResourceName");
    if !name.is_empty() && !quantities::is_extended(name) {
        errors.push(FieldError::invalid(
            &path.child("extendedResourceName"),
            name,
            "must be a valid extended resource name",
        ));
    }
}
