//! What clients rely on in the documents.

use super::*;
use std::collections::BTreeSet;

fn parsed(document: &Document) -> Value {
    serde_json::from_slice(&document.body).expect("JSON")
}

/// All references in a document.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(map) => {
            if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                found.insert(target);
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_reference_of_every_document_resolves() {
    let index = parsed(&v3_index());
    let paths = index["paths"].as_object().expect("paths");
    assert!(paths.len() >= 20);
    for (path, entry) in paths {
        let document = v3(path).expect("a document of the index");
        let url = format!("/openapi/v3/{path}?hash={}", document.hash);
        assert_eq!(entry["serverRelativeURL"], url.as_str());
        let value = parsed(&document);
        let mut found = BTreeSet::new();
        references(&value, &mut found);
        for target in found {
            let name = target
                .strip_prefix("#/components/schemas/")
                .expect("a local schema");
            assert!(
                value["components"]["schemas"].get(name).is_some(),
                "{path}: {name}"
            );
        }
    }
    let value = parsed(&v2());
    let mut found = BTreeSet::new();
    references(&value, &mut found);
    assert!(found.len() > 300);
    for target in found {
        let name = target
            .strip_prefix("#/definitions/")
            .expect("a local schema");
        assert!(value["definitions"].get(name).is_some(), "{name}");
    }
    assert!(v3("apis/apps/v9").is_none());
    assert!(v3("nothing").is_none());
}

#[test]
fn operation_ids_are_unique() {
    let value = parsed(&v2());
    let mut seen = BTreeSet::new();
    for (path, operations) in value["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            if let Some(id) = operation["operationId"].as_str() {
                assert!(seen.insert(id), "{method} {path}: {id}");
            }
        }
    }
}

#[test]
fn kubectl_finds_what_it_looks_for() {
    let value = parsed(&v3("apis/apps/v1").expect("a document"));
    let gvk = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    // Server-side validation and dry run: parameters of the patch operation of the kind.
    let patch = &value["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"], gvk);
    let has = |name: &str| {
        let parameters = patch["parameters"].as_array().expect("parameters");
        parameters
            .iter()
            .any(|parameter| parameter["name"] == name && parameter["in"] == "query")
    };
    assert!(has("fieldValidation") && has("dryRun") && has("fieldManager") && has("force"));
    assert!(
        patch["requestBody"]["content"]
            .get("application/strategic-merge-patch+json")
            .is_some()
    );
    // The schema of a kind, found by the extension.
    let schemas = &value["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(deployment["x-kubernetes-group-version-kind"], json!([gvk]));
    assert_eq!(deployment["properties"]["kind"]["type"], "string");
    // How lists are merged.
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    let strategy = &schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["strategy"];
    assert_eq!(strategy["x-kubernetes-patch-strategy"], "retainKeys");
    assert_eq!(
        strategy["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"
    );
    let required = &schemas["io.k8s.api.core.v1.PodSpec"]["required"];
    assert_eq!(*required, json!(["containers"]));
}

#[test]
fn subresources_and_lists_have_their_own_kinds() {
    let value = parsed(&v3("api/v1").expect("a document"));
    let eviction = &value["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/eviction"]["post"];
    assert_eq!(
        eviction["x-kubernetes-group-version-kind"],
        json!({"group": "policy", "version": "v1", "kind": "Eviction"})
    );
    assert!(value["paths"].get("/api/v1/pods").is_some());
    assert!(value["paths"].get("/api/v1/nodes/{name}/status").is_some());
    let list = &value["components"]["schemas"]["io.k8s.api.core.v1.PodList"];
    assert_eq!(
        list["x-kubernetes-group-version-kind"][0]["kind"],
        "PodList"
    );
}
