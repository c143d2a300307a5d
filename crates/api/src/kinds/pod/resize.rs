//! What the subresource `resize` may change of a pod: how much CPU and memory its containers request and may use. Init
//! containers that do their work and end are not resized.

use crate::kinds::field::{items, map, present, restore, same, text};
use crate::kinds::pod_spec;
use crate::static_pods;
use crate::status::{FieldError, FieldPath};
use serde_json::{Map, Value};

/// The lists of containers in which something may change.
const LISTS: [&str; 2] = ["containers", "initContainers"];

/// Makes of `pod`, which is what is stored, what a client wants by this subresource. Whatever else it wants is left, but
/// what the rules below are to refuse: containers that come, go or change places, and another `resizePolicy`.
pub(crate) fn take(pod: &mut Value, wanted: &Value) {
    for field in ["uid", "resourceVersion", "managedFields"] {
        if let Some(metadata) = pod["metadata"].as_object_mut() {
            restore(metadata, &wanted["metadata"], field);
        }
    }
    let old = pod["spec"].clone();
    for list in LISTS {
        let pointer = format!("/{list}");
        // By their places: who has another one is refused anyway.
        let mut known = items(&old, &pointer).iter();
        let merged = items(&wanted["spec"], &pointer).iter().map(|container| {
            let is_it = |held: &&Value| text(held, "/name") == text(container, "/name");
            let Some(known) = known.next().filter(is_it) else {
                return container.clone();
            };
            let mut merged = known.clone();
            if let Some(merged) = merged.as_object_mut() {
                restore(merged, container, "resources");
                restore(merged, container, "resizePolicy");
            }
            merged
        });
        let merged: Vec<Value> = merged.collect();
        let Some(spec) = pod["spec"].as_object_mut() else {
            return;
        };
        match merged.is_empty() {
            true => drop(spec.remove(list)),
            false => drop(spec.insert(list.to_owned(), merged.into())),
        }
    }
}

/// Judges the pod that [`take`] made against the stored one, as Kubernetes' `ValidatePodResize` does.
pub(crate) fn validate(pod: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if let Some(why) = never(pod, old) {
        *errors = vec![FieldError::forbidden(&FieldPath::root(), why)];
        return;
    }
    let path = FieldPath::new("spec");
    let (new_spec, old_spec) = (&pod["spec"], &old["spec"]);
    pod_spec::validate(new_spec, &path, errors);
    let class = match text(old, "/status/qosClass") {
        "" => pod_spec::qos_class(old_spec),
        class => class,
    };
    if pod_spec::qos_class(new_spec) != class {
        let why = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(&path, class, why));
    }
    if !node_resizes(old) {
        let why = "Pod running on node without support for resize";
        errors.push(FieldError::forbidden(&path, why));
    }
    let before = errors.len();
    order(new_spec, old_spec, &path, errors);
    if errors.len() > before {
        return;
    }
    for list in LISTS {
        let pointer = format!("/{list}");
        let pairs = items(new_spec, &pointer)
            .iter()
            .zip(items(old_spec, &pointer));
        for (index, (new, old)) in pairs.enumerate() {
            let path = path.child(list).index(index).child("resources");
            container(list, new, old, &path, errors);
        }
    }
}

/// Why a pod is not resized at all.
fn never(pod: &Value, old: &Value) -> Option<&'static str> {
    let whole = |pod: &Value| {
        let list = |list: &str| map(pod, &format!("/spec/resources/{list}"));
        let mut lists = [list("requests"), list("limits")].into_iter().flatten();
        lists.any(|list| !list.is_empty())
    };
    if static_pods::is_mirror(old) {
        Some("static pods cannot be resized")
    } else if text(old, "/spec/os/name") == "windows" {
        Some("windows pods cannot be resized")
    } else if whole(pod) || whole(old) {
        Some("pods with pod-level resources cannot be resized")
    } else {
        None
    }
}

/// Whether the pod's node is one that resizes: it says what containers that run have then. Of a pod of which nothing runs
/// that is not known.
fn node_resizes(pod: &Value) -> bool {
    let mut all = items(pod, "/status/containerStatuses").iter();
    let running = all.find(|status| present(status, "/state/running").is_some());
    running.is_none_or(|status| present(status, "/resources").is_some())
}

fn order(new: &Value, old: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for list in LISTS {
        let (path, pointer) = (path.child(list), format!("/{list}"));
        let (new, old) = (items(new, &pointer), items(old, &pointer));
        if new.len() != old.len() {
            let why = format!("{list} may not be added or removed on resize");
            errors.push(FieldError::forbidden(&path, &why));
            continue;
        }
        for (index, (new, old)) in new.iter().zip(old).enumerate() {
            if text(new, "/name") != text(old, "/name") {
                let why = format!("{list} may not be renamed or reordered on resize");
                let path = path.index(index).child("name");
                errors.push(FieldError::forbidden(&path, &why));
            }
        }
    }
}

fn container(list: &str, new: &Value, old: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let spec = FieldPath::new("spec");
    let stays = list == "containers" || text(old, "/restartPolicy") == "Always";
    if !stays {
        if !same(Some(new), Some(old)) {
            let why = "resources for non-sidecar init containers are immutable";
            errors.push(FieldError::forbidden(&spec, why));
        }
        return;
    }
    for kind in ["requests", "limits"] {
        let list = |container| map(container, &format!("/resources/{kind}"));
        let mut held = list(old).into_iter().flat_map(Map::keys);
        if held.any(|name| list(new).is_none_or(|new| !new.contains_key(name))) {
            let why = format!("resource {kind} cannot be removed");
            errors.push(FieldError::forbidden(&path.child(kind), &why));
        }
    }
    if !same(Some(&masked(new, old)), Some(old)) {
        let why = match list {
            "containers" => "only cpu and memory resources are mutable",
            _ => "only cpu and memory resources for sidecar containers are mutable",
        };
        errors.push(FieldError::forbidden(&spec, why));
    }
}

/// The new container with what may change put back to what it was.
fn masked(new: &Value, old: &Value) -> Value {
    let mut masked = new.clone();
    for kind in ["requests", "limits"] {
        let pointer = format!("/resources/{kind}");
        let held = old.pointer(&pointer).cloned().unwrap_or_default();
        if let Some(list) = masked.pointer_mut(&pointer).and_then(Value::as_object_mut) {
            restore(list, &held, "cpu");
            restore(list, &held, "memory");
        } else if let Some(resources) = masked["resources"].as_object_mut() {
            // That it is gone was told already.
            resources.insert(kind.to_owned(), held);
        }
    }
    masked
}
