//! LimitRanges.

use super::field::{children, items, map, spec, text};
use super::{Hooks, names, quantities};
use crate::quantity::Quantity;
use crate::status::{FieldError, FieldPath};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "v1 LimitRange",
    default: fill,
    validate,
    ..Hooks::NONE
};

/// For containers, the largest allowed is the limit given, a limit is also what is asked for, and
/// the smallest allowed is asked for where nothing else is.
fn fill(range: &mut Value) {
    let Some(spec) = spec(range) else { return };
    for limit in children(spec, "limits") {
        if limit.get("type").is_some_and(|kind| kind == "Container") {
            inherit(limit, "max", "default");
            inherit(limit, "default", "defaultRequest");
            inherit(limit, "min", "defaultRequest");
        }
    }
}

fn inherit(limit: &mut Map<String, Value>, from: &str, to: &str) {
    let given = limit.get(from).and_then(Value::as_object).cloned();
    for (resource, quantity) in given.into_iter().flatten() {
        if let Some(list) = super::field::entry(limit, to) {
            list.entry(resource).or_insert(quantity);
        }
    }
}

/// The lists of one limit, and what their quantities are called in faults.
const LISTS: [&str; 5] = [
    "max",
    "min",
    "default",
    "defaultRequest",
    "maxLimitRequestRatio",
];

fn validate(range: &Value, _old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let list = FieldPath::new("spec").child("limits");
    let mut seen = BTreeSet::new();
    for (index, limit) in items(range, "/spec/limits").iter().enumerate() {
        let path = list.index(index);
        let kind = text(limit, "/type");
        limit_type(kind, &path.child("type"), errors);
        if !seen.insert(kind) {
            errors.push(FieldError::duplicate(&path.child("type"), kind));
        }
        resource_names(limit, kind, &path, errors);
        let storage = |list: &str| {
            map(limit, &format!("/{list}")).is_some_and(|held| held.contains_key("storage"))
        };
        if kind == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
            errors.push(FieldError::required(
                &path.child("limits"),
                "either minimum or maximum storage value is required, but neither was provided",
            ));
        }
        let resources: BTreeSet<&String> = LISTS
            .iter()
            .filter_map(|list| map(limit, &format!("/{list}")))
            .flat_map(Map::keys)
            .collect();
        for resource in resources {
            compare(limit, resource, &path, errors);
            ratio(limit, resource, &path, errors);
        }
    }
}

fn limit_type(kind: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let before = errors.len();
    names::check(errors, path, kind, names::qualified_name);
    let standard = matches!(kind, "Container" | "PersistentVolumeClaim" | "Pod");
    if errors.len() == before && !standard && !kind.contains('/') {
        let why = "must be a standard limit type or fully qualified";
        errors.push(FieldError::invalid(path, kind, why));
    }
}

fn resource_names(limit: &Value, kind: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for list in LISTS {
        let held = map(limit, &format!("/{list}"));
        let path = path.child(list);
        if kind == "Pod" && list.starts_with("default") {
            if held.is_some_and(|held| !held.is_empty()) {
                let why = "may not be specified when `type` is 'Pod'";
                errors.push(FieldError::forbidden(&path, why));
            }
            continue;
        }
        for resource in held.into_iter().flat_map(Map::keys) {
            let path = path.key(resource);
            if matches!(kind, "Pod" | "Container") {
                quantities::container_resource_name(resource, &path, errors);
            } else {
                quantities::resource_name(resource, &path, errors);
            }
        }
    }
}

/// What each list's quantities are called.
fn called(list: &str) -> &'static str {
    match list {
        "min" => "min",
        "max" => "max",
        "defaultRequest" => "default request",
        _ => "default",
    }
}

/// The first of each pair may not be above the second; told of the third.
const ORDER: [(&str, &str, &str, &str); 6] = [
    ("min", "max", "min", "min"),
    ("min", "defaultRequest", "defaultRequest", "defaultRequest"),
    ("defaultRequest", "max", "defaultRequest", "defaultRequest"),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "defaultRequest",
    ),
    ("min", "default", "default", "min"),
    ("default", "max", "default", "max"),
];

fn held<'a>(limit: &'a Value, list: &str, resource: &str) -> Option<(Quantity, &'a str)> {
    let told = map(limit, &format!("/{list}"))?.get(resource)?.as_str()?;
    Some((Quantity::parse(told).ok()?, told))
}

fn compare(limit: &Value, resource: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let pod = text(limit, "/type") == "Pod";
    for (low, high, place, value) in ORDER {
        if pod && (low.starts_with("default") || high.starts_with("default")) {
            continue;
        }
        let (Some(least), Some(most)) = (held(limit, low, resource), held(limit, high, resource))
        else {
            continue;
        };
        if least.0 <= most.0 {
            continue;
        }
        let than = match (low, high) {
            ("defaultRequest", "default") => "default limit",
            _ => called(high),
        };
        let why = format!(
            "{} value {} is greater than {than} value {}",
            called(low),
            least.1,
            most.1
        );
        let told = if value == low { least.1 } else { most.1 };
        let path = path.child(place).key(resource);
        errors.push(FieldError::invalid(&path, told, &why));
    }
    let (Some(limited), Some(asked)) = (
        held(limit, "default", resource),
        held(limit, "defaultRequest", resource),
    ) else {
        return;
    };
    if !pod && !quantities::overcommits(resource) && limited.0 != asked.0 {
        let why = format!(
            "default value {} must equal to defaultRequest value {} in {resource}",
            limited.1, asked.1
        );
        let path = path.child("defaultRequest").key(resource);
        errors.push(FieldError::invalid(&path, asked.1, &why));
    }
}

fn ratio(limit: &Value, resource: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some((ratio, told)) = held(limit, "maxLimitRequestRatio", resource) else {
        return;
    };
    let path = path.child("maxLimitRequestRatio").key(resource);
    if ratio.milli() < 1000 {
        let why = format!("ratio {told} is less than 1");
        errors.push(FieldError::invalid(&path, told, &why));
    }
    let (Some((least, _)), Some((most, _))) =
        (held(limit, "min", resource), held(limit, "max", resource))
    else {
        return;
    };
    let number = |quantity: Quantity| quantity.milli() as f64;
    let largest = number(most) / number(least);
    if number(ratio) / 1000.0 > largest {
        let why = format!("ratio {told} is greater than max/min = {largest:.6}");
        errors.push(FieldError::invalid(&path, told, &why));
    }
}
