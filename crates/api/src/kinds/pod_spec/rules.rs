//! Rules of the pod spec as a whole.

use super::{containers, resources, security, volumes};
use crate::kinds::field::{flag, int, items, map, maybe_int, present, text};
use crate::kinds::names;
use crate::status::{FieldError, FieldPath};
use serde_json::Value;
use std::collections::BTreeSet;

/// Judges the pod spec at `path`, in the order in which Kubernetes tells the faults.
pub(crate) fn validate(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let pod = containers::Pod {
        volumes: volumes::validate(spec, &path.child("volumes"), errors),
        host_network: flag(spec, "/hostNetwork"),
    };
    containers::validate(spec, path, &pod, errors);
    if let Some(held) = present(spec, "/resources") {
        resources::validate(held, &path.child("resources"), errors);
    }
    policies(spec, path, errors);
    labels(
        map(spec, "/nodeSelector"),
        &path.child("nodeSelector"),
        errors,
    );
    if let Some(context) = present(spec, "/securityContext") {
        security::pod(context, &path.child("securityContext"), errors);
    }
    let secrets = path.child("imagePullSecrets");
    for (index, secret) in items(spec, "/imagePullSecrets").iter().enumerate() {
        if text(secret, "/name").is_empty() {
            errors.push(FieldError::required(
                &secrets.index(index).child("name"),
                "",
            ));
        }
    }
    affinity(spec, &path.child("affinity"), errors);
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
    gates(spec, path, errors);
    spread(spec, &path.child("topologySpreadConstraints"), errors);
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
    if text(spec, "/dnsPolicy") == "None" && items(spec, "/dnsConfig/nameservers").is_empty() {
        errors.push(FieldError::required(
            &path.child("dnsConfig").child("nameservers"),
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        ));
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

fn tolerations(spec: &Value, list: &FieldPath, errors: &mut Vec<FieldError>) {
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
                toleration.clone(),
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

fn affinity(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    if let Some(selector) = present(spec, &format!("/affinity/nodeAffinity/{required}")) {
        let path = path
            .child("nodeAffinity")
            .child(required)
            .child("nodeSelectorTerms");
        let terms = items(selector, "/nodeSelectorTerms");
        if terms.is_empty() {
            errors.push(FieldError::required(
                &path,
                "must have at least one node selector term",
            ));
        }
        for (index, term) in terms.iter().enumerate() {
            node_selector_term(term, &path.index(index), errors);
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let list = path.child(kind).child(required);
        let terms = items(spec, &format!("/affinity/{kind}/{required}"));
        for (index, term) in terms.iter().enumerate() {
            if text(term, "/topologyKey").is_empty() {
                errors.push(FieldError::required(
                    &list.index(index).child("topologyKey"),
                    "can not be empty",
                ));
            }
        }
    }
}

fn node_selector_term(term: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let list = path.child("matchExpressions");
    for (index, expression) in items(term, "/matchExpressions").iter().enumerate() {
        let path = list.index(index);
        let values = items(expression, "/values").len();
        match text(expression, "/operator") {
            "In" | "NotIn" if values == 0 => errors.push(FieldError::required(
                &path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if values > 0 => errors.push(FieldError::forbidden(
                &path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "Gt" | "Lt" if values != 1 => errors.push(FieldError::required(
                &path.child("values"),
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => errors.push(FieldError::invalid(
                &path.child("operator"),
                other,
                "not a valid selector operator",
            )),
        }
        names::check(
            errors,
            &path.child("key"),
            text(expression, "/key"),
            names::qualified_name,
        );
    }
}

fn host_aliases(spec: &Value, list: &FieldPath, errors: &mut Vec<FieldError>) {
    for (index, alias) in items(spec, "/hostAliases").iter().enumerate() {
        let path = list.index(index);
        let ip = text(alias, "/ip");
        if ip.parse::<std::net::IpAddr>().is_err() {
            errors.push(FieldError::invalid(
                &path.child("ip"),
                ip,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ));
        }
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
        names::check(errors, &path.child("name"), name, names::qualified_name);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
    }
}

fn spread(spec: &Value, list: &FieldPath, errors: &mut Vec<FieldError>) {
    for (index, constraint) in items(spec, "/topologySpreadConstraints").iter().enumerate() {
        let path = list.index(index);
        let skew = int(constraint, "/maxSkew");
        if skew <= 0 {
            errors.push(FieldError::invalid(
                &path.child("maxSkew"),
                skew,
                "must be greater than zero",
            ));
        }
        if text(constraint, "/topologyKey").is_empty() {
            errors.push(FieldError::required(
                &path.child("topologyKey"),
                "can not be empty",
            ));
        }
        if text(constraint, "/whenUnsatisfiable").is_empty() {
            errors.push(FieldError::required(&path.child("whenUnsatisfiable"), ""));
        }
        names::one_of(
            errors,
            constraint,
            "whenUnsatisfiable",
            &path,
            &["DoNotSchedule", "ScheduleAnyway"],
        );
    }
}
