//! The `scale` subresource: how many replicas a workload has and should have.

use serde_json::{Map, Value, json};

use super::{Context, Record, Write, child_mut, text};
use crate::apply::{self as record, Target};
use crate::codec::Expected;
use crate::resource::Resource;
use crate::selector::LabelSelector;
use crate::status::{FieldError, FieldPath, Status};

/// The `autoscaling/v1 Scale` of a workload.
pub fn scale(object: &Value) -> Value {
    let empty = Map::new();
    let metadata = object["metadata"].as_object().unwrap_or(&empty);
    let kept = [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ];
    let metadata: Map<String, Value> = kept
        .into_iter()
        .filter_map(|field| Some((field.to_owned(), metadata.get(field)?.clone())))
        .collect();
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {},
        "status": {"replicas": object["status"]["replicas"].as_i64().unwrap_or(0)},
    });
    let replicas = object["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas != 0 {
        scale["spec"]["replicas"] = replicas.into();
    }
    let selector = selector_of(&object["spec"]["selector"]);
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    scale
}

/// `a=d,b in (x,y)`, from either form that workloads have.
fn selector_of(selector: &Value) -> String {
    let typed = match selector {
        Value::Object(map)
            if map.contains_key("matchLabels") || map.contains_key("matchExpressions") =>
        {
            selector.clone()
        }
        labels => json!({"matchLabels": labels}),
    };
    serde_json::from_value(typed)
        .ok()
        .and_then(|selector| LabelSelector::from_meta(Some(&selector)).ok())
        .map(|selector| selector.to_string())
        .unwrap_or_default()
}

/// The workload's next state for a written `Scale`.
///
/// # Errors
///
/// 409 when the scale has another uid, 422 when its fields are not valid.
pub fn update_scale(
    resource: &Resource,
    old: &Value,
    scale: &Value,
    context: &Context,
) -> Result<Value, Status> {
    let live = with_entries(resource, old);
    let mut new = scale.clone();
    // Go leaves it out: who scales to none owns nothing.
    if new["spec"]["replicas"] == 0 {
        child_mut(&mut new, "spec").remove("replicas");
    }
    record::track(Target::scale(), Some(&live), &mut new, context);
    set_replicas(resource, old, &new, context)
}

/// The workload's next state for what `context.manager` wants of its `Scale`
/// ([`apply`](mod@crate::apply)).
///
/// # Errors
///
/// 400 when `wanted` is no scale, 409 when it would take other managers' fields and `force` is not
/// set, else those of [`update_scale`].
pub fn apply_scale(
    resource: &Resource,
    old: &Value,
    wanted: Value,
    force: bool,
    context: &Context,
) -> Result<Value, Status> {
    let sub = resource.subresource("scale");
    let expected = Expected::subresource(resource, sub.ok_or_else(Status::no_such_resource)?);
    let live = with_entries(resource, old);
    let target = Target::scale();
    let new = super::merge(target, expected, Some(&live), wanted, force, context)?;
    set_replicas(resource, old, &new, context)
}

/// The scale as its managers know it.
fn with_entries(resource: &Resource, workload: &Value) -> Value {
    let mut scale = scale(workload);
    record::entries_to_scale(resource, workload, &mut scale);
    scale
}

fn set_replicas(
    resource: &Resource,
    old: &Value,
    scale: &Value,
    context: &Context,
) -> Result<Value, Status> {
    check_identity(resource, old, scale)?;
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let path = FieldPath::new("spec").child("replicas");
        let error = FieldError::invalid(&path, replicas, "must be greater than or equal to 0");
        return Err(Status::invalid_kind(
            "autoscaling",
            "Scale",
            name,
            vec![error],
        ));
    }
    let mut new = old.clone();
    child_mut(&mut new, "spec").insert("replicas".into(), replicas.into());
    record::entries_from_scale(resource, &mut new, scale);
    Write::plain(resource, None, context).advance(old, new, Record::Apply)
}

fn check_identity(resource: &Resource, old: &Value, scale: &Value) -> Result<(), Status> {
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    let uid = scale["metadata"]["uid"].as_str().unwrap_or_default();
    if !uid.is_empty() && old["metadata"]["uid"] != uid {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            old["metadata"]["uid"].as_str().unwrap_or_default()
        );
        return Err(Status::conflict(resource, name, &why));
    }
    let given = scale["metadata"]
        .as_object()
        .map(|m| text(m, "name"))
        .unwrap_or_default();
    if !given.is_empty() && given != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    Ok(())
}
