//! What containers ask for and may use.

use crate::kinds::field::{child, entry, map, text};
use crate::kinds::names;
use crate::quantity::Quantity;
use crate::status::{FieldError, FieldPath};
use serde_json::{Map, Value};

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

fn quantity(list: Option<&Map<String, Value>>, resource: &str) -> Option<Quantity> {
    Quantity::parse(list?.get(resource)?.as_str()?).ok()
}

/// Judges `resources` of a container or of a whole pod.
pub(super) fn validate(resources: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let limits = map(resources, "/limits");
    let requests = map(resources, "/requests");
    for (name, list) in [("limits", limits), ("requests", requests)] {
        for (resource, held) in list.into_iter().flatten() {
            let path = path.child(name).key(resource);
            resource_name(resource, &path, errors);
            let negative = Quantity::parse(text(held, "")).is_ok_and(|held| held.is_negative());
            if negative {
                errors.push(FieldError::invalid(
                    &path,
                    held.clone(),
                    "must be greater than or equal to 0",
                ));
            }
        }
    }
    for (resource, held) in requests.into_iter().flatten() {
        let request = quantity(requests, resource);
        match (request, quantity(limits, resource)) {
            (Some(request), Some(limit)) => {
                let exact = !overcommits(resource);
                if exact && request != limit {
                    errors.push(FieldError::invalid(
                        &path.child("requests"),
                        held.clone(),
                        &format!(
                            "must be equal to {resource} limit of {}",
                            limits.map_or("", |limits| text(&limits[resource], ""))
                        ),
                    ));
                } else if request > limit {
                    errors.push(FieldError::invalid(
                        &path.child("requests"),
                        held.clone(),
                        &format!(
                            "must be less than or equal to {resource} limit of {}",
                            limits.map_or("", |limits| text(&limits[resource], ""))
                        ),
                    ));
                }
            }
            (Some(_), None) if !overcommits(resource) => errors.push(FieldError::required(
                &path.child("limits"),
                "Limit must be set for non overcommitable resources",
            )),
            _ => {}
        }
    }
}

/// CPU, memory and the like may be promised more often than there is; devices and huge pages not.
fn overcommits(resource: &str) -> bool {
    (!resource.contains('/') || resource.contains("kubernetes.io/"))
        && !resource.starts_with("hugepages-")
}

fn resource_name(resource: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let before = errors.len();
    names::check(errors, path, resource, names::qualified_name);
    if errors.len() > before {
        return;
    }
    let standard = matches!(resource, "cpu" | "memory" | "ephemeral-storage")
        || resource.starts_with("hugepages-");
    if !resource.contains('/') && !standard {
        errors.push(FieldError::invalid(
            path,
            resource,
            "must be a standard resource type or fully qualified",
        ));
        errors.push(FieldError::invalid(
            path,
            resource,
            "must be a standard resource for containers",
        ));
    }
}
