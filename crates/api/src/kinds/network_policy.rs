//! NetworkPolicies.

use super::address::{self, check_cidr};
use super::field::{
    absent, children, default_text, entry, items, map, maybe_int, present, spec, text,
};
use super::template::label_selector;
use super::{Hooks, names};
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
                &["Ingress", "Egress"],
            ));
        }
    }
    for (direction, side) in [("ingress", "from"), ("egress", "to")] {
        let rules = items(spec, &format!("/{direction}"));
        for (index, rule) in rules.iter().enumerate() {
            let path = path.child(direction).index(index);
            for (index, port) in items(rule, "/ports").iter().enumerate() {
                validate_port(port, &path.child("ports").index(index), errors);
            }
            let path = path.child(side);
            for (index, peer) in items(rule, &format!("/{side}")).iter().enumerate() {
                validate_peer(peer, &path.index(index), errors);
            }
        }
    }
}

fn validate_port(port: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    names::one_of(errors, port, "protocol", path, &["TCP", "UDP", "SCTP"]);
    let last = maybe_int(port, "/endPort");
    let end = path.child("endPort");
    match present(port, "/port") {
        None => {
            if let Some(last) = last {
                let why = "may not be specified when `port` is not specified";
                errors.push(FieldError::invalid(&end, last, why));
            }
        }
        Some(Value::String(name)) => {
            if let Some(last) = last {
                let why = "may not be specified when `port` is non-numeric";
                errors.push(FieldError::invalid(&end, last, why));
            }
            names::check(errors, &path.child("port"), name, names::port_name);
        }
        Some(number) => {
            let number = number.as_i64().unwrap_or_default();
            if let Some(why) = names::port_number(number) {
                errors.push(FieldError::invalid(&path.child("port"), number, why));
            }
            let Some(last) = last else { return };
            if last < number {
                let why = "must be greater than or equal to `port`";
                errors.push(FieldError::invalid(&end, number, why));
            }
            if let Some(why) = names::port_number(last) {
                errors.push(FieldError::invalid(&end, last, why));
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
            let path = path.child("ipBlock");
            if cidr.is_empty() {
                errors.push(FieldError::required(&path.child("cidr"), ""));
                return;
            }
            check_cidr(errors, &path.child("cidr"), cidr);
            let Some(whole) = address::cidr(cidr) else {
                return;
            };
            for (index, part) in items(peer, "/ipBlock/except").iter().enumerate() {
                let (path, part) = (path.child("except").index(index), text(part, ""));
                check_cidr(errors, &path, part);
                if address::cidr(part).is_some_and(|part| !address::contains(whole, part)) {
                    let why = "must be a strict subset of `cidr`";
                    errors.push(FieldError::invalid(&path, part, why));
                }
            }
        }
        (None, true) => {
            for field in selectors {
                label_selector(&peer[field], &path.child(field), errors);
            }
        }
    }
}
