//! The pairs of `defaults.json` through the whole of a create: what a real API server makes of a small
//! object of each kind, with its schema, its kinds' rules and its admission.

mod server;

use serde_json::{Value, json};
use server::Server;

const PAIRS: &str = include_str!("../../api/data/defaults.json");

/// Hides what differs from run to run, in what is made and in what is expected.
fn mask(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        let of_the_write = [
            "uid",
            "creationTimestamp",
            "managedFields",
            "resourceVersion",
        ];
        metadata.retain(|field, _| !of_the_write.contains(&field.as_str()));
    }
    mask_texts(object);
    // Drawn addresses and ports; that there is none is no draw.
    for pointer in ["/spec/clusterIP", "/spec/clusterIPs/0"] {
        if let Some(address) = object.pointer_mut(pointer).filter(|held| **held != "None") {
            *address = "<address>".into();
        }
    }
    let ports = object.pointer_mut("/spec/ports");
    for port in ports.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(number) = port.get_mut("nodePort") {
            *number = "<port>".into();
        }
    }
}

fn mask_texts(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(mask_texts),
        Value::Object(fields) => fields.values_mut().for_each(mask_texts),
        Value::String(text) if text.parse::<jiff::Timestamp>().is_ok() => *text = "<time>".into(),
        Value::String(text) if uuid::Uuid::parse_str(text).is_ok() => *text = "<uid>".into(),
        Value::String(text) if text.starts_with("kube-api-access-") => {
            text.replace_range(text.len() - 5.., "<letters>");
        }
        _ => {}
    }
}

/// Adds what the recorded server had no default class for.
fn of_our_class(object: &mut Value) {
    if object["kind"] == "Ingress" {
        object["spec"]["ingressClassName"] = "carob".into();
    }
    if object["kind"] == "PersistentVolumeClaim" {
        object["spec"]["storageClassName"] = "local-path".into();
    }
}

/// Takes what the recorded server was told by its distribution: OpenShift gives every pod the CA of
/// its services, which no Kubernetes of its own has.
fn of_kubernetes_itself(object: &mut Value) {
    let volumes = object.pointer_mut("/spec/volumes");
    for volume in volumes.and_then(Value::as_array_mut).into_iter().flatten() {
        let sources = volume.pointer_mut("/projected/sources");
        if let Some(sources) = sources.and_then(Value::as_array_mut) {
            sources.retain(|source| source["configMap"]["name"] != "openshift-service-ca.crt");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_s_defaults() {
    let server = Server::start().await;
    let pairs: Vec<Value> = serde_json::from_str(PAIRS).unwrap();
    assert_eq!(pairs.len(), 30);
    for pair in pairs {
        let (given, mut expected) = (&pair["given"], pair["stored"].clone());
        let text = |field: &str| given[field].as_str().unwrap();
        let resource = api::resource::by_kind(text("apiVersion"), text("kind")).unwrap();
        let path = resource.path(Some("default"), None);
        let mut made = server.post(&path, given.clone()).await.expect(201);
        mask(&mut made);
        mask(&mut expected);
        of_kubernetes_itself(&mut expected);
        of_our_class(&mut expected);
        let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap();
        assert_eq!(pretty(&made), pretty(&expected), "{}", text("kind"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_admission_sets_belongs_to_no_manager() {
    let server = Server::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "made"},
        "spec": {"containers": [{"name": "c", "image": "i:v1"}]},
    });
    let path = format!("{pods}?fieldManager=m");
    let made = server.post(&path, pod.clone()).await.expect(201);
    let mut applied = pod;
    applied["metadata"]["name"] = "applied".into();
    let path = format!("{pods}/applied?fieldManager=m");
    let applied = server.call("PATCH", &path, "application/apply-patch+yaml", applied);
    let applied = applied.await.expect(201);
    for (pod, operation) in [(made, "Update"), (applied, "Apply")] {
        let entries = pod["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(entries.len(), 1, "{operation}");
        assert_eq!(entries[0]["operation"], operation);
        let spec = &entries[0]["fieldsV1"]["f:spec"];
        assert!(spec["f:containers"].is_object());
        for field in [
            "f:volumes",
            "f:tolerations",
            "f:priority",
            "f:serviceAccountName",
        ] {
            assert!(spec.get(field).is_none(), "{operation} {field}");
        }
        let mounts = &pod["spec"]["containers"][0]["volumeMounts"];
        assert_eq!(mounts[0]["name"], pod["spec"]["volumes"][0]["name"]);
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 2);
    }
}
