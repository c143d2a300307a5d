//! CSINodes: which storage drivers a node has.

use super::field::{items, same, text};
use super::names::{self, not_negative};
use super::{Hooks, volume_source};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "storage.k8s.io/v1 CSINode",
    validate,
    ..Hooks::NONE
};

const LONGEST_NODE_ID: usize = 256;

fn validate(node: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let list = FieldPath::new("spec").child("drivers");
    let drivers = items(node, "/spec/drivers");
    let mut seen = BTreeSet::new();
    for (index, held) in drivers.iter().enumerate() {
        let path = list.index(index);
        driver(held, &path, errors);
        let name = text(held, "/name");
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
    }
    // How many volumes fit may be learnt later.
    let fixed = |driver: &Value| {
        let mut driver = driver.clone();
        driver
            .as_object_mut()
            .map(|held| held.remove("allocatable"));
        driver
    };
    for before in old.map_or(&[][..], |old| items(old, "/spec/drivers")) {
        for now in drivers {
            let again = text(now, "/name") == text(before, "/name");
            if again && !same(Some(&fixed(now)), Some(&fixed(before))) {
                let why = "field is immutable";
                errors.push(FieldError::invalid(&list, now.clone(), why));
            }
        }
    }
}

fn driver(driver: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let name = text(driver, "/name");
    volume_source::driver_name(name, &path.child("name"), errors);
    let id = text(driver, "/nodeID");
    if id.is_empty() {
        errors.push(FieldError::required(&path.child("nodeID"), ""));
    } else if id.len() > LONGEST_NODE_ID {
        let why = format!("must be {LONGEST_NODE_ID} characters or less");
        errors.push(FieldError::invalid(&path.child("nodeID"), id, &why));
    }
    let at = path.child("allocatable");
    not_negative(errors, &driver["allocatable"], "count", &at);
    let mut seen = BTreeSet::new();
    for key in items(driver, "/topologyKeys") {
        let key = text(key, "");
        if key.is_empty() {
            errors.push(FieldError::required(path, ""));
        }
        if !seen.insert(key) {
            errors.push(FieldError::duplicate(path, key));
        }
        names::check(errors, path, key, names::qualified_name);
    }
}
