//! Rules of what an autoscaler measures, and of how fast it may act (version 2 only).

use crate::kinds::field::{default, entry, int, items, maybe_int, present, text};
use crate::kinds::names;
use crate::kinds::template::label_selector;
use crate::quantity::Quantity;
use crate::status::{FieldError, FieldPath};
use serde_json::{Map, Value, json};

const SOURCES: [&str; 5] = [
    "ContainerResource",
    "External",
    "Object",
    "Pods",
    "Resource",
];
/// The fields of the sources, in the order in which Kubernetes looks at them.
const FIELDS: [&str; 5] = [
    "object",
    "external",
    "pods",
    "resource",
    "containerResource",
];
const LONGEST_WINDOW: i64 = 3600;
const LONGEST_PERIOD: i64 = 1800;

/// Fills both directions of `behavior`, as `SetDefaults_HorizontalPodAutoscalerBehavior` does. How long
/// scaling down waits is left open: the controller has a setting for that.
pub(super) fn fill(behavior: &mut Map<String, Value>) {
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    if let Some(up) = entry(behavior, "scaleUp") {
        default(up, "stabilizationWindowSeconds", 0);
        default(up, "selectPolicy", "Max");
        default(up, "policies", vec![pods, percent.clone()]);
    }
    if let Some(down) = entry(behavior, "scaleDown") {
        default(down, "selectPolicy", "Max");
        default(down, "policies", vec![percent]);
    }
}

/// Judges one entry of `metrics`.
pub(super) fn metric(metric: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let kind = text(metric, "/type");
    if kind.is_empty() {
        errors.push(FieldError::required(
            &path.child("type"),
            "must specify a metric source type",
        ));
    }
    if !SOURCES.contains(&kind) {
        errors.push(FieldError::not_supported(
            &path.child("type"),
            kind,
            &SOURCES,
        ));
    }
    let own = FIELDS
        .into_iter()
        .find(|field| field.eq_ignore_ascii_case(kind));
    let given: Vec<&str> = FIELDS
        .into_iter()
        .filter(|field| present(metric, &format!("/{field}")).is_some())
        .collect();
    if let Some(first) = given.first() {
        source(first, &metric[*first], &path.child(first), errors);
    }
    if let Some(own) = own.filter(|own| !given.contains(own)) {
        errors.push(FieldError::required(
            &path.child(own),
            "must populate information for the given metric source",
        ));
    }
    for other in given.iter().filter(|field| Some(**field) != own) {
        errors.push(FieldError::forbidden(
            &path.child(other),
            "must populate the given metric source only",
        ));
    }
}

fn source(field: &str, source: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let target = &source["target"];
    let at = path.child("target");
    let has = |field: &str| present(target, &format!("/{field}")).is_some();
    match field {
        "resource" | "containerResource" => {
            if text(source, "/name").is_empty() {
                let why = "must specify a resource name";
                errors.push(FieldError::required(&path.child("name"), why));
            }
            if field == "containerResource" && text(source, "/container").is_empty() {
                let why = "must specify a container";
                errors.push(FieldError::required(&path.child("container"), why));
            }
        }
        _ => {
            if field == "object" {
                let object = &source["describedObject"];
                reference(object, &path.child("describedObject"), errors);
            }
            identifier(&source["metric"], &path.child("metric"), errors);
        }
    }
    amounts(target, &at, errors);
    let average = at.child("averageValue");
    let missing = match field {
        "object" if !has("value") && !has("averageValue") => {
            "must set either a target value or averageValue"
        }
        "external" if !has("value") && !has("averageValue") => {
            "must set either a target value for metric or a per-pod target"
        }
        "pods" if !has("averageValue") => "must specify a positive target averageValue",
        _ => "",
    };
    if !missing.is_empty() {
        errors.push(FieldError::required(&average, missing));
    }
    if field == "external" && has("value") && has("averageValue") {
        errors.push(FieldError::forbidden(
            &at.child("value"),
            "may not set both a target value for metric and a per-pod target",
        ));
    }
    if !matches!(field, "resource" | "containerResource") {
        return;
    }
    match (has("averageUtilization"), has("averageValue")) {
        (false, false) => errors.push(FieldError::required(
            &at.child("averageUtilization"),
            "must set either a target raw value or a target utilization",
        )),
        (true, true) => errors.push(FieldError::forbidden(
            &average,
            "may not set both a target raw value and a target utilization",
        )),
        _ => {}
    }
}

/// Judges a reference to another object of the namespace.
pub(super) fn reference(reference: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for field in ["kind", "name"] {
        match text(reference, &format!("/{field}")) {
            "" => errors.push(FieldError::required(&path.child(field), "")),
            name => names::check(errors, &path.child(field), name, names::path_segment),
        }
    }
}

fn identifier(metric: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    match text(metric, "/name") {
        "" => errors.push(FieldError::required(
            &path.child("name"),
            "must specify a metric name",
        )),
        name => names::check(errors, &path.child("name"), name, names::path_segment),
    }
    label_selector(&metric["selector"], &path.child("selector"), errors);
}

fn amounts(target: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    match text(target, "/type") {
        "" => errors.push(FieldError::required(
            &path.child("type"),
            "must specify a metric target type",
        )),
        "Utilization" | "Value" | "AverageValue" => {}
        other => errors.push(FieldError::invalid(
            &path.child("type"),
            other,
            "must be either Utilization, Value, or AverageValue",
        )),
    }
    for field in ["value", "averageValue"] {
        let amount = Quantity::parse(text(target, &format!("/{field}")));
        if amount.is_ok_and(|held| held.is_zero() || held.is_negative()) {
            let path = path.child(field);
            let held = target[field].clone();
            errors.push(FieldError::invalid(&path, held, "must be positive"));
        }
    }
    if let Some(percent) = maybe_int(target, "/averageUtilization").filter(|held| *held < 1) {
        let path = path.child("averageUtilization");
        errors.push(FieldError::invalid(
            &path,
            percent,
            "must be greater than 0",
        ));
    }
}

/// Judges `behavior`.
pub(super) fn behavior(behavior: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = present(behavior, &format!("/{direction}")) {
            scaling_rules(rules, &path.child(direction), errors);
        }
    }
}

fn scaling_rules(rules: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if let Some(seconds) = maybe_int(rules, "/stabilizationWindowSeconds") {
        let path = path.child("stabilizationWindowSeconds");
        if seconds < 0 {
            let why = "must be greater than or equal to zero";
            errors.push(FieldError::invalid(&path, seconds, why));
        }
        at_most(seconds, LONGEST_WINDOW, &path, errors);
    }
    let policies = ["Disabled", "Max", "Min"];
    names::one_of(errors, rules, "selectPolicy", path, &policies);
    if items(rules, "/policies").is_empty() {
        let path = path.child("policies");
        let why = "must specify at least one Policy";
        errors.push(FieldError::required(&path, why));
    }
    for (index, policy) in items(rules, "/policies").iter().enumerate() {
        let path = path.child("policies").index(index);
        let kind = text(policy, "/type");
        let kinds = ["Percent", "Pods"];
        if !kinds.contains(&kind) {
            errors.push(FieldError::not_supported(&path.child("type"), kind, &kinds));
        }
        for field in ["value", "periodSeconds"] {
            let number = int(policy, &format!("/{field}"));
            if number <= 0 {
                let path = path.child(field);
                let why = "must be greater than zero";
                errors.push(FieldError::invalid(&path, number, why));
            }
        }
        let period = int(policy, "/periodSeconds");
        at_most(period, LONGEST_PERIOD, &path.child("periodSeconds"), errors);
    }
}

fn at_most(number: i64, most: i64, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if number > most {
        let why = format!("must be less than or equal to {most}");
        errors.push(FieldError::invalid(path, number, &why));
    }
}
