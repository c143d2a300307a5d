//! NetworkPolicies.

use super::Hooks;
use super::field::{absent, children, default_text, entry, items, map, spec, text};
use super::template::label_selector;
use crate::status::{FieldError, FieldPath};
use serde_json::{Value, json};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "networking.k8s.io/v1 NetworkPolicy",
    default: fill,
    validate,
    ..Hooks::NONE
};

fn fill(policy: &mut Value) {
    let Some(spec) = spec(policy) else { return };
    entry(spec, "podSelector");
    for direction in ["ingress", "egress"] {
        for rule in children(spec, direction) {
            for port in children(rule, "ports") {
                default_text(port, "protocol", "TCP");
            }
        }
    }
    if absent(spec, "policyTypes") {
        // A policy is about what comes in, unless it says something about what goes out.
        let outward = spec
            .get("egress")
            .and_then(Value::as_array)
            .is_some_and(|rules| !rules.is_empty());
        let types = if outward {
            json!(["Ingress", "Egress"])
        } else {
            json!(["Ingress"])
        };
        spec.insert("policyTypes".to_owned(), types);
    }
}

fn validate(policy: &Value, _old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &policy["spec"];
    let path = FieldPath::new("spec");
    label_selector(&spec["podSelector"], &path.child("podSelector"), errors);
    for (index, kind) in items(spec, "/policyTypes").iter().enumerate() {
        let kind = text(kind, "");
        if !matches!(kind, "Ingress" | "Egress") {
            let path = path.child("policyTypes").index(index);
            errors.push(FieldError::not_supported(
                &path,
                kind,
                &["Egress", "Ingress"],
            ));
        }
    }
    for (direction, side) in [("ingress", "from"), ("egress", "to")] {
        let rules = items(spec, &format!("/{direction}"));
        for (index, rule) in rules.iter().enumerate() {
            let path = path.child(direction).index(index).child(side);
            for (index, peer) in items(rule, &format!("/{side}")).iter().enumerate() {
                validate_peer(peer, &path.index(index), errors);
            }
        }
    }
}

fn validate_peer(peer: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let block = map(peer, "/ipBlock");
    let selectors = ["podSelector", "namespaceSelector"];
    let selects = selectors
        .iter()
        .any(|field| peer.get(*field).is_some_and(Value::is_object));
    match (block, selects) {
        (None, false) => errors.push(FieldError::required(path, "must specify a peer")),
        (Some(_), true) => errors.push(FieldError::forbidden(
            path,
            "may not specify both ipBlock and another peer",
        )),
        (Some(block), false) => {
            let cidr = block
                .get("cidr")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if super::address::cidr(cidr).is_none() {
                errors.push(FieldError::invalid(
                    &path.child("ipBlock").child("cidr"),
                    cidr,
                    "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                ));
            }
        }
        (None, true) => {
            for field in selectors {
                label_selector(&peer[field], &path.child(field), errors);
            }
        }
    }
}
