//! Pods.
//!
//! Different from a stock API server: no `kube-api-access` volume is added, because agents do not
//! mount projected volumes; and a `priorityClassName` other than the two of the system is resolved
//! by the caller, who can read PriorityClasses.

mod update;

use super::field::{
    absent, child, children, default, default_text, entry, int, items, present, root, spec, text,
};
use super::{Hooks, pod_spec};
use crate::status::{FieldError, FieldPath};
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

fn prepare(pod: &mut Value, old: Option<&Value>, _context: &Context) {
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
        default_text(pod_spec, "serviceAccountName", "default");
        pod_spec::service_account(pod_spec);
        tolerate_lost_nodes(pod_spec);
        priority(pod_spec);
    }
    let class = pod_spec::qos_class(&pod["spec"]);
    pod["status"] = json!({"phase": "Pending", "qosClass": class});
}

/// A pod that says nothing else stays five minutes on a node that is lost.
fn tolerate_lost_nodes(pod_spec: &mut Map<String, Value>) {
    for taint in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let tolerated = children(pod_spec, "tolerations").any(|toleration| {
            let field = |name: &str| {
                toleration
                    .get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            matches!(field("effect"), "" | "NoExecute")
                && (field("key").is_empty() || field("key") == taint)
        });
        if tolerated {
            continue;
        }
        if absent(pod_spec, "tolerations") {
            pod_spec.insert("tolerations".to_owned(), json!([]));
        }
        if let Some(list) = pod_spec
            .get_mut("tolerations")
            .and_then(Value::as_array_mut)
        {
            list.push(
                json!({"key": taint, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 300}),
            );
        }
    }
}

fn priority(pod_spec: &mut Map<String, Value>) {
    let class = pod_spec
        .get("priorityClassName")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let value = match class {
        "" => 0,
        "system-cluster-critical" => 2_000_000_000,
        "system-node-critical" => 2_000_001_000,
        _ => return,
    };
    default(pod_spec, "priority", value);
    default_text(pod_spec, "preemptionPolicy", "PreemptLowerPriority");
}

fn validate(pod: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let path = FieldPath::new("spec");
    match old {
        // Nearly every update of a pod is one of its status.
        Some(old) if old["spec"] == pod["spec"] => {}
        Some(old) => {
            pod_spec::validate(&pod["spec"], &path, errors);
            update::validate(&pod["spec"], &old["spec"], &path, errors);
        }
        None => {
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
        && int(pod, "/spec/priority") > 1_000_000_000
        && !text(pod, "/spec/priorityClassName").starts_with("system-")
    {
        errors.push(FieldError::forbidden(
            &path.child("priority"),
            "may not be more than 1000000000",
        ));
    }
}
