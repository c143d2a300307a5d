//! Rules of the pod spec as a whole.

use super::{affinity, claims, containers, dns, os, resources, security, volumes};
use crate::kinds::address::check_ip;
use crate::kinds::field::{flag, items, map, maybe_flag, maybe_int, present, text};
use crate::kinds::names;
use crate::status::{FieldError, FieldPath};
use serde_json::Value;
use std::collections::BTreeSet;

/// Judges the pod spec at `path`, in the order in which Kubernetes tells the faults.
pub(crate) fn validate(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let pod = containers::Pod {
        volumes: volumes::validate(spec, &path.child("volumes"), errors),
        claims: claims::validate(spec, &path.child("resourceClaims"), errors),
        host_network: flag(spec, "/hostNetwork"),
        grace: maybe_int(spec, "/terminationGracePeriodSeconds"),
        restart_policy: text(spec, "/restartPolicy"),
        host_users: maybe_flag(spec, "/hostUsers") != Some(false),
    };
    containers::validate(spec, path, &pod, errors);
    if let Some(held) = present(spec, "/resources") {
        resources::validate_pod(held, &path.child("resources"), errors);
    }
    policies(spec, path, errors);
    labels(
        map(spec, "/nodeSelector"),
        &path.child("nodeSelector"),
        errors,
    );
    security::pod(spec, path, errors);
    affinity::validate(spec, &path.child("affinity"), errors);
    dns::validate(spec, &path.child("dnsConfig"), errors);
    gates(spec, path, errors);
    let constraints = path.child("topologySpreadConstraints");
    affinity::spread(spec, &constraints, errors);
    security::host_users(spec, path, errors);
    deadlines(spec, path, errors);
    optional_name(
        spec,
        "serviceAccountName",
        path,
        names::dns_subdomain,
        errors,
    );
    optional_name(spec, "nodeName", path, names::dns_subdomain, errors);
    optional_name(spec, "hostname", path, names::dns_label, errors);
    host_name_override(spec, path, errors);
    optional_name(spec, "subdomain", path, names::dns_label, errors);
    optional_name(spec, "runtimeClassName", path, names::dns_subdomain, errors);
    optional_name(
        spec,
        "priorityClassName",
        path,
        names::dns_subdomain,
        errors,
    );
    tolerations(spec, &path.child("tolerations"), errors);
    host_aliases(spec, &path.child("hostAliases"), errors);
    if let Some(overhead) = present(spec, "/overhead") {
        resources::overhead(overhead, &path.child("overhead"), errors);
    }
    os::validate(spec, path, errors);
}

fn optional_name(
    spec: &Value,
    field: &str,
    path: &FieldPath,
    rule: fn(&str) -> Vec<String>,
    errors: &mut Vec<FieldError>,
) {
    let name = text(spec, &format!("/{field}"));
    if !name.is_empty() {
        names::check(errors, &path.child(field), name, rule);
    }
}

/// `validatePodHostName`.
fn host_name_override(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(name) = present(spec, "/hostnameOverride").and_then(Value::as_str) else {
        return;
    };
    let path = path.child("hostnameOverride");
    for field in ["setHostnameAsFQDN", "hostNetwork"] {
        if flag(spec, &format!("/{field}")) {
            let why = format!("may not be specified when {field} is true");
            errors.push(FieldError::forbidden(&path, &why));
        }
    }
    if name.len() > 64 {
        errors.push(FieldError::too_long(&path, 64));
    }
    names::check(errors, &path, name, names::dns_subdomain);
}

fn policies(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for (field, allowed) in [
        ("restartPolicy", ["Always", "OnFailure", "Never"].as_slice()),
        (
            "dnsPolicy",
            &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        ),
        ("preemptionPolicy", &["PreemptLowerPriority", "Never"]),
    ] {
        names::one_of(errors, spec, field, path, allowed);
    }
}

/// Judges the keys and values of a map of labels.
pub(in crate::kinds) fn labels(
    labels: Option<&serde_json::Map<String, Value>>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    for (key, value) in labels.into_iter().flatten() {
        names::check(errors, path, key, names::qualified_name);
        names::check(errors, path, text(value, ""), names::label_value);
    }
}

fn deadlines(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if let Some(seconds) = maybe_int(spec, "/activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        errors.push(FieldError::invalid(
            &path.child("activeDeadlineSeconds"),
            seconds,
            "must be between 1 and 2147483647, inclusive",
        ));
    }
}

/// Judges `tolerations`, of pods and of runtime classes.
pub(in crate::kinds) fn tolerations(spec: &Value, list: &FieldPath, errors: &mut Vec<FieldError>) {
    for (index, toleration) in items(spec, "/tolerations").iter().enumerate() {
        let path = list.index(index);
        let key = text(toleration, "/key");
        let operator = text(toleration, "/operator");
        if !key.is_empty() {
            names::check(errors, &path.child("key"), key, names::qualified_name);
        } else if operator != "Exists" {
            errors.push(FieldError::invalid(
                &path.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        if present(toleration, "/tolerationSeconds").is_some()
            && text(toleration, "/effect") != "NoExecute"
        {
            errors.push(FieldError::invalid(
                &path.child("effect"),
                text(toleration, "/effect"),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            ));
        }
        let value = text(toleration, "/value");
        match operator {
            "" | "Equal" => {
                names::check(errors, &path.child("operator"), value, names::label_value)
            }
            "Exists" if value.is_empty() => {}
            "Exists" => errors.push(FieldError::invalid(
                &path.child("operator"),
                value,
                "value must be empty when `operator` is 'Exists'",
            )),
            _ => errors.push(FieldError::not_supported(
                &path.child("operator"),
                operator,
                &["Equal", "Exists"],
            )),
        }
        names::one_of(
            errors,
            toleration,
            "effect",
            &path,
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        );
    }
}

fn host_aliases(spec: &Value, list: &FieldPath, errors: &mut Vec<FieldError>) {
    for (index, alias) in items(spec, "/hostAliases").iter().enumerate() {
        let path = list.index(index);
        check_ip(errors, &path.child("ip"), text(alias, "/ip"));
        for (index, name) in items(alias, "/hostnames").iter().enumerate() {
            let path = path.child("hostnames").index(index);
            names::check(errors, &path, text(name, ""), names::dns_subdomain);
        }
    }
}

fn gates(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let list = path.child("readinessGates");
    for (index, gate) in items(spec, "/readinessGates").iter().enumerate() {
        names::check(
            errors,
            &list.index(index).child("conditionType"),
            text(gate, "/conditionType"),
            names::qualified_name,
        );
    }
    let list = path.child("schedulingGates");
    let mut seen = BTreeSet::new();
    for (index, gate) in items(spec, "/schedulingGates").iter().enumerate() {
        let path = list.index(index);
        let name = text(gate, "/name");
        names::check(errors, &path, name, names::qualified_name);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
    }
}
