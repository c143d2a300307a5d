//! What the Node authorizer gives a node for its pods, and what it may not write all the same.

use serde_json::{Value, json};

use crate::server::Server;
use crate::{JSON, User};

const DEFAULT: &str = "/api/v1/namespaces/default";
const MERGE: &str = "application/merge-patch+json";

/// A pod of each of two nodes, which mounts a claim that is bound to a volume of the same name.
async fn placed(server: &Server) {
    for (name, node) in [("mine", "n1"), ("other", "n2")] {
        let pod = json!({"metadata": {"name": name}, "spec": {"nodeName": node,
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}],
            "containers": [{"name": "c", "image": "i"}]}});
        let claim = json!({"metadata": {"name": name}, "spec": {
            "accessModes": ["ReadWriteOnce"], "volumeName": name,
            "resources": {"requests": {"storage": "1Gi"}}}});
        let volume = json!({"metadata": {"name": name}, "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "hostPath": {"path": "/x"},
            "claimRef": {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": "default", "name": name}}});
        for (path, object) in [
            (format!("{DEFAULT}/persistentvolumeclaims"), claim),
            ("/api/v1/persistentvolumes".to_owned(), volume),
            (format!("{DEFAULT}/pods"), pod),
        ] {
            server.post(&path, object).await.expect(201);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_reads_and_writes_what_its_pods_need() {
    let server = Server::start().await;
    placed(&server).await;
    let node = User::new(&server, "system:node:n1", &["system:nodes"]);
    for (path, code) in [
        (format!("{DEFAULT}/persistentvolumeclaims/mine"), 200),
        (format!("{DEFAULT}/persistentvolumeclaims/other"), 403),
        (format!("{DEFAULT}/persistentvolumeclaims"), 403),
        ("/api/v1/persistentvolumes/mine".to_owned(), 200),
        ("/api/v1/persistentvolumes/other".to_owned(), 403),
        ("/api/v1/persistentvolumes/none".to_owned(), 403),
        ("/api/v1/persistentvolumes".to_owned(), 403),
        (
            "/apis/certificates.k8s.io/v1/certificatesigningrequests".to_owned(),
            200,
        ),
    ] {
        assert_eq!(node.get(&path).await, code, "{path}");
    }
    let nodes = "/apis/storage.k8s.io/v1/csinodes";
    let csi = |name: &str| json!({"metadata": {"name": name}, "spec": {"drivers": []}});
    node.post(nodes, csi("n1")).await.expect(201);
    node.post(nodes, csi("n2")).await.expect(403);
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let own = format!("{nodes}/n1");
    node.send("PATCH", &own, MERGE, labels).await.expect(200);
    node.send("DELETE", &own, JSON, Value::Null)
        .await
        .expect(200);
    let review = |name: &str| {
        json!({"spec": {"user": "system:node:n1", "groups": ["system:nodes"],
            "resourceAttributes": {"verb": "get", "resource": "persistentvolumes", "name": name}}})
    };
    for (name, may) in [("mine", true), ("other", false)] {
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let said = server.post(path, review(name)).await.expect(201);
        assert_eq!(said["status"]["allowed"], may, "{name}");
    }
    for (name, code) in [("other", 403), ("mine", 201)] {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name},
            "deleteOptions": {"gracePeriodSeconds": 0}});
        let path = format!("{DEFAULT}/pods/{name}/eviction");
        assert_eq!(node.post(&path, eviction).await.code, code, "{name}");
    }
    assert_eq!(server.get(&format!("{DEFAULT}/pods/mine")).await.code, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_leaves_its_pods_resource_claims_alone() {
    let server = Server::start().await;
    placed(&server).await;
    let node = User::new(&server, "system:node:n1", &["system:nodes"]);
    let status = format!("{DEFAULT}/pods/mine/status");
    let claims = json!({"status": {"phase": "Running",
        "resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "another"}]}});
    let refused = node.send("PATCH", &status, MERGE, claims).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"mine\" is forbidden: node \"n1\" cannot update resource claim statuses"
    );
    let running = json!({"status": {"phase": "Running"}});
    node.send("PATCH", &status, MERGE, running)
        .await
        .expect(200);
}
