//! Nobody gives away rights that they lack.

use serde_json::json;

use crate::server::Server;
use crate::{JSON, RBAC, User, binding, made, object, role, rule, within};

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
