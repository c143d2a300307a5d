//! What containers ask for and may use.

use crate::kinds::field::{child, entry, map, present, text};
use crate::kinds::quantities::{self, is_huge_pages, overcommits, quantity};
use crate::quantity::Quantity;
use crate::status::{FieldError, FieldPath};
use serde_json::{Map, Value, json};

/// A pod that limits a resource and asks for none of it asks for as much as its limit.
/// (Templates are left as they are: the pods made from them are filled.)
pub(crate) fn requests_from_limits(spec: &mut Map<String, Value>) {
    for list in ["initContainers", "containers"] {
        for container in crate::kinds::field::children(spec, list) {
            let Some(resources) = child(container, "resources") else {
                continue;
            };
            let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else {
                continue;
            };
            if limits.is_empty() {
                continue;
            }
            if let Some(requests) = entry(resources, "requests") {
                for (resource, limit) in limits {
                    requests.entry(resource).or_insert(limit);
                }
            }
        }
    }
}

/// `Guaranteed` if every container limits CPU and memory to what it asks for, `BestEffort` if none
/// asks for or limits anything, else `Burstable`.
pub(in crate::kinds) fn qos_class(spec: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    let containers = ["/containers", "/initContainers"]
        .into_iter()
        .flat_map(|list| crate::kinds::field::items(spec, list));
    for container in containers {
        for resource in ["cpu", "memory"] {
            let held = |kind: &str| {
                quantity(map(container, &format!("/resources/{kind}")), resource)
                    .filter(|held| !held.is_zero())
            };
            let (request, limit) = (held("requests"), held("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Judges `resources` of a container.
pub(super) fn validate(resources: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let limits = map(resources, "/limits");
    let requests = map(resources, "/requests");
    for (name, list) in [("limits", limits), ("requests", requests)] {
        for (resource, held) in list.into_iter().flatten() {
            let path = path.child(name).key(resource);
            quantities::container_resource_name(resource, &path, errors);
            quantities::amount(resource, held, &path, errors);
            huge_pages(resource, held, &path, errors);
        }
    }
    for (resource, held) in requests.into_iter().flatten() {
        let request = quantity(requests, resource);
        let limit = limits.and_then(|limits| limits.get(resource));
        let exact = !overcommits(resource);
        let (Some(request), Some(limit)) = (request, limit) else {
            if exact && limit.is_none() {
                errors.push(FieldError::required(
                    &path.child("limits"),
                    "Limit must be set for non overcommitable resources",
                ));
            }
            continue;
        };
        let told = text(limit, "");
        let Ok(limit) = Quantity::parse(told) else {
            continue;
        };
        let must = if exact && request != limit {
            "equal to"
        } else if request > limit {
            "less than or equal to"
        } else {
            continue;
        };
        errors.push(FieldError::invalid(
            &path.child("requests"),
            held.clone(),
            &format!("must be {must} {resource} limit of {told}"),
        ));
    }
    let any = |wanted: fn(&str) -> bool| {
        let lists = [limits, requests].into_iter().flatten();
        lists.flat_map(Map::keys).any(|resource| wanted(resource))
    };
    if any(is_huge_pages) && !any(|resource| matches!(resource, "cpu" | "memory")) {
        errors.push(FieldError::forbidden(
            path,
            "HugePages require cpu or memory",
        ));
    }
}

/// Judges `resources` of a whole pod.
pub(super) fn validate_pod(resources: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if present(resources, "/claims").is_some() {
        errors.push(FieldError::forbidden(
            &path.child("claims"),
            "claims cannot be set for Resources at pod-level",
        ));
    }
    validate(resources, path, errors);
}

/// Judges what a pod costs beside its containers, by the rules (and at the path) of limits.
pub(in crate::kinds) fn overhead(overhead: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    validate(&json!({"limits": overhead}), path, errors);
}

/// A fault unless the amount is a number of whole pages.
fn huge_pages(resource: &str, held: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(size) = resource.strip_prefix("hugepages-") else {
        return;
    };
    let told = text(held, "");
    let (Ok(size), Ok(amount)) = (Quantity::parse(size), Quantity::parse(told)) else {
        return;
    };
    let whole = size.value() > 0 && size.milli() % 1000 == 0 && amount.value() % size.value() == 0;
    if !whole {
        errors.push(FieldError::invalid(
            path,
            held.clone(),
            &format!("{told} is not positive integer multiple of {resource}"),
        ));
    }
}
