//! What each way of writing takes of what a client sends.

use serde_json::{Map, Value};

use crate::kinds::pod;
use crate::resource::Resource;
use crate::status::Status;

/// What of `new` an update through this subresource takes; all else is `old`'s.
pub(super) fn select(
    resource: &Resource,
    subresource: Option<&str>,
    old: &Value,
    mut new: Value,
) -> Result<Value, Status> {
    let Some(subresource) = subresource else {
        if resource.subresource("status").is_some() {
            take_field(&mut new, old, "status");
        }
        if resource.plural == "namespaces" {
            take_field(&mut new, old, "spec");
        }
        return Ok(new);
    };
    if resource.subresource(subresource).is_none() {
        return Err(Status::no_such_resource());
    }
    let mut object = old.clone();
    if subresource == "resize" {
        pod::resize::take(&mut object, &new);
        return Ok(object);
    }
    take_field(&mut object, &new, "metadata");
    match subresource {
        "status" => {
            take_field(&mut object, &new, "status");
            keep_metadata_of_spec(resource, old, &mut object);
        }
        "finalize" => take_field(&mut object, &new, "spec"),
        "approval" => take_path(&mut object, &new, "status", "conditions"),
        "ephemeralcontainers" => take_path(&mut object, &new, "spec", "ephemeralContainers"),
        _ => return Err(Status::no_such_resource()),
    }
    Ok(object)
}

/// Who writes a status may not change what the object belongs to, nor (for workloads) its labels.
fn keep_metadata_of_spec(resource: &Resource, old: &Value, object: &mut Value) {
    take_path(object, old, "metadata", "ownerReferences");
    if matches!(resource.group, "apps" | "batch") {
        take_path(object, old, "metadata", "labels");
    }
}

fn take_field(into: &mut Value, from: &Value, field: &str) {
    let Value::Object(map) = into else { return };
    match from.get(field) {
        Some(value) => map.insert(field.to_owned(), value.clone()),
        None => map.remove(field),
    };
}

fn take_path(into: &mut Value, from: &Value, parent: &str, field: &str) {
    let value = from.get(parent).and_then(|p| p.get(field));
    let Value::Object(map) = into else { return };
    match (map.get_mut(parent), value) {
        (Some(Value::Object(parent)), Some(value)) => {
            parent.insert(field.to_owned(), value.clone());
        }
        (Some(Value::Object(parent)), None) => {
            parent.remove(field);
        }
        (_, Some(value)) => {
            let entry = Map::from_iter([(field.to_owned(), value.clone())]);
            map.insert(parent.to_owned(), Value::Object(entry));
        }
        (_, None) => {}
    }
}
