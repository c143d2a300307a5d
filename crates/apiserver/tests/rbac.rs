//! Rights by roles and bindings: given, taken, gathered, not given away, and asked about.

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
async fn view_edit_and_admin_are_what_they_are() {
    let server = Server::start().await;
    let bindings = within("default", "rolebindings");
    for name in ["view", "edit", "admin"] {
        made(
            &server,
            &bindings,
            binding("RoleBinding", name, ("ClusterRole", name), &[name]),
        )
        .await;
    }
    let may = async |user: &str, verb: &str, group: &str, resource: &str, namespace: &str| {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let spec = json!({"user": user, "resourceAttributes": {"verb": verb, "group": group,
            "resource": resource, "subresource": subresource, "namespace": namespace}});
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let status = server.post(path, review).await.expect(201)["status"].clone();
        assert!(status.get("denied").is_none(), "{status}");
        status["allowed"] == true
    };
    for (verb, group, resource, view, edit, admin) in [
        ("list", "", "pods", true, true, true),
        ("get", "", "pods/log", true, true, true),
        ("get", "", "secrets", false, true, true),
        ("create", "apps", "deployments", false, true, true),
        ("create", "", "pods/exec", false, true, true),
        ("create", "", "pods/attach", false, true, true),
        ("update", "", "pods/status", false, false, false),
        (
            "get",
            "rbac.authorization.k8s.io",
            "roles",
            false,
            false,
            true,
        ),
        ("update", "", "resourcequotas", false, false, false),
        ("delete", "", "namespaces", false, false, false),
    ] {
        let found = (
            may("view", verb, group, resource, "default").await,
            may("edit", verb, group, resource, "default").await,
            may("admin", verb, group, resource, "default").await,
        );
        assert_eq!(found, (view, edit, admin), "{verb} {resource}");
        assert!(!may("admin", verb, group, resource, "kube-system").await);
    }
    let viewer = User::new(&server, "view", &[]);
    assert_eq!(
        viewer.get("/api/v1/namespaces/default/configmaps").await,
        200
    );
    assert_eq!(viewer.get("/api/v1/namespaces/default/secrets").await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_not_given_away_by_those_who_lack_them() {
    let server = Server::start().await;
    let (roles, bindings) = (
        within("default", "roles"),
        within("default", "rolebindings"),
    );
    made(
        &server,
        &bindings,
        binding("RoleBinding", "bob", ("ClusterRole", "admin"), &["bob"]),
    )
    .await;
    let bob = User::new(&server, "bob", &["dev"]);
    let made_by_bob = role("Role", "mine", &["get"], &["secrets"]);
    bob.post(&roles, made_by_bob.clone()).await.expect(201);
    let nodes = rule(&["get", "list"], &["nodes"]);
    let mut greater = made_by_bob.clone();
    greater["rules"] = json!([nodes]);
    let denied = |name: &str, groups: &str, what: &str| {
        format!(
            "roles.rbac.authorization.k8s.io {name:?} is forbidden: user \"bob\" (groups={groups}) is attempting to grant RBAC permissions not currently held:\n{what}"
        )
    };
    let groups = r#"["dev" "system:authenticated"]"#;
    let lacking = r#"{APIGroups:[""], Resources:["nodes"], Verbs:["get" "list"]}"#;
    let mine = format!("{roles}/mine");
    let apply = format!("{mine}?fieldManager=m&force=true");
    let only_rules = json!({"rules": [nodes]});
    let add = json!([{"op": "add", "path": "/rules/-", "value": nodes}]);
    let made_anew = object("Role", "new", json!({"rules": [nodes]}));
    for (what, answer, name) in [
        ("create", bob.post(&roles, made_anew.clone()).await, "new"),
        (
            "update",
            bob.send("PUT", &mine, JSON, greater.clone()).await,
            "mine",
        ),
        (
            "merge",
            bob.send("PATCH", &mine, "application/merge-patch+json", only_rules)
                .await,
            "mine",
        ),
        (
            "JSON patch",
            bob.send("PATCH", &mine, "application/json-patch+json", add)
                .await,
            "mine",
        ),
        (
            "apply",
            bob.send("PATCH", &apply, "application/apply-patch+yaml", greater)
                .await,
            "mine",
        ),
        (
            "apply of a new one",
            bob.send(
                "PATCH",
                &format!("{roles}/new?fieldManager=m"),
                "application/apply-patch+yaml",
                made_anew,
            )
            .await,
            "new",
        ),
    ] {
        let status = answer.expect(403);
        assert_eq!(status["message"], denied(name, groups, lacking), "{what}");
        assert_eq!(status["details"]["kind"], "roles", "{what}");
    }
    // Binding: what bob has, what bob has not, and what is not there.
    let bind = |name: &str, role: (&str, &str)| binding("RoleBinding", name, role, &["eve"]);
    bob.post(&bindings, bind("a", ("ClusterRole", "view")))
        .await
        .expect(201);
    let refused = bob
        .post(&bindings, bind("b", ("ClusterRole", "cluster-admin")))
        .await
        .expect(403);
    let why = refused["message"].as_str().unwrap();
    assert!(
        why.contains(r#"{APIGroups:["*"], Resources:["*"], Verbs:["*"]}"#),
        "{why}"
    );
    bob.post(&bindings, bind("c", ("ClusterRole", "none")))
        .await
        .expect(404);
    // The verbs lift it.
    made(
        &server,
        &roles,
        object("Role", "lifting", json!({"rules": [
            {"verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["cluster-admin"]},
            {"verbs": ["escalate"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"]},
        ]})),
    )
    .await;
    made(
        &server,
        &bindings,
        binding("RoleBinding", "lift", ("Role", "lifting"), &["bob"]),
    )
    .await;
    bob.post(&bindings, bind("b", ("ClusterRole", "cluster-admin")))
        .await
        .expect(201);
    bob.post(&roles, role("Role", "new", &["get"], &["nodes"]))
        .await
        .expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn gathering_roles_are_for_those_who_have_everything() {
    let server = Server::start().await;
    let roles = format!("{RBAC}/clusterroles");
    made(&server, &roles, object("ClusterRole", "maker", json!({"rules": [
        {"verbs": ["*"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["x"]},
        {"verbs": ["create", "update"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"]},
    ]}))).await;
    let bindings = format!("{RBAC}/clusterrolebindings");
    made(
        &server,
        &bindings,
        binding(
            "ClusterRoleBinding",
            "maker",
            ("ClusterRole", "maker"),
            &["bob"],
        ),
    )
    .await;
    made(
        &server,
        &bindings,
        binding(
            "ClusterRoleBinding",
            "root",
            ("ClusterRole", "cluster-admin"),
            &["root"],
        ),
    )
    .await;
    let gathering =
        json!({"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
    let sum = object("ClusterRole", "sum", gathering);
    let bob = User::new(&server, "bob", &[]);
    let refused = bob.post(&roles, sum.clone()).await.expect(403);
    assert_eq!(
        refused["message"],
        "clusterroles.rbac.authorization.k8s.io \"sum\" is forbidden: must have cluster-admin privileges to use the aggregationRule"
    );
    let root = User::new(&server, "root", &[]);
    root.post(&roles, sum).await.expect(201);
    let plain = object("ClusterRole", "sum", json!({}));
    bob.send("PUT", &format!("{roles}/sum"), JSON, plain)
        .await
        .expect(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_everybodys() {
    let server = Server::start().await;
    let admin = server.server.transport("admin", ["system:masters"]);
    let nobody = http::Request::get("/version").header("impersonate-user", "system:anonymous");
    let anonymous = async |path: &str| {
        let request = http::Request::get(path).header("impersonate-user", "system:anonymous");
        server::send(&admin, request.body(bytes::Bytes::new()).unwrap())
            .await
            .code
    };
    assert_eq!(
        server::send(&admin, nobody.body(bytes::Bytes::new()).unwrap())
            .await
            .code,
        200
    );
    for (path, code) in [
        ("/version", 200),
        ("/readyz", 200),
        ("/livez/ping", 200),
        ("/api", 403),
        ("/apis", 403),
        ("/openapi/v3", 403),
        ("/metrics", 403),
        ("/api/v1/pods", 403),
    ] {
        assert_eq!(anonymous(path).await, code, "{path}");
    }
    let jane = User::new(&server, "jane", &[]);
    for (path, code) in [
        ("/api", 200),
        ("/openapi/v3", 200),
        ("/apis/apps/v1", 200),
        ("/metrics", 403),
        ("/", 403),
    ] {
        assert_eq!(jane.get(path).await, code, "{path}");
    }
    let monitor = User::new(&server, "prometheus", &["system:monitoring"]);
    assert_eq!(monitor.get("/metrics").await, 200);
    // Data like any other: without the binding nobody finds anything.
    let binding = format!("{RBAC}/clusterrolebindings/system:discovery");
    server
        .call("DELETE", &binding, "", Value::Null)
        .await
        .expect(200);
    assert_eq!(jane.get("/apis/apps/v1").await, 403);
    // The next start restores it, and leaves alone what says so.
    let viewer = format!("{RBAC}/clusterrolebindings/system:public-info-viewer");
    let kept = json!({"metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}, "subjects": null});
    server
        .call("PATCH", &viewer, "application/merge-patch+json", kept)
        .await
        .expect(200);
    let restarted = server.restarted().await;
    assert_eq!(
        User::new(&restarted, "jane", &[])
            .get("/apis/apps/v1")
            .await,
        200
    );
    let left = restarted.get(&viewer).await.expect(200);
    assert!(left.get("subjects").is_none(), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_are_marked_and_whole() {
    let server = Server::start().await;
    for (path, label) in [
        ("clusterroles/admin", ""),
        ("clusterroles/edit", "admin"),
        ("clusterroles/view", "edit"),
        ("clusterroles/system:aggregate-to-view", "view"),
        ("clusterroles/cluster-admin", ""),
        ("clusterrolebindings/cluster-admin", ""),
        (
            "namespaces/kube-system/roles/extension-apiserver-authentication-reader",
            "",
        ),
    ] {
        let object = server.get(&format!("{RBAC}/{path}")).await.expect(200);
        let metadata = &object["metadata"];
        assert_eq!(
            metadata["labels"]["kubernetes.io/bootstrapping"], "rbac-defaults",
            "{path}"
        );
        let update = &metadata["annotations"]["rbac.authorization.kubernetes.io/autoupdate"];
        assert_eq!(update, "true", "{path}");
        let key = format!("rbac.authorization.k8s.io/aggregate-to-{label}");
        assert_eq!(
            metadata["labels"].get(key).is_some(),
            !label.is_empty(),
            "{path}"
        );
    }
    let node = server
        .get(&format!("{RBAC}/clusterrolebindings/system:node"))
        .await
        .expect(200);
    assert!(
        node["subjects"].as_array().is_none_or(Vec::is_empty),
        "{node}"
    );
    // Whole, so that a second start writes nothing.
    let before = server.store.state().revision();
    server.restarted().await;
    assert_eq!(server.store.state().revision(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn acting_as_others_is_a_right() {
    let server = Server::start().await;
    let role = object(
        "ClusterRole",
        "actor",
        json!({"rules": [
            {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["jane"]},
            {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["groups"], "resourceNames": ["dev"]},
            {"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"]},
            {"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["uids"], "resourceNames": ["u1"]},
        ]}),
    );
    made(&server, &format!("{RBAC}/clusterroles"), role).await;
    let bindings = format!("{RBAC}/clusterrolebindings");
    made(
        &server,
        &bindings,
        binding(
            "ClusterRoleBinding",
            "actor",
            ("ClusterRole", "actor"),
            &["bob"],
        ),
    )
    .await;
    made(
        &server,
        &within("default", "rolebindings"),
        binding("RoleBinding", "edit", ("ClusterRole", "edit"), &["bob"]),
    )
    .await;
    let bob = User::new(&server, "bob", &[]);
    let who = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let ask = async |headers: &[(&str, &str)]| {
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let mut request = http::Request::post(path).header("content-type", JSON);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        server::send(&bob.0, request.body(who.to_string().into()).unwrap()).await
    };
    let jane = ("impersonate-user", "jane");
    let answer = ask(&[
        jane,
        ("impersonate-group", "dev"),
        ("impersonate-uid", "u1"),
        ("impersonate-extra-scopes", "a"),
    ])
    .await;
    assert_eq!(
        answer.expect(201)["status"]["userInfo"],
        json!({"username": "jane", "uid": "u1", "groups": ["dev", "system:authenticated"], "extra": {"scopes": ["a"]}})
    );
    let account = ask(&[("impersonate-user", "system:serviceaccount:default:robot")]).await;
    assert_eq!(
        account.expect(201)["status"]["userInfo"]["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ])
    );
    for (headers, message) in [
        (
            &[("impersonate-user", "root")][..],
            "users \"root\" is forbidden: User \"bob\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
        ),
        (
            &[jane, ("impersonate-group", "system:masters")],
            "groups \"system:masters\" is forbidden: User \"bob\" cannot impersonate resource \"groups\" in API group \"\" at the cluster scope",
        ),
        (
            &[jane, ("impersonate-uid", "u2")],
            "uids.authentication.k8s.io \"u2\" is forbidden: User \"bob\" cannot impersonate resource \"uids\" in API group \"authentication.k8s.io\" at the cluster scope",
        ),
        (
            &[jane, ("impersonate-extra-other", "x")],
            "userextras.authentication.k8s.io \"x\" is forbidden: User \"bob\" cannot impersonate resource \"userextras/other\" in API group \"authentication.k8s.io\" at the cluster scope",
        ),
        (
            &[(
                "impersonate-user",
                "system:serviceaccount:kube-system:robot",
            )],
            "serviceaccounts \"robot\" is forbidden: User \"bob\" cannot impersonate resource \"serviceaccounts\" in API group \"\" in the namespace \"kube-system\"",
        ),
    ] {
        assert_eq!(
            ask(headers).await.expect(403)["message"],
            message,
            "{headers:?}"
        );
    }
    ask(&[("impersonate-group", "dev")]).await.expect(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_say_why_and_refuse_what_is_no_question() {
    let server = Server::start().await;
    let bindings = within("default", "rolebindings");
    made(
        &server,
        &bindings,
        binding(
            "RoleBinding",
            "b",
            ("ClusterRole", "view"),
            &["bob", "group:dev"],
        ),
    )
    .await;
    let list = json!({"verb": "list", "resource": "pods", "namespace": "default"});
    let review = async |kind: &str, path: &str, spec: Value| {
        let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec});
        server
            .post(&format!("/apis/authorization.k8s.io/v1{path}"), body)
            .await
    };
    let about =
        async |spec: Value| review("SubjectAccessReview", "/subjectaccessreviews", spec).await;
    for (spec, status) in [
        (
            json!({"user": "bob", "resourceAttributes": list}),
            json!({"allowed": true, "reason": "RBAC: allowed by RoleBinding \"b/default\" of ClusterRole \"view\" to User \"bob\""}),
        ),
        (
            json!({"groups": ["dev"], "resourceAttributes": list}),
            json!({"allowed": true, "reason": "RBAC: allowed by RoleBinding \"b/default\" of ClusterRole \"view\" to Group \"dev\""}),
        ),
        (
            json!({"user": "eve", "resourceAttributes": list}),
            json!({"allowed": false}),
        ),
        (
            json!({"groups": ["system:masters"], "resourceAttributes": list}),
            json!({"allowed": true}),
        ),
        (
            json!({"user": "eve", "groups": ["system:unauthenticated"], "nonResourceAttributes": {"verb": "get", "path": "/version"}}),
            json!({"allowed": true, "reason": "RBAC: allowed by ClusterRoleBinding \"system:public-info-viewer\" of ClusterRole \"system:public-info-viewer\" to Group \"system:unauthenticated\""}),
        ),
    ] {
        assert_eq!(
            about(spec.clone()).await.expect(201)["status"],
            status,
            "{spec}"
        );
    }
    let both = json!({"user": "x", "resourceAttributes": list, "nonResourceAttributes": {"verb": "get", "path": "/"}});
    for (spec, message) in [
        (
            json!({"user": "x"}),
            "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        (
            json!({"resourceAttributes": list}),
            "spec.user: Invalid value: \"\": at least one of user or group must be specified",
        ),
        (
            both,
            "cannot be specified in combination with resourceAttributes",
        ),
        (
            json!({"user": "x", "resourceAttributes": {"verb": "list", "fieldSelector": {}}}),
            "spec.resourceAttributes.fieldSelector.requirements: Required value: when spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required",
        ),
    ] {
        let refused = about(spec.clone()).await.expect(422);
        assert!(
            refused["message"].as_str().unwrap().contains(message),
            "{spec}: {refused}"
        );
    }
    let here = "/namespaces/default/localsubjectaccessreviews";
    let local = async |spec: Value| review("LocalSubjectAccessReview", here, spec).await;
    let answer = local(json!({"user": "bob", "resourceAttributes": list}))
        .await
        .expect(201);
    assert_eq!(answer["status"]["allowed"], true);
    assert_eq!(answer["metadata"]["namespace"], "default");
    let elsewhere = json!({"verb": "list", "resource": "pods", "namespace": "other"});
    let refused = local(json!({"user": "bob", "resourceAttributes": elsewhere}))
        .await
        .expect(422);
    assert!(refused["message"].as_str().unwrap().contains("spec.resourceAttributes.namespace: Invalid value: \"other\": must match metadata.namespace"), "{refused}");
    let path = json!({"user": "bob", "nonResourceAttributes": {"verb": "get", "path": "/"}});
    let refused = local(path).await.expect(422);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("disallowed on this kind of request"),
        "{refused}"
    );
    review(
        "SelfSubjectRulesReview",
        "/selfsubjectrulesreviews",
        json!({}),
    )
    .await
    .expect(400);
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
