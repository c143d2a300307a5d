//! Zeros that mean the same as an absence.

use serde_json::Value;

use crate::schema::{Field, Shape};

/// Fields that are no pointers in Go: their zero means the same as their absence, Go leaves it
/// out when it writes JSON, and always writes it in protobuf. The schema does not tell; a zero of
/// any other field is kept, because it may be a choice (`replicas: 0`).
static OMITTED: [&str; 41] = [
    "active",
    "availableReplicas",
    "count",
    "currentReplicas",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "failed",
    "failureThreshold",
    "fullyLabeledReplicas",
    "generation",
    "globalDefault",
    "healthCheckNodePort",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "initialDelaySeconds",
    "minReadySeconds",
    "nodePort",
    "nullable",
    "numberAvailable",
    "numberUnavailable",
    "observedGeneration",
    "paused",
    "periodSeconds",
    "publishNotReadyAddresses",
    "readOnly",
    "readyReplicas",
    "stdin",
    "stdinOnce",
    "succeeded",
    "successThreshold",
    "timeoutSeconds",
    "tty",
    "unavailableReplicas",
    "uniqueItems",
    "unschedulable",
    "updatedNumberScheduled",
    "updatedReplicas",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
];

pub(super) fn is_omitted(field: &Field, value: &Value) -> bool {
    if field.required {
        return false;
    }
    match (&*field.shape, value) {
        // Go does not write empty lists and maps.
        (Shape::List(_), Value::Array(items)) => return items.is_empty(),
        (Shape::Map(_), Value::Object(map)) => return map.is_empty(),
        _ => {}
    }
    let zero = value == &Value::Bool(false) || value.as_i64() == Some(0);
    zero && OMITTED.binary_search(&&*field.name).is_ok()
}
