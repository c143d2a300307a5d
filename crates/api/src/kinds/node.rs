//! Nodes. A new node is tainted until its agent has reported that it is ready.

use super::address::{check_cidr, cidr};
use super::field::{absent, default, default_number, entry, items, map, present, root, same, text};
use super::{Hooks, names};
use crate::status::{FieldError, FieldPath};
use crate::write::Context;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "v1 Node",
    default: fill,
    prepare,
    validate,
};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

fn fill(node: &mut Value) {
    let Some(node) = root(node) else { return };
    if let Some(spec) = entry(node, "spec") {
        cidrs(spec);
    }
    let Some(status) = entry(node, "status") else {
        return;
    };
    if let Some(kubelet) =
        entry(status, "daemonEndpoints").and_then(|held| entry(held, "kubeletEndpoint"))
    {
        default_number(kubelet, "Port", 0);
    }
    if let Some(info) = entry(status, "nodeInfo") {
        for field in [
            "architecture",
            "bootID",
            "containerRuntimeVersion",
            "kernelVersion",
            "kubeProxyVersion",
            "kubeletVersion",
            "machineID",
            "operatingSystem",
            "osImage",
            "systemUUID",
        ] {
            default(info, field, "");
        }
    }
    if absent(status, "allocatable")
        && let Some(capacity) = status
            .get("capacity")
            .filter(|held| !held.is_null())
            .cloned()
    {
        status.insert("allocatable".to_owned(), capacity);
    }
}

/// `podCIDR` is the first of `podCIDRs`.
fn cidrs(spec: &mut Map<String, Value>) {
    let one = spec
        .get("podCIDR")
        .filter(|held| held.as_str().is_some_and(|held| !held.is_empty()));
    let many = spec.get("podCIDRs").and_then(|held| held.get(0));
    match (one.cloned(), many.cloned()) {
        (Some(one), None) => {
            spec.insert("podCIDRs".to_owned(), json!([one]));
        }
        (None, Some(first)) => {
            spec.insert("podCIDR".to_owned(), first);
        }
        _ => {}
    }
}

fn prepare(node: &mut Value, old: Option<&Value>, _context: &Context) {
    if old.is_some() {
        return;
    }
    let Some(spec) = super::field::spec(node) else {
        return;
    };
    if absent(spec, "taints") {
        spec.insert("taints".to_owned(), json!([]));
    }
    if let Some(taints) = spec.get_mut("taints").and_then(Value::as_array_mut)
        && !taints
            .iter()
            .any(|taint| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule")
    {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
}

fn validate(node: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let path = FieldPath::new("spec");
    if old.is_some_and(|old| old["spec"] == node["spec"]) {
        return;
    }
    // Kubernetes tells faults of taints as if they were metadata.
    taints(node, &FieldPath::new("metadata").child("taints"), errors);
    one_block_a_family(node, &path.child("podCIDRs"), errors);
    for (index, cidr) in items(node, "/spec/podCIDRs").iter().enumerate() {
        check_cidr(errors, &path.child("podCIDRs").index(index), text(cidr, ""));
    }
    let Some(old) = old else { return };
    for (field, told) in [("podCIDRs", "podCIDR"), ("providerID", "providerID")] {
        let held = present(old, &format!("/spec/{field}")).filter(|held| **held != "");
        if held.is_some() && !same(held, node["spec"].get(field)) {
            errors.push(FieldError::forbidden(
                &path.child(field),
                &format!("node updates may not change {told} except from \"\" to valid"),
            ));
        }
    }
}

fn one_block_a_family(node: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let blocks = items(node, "/spec/podCIDRs");
    let family = |block: &Value| cidr(text(block, "")).map(|(address, _)| address.is_ipv4());
    let fits = match blocks {
        [] | [_] => true,
        [one, other] => family(one) != family(other),
        _ => false,
    };
    if !fits {
        errors.push(FieldError::invalid(
            path,
            blocks.to_vec(),
            "may specify no more than one CIDR for each IP family",
        ));
    }
    let mut seen = BTreeSet::new();
    for (index, block) in blocks.iter().enumerate() {
        if !seen.insert(text(block, "")) {
            errors.push(FieldError::duplicate(&path.index(index), block.clone()));
        }
    }
}

fn taints(node: &Value, list: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, taint) in items(node, "/spec/taints").iter().enumerate() {
        let path = list.index(index);
        let key = text(taint, "/key");
        names::check(errors, &path.child("key"), key, names::qualified_name);
        let value = text(taint, "/value");
        names::check(errors, &path.child("value"), value, names::label_value);
        let effect = text(taint, "/effect");
        if effect.is_empty() {
            errors.push(FieldError::required(&path.child("effect"), ""));
        }
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        names::one_of(errors, taint, "effect", &path, &effects);
        if !seen.insert((key, effect)) {
            let held = map(taint, "").cloned().map_or(Value::Null, Value::Object);
            let mut error = FieldError::duplicate(&path, held);
            error.message += ": taints must be unique by key and effect pair";
            errors.push(error);
        }
    }
}
