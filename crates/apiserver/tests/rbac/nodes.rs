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

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gives_its_pods_addresses_of_its_own_range() {
    let server = Server::start().await;
    placed(&server).await;
    let node = json!({"metadata": {"name": "n1"}, "spec": {"podCIDR": "10.128.64.0/18"}});
    server.post("/api/v1/nodes", node).await.expect(201);
    let node = User::new(&server, "system:node:n1", &["system:nodes"]);
    let path = format!("{DEFAULT}/pods/mine/status");
    let status = |address: &str| json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}});
    let (own, foreign) = ("10.128.127.255", "10.128.128.0");
    let dual = json!({"status": {"podIP": own, "podIPs": [{"ip": own}, {"ip": "fd00::1"}]}});
    for (body, code) in [
        (status(own), 200),
        (status(foreign), 403),
        (status("10.128.63.255"), 403),
        (dual, 403),
    ] {
        let said = node.send("PATCH", &path, MERGE, body.clone()).await;
        assert_eq!(said.code, code, "{body}");
    }
    let refused = node.send("PATCH", &path, MERGE, status(foreign)).await;
    assert_eq!(
        refused.expect(403)["message"],
        "pods \"mine\" is forbidden: node \"n1\" can only give pods addresses of its podCIDR, not \"10.128.128.0\""
    );
    // What it has said before is not judged again.
    let gone = server.call("DELETE", "/api/v1/nodes/n1", JSON, Value::Null);
    gone.await.expect(200);
    let running = json!({"status": {"phase": "Running"}});
    node.send("PATCH", &path, MERGE, running).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_makes_and_deletes_mirrors_of_its_own_pods() {
    let server = Server::start().await;
    let made = server
        .post("/api/v1/nodes", json!({"metadata": {"name": "n1"}}))
        .await
        .expect(201);
    let owner = |name: &str| json!({"apiVersion": "v1", "kind": "Node", "name": name, "controller": true, "uid": made["metadata"]["uid"]});
    let mirror = |name: &str, more: Value| {
        let metadata = json!({"name": name, "ownerReferences": [owner("n1")],
            "annotations": {"kubernetes.io/config.mirror": "h"}});
        let mut spec = json!({"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]});
        for (field, value) in more.as_object().cloned().unwrap_or_default() {
            spec[field] = value;
        }
        json!({"metadata": metadata, "spec": spec})
    };
    let pods = format!("{DEFAULT}/pods");
    let (one, other) = ("system:node:n1", "system:node:n2");
    let [node, neighbour] = [one, other].map(|name| User::new(&server, name, &["system:nodes"]));
    let pod = node
        .post(&pods, mirror("p-n1", json!({})))
        .await
        .expect(201);
    // It is what the node runs: nothing was added.
    assert_eq!(pod["spec"]["serviceAccountName"], Value::Null);
    assert_eq!(pod["spec"]["volumes"], Value::Null);
    let itself = "can only create pods with spec.nodeName set to itself";
    for (who, body, why) in [
        (&neighbour, mirror("q-n1", json!({})), itself),
        (&node, mirror("q-n1", json!({"nodeName": "n2"})), itself),
        (
            &node,
            mirror("q-n1", json!({"serviceAccountName": "default"})),
            "a mirror pod may not reference service accounts",
        ),
        (
            &node,
            mirror("q-n1", json!({"imagePullSecrets": [{"name": "s"}]})),
            "a mirror pod may not reference secrets",
        ),
        (
            &node,
            mirror(
                "q-n1",
                json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]}),
            ),
            "node \"n1\" can not create pods that reference configmaps",
        ),
    ] {
        let refused = who.post(&pods, body).await.expect(403);
        let message = refused["message"].as_str().unwrap();
        assert!(message.ends_with(why), "{message}");
    }
    // Nobody else may, by an account of the cluster, either.
    let account = mirror("q-n1", json!({"serviceAccountName": "default"}));
    server.post(&pods, account).await.expect(403);
    let path = format!("{pods}/p-n1");
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    node.send("PATCH", &path, MERGE, labels).await.expect(403);
    let unmarked = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": null}}});
    let refused = server.call("PATCH", &path, MERGE, unmarked).await;
    let message = refused.expect(422)["message"].to_string();
    assert!(
        message.contains("may not remove or update mirror pod annotation"),
        "{message}"
    );
    let running = json!({"status": {"phase": "Running"}});
    let status = format!("{path}/status");
    node.send("PATCH", &status, MERGE, running)
        .await
        .expect(200);
    let now = json!({"gracePeriodSeconds": 0});
    let refused = neighbour.send("DELETE", &path, JSON, now.clone()).await;
    refused.expect(403);
    node.send("DELETE", &path, JSON, now).await.expect(200);
    assert_eq!(server.get(&path).await.code, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_roles_give_a_node_it_changes_no_pod_but_by_its_status() {
    let server = Server::start().await;
    placed(&server).await;
    let bound = json!({"metadata": {"name": "n"}, "subjects": [{"kind": "User", "name": "system:node:n1"}],
        "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"}});
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    server.post(bindings, bound).await.expect(201);
    let node = User::new(&server, "system:node:n1", &["system:nodes"]);
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let mine = format!("{DEFAULT}/pods/mine");
    let refused = node.send("PATCH", &mine, MERGE, labels).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"mine\" is forbidden: unexpected operation \"UPDATE\", node \"n1\" can only create and delete mirror pods"
    );
    let only = |subresource: &str| {
        format!(
            "pods \"mine\" is forbidden: unexpected pod subresource {subresource:?}, only 'status' and 'eviction' are allowed"
        )
    };
    let binding = json!({"metadata": {"name": "mine"}, "target": {"kind": "Node", "name": "n1"}});
    for path in [format!("{mine}/binding"), format!("{DEFAULT}/bindings")] {
        let refused = node.post(&path, binding.clone()).await.expect(403);
        assert_eq!(refused["message"], only("binding"), "{path}");
    }
    let strategic = "application/strategic-merge-patch+json";
    let resize =
        json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1m"}}}]}});
    let path = format!("{mine}/resize");
    let refused = node.send("PATCH", &path, strategic, resize).await;
    assert_eq!(refused.expect(403)["message"], only("resize"));
    let other = format!("{DEFAULT}/pods/other");
    let refused = node.send("DELETE", &other, JSON, Value::Null).await;
    assert_eq!(
        refused.expect(403)["message"],
        "pods \"other\" is forbidden: node \"n1\" can only delete pods with spec.nodeName set to itself"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_what_is_gone_from_its_own_disk() {
    let server = Server::start().await;
    let volumes = "/api/v1/persistentvolumes";
    let finalizer = "carob.dev/local-path";
    for (name, on) in [("mine", "n1"), ("other", "n2")] {
        let volume = json!({
            "metadata": {"name": name, "labels": {"carob.dev/node": on}, "finalizers": [finalizer]},
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
                "hostPath": {"path": "/x"}},
        });
        server.post(volumes, volume).await.expect(201);
    }
    let node = User::new(&server, "system:node:n1", &["system:nodes"]);
    for (selector, code) in [
        ("carob.dev%2Fnode%3Dn1", 200),
        ("carob.dev%2Fnode%3Dn2", 403),
        ("carob.dev%2Fnode%3Dn1%2Ca%3Db", 403),
        ("carob.dev%2Fnode", 403),
        ("", 403),
    ] {
        let path = format!("{volumes}?labelSelector={selector}");
        assert_eq!(node.get(&path).await, code, "{selector}");
    }
    let mine = format!("{volumes}/mine");
    assert_eq!(node.get(&mine).await, 200);
    assert_eq!(node.get(&format!("{volumes}/other")).await, 403);
    let without = |left: Value| json!({"metadata": {"finalizers": left}});
    let protection = json!(["kubernetes.io/pv-protection"]);
    let refused = node
        .send("PATCH", &mine, MERGE, without(protection.clone()))
        .await
        .expect(403);
    assert_eq!(
        refused["message"],
        "persistentvolumes \"mine\" is forbidden: node \"n1\" can only take the finalizer \
         \"carob.dev/local-path\" from a volume of its own disk that is being deleted"
    );
    for name in ["mine", "other"] {
        let path = format!("{volumes}/{name}");
        server
            .call("DELETE", &path, JSON, Value::Null)
            .await
            .expect(200);
        // As long as it may be bound it stays.
        let gone = node.send("PATCH", &path, MERGE, without(protection.clone()));
        gone.await.expect(403);
        let let_go = without(json!([finalizer]));
        server.call("PATCH", &path, MERGE, let_go).await.expect(200);
    }
    let more = json!({"metadata": {"finalizers": null, "annotations": {"a": "b"}}});
    node.send("PATCH", &mine, MERGE, more).await.expect(403);
    let other = format!("{volumes}/other");
    let gone = without(Value::Null);
    node.send("PATCH", &other, MERGE, gone.clone())
        .await
        .expect(403);
    node.send("PATCH", &mine, MERGE, gone).await.expect(200);
    assert_eq!(server.get(&mine).await.code, 404);
    assert_eq!(server.get(&other).await.code, 200);
}
