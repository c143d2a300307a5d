//! CSIStorageCapacities: how much a class can still give, and where.

use super::field::{same, text};
use super::{Hooks, names, template};
use crate::quantity::Quantity;
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "storage.k8s.io/v1 CSIStorageCapacity",
    validate,
    ..Hooks::NONE
};

fn validate(capacity: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let root = FieldPath::root();
    if let Some(old) = old {
        for field in ["nodeTopology", "storageClassName"] {
            if !same(capacity.get(field), old.get(field)) {
                let held = capacity.get(field).cloned().unwrap_or(Value::Null);
                let path = root.child(field);
                errors.push(FieldError::invalid(&path, held, "field is immutable"));
            }
        }
        return;
    }
    let topology = &capacity["nodeTopology"];
    template::label_selector(topology, &root.child("nodeTopology"), errors);
    let class = text(capacity, "/storageClassName");
    let path = root.child("storageClassName");
    names::check(errors, &path, class, names::dns_subdomain);
    let held = text(capacity, "/capacity");
    if Quantity::parse(held).is_ok_and(|held| held.is_negative()) {
        errors.push(FieldError::invalid(
            &root.child("capacity"),
            held,
            "must be greater than or equal to 0",
        ));
    }
}
