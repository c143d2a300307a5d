//! Pods. What needs more than the pod (its account, its priority) is admission's, which the caller brings.

pub(crate) mod resize;
mod update;

use super::field::{child, default, entry, int, items, map, present, root, spec, text};
use super::{Hooks, pod_spec};
use crate::priority::HIGHEST_OF_USERS;
use crate::status::{FieldError, FieldPath};
use crate::time;
use crate::write::Context;
use serde_json::{Map, Value, json};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "v1 Pod",
    default: fill,
    prepare,
    validate,
};

fn fill(pod: &mut Value) {
    let Some(pod_spec) = spec(pod) else { return };
    pod_spec::fill(pod_spec);
    default(pod_spec, "enableServiceLinks", true);
    pod_spec::requests_from_limits(pod_spec);
    if let Some(status) = root(pod).and_then(|pod| child(pod, "status")) {
        addresses(status);
    }
}

/// `podIP` is the first of `podIPs`: whichever was given fills the other, the single one wins.
fn addresses(status: &mut Map<String, Value>) {
    let first = |status: &Map<String, Value>| {
        status
            .get("podIPs")
            .and_then(|list| list.get(0)?.get("ip"))
            .cloned()
    };
    match (status.get("podIP").cloned(), first(status)) {
        (Some(Value::String(ip)), listed)
            if !ip.is_empty() && listed.as_ref().and_then(Value::as_str) != Some(ip.as_str()) =>
        {
            status.insert("podIPs".to_owned(), json!([{"ip": ip}]));
        }
        (_, Some(listed)) => {
            status.insert("podIP".to_owned(), listed);
        }
        _ => {}
    }
}

fn prepare(pod: &mut Value, old: Option<&Value>, context: &Context) {
    if let Some(old) = old {
        // The class follows from the spec and cannot be written.
        if let Some(class) = present(old, "/status/qosClass").cloned()
            && let Some(status) = root(pod).and_then(|pod| entry(pod, "status"))
        {
            status.insert("qosClass".to_owned(), class);
        }
        return;
    }
    if let Some(pod_spec) = spec(pod) {
        // Admission has named it by now.
        pod_spec::service_account(pod_spec);
    }
    let class = pod_spec::qos_class(&pod["spec"]);
    pod["status"] = json!({"phase": "Pending", "qosClass": class});
    if !items(pod, "/spec/schedulingGates").is_empty() {
        pod["status"]["conditions"] = json!([gated(context)]);
    }
    let labels = map(pod, "/metadata/labels").cloned().unwrap_or_default();
    if let Some(pod_spec) = spec(pod) {
        pod_spec::merge_label_keys(pod_spec, &labels);
    }
}

/// The condition that a pod with gates is born with (`applySchedulingGatedCondition`).
fn gated(context: &Context) -> Value {
    json!({
        "type": "PodScheduled",
        "status": "False",
        "lastProbeTime": null,
        "lastTransitionTime": time::format(context.now),
        "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
    })
}

fn validate(pod: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let path = FieldPath::new("spec");
    let annotations = map(pod, "/metadata/annotations");
    let noted = FieldPath::new("metadata").child("annotations");
    if let Some(old) = old {
        let before = map(old, "/metadata/annotations");
        pod_spec::annotation_updates(annotations, before, &noted, errors);
    }
    match old {
        // Nearly every update of a pod is one of its status.
        Some(old) if old["spec"] == pod["spec"] => {}
        Some(old) => {
            pod_spec::validate(&pod["spec"], &path, errors);
            update::validate(&pod["spec"], &old["spec"], &path, errors);
        }
        None => {
            pod_spec::annotations(annotations, &pod["spec"], &noted, errors);
            pod_spec::validate(&pod["spec"], &path, errors);
            if !items(pod, "/spec/ephemeralContainers").is_empty() {
                errors.push(FieldError::forbidden(
                    &path.child("ephemeralContainers"),
                    "cannot be set on create",
                ));
            }
            if !text(pod, "/spec/nodeName").is_empty()
                && present(pod, "/spec/schedulingGates").is_some()
            {
                errors.push(FieldError::forbidden(
                    &path.child("nodeName"),
                    "cannot be set until all schedulingGates have been cleared",
                ));
            }
        }
    }
    // A negative priority is fine; one above what users may give is the system's own.
    if old.is_none()
        && int(pod, "/spec/priority") > i64::from(HIGHEST_OF_USERS)
        && !text(pod, "/spec/priorityClassName").starts_with("system-")
    {
        errors.push(FieldError::forbidden(
            &path.child("priority"),
            &format!("may not be more than {HIGHEST_OF_USERS}"),
        ));
    }
}
