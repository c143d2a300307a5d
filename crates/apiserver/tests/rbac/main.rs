//! Rights by roles and bindings: given, taken, gathered, not given away, and asked about.

mod defaults;
mod escalation;
mod followed;
mod nodes;
mod reviews;
#[path = "../server/mod.rs"]
mod server;

use std::sync::Arc;
use std::time::Duration;

use client::Transport;
use serde_json::{Value, json};
use server::{Answer, Server, call};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const JSON: &str = "application/json";

/// Somebody who sends requests.
struct User(Arc<dyn Transport>);

impl User {
    fn new(server: &Server, name: &str, groups: &[&str]) -> User {
        let groups = groups.iter().map(|g| (*g).to_owned());
        User(server.server.transport(name, groups))
    }

    async fn get(&self, path: &str) -> u16 {
        call(&self.0, "GET", path, "", Value::Null).await.code
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        call(&self.0, "POST", path, JSON, body).await
    }

    async fn send(&self, method: &str, path: &str, content_type: &str, body: Value) -> Answer {
        call(&self.0, method, path, content_type, body).await
    }
}

fn object(kind: &str, name: &str, more: Value) -> Value {
    let mut object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name},
    });
    for (field, value) in more.as_object().cloned().unwrap_or_default() {
        object[field] = value;
    }
    object
}

fn rule(verbs: &[&str], resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": [""], "resources": resources})
}

fn role(kind: &str, name: &str, verbs: &[&str], resources: &[&str]) -> Value {
    object(kind, name, json!({"rules": [rule(verbs, resources)]}))
}

fn binding(kind: &str, name: &str, role: (&str, &str), users: &[&str]) -> Value {
    let subjects: Vec<Value> = users
        .iter()
        .map(|user| match user.split_once(':') {
            Some(("group", name)) => json!({"kind": "Group", "name": name}),
            _ => json!({"kind": "User", "name": user}),
        })
        .collect();
    let role = json!({"kind": role.0, "name": role.1});
    object(kind, name, json!({"roleRef": role, "subjects": subjects}))
}

fn within(namespace: &str, plural: &str) -> String {
    format!("{RBAC}/namespaces/{namespace}/{plural}")
}

async fn made(server: &Server, path: &str, object: Value) {
    server.post(path, object).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_counts_at_once_and_until_it_goes() {
    let server = Server::start().await;
    let bob = User::new(&server, "bob", &["dev"]);
    let pods = "/api/v1/namespaces/default/pods";
    let refused = call(&bob.0, "GET", pods, "", Value::Null).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let roles = within("default", "roles");
    let bindings = within("default", "rolebindings");
    let other = server.restarted().await;
    let bob_there = User::new(&other, "bob", &["dev"]);
    for _ in 0..5 {
        made(
            &server,
            &roles,
            role("Role", "reader", &["list"], &["pods"]),
        )
        .await;
        made(
            &server,
            &bindings,
            binding("RoleBinding", "b", ("Role", "reader"), &["bob"]),
        )
        .await;
        assert_eq!(bob.get(pods).await, 200);
        let seen = async {
            while bob_there.get(pods).await != 200 {
                tokio::task::yield_now().await;
            }
        };
        let within = Duration::from_secs(10);
        let seen = tokio::time::timeout(within, seen).await;
        seen.expect("it counts on another server too");
        assert_eq!(bob.get("/api/v1/pods").await, 403);
        assert_eq!(bob.get("/api/v1/namespaces/kube-system/pods").await, 403);
        let change = json!({"subjects": [{"kind": "Group", "name": "dev"}]});
        let path = format!("{bindings}/b");
        server
            .call("PATCH", &path, "application/merge-patch+json", change)
            .await
            .expect(200);
        assert_eq!(bob.get(pods).await, 200);
        server
            .call("DELETE", &format!("{roles}/reader"), "", Value::Null)
            .await
            .expect(200);
        let refused = call(&bob.0, "GET", pods, "", Value::Null).await.expect(403);
        let why = refused["message"].as_str().unwrap();
        let missing = ": RBAC: role.rbac.authorization.k8s.io \"reader\" not found";
        assert!(why.ends_with(missing), "{why}");
        server
            .call("DELETE", &path, "", Value::Null)
            .await
            .expect(200);
        assert_eq!(bob.get(pods).await, 403);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_have_rights_by_roles_too() {
    let server = Server::start().await;
    let node = User::new(&server, "system:node:n1", &["system:nodes"]);
    let deployments = "/apis/apps/v1/deployments";
    assert_eq!(node.get(deployments).await, 403);
    let view = binding(
        "ClusterRoleBinding",
        "nodes",
        ("ClusterRole", "view"),
        &["group:system:nodes"],
    );
    made(&server, &format!("{RBAC}/clusterrolebindings"), view).await;
    assert_eq!(node.get(deployments).await, 200);
    let own = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"}});
    let rules = node
        .post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", own)
        .await
        .expect(201);
    assert_eq!(rules["status"]["incomplete"], true);
    let listed = rules["status"]["resourceRules"].as_array().unwrap();
    assert!(
        listed
            .iter()
            .any(|r| r["resources"] == json!(["namespaces"])),
        "{rules}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_roles_give_a_node_stays_within_its_own_affairs() {
    let server = Server::start().await;
    let node = User::new(&server, "system:node:n1", &["system:nodes"]);
    let everything = binding(
        "ClusterRoleBinding",
        "nodes",
        ("ClusterRole", "cluster-admin"),
        &["group:system:nodes"],
    );
    made(&server, &format!("{RBAC}/clusterrolebindings"), everything).await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}});
    let refused = node.post(pods, pod).await.expect(403);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("node \"n1\" can only create mirror pods"),
        "{message}"
    );
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease = json!({"metadata": {"name": "n2"}});
    for (path, object) in [
        ("/api/v1/nodes", json!({"metadata": {"name": "n2"}})),
        (leases, lease),
    ] {
        made(&server, path, object).await;
        let other = format!("{path}/n2");
        let refused = node
            .send("DELETE", &other, "", Value::Null)
            .await
            .expect(403);
        let message = refused["message"].as_str().unwrap();
        assert!(
            message.contains("node \"n1\" is not allowed to write"),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_get_streams_may_not_write_by_them() {
    let server = Server::start().await;
    let rbac = within("default", "roles");
    let streams = ["pods/attach", "pods/exec"];
    made(&server, &rbac, role("Role", "looks", &["get"], &streams)).await;
    let bound = binding("RoleBinding", "looks", ("Role", "looks"), &["jane"]);
    made(&server, &within("default", "rolebindings"), bound).await;
    let jane = User::new(&server, "jane", &["dev"]);
    let path = |streams: &str| {
        let name = streams.trim_start_matches("pods/");
        format!("/api/v1/namespaces/default/pods/p/{name}?stdin=true&command=a")
    };
    for streams in streams {
        let refused = jane.send("GET", &path(streams), "", Value::Null).await;
        let refused = refused.expect(403);
        let message = refused["message"].as_str().unwrap();
        assert!(
            message.contains(&format!("cannot create resource \"{streams}\"")),
            "{message}"
        );
    }
    made(&server, &rbac, role("Role", "types", &["create"], &streams)).await;
    let bound = binding("RoleBinding", "types", ("Role", "types"), &["jane"]);
    made(&server, &within("default", "rolebindings"), bound).await;
    for streams in streams {
        // There is no such pod, which is the next thing that is looked at.
        assert_eq!(jane.get(&path(streams)).await, 404);
    }
}
