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

/// Texts that are pointers in Go, where an empty one is a choice (`storageClassName: ""`): it is kept. All
/// others mean the same as their absence when they are empty.
static CHOSEN: [&str; 24] = [
    "appProtocol",
    "currentVolumeAttributesClassName",
    "failedIndexes",
    "gmsaCredentialSpec",
    "gmsaCredentialSpecName",
    "holderIdentity",
    "hostnameOverride",
    "ingressClassName",
    "initiatorName",
    "loadBalancerClass",
    "localhostProfile",
    "managedBy",
    "persistentVolumeName",
    "preferredHolder",
    "resourceClaimName",
    "resourceClaimTemplateName",
    "runAsUserName",
    "runtimeClassName",
    "secretNamespace",
    "service",
    "storageClassName",
    "succeededIndexes",
    "timeZone",
    "volumeAttributesClassName",
];

pub(super) fn is_omitted(field: &Field, value: &Value) -> bool {
    if field.required {
        return false;
    }
    match (&*field.shape, value) {
        // Go does not write empty lists and maps.
        (Shape::List(_), Value::Array(items)) => return items.is_empty(),
        (Shape::Map(_), Value::Object(map)) => return map.is_empty(),
        // What has no number is no built-in kind's: nobody knows what its author means.
        (Shape::String | Shape::Enum(_) | Shape::Bytes, Value::String(text)) => {
            let chosen = field.proto == 0 || CHOSEN.binary_search(&&*field.name).is_ok();
            return text.is_empty() && !chosen;
        }
        _ => {}
    }
    let zero = value == &Value::Bool(false) || value.as_i64() == Some(0);
    zero && OMITTED.binary_search(&&*field.name).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema;

    #[test]
    fn an_empty_text_is_kept_where_it_is_a_choice() {
        assert!(OMITTED.is_sorted() && CHOSEN.is_sorted());
        for (ty, name, omitted) in [
            (
                "core.v1.PersistentVolumeClaimSpec",
                "storageClassName",
                false,
            ),
            ("core.v1.PersistentVolumeClaimSpec", "volumeName", true),
            ("core.v1.PodSpec", "restartPolicy", true),
            ("core.v1.Container", "name", false),
            ("rbac.v1.Subject", "apiGroup", true),
            (
                "admissionregistration.v1.WebhookClientConfig",
                "caBundle",
                true,
            ),
        ] {
            let field = schema::lookup(ty)
                .and_then(|ty| ty.field(name))
                .expect(name);
            assert_eq!(is_omitted(field, &json!("")), omitted, "{ty} {name}");
            assert!(!is_omitted(field, &json!("YQ==")), "{ty} {name}");
        }
    }
}
