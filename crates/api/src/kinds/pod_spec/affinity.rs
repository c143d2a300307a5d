//! Rules of affinities, of the selectors of nodes in them, and of how pods are spread.

use std::collections::{BTreeMap, BTreeSet};

use crate::kinds::field::{child, children, default, int, items, maybe_int, present, text};
use crate::kinds::names;
use crate::kinds::template::{label_selector, not_an_operator, values_of_operator};
use crate::status::{FieldError, FieldPath};
use serde_json::{Map, Value, json};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Judges `affinity` of the pod spec.
pub(super) fn validate(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let nodes = path.child("nodeAffinity");
    if let Some(selector) = present(spec, &format!("/affinity/nodeAffinity/{REQUIRED}")) {
        node_selector(selector, &nodes.child(REQUIRED), errors);
    }
    let terms = items(spec, &format!("/affinity/nodeAffinity/{PREFERRED}"));
    for (index, term) in terms.iter().enumerate() {
        let path = nodes.child(PREFERRED).index(index);
        weight(term, &path, errors);
        // A preference whose values no label can have is tolerated.
        let preference = &term["preference"];
        node_selector_term(preference, false, &path.child("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let path = path.child(kind);
        let terms = items(spec, &format!("/affinity/{kind}/{REQUIRED}"));
        for (index, term) in terms.iter().enumerate() {
            pod_term(term, &path.child(REQUIRED).index(index), errors);
        }
        let terms = items(spec, &format!("/affinity/{kind}/{PREFERRED}"));
        for (index, term) in terms.iter().enumerate() {
            let path = path.child(PREFERRED).index(index);
            weight(term, &path, errors);
            let held = &term["podAffinityTerm"];
            pod_term(held, &path.child("podAffinityTerm"), errors);
        }
    }
}

/// Writes what the label keys of terms and constraints ask for into their selectors, with the pod's
/// own values (`mutatePodAffinity` and `mutateTopologySpreadConstraints`). Keys that the pod has no
/// label for say nothing; a selector that is missing selects nothing, and stays so.
pub(in crate::kinds) fn merge_label_keys(
    spec: &mut Map<String, Value>,
    labels: &Map<String, Value>,
) {
    const BOTH: [(&str, &str); 2] = [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")];
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = child(spec, "affinity").and_then(|held| child(held, kind)) else {
            continue;
        };
        for term in children(affinity, PREFERRED) {
            if let Some(term) = child(term, "podAffinityTerm") {
                merge_keys(term, &BOTH, labels);
            }
        }
        for term in children(affinity, REQUIRED) {
            merge_keys(term, &BOTH, labels);
        }
    }
    for constraint in children(spec, "topologySpreadConstraints") {
        merge_keys(constraint, &BOTH[..1], labels);
    }
}

fn merge_keys(
    holder: &mut Map<String, Value>,
    fields: &[(&str, &str)],
    labels: &Map<String, Value>,
) {
    let mut added = Vec::new();
    for (field, operator) in fields {
        let keys = holder.get(*field).and_then(Value::as_array);
        for key in keys.into_iter().flatten().filter_map(Value::as_str) {
            if let Some(value) = labels.get(key) {
                added.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    if added.is_empty() {
        return;
    }
    let Some(selector) = child(holder, "labelSelector") else {
        return;
    };
    default(selector, "matchExpressions", Vec::<Value>::new());
    let list = selector.get_mut("matchExpressions");
    if let Some(list) = list.and_then(Value::as_array_mut) {
        list.extend(added);
    }
}

fn weight(term: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let weight = int(term, "/weight");
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(
            &path.child("weight"),
            weight,
            "must be in the range 1-100",
        ));
    }
}

fn pod_term(term: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for field in ["labelSelector", "namespaceSelector"] {
        label_selector(&term[field], &path.child(field), errors);
    }
    for name in items(term, "/namespaces") {
        let path = path.child("namespace");
        names::check(errors, &path, text(name, ""), names::dns_label);
    }
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        label_keys(term, field, path, errors);
    }
    let unlike = items(term, "/mismatchLabelKeys").iter();
    let unlike: BTreeSet<_> = unlike.filter_map(Value::as_str).collect();
    for (index, key) in items(term, "/matchLabelKeys").iter().enumerate() {
        if key.as_str().is_some_and(|key| unlike.contains(key)) {
            errors.push(FieldError::invalid(
                &path.child("matchLabelKeys").index(index),
                key.clone(),
                "exists in both matchLabelKeys and mismatchLabelKeys",
            ));
        }
    }
    let topology = text(term, "/topologyKey");
    let path = path.child("topologyKey");
    if topology.is_empty() {
        errors.push(FieldError::required(&path, "can not be empty"));
    }
    names::check(errors, &path, topology, names::qualified_name);
}

/// Judges a list of keys whose values are taken from the pod itself.
fn label_keys(holder: &Value, field: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let keys = items(holder, &format!("/{field}"));
    let path = path.child(field);
    if !keys.is_empty() && present(holder, "/labelSelector").is_none() {
        errors.push(FieldError::forbidden(
            &path,
            "must not be specified when labelSelector is not set",
        ));
        return;
    }
    for (index, key) in keys.iter().enumerate() {
        let path = path.index(index);
        names::check(errors, &path, text(key, ""), names::qualified_name);
    }
}

/// Judges a `NodeSelector`.
pub(in crate::kinds) fn node_selector(
    selector: &Value,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let list = path.child("nodeSelectorTerms");
    let terms = items(selector, "/nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(FieldError::required(
            &list,
            "must have at least one node selector term",
        ));
    }
    for (index, term) in terms.iter().enumerate() {
        node_selector_term(term, true, &list.index(index), errors);
    }
}

/// Judges a term; with `labels`, its values must be such that a label can have them.
fn node_selector_term(term: &Value, labels: bool, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let list = path.child("matchExpressions");
    for (index, expression) in items(term, "/matchExpressions").iter().enumerate() {
        let path = list.index(index);
        let values = items(expression, "/values");
        match text(expression, "/operator") {
            "Gt" | "Lt" if values.len() != 1 => errors.push(FieldError::required(
                &path.child("values"),
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            )),
            "Gt" | "Lt" => {}
            other => values_of_operator(other, values, &path, errors),
        }
        let key = text(expression, "/key");
        names::check(errors, &path.child("key"), key, names::qualified_name);
        for (index, value) in values.iter().enumerate().filter(|_| labels) {
            let path = path.child("values").index(index);
            names::check(errors, &path, text(value, ""), names::label_value);
        }
    }
    let list = path.child("matchFields");
    for (index, field) in items(term, "/matchFields").iter().enumerate() {
        node_field(field, &list.index(index), errors);
    }
}

/// The one field of a node that can be asked for is its name.
fn node_field(field: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let values = items(field, "/values");
    match text(field, "/operator") {
        "In" | "NotIn" if values.len() != 1 => errors.push(FieldError::required(
            &path.child("values"),
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        )),
        "In" | "NotIn" => {}
        other => not_an_operator(other, path, errors),
    }
    let key = text(field, "/key");
    if key != "metadata.name" {
        errors.push(FieldError::invalid(
            &path.child("key"),
            key,
            "not a valid field selector key",
        ));
        return;
    }
    for (index, value) in values.iter().enumerate() {
        let path = path.child("values").index(index);
        names::check(errors, &path, text(value, ""), names::dns_subdomain);
    }
}

/// Judges `topologySpreadConstraints`.
pub(super) fn spread(spec: &Value, list: &FieldPath, errors: &mut Vec<FieldError>) {
    let constraints = items(spec, "/topologySpreadConstraints");
    let mut left = BTreeMap::<_, usize>::new();
    for constraint in constraints {
        *left.entry(spread_key(constraint)).or_default() += 1;
    }
    for (index, constraint) in constraints.iter().enumerate() {
        let path = list.index(index);
        let skew = int(constraint, "/maxSkew");
        if skew <= 0 {
            let path = path.child("maxSkew");
            errors.push(FieldError::invalid(
                &path,
                skew,
                "must be greater than zero",
            ));
        }
        let topology = text(constraint, "/topologyKey");
        if topology.is_empty() {
            let path = path.child("topologyKey");
            errors.push(FieldError::required(&path, "can not be empty"));
        }
        let action = text(constraint, "/whenUnsatisfiable");
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&action) {
            let path = path.child("whenUnsatisfiable");
            errors.push(FieldError::not_supported(&path, action, &actions));
        }
        // Told of each that has another behind it.
        let behind = left.entry((topology, action)).or_default();
        *behind -= 1;
        if *behind > 0 {
            errors.push(FieldError::duplicate(
                &path.child("{topologyKey, whenUnsatisfiable}"),
                format!("{{{topology}, {action}}}"),
            ));
        }
        min_domains(constraint, action, &path.child("minDomains"), errors);
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            names::one_of(errors, constraint, field, &path, &["Honor", "Ignore"]);
        }
        label_keys(constraint, "matchLabelKeys", &path, errors);
        let selector = &constraint["labelSelector"];
        label_selector(selector, &path.child("labelSelector"), errors);
    }
}

/// What no two constraints may share.
fn spread_key(constraint: &Value) -> (&str, &str) {
    (
        text(constraint, "/topologyKey"),
        text(constraint, "/whenUnsatisfiable"),
    )
}

fn min_domains(constraint: &Value, action: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(domains) = maybe_int(constraint, "/minDomains") else {
        return;
    };
    if domains <= 0 {
        errors.push(FieldError::invalid(
            path,
            domains,
            "must be greater than zero",
        ));
    }
    if action != "DoNotSchedule" {
        errors.push(FieldError::invalid(
            path,
            domains,
            &format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"),
        ));
    }
}
