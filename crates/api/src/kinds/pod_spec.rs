//! The pod spec, which pods and all templates share: its defaults; its rules are in the modules below.

mod affinity;
mod annotations;
mod claims;
mod containers;
mod dns;
mod environment;
mod os;
mod probes;
mod resources;
mod restarts;
mod rules;
mod security;
mod volumes;

use super::field::{absent, child, children, default, default_number, default_text, entry};
use serde_json::{Map, Value, json};

pub(super) use affinity::{merge_label_keys, node_selector};
pub(super) use annotations::{annotation_updates, annotations};
pub(super) use resources::{overhead, qos_class, requests_from_limits};
pub(super) use rules::{labels, tolerations, validate};

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Fills a pod spec as Kubernetes' `SetDefaults_PodSpec` and the functions below it do.
pub(super) fn fill(spec: &mut Map<String, Value>) {
    default_text(spec, "dnsPolicy", "ClusterFirst");
    default_text(spec, "restartPolicy", "Always");
    default_text(spec, "schedulerName", "default-scheduler");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "securityContext", json!({}));
    service_account(spec);
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in CONTAINERS {
        for container in children(spec, list) {
            fill_container(container);
            if host_network && list != "ephemeralContainers" {
                host_ports(container);
            }
        }
    }
    for volume in children(spec, "volumes") {
        fill_volume(volume);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`: both always say the same.
pub(super) fn service_account(spec: &mut Map<String, Value>) {
    let held = |spec: &Map<String, Value>, name: &str| -> Option<Value> {
        spec.get(name)
            .filter(|value| value.as_str().is_some_and(|name| !name.is_empty()))
            .cloned()
    };
    let account = held(spec, "serviceAccountName").or_else(|| held(spec, "serviceAccount"));
    if let Some(account) = account {
        spec.insert("serviceAccountName".to_owned(), account.clone());
        spec.insert("serviceAccount".to_owned(), account);
    }
}

fn fill_container(container: &mut Map<String, Value>) {
    let image = container
        .get("image")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let policy = pull_policy(image);
    default_text(container, "imagePullPolicy", policy);
    default_text(container, "terminationMessagePath", "/dev/termination-log");
    default_text(container, "terminationMessagePolicy", "File");
    default(container, "resources", json!({}));
    for port in children(container, "ports") {
        default_text(port, "protocol", "TCP");
    }
    for variable in children(container, "env") {
        if let Some(source) = child(variable, "valueFrom") {
            fill_field_ref(source);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = child(container, probe) {
            fill_probe(probe);
        }
    }
    if let Some(lifecycle) = child(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(hook) = child(lifecycle, hook) {
                fill_handler(hook);
            }
        }
    }
}

/// `Always` where the image may change under its name: without a tag, or with `latest`.
fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or_default();
    let tag = match name.split_once('@') {
        // A digest pins the image, whatever the tag says.
        Some((tagged, _)) => tagged.split_once(':').map_or("pinned", |(_, tag)| tag),
        None => name.split_once(':').map_or("latest", |(_, tag)| tag),
    };
    // A path is no reference with a default tag.
    if tag == "latest" && !image.is_empty() && !image.contains("://") {
        "Always"
    } else {
        "IfNotPresent"
    }
}

fn fill_probe(probe: &mut Map<String, Value>) {
    for (field, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        default_number(probe, field, value);
    }
    if let Some(grpc) = child(probe, "grpc") {
        default(grpc, "service", "");
    }
    fill_handler(probe);
}

fn fill_handler(handler: &mut Map<String, Value>) {
    if let Some(get) = child(handler, "httpGet") {
        default_text(get, "path", "/");
        default_text(get, "scheme", "HTTP");
    }
}

fn fill_field_ref(source: &mut Map<String, Value>) {
    if let Some(field) = child(source, "fieldRef") {
        default_text(field, "apiVersion", "v1");
    }
}

/// On the host's network a port is the host's own.
fn host_ports(container: &mut Map<String, Value>) {
    for port in children(container, "ports") {
        if let Some(number) = port.get("containerPort").and_then(Value::as_i64) {
            default_number(port, "hostPort", number);
        }
    }
}

fn fill_volume(volume: &mut Map<String, Value>) {
    if volume
        .iter()
        .all(|(field, value)| field == "name" || value.is_null())
    {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = child(volume, source) {
            default(source, "defaultMode", 0o644);
        }
    }
    if let Some(source) = child(volume, "downwardAPI") {
        children(source, "items").for_each(fill_field_ref);
    }
    if let Some(projected) = child(volume, "projected") {
        for source in children(projected, "sources") {
            fill_projection(source);
        }
    }
    if let Some(source) = child(volume, "hostPath") {
        default(source, "type", "");
    }
    azure_disk(volume);
    if let Some(image) = child(volume, "image") {
        let reference = image.get("reference").and_then(Value::as_str);
        let policy = pull_policy(reference.unwrap_or_default());
        default_text(image, "pullPolicy", policy);
    }
    if let Some(template) =
        child(volume, "ephemeral").and_then(|ephemeral| child(ephemeral, "volumeClaimTemplate"))
    {
        default(template, "metadata", json!({}));
        if let Some(claim) = entry(template, "spec") {
            default_text(claim, "volumeMode", "Filesystem");
        }
    }
}

/// Fills `azureDisk`, of volumes and of persistent ones.
pub(super) fn azure_disk(volume: &mut Map<String, Value>) {
    if let Some(disk) = child(volume, "azureDisk") {
        default_text(disk, "cachingMode", "ReadWrite");
        default_text(disk, "kind", "Shared");
        default_text(disk, "fsType", "ext4");
        default(disk, "readOnly", false);
    }
}

fn fill_projection(source: &mut Map<String, Value>) {
    if let Some(token) = child(source, "serviceAccountToken")
        && absent(token, "expirationSeconds")
    {
        token.insert("expirationSeconds".to_owned(), 3600.into());
    }
    if let Some(downward) = child(source, "downwardAPI") {
        children(downward, "items").for_each(fill_field_ref);
    }
}

#[cfg(test)]
mod tests {
    use super::pull_policy;

    #[test]
    fn an_image_that_may_change_is_always_pulled() {
        for (image, policy) in [
            ("a", "Always"),
            ("a:latest", "Always"),
            ("host:5000/a", "Always"),
            ("a:v1", "IfNotPresent"),
            ("host:5000/a:v1", "IfNotPresent"),
            ("a@sha256:00", "IfNotPresent"),
            ("a:v1@sha256:00", "IfNotPresent"),
            ("file:///x/y.wasm", "IfNotPresent"),
            ("", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
