//! Zeros that mean the same as an absence.

use serde_json::Value;

use crate::schema::{Field, Shape, Type};

/// Fields that are no pointers in Go: their zero means the same as their absence, Go leaves it
/// out when it writes JSON, and always writes it in protobuf. The schema does not tell; a zero of
/// any other field is kept, because it may be a choice (`replicas: 0`). Types that have it
/// otherwise are in [`APART`].
static OMITTED: [&str; 50] = [
    "active",
    "availableReplicas",
    "chapAuthDiscovery",
    "chapAuthSession",
    "clusterScope",
    "count",
    "currentReplicas",
    "deprecated",
    "deprecatedCount",
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
    "preserveUnknownFields",
    "publishNotReadyAddresses",
    "readOnly",
    "readyReplicas",
    "signal",
    "sizeBytes",
    "sslEnabled",
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
/// others mean the same as their absence when they are empty. Types that have it otherwise are in
/// [`APART`].
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

/// Fields that are not what the two tables say of their names: numbers and truths that are pointers
/// in these types only (`timeoutSeconds` of webhooks), or always written, and the other way round;
/// and texts likewise.
static APART: [(&str, &str); 17] = [
    ("admissionregistration.v1.MutatingWebhook", "timeoutSeconds"),
    (
        "admissionregistration.v1.ValidatingWebhook",
        "timeoutSeconds",
    ),
    ("apps.v1.StatefulSetStatus", "availableReplicas"),
    (
        "autoscaling.v1.HorizontalPodAutoscalerStatus",
        "observedGeneration",
    ),
    (
        "autoscaling.v2.HorizontalPodAutoscalerStatus",
        "observedGeneration",
    ),
    ("core.v1.AWSElasticBlockStoreVolumeSource", "partition"),
    ("core.v1.AzureDiskVolumeSource", "readOnly"),
    ("core.v1.CSIVolumeSource", "readOnly"),
    ("core.v1.ClientIPConfig", "timeoutSeconds"),
    ("core.v1.GCEPersistentDiskVolumeSource", "partition"),
    ("core.v1.PersistentVolumeSpec", "storageClassName"),
    ("core.v1.TypedLocalObjectReference", "apiGroup"),
    ("core.v1.TypedObjectReference", "apiGroup"),
    ("discovery.v1.EndpointPort", "name"),
    ("meta.v1.ListOptions", "timeoutSeconds"),
    ("resource.v1.DeviceAttribute", "string"),
    ("storage.v1.VolumeNodeResources", "count"),
];

/// Whether a field of this type is left out although it has this value.
pub(super) fn is_omitted(ty: &Type, field: &Field, value: &Value) -> bool {
    if field.required {
        return false;
    }
    match (&*field.shape, value) {
        // Go does not write empty lists and maps.
        (Shape::List(_), Value::Array(items)) => return items.is_empty(),
        (Shape::Map(_), Value::Object(map)) => return map.is_empty(),
        // What has no number is no built-in kind's: nobody knows what its author means.
        (Shape::String | Shape::Enum(_) | Shape::Bytes, Value::String(text)) => {
            return text.is_empty() && field.proto != 0 && !is_listed(&CHOSEN, ty, field);
        }
        _ => {}
    }
    let zero = value == &Value::Bool(false) || value.as_i64() == Some(0);
    zero && is_listed(&OMITTED, ty, field)
}

fn is_listed(table: &[&str], ty: &Type, field: &Field) -> bool {
    let name = &*field.name;
    let listed = table.binary_search(&name).is_ok();
    // Custom resources have fields of the same names, but no types of these.
    listed != APART.binary_search(&(&*ty.name, name)).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema;

    fn omitted(ty: &str, name: &str, value: &Value) -> bool {
        let ty = schema::lookup(ty).expect(ty);
        is_omitted(ty, ty.field(name).expect(name), value)
    }

    #[test]
    fn an_empty_text_is_kept_where_it_is_a_choice() {
        for (ty, name, expected) in [
            (
                "core.v1.PersistentVolumeClaimSpec",
                "storageClassName",
                false,
            ),
            ("core.v1.PersistentVolumeSpec", "storageClassName", true),
            ("core.v1.PersistentVolumeClaimSpec", "volumeName", true),
            ("core.v1.TypedLocalObjectReference", "apiGroup", false),
            ("core.v1.PodSpec", "restartPolicy", true),
            ("core.v1.Container", "name", false),
            ("core.v1.ServicePort", "name", true),
            ("discovery.v1.EndpointPort", "name", false),
            ("rbac.v1.Subject", "apiGroup", true),
            ("resource.v1.DeviceAttribute", "string", false),
            (
                "admissionregistration.v1.WebhookClientConfig",
                "caBundle",
                true,
            ),
        ] {
            assert_eq!(omitted(ty, name, &json!("")), expected, "{ty} {name}");
            assert!(!omitted(ty, name, &json!("YQ==")), "{ty} {name}");
        }
    }

    #[test]
    fn a_zero_is_kept_where_it_is_a_choice() {
        let webhook = "admissionregistration.v1.ValidatingWebhook";
        for (ty, name, zero, expected) in [
            ("core.v1.Probe", "timeoutSeconds", json!(0), true),
            (webhook, "timeoutSeconds", json!(0), false),
            ("core.v1.ClientIPConfig", "timeoutSeconds", json!(0), false),
            ("core.v1.CSIVolumeSource", "readOnly", json!(false), false),
            (
                "core.v1.CSIPersistentVolumeSource",
                "readOnly",
                json!(false),
                true,
            ),
            ("core.v1.VolumeMount", "readOnly", json!(false), true),
            ("storage.v1.VolumeNodeResources", "count", json!(0), false),
            ("core.v1.Event", "count", json!(0), true),
            ("apps.v1.DeploymentSpec", "replicas", json!(0), false),
            (
                "apps.v1.RollingUpdateStatefulSetStrategy",
                "partition",
                json!(0),
                false,
            ),
            (
                "core.v1.GCEPersistentDiskVolumeSource",
                "partition",
                json!(0),
                true,
            ),
        ] {
            assert_eq!(omitted(ty, name, &zero), expected, "{ty} {name}");
        }
    }

    #[test]
    fn the_tables_are_sorted_and_name_what_there_is() {
        assert!(OMITTED.is_sorted() && CHOSEN.is_sorted() && APART.is_sorted());
        for name in OMITTED.iter().chain(&CHOSEN) {
            assert!(schema::all().any(|ty| ty.field(name).is_some()), "{name}");
        }
        for (ty, name) in APART {
            let known = schema::lookup(ty).expect(ty);
            assert!(known.field(name).is_some(), "{ty} {name}");
        }
    }
}
