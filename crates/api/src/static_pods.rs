//! Pods that a node has from files of its own, and what the API holds in their stead.

use serde_json::Value;

/// The annotation of a pod in the API that only mirrors one that its node has from a file: that one's hash.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
/// The annotation that says what a pod on a node was made from: its uid.
pub const HASH: &str = "kubernetes.io/config.hash";
/// The annotation that says where a node has a pod from.
pub const SOURCE: &str = "kubernetes.io/config.source";
/// The annotation that says when a node first saw a pod.
pub const SEEN: &str = "kubernetes.io/config.seen";

/// Volumes that are made by an object of the API, or name one: the field, and what that object is, as Kubernetes words it.
const VOLUMES: [(&str, &str); 4] = [
    ("csi", "csidrivers (via CSI volumes)"),
    ("glusterfs", "endpoints (via glusterFS volumes)"),
    ("persistentVolumeClaim", "persistentvolumeclaims"),
    (
        "ephemeral",
        "persistentvolumeclaims (via ephemeral volumes)",
    ),
];
/// The same for the sources of projected volumes.
const SOURCES: [(&str, &str); 3] = [
    (
        "serviceAccountToken",
        "serviceaccounts (via projected volumes)",
    ),
    ("clusterTrustBundle", "clustertrustbundles"),
    ("podCertificate", "podcertificates"),
];

/// Whether a pod only mirrors one that its node has from a file.
pub fn is_mirror(pod: &Value) -> bool {
    let annotations = pod["metadata"]["annotations"].as_object();
    annotations.is_some_and(|held| held.contains_key(MIRROR))
}

/// What of the API a pod with this spec refers to, as Kubernetes words it (`HasAPIObjectReference`). None: it can run
/// where no API is.
pub fn reference(spec: &Value) -> Option<&'static str> {
    if names(spec, &["serviceAccountName"]) || names(spec, &["serviceAccount"]) {
        return Some("serviceaccounts");
    }
    if has_secrets(spec) {
        return Some("secrets");
    }
    if has_config_maps(spec) {
        return Some("configmaps");
    }
    if items(spec, "resourceClaims").next().is_some() {
        return Some("resourceclaims");
    }
    items(spec, "volumes").find_map(|volume| {
        let own = VOLUMES.iter().find(|(field, _)| is_set(volume, field));
        let mut projected = items(&volume["projected"], "sources");
        let source =
            || projected.find_map(|source| SOURCES.iter().find(|(field, _)| is_set(source, field)));
        own.or_else(source).map(|(_, what)| *what)
    })
}

/// Whether a pod with this spec refers to Secrets.
pub fn has_secrets(spec: &Value) -> bool {
    let pulls = items(spec, "imagePullSecrets").any(|secret| names(secret, &["name"]));
    let volumes = || {
        items(spec, "volumes").any(|volume| {
            let mut kinds = volume.as_object().into_iter().flatten();
            let mut sources = items(&volume["projected"], "sources");
            names(volume, &["secret", "secretName"])
                || names(volume, &["azureFile", "secretName"])
                || names(volume, &["csi", "nodePublishSecretRef", "name"])
                || kinds.any(|(_, kind)| names(kind, &["secretRef", "name"]))
                || sources.any(|source| is_set(source, "secret"))
        })
    };
    pulls || in_environment(spec, "secretKeyRef", "secretRef") || volumes()
}

fn has_config_maps(spec: &Value) -> bool {
    let volumes = || {
        items(spec, "volumes").any(|volume| {
            let mut sources = items(&volume["projected"], "sources");
            is_set(volume, "configMap") || sources.any(|source| is_set(source, "configMap"))
        })
    };
    in_environment(spec, "configMapKeyRef", "configMapRef") || volumes()
}

/// Whether the environment of any container comes from an object of a kind.
fn in_environment(spec: &Value, key: &str, whole: &str) -> bool {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let mut containers = lists.iter().flat_map(|list| items(spec, list));
    containers.any(|container| {
        items(container, "env").any(|env| is_set(&env["valueFrom"], key))
            || items(container, "envFrom").any(|from| is_set(from, whole))
    })
}

fn items<'a>(object: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    object[list].as_array().into_iter().flatten()
}

/// Whether the field at this path is a text that is not empty.
fn names(object: &Value, path: &[&str]) -> bool {
    let field = path.iter().fold(object, |object, field| &object[*field]);
    field.as_str().is_some_and(|name| !name.is_empty())
}

fn is_set(object: &Value, field: &str) -> bool {
    !object[field].is_null()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_needs_the_api_is_found() {
        let volume = |source: Value| json!({"volumes": [{"emptyDir": {}}, source]});
        let projected = |source: Value| volume(json!({"projected": {"sources": [source]}}));
        let env =
            |from: Value| json!({"initContainers": [{"env": [{"name": "A", "valueFrom": from}]}]});
        let named = json!({"name": "x"});
        for (spec, what) in [
            (json!({"serviceAccountName": "a"}), Some("serviceaccounts")),
            (json!({"serviceAccount": "a"}), Some("serviceaccounts")),
            (json!({"serviceAccountName": ""}), None),
            (json!({"imagePullSecrets": [named]}), Some("secrets")),
            (env(json!({"secretKeyRef": named})), Some("secrets")),
            (env(json!({"configMapKeyRef": named})), Some("configmaps")),
            (
                env(json!({"fieldRef": {"fieldPath": "metadata.name"}})),
                None,
            ),
            (
                json!({"containers": [{"envFrom": [{"secretRef": named}]}]}),
                Some("secrets"),
            ),
            (
                json!({"containers": [{"envFrom": [{"configMapRef": named}]}]}),
                Some("configmaps"),
            ),
            (
                volume(json!({"secret": {"secretName": "x"}})),
                Some("secrets"),
            ),
            (
                volume(json!({"cephfs": {"secretRef": named}})),
                Some("secrets"),
            ),
            (
                volume(json!({"csi": {"driver": "d", "nodePublishSecretRef": named}})),
                Some("secrets"),
            ),
            (
                volume(json!({"csi": {"driver": "d"}})),
                Some("csidrivers (via CSI volumes)"),
            ),
            (volume(json!({"configMap": named})), Some("configmaps")),
            (projected(json!({"secret": named})), Some("secrets")),
            (projected(json!({"configMap": named})), Some("configmaps")),
            (projected(json!({"downwardAPI": {}})), None),
            (
                projected(json!({"serviceAccountToken": {"path": "t"}})),
                Some("serviceaccounts (via projected volumes)"),
            ),
            (
                projected(json!({"clusterTrustBundle": {}})),
                Some("clustertrustbundles"),
            ),
            (
                projected(json!({"podCertificate": {}})),
                Some("podcertificates"),
            ),
            (
                volume(json!({"persistentVolumeClaim": {"claimName": "c"}})),
                Some("persistentvolumeclaims"),
            ),
            (
                volume(json!({"ephemeral": {}})),
                Some("persistentvolumeclaims (via ephemeral volumes)"),
            ),
            (
                volume(json!({"glusterfs": {}})),
                Some("endpoints (via glusterFS volumes)"),
            ),
            (volume(json!({"hostPath": {"path": "/x"}})), None),
            (json!({"resourceClaims": [named]}), Some("resourceclaims")),
        ] {
            assert_eq!(reference(&spec), what, "{spec}");
        }
    }
}
