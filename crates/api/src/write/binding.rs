//! The `binding` subresource of pods: the scheduler's decision.

use serde_json::{Value, json};

use super::{Context, child_mut, metadata_mut};
use crate::resource::Resource;
use crate::status::{FieldError, FieldPath, Status, Subject};
use crate::time;

/// The pod's next state for a written `Binding`. The pod is at `revision`.
///
/// # Errors
///
/// 409 when the pod is bound, being deleted, held back by gates or another one, 422 when the
/// binding's fields are not valid.
pub fn bind(
    resource: &Resource,
    pod: &Value,
    revision: u64,
    binding: &Value,
    context: &Context,
) -> Result<Value, Status> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let node = target(binding, name)?;
    let sub = format!("{}/binding", resource.plural);
    let subject = Subject {
        group: resource.group,
        name: &sub,
    };
    let conflict = |why: &str| Err(Status::conflict(subject, name, why));
    let wanted = binding["metadata"]["uid"].as_str().unwrap_or_default();
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
    if !wanted.is_empty() && wanted != uid {
        let why = format!(
            "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
        );
        return conflict(&why);
    }
    let wanted = binding["metadata"]["resourceVersion"].as_str();
    if let Some(wanted) =
        wanted.filter(|wanted| !wanted.is_empty() && wanted.parse() != Ok(revision))
    {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {revision}"
        );
        return conflict(&why);
    }
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return conflict(&format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    if let Some(bound) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
        return conflict(&format!("pod {name} is already assigned to node {bound:?}"));
    }
    if pod["spec"]["schedulingGates"]
        .as_array()
        .is_some_and(|gates| !gates.is_empty())
    {
        return conflict(&format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut object = pod.clone();
    child_mut(&mut object, "spec").insert("nodeName".into(), node.into());
    for field in ["annotations", "labels"] {
        merge_texts(&mut object, field, &binding["metadata"][field]);
    }
    set_scheduled(&mut object, context);
    Ok(object)
}

fn target<'a>(binding: &'a Value, name: &str) -> Result<&'a str, Status> {
    let path = FieldPath::new("target");
    let kind = binding["target"]["kind"].as_str().unwrap_or_default();
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    let mut errors = Vec::new();
    if !matches!(kind, "" | "Node") {
        let allowed = ["Node", "<empty>"];
        errors.push(FieldError::not_supported(
            &path.child("kind"),
            kind,
            &allowed,
        ));
    }
    if node.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    if errors.is_empty() {
        return Ok(node);
    }
    Err(Status::invalid_kind("", "Binding", name, errors))
}

fn merge_texts(object: &mut Value, field: &str, added: &Value) {
    let Some(added) = added.as_object().filter(|map| !map.is_empty()) else {
        return;
    };
    let place = &mut metadata_mut(object)
        .entry(field)
        .or_insert_with(|| Value::Object(serde_json::Map::new()));
    if let Value::Object(map) = place {
        map.extend(
            added
                .iter()
                .map(|(key, value)| (key.clone(), value.clone())),
        );
    }
}

fn set_scheduled(object: &mut Value, context: &Context) {
    let condition = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": time::format(context.now),
    });
    let conditions = child_mut(object, "status")
        .entry("conditions")
        .or_insert_with(|| Value::Array(Vec::new()));
    let Value::Array(conditions) = conditions else {
        return;
    };
    let known = conditions.iter_mut().find(|c| c["type"] == "PodScheduled");
    match known {
        Some(known) if known["status"] == "True" => {}
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}
