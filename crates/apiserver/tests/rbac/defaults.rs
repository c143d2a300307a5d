//! Kubernetes' own roles: there from birth, whole, and giving what they should.

use serde_json::{Value, json};

use crate::server::{self, Server};
use crate::{RBAC, User, binding, made, within};

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
        ("get", "", "pods/resize", false, true, true),
        ("patch", "", "pods/resize", false, true, true),
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
