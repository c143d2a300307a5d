//! ResourceSlices: the devices that a driver offers, a part at a time.

use super::field::{flag, int, items, present, text};
use super::{Hooks, names, pod_spec, resource_claim, template};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "resource.k8s.io/v1 ResourceSlice",
    validate,
    ..Hooks::NONE
};

const LONGEST_POOL_NAME: usize = 253;
const MOST_DEVICES: usize = 128;

fn validate(slice: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &slice["spec"];
    let path = FieldPath::new("spec");
    let driver = text(spec, "/driver");
    resource_claim::driver_name(driver, &path.child("driver"), errors);
    pool(spec, &path.child("pool"), errors);
    if let Some(old) = old.map(|old| &old["spec"]) {
        let (new, before) = (&spec["pool"], &old["pool"]);
        template::immutable(new, before, "name", &path.child("pool"), errors);
        for field in ["driver", "nodeName"] {
            template::immutable(spec, old, field, &path, errors);
        }
    }
    nodes(spec, &path, errors);
    let list = path.child("devices");
    let devices = items(spec, "/devices");
    if devices.len() > MOST_DEVICES {
        errors.push(FieldError::too_many(&list, devices.len(), MOST_DEVICES));
    }
    let mut seen = BTreeSet::new();
    for (index, device) in devices.iter().enumerate() {
        let path = list.index(index).child("name");
        let name = text(device, "/name");
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else {
            names::check(errors, &path, name, names::dns_label);
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
    }
}

fn pool(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let name = text(spec, "/pool/name");
    let at = path.child("name");
    if name.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        if name.len() > LONGEST_POOL_NAME {
            errors.push(FieldError::too_long(&at, LONGEST_POOL_NAME));
        }
        for part in name.split('/') {
            names::check(errors, &at, part, names::dns_subdomain);
        }
    }
    let count = int(spec, "/pool/resourceSliceCount");
    if count <= 0 {
        let path = path.child("resourceSliceCount");
        errors.push(FieldError::invalid(
            &path,
            count,
            "must be greater than zero",
        ));
    }
    let generation = int(spec, "/pool/generation");
    if generation < 0 {
        errors.push(FieldError::invalid(
            &path.child("generation"),
            generation,
            "must be greater than or equal to zero",
        ));
    }
}

/// The devices are at one node, at some, at all, or each says where it is.
fn nodes(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut given = Vec::new();
    if let Some(node) = spec.get("nodeName").and_then(Value::as_str) {
        let path = path.child("nodeName");
        if node.is_empty() {
            let why = "must be either unset or set to a non-empty string";
            errors.push(FieldError::invalid(&path, node, why));
        } else {
            given.push("`nodeName`");
            names::check(errors, &path, node, names::dns_subdomain);
        }
    }
    if let Some(selector) = present(spec, "/nodeSelector") {
        given.push("`nodeSelector`");
        let path = path.child("nodeSelector");
        pod_spec::node_selector(selector, &path, errors);
        let terms = items(selector, "/nodeSelectorTerms");
        if terms.len() != 1 {
            errors.push(FieldError::invalid(
                &path.child("nodeSelectorTerms"),
                terms.to_vec(),
                "must have exactly one node selector term",
            ));
        }
    }
    for (field, told) in [
        ("allNodes", "`allNodes`"),
        ("perDeviceNodeSelection", "`perDeviceNodeSelection`"),
    ] {
        if present(spec, &format!("/{field}")).is_none() {
            continue;
        }
        if flag(spec, &format!("/{field}")) {
            given.push(told);
        } else {
            let why = "must be either unset or set to true";
            errors.push(FieldError::invalid(&path.child(field), false, why));
        }
    }
    let one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match given.as_slice() {
        [] => errors.push(FieldError::required(path, one)),
        [_] => {}
        _ => {
            let why = format!("{one}, but multiple fields are set");
            let told = format!("{{{}}}", given.join(", "));
            errors.push(FieldError::invalid(path, told, &why));
        }
    }
}
