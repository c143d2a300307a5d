//! Bodies that are no objects of a collection, and where they go.

use serde_json::{Value, json};

/// The bodies, each with its method and path.
pub(crate) fn special() -> Vec<(&'static str, &'static str, Value)> {
    let target = json!({"apiVersion": "v1", "kind": "Node", "name": "a"});
    let attributes = json!({"namespace": "default", "verb": "get", "group": "apps", "resource": "deployments", "subresource": "scale", "name": "a"});
    let review = |spec: Value| json!({"apiVersion": "authorization.k8s.io/v1", "spec": spec});
    let access = review(
        json!({"user": "jane", "groups": ["a"], "uid": "1", "extra": {"a": ["b"]}, "resourceAttributes": attributes}),
    );
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}, "deleteOptions": {"gracePeriodSeconds": 1, "preconditions": {"uid": "x"}}});
    let token = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["a"], "expirationSeconds": 600, "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "x"}}});
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a"}, "spec": {"replicas": 2}});
    let binding =
        json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": target});
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "propagationPolicy": "Foreground", "orphanDependents": false, "preconditions": {"uid": "x", "resourceVersion": "1"}, "dryRun": ["All"]});
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running", "capacity": {"cpu": "1"}}});
    let containers = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "a"}], "containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]}});
    let users = json!({"name": "jane", "groups": ["dev"], "csr": "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"});
    vec![
        (
            "POST",
            "/api/v1/namespaces/default/pods/a/binding",
            binding.clone(),
        ),
        ("POST", "/api/v1/namespaces/default/bindings", binding),
        (
            "POST",
            "/api/v1/namespaces/default/pods/a/eviction",
            eviction,
        ),
        (
            "POST",
            "/api/v1/namespaces/default/serviceaccounts/a/token",
            token,
        ),
        (
            "PUT",
            "/apis/apps/v1/namespaces/default/deployments/a/scale",
            scale.clone(),
        ),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/default/deployments/a/scale",
            scale,
        ),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            access.clone(),
        ),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews",
            access,
        ),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            review(json!({"resourceAttributes": attributes})),
        ),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            review(json!({"nonResourceAttributes": {"path": "/x", "verb": "get"}})),
        ),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
            review(json!({"namespace": "default"})),
        ),
        (
            "POST",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            json!({}),
        ),
        (
            "POST",
            "/apis/authentication.k8s.io/v1/tokenreviews",
            json!({"spec": {"token": "a.b.c", "audiences": ["a"]}}),
        ),
        (
            "DELETE",
            "/api/v1/namespaces/default/configmaps/a",
            options.clone(),
        ),
        ("DELETE", "/api/v1/namespaces/default/pods", options.clone()),
        ("DELETE", "/api/v1/namespaces/default", options),
        (
            "PUT",
            "/api/v1/namespaces/default/pods/a/status",
            status.clone(),
        ),
        (
            "PATCH",
            "/api/v1/namespaces/default/pods/a/status",
            status.clone(),
        ),
        ("PATCH", "/api/v1/nodes/a/status", status),
        (
            "PUT",
            "/api/v1/namespaces/default/finalize",
            json!({"metadata": {"name": "default"}, "spec": {"finalizers": ["kubernetes"]}}),
        ),
        (
            "PATCH",
            "/api/v1/namespaces/default/pods/a/ephemeralcontainers",
            containers.clone(),
        ),
        (
            "PATCH",
            "/api/v1/namespaces/default/pods/a/resize",
            containers,
        ),
        ("POST", "/api/v1/namespaces/default/pods/a/exec", json!({})),
        (
            "POST",
            "/api/v1/namespaces/default/pods/a/attach",
            json!({}),
        ),
        (
            "POST",
            "/api/v1/namespaces/default/services/a/proxy/x",
            json!({}),
        ),
        ("POST", "/carob/v1/users", users),
        ("POST", "/carob/v1/members", json!({"name": "s2"})),
        ("POST", "/version", json!({})),
    ]
}
