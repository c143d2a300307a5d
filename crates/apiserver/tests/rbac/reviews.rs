//! Acting as others, and asking who may what.

use serde_json::{Value, json};

use crate::server::{self, Server};
use crate::{JSON, RBAC, User, binding, made, object, within};

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
async fn who_may_do_everything_is_told_so_once() {
    let server = Server::start().await;
    // The cluster's servers have no role for it.
    for group in ["system:masters", "system:carob:servers"] {
        let root = User::new(&server, "root", &[group]);
        let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
        let review = json!({"spec": {"namespace": "default"}});
        let said = root.post(path, review).await.expect(201);
        for (list, field) in [
            ("resourceRules", "resources"),
            ("nonResourceRules", "nonResourceURLs"),
        ] {
            let rules = said["status"][list].as_array().unwrap();
            let all = rules.iter().filter(|rule| rule[field] == json!(["*"]));
            assert_eq!(all.count(), 1, "{group} {list}: {said}");
        }
    }
}
