//! Rules of nodes, namespaces, secrets, roles and events.

use super::*;

#[test]
fn nodes_are_judged() {
    let node = |spec: Value| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": spec});
    accepted([
        node(json!({"podCIDRs": ["10.0.0.0/24", "fd00::/64"]})),
        node(
            json!({"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoExecute"}]}),
        ),
    ]);
    refused_text([
        (
            node(
                json!({"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}]}),
            ),
            "metadata.taints[1]: Duplicate value: {*",
        ),
        (
            node(json!({"taints": [{"key": "a"}]})),
            "metadata.taints[0].effect: Required value",
        ),
        (
            node(json!({"podCIDRs": ["x"]})),
            "spec.podCIDRs[0]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ),
        (
            node(json!({"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"]})),
            "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: may specify no more than one CIDR for each IP family",
        ),
    ]);
    let body = node(json!({"podCIDRs": ["10.0.0.0/24"], "providerID": "a"}));
    let fault =
        "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid";
    changed(
        body.clone(),
        "/spec/podCIDRs",
        json!(["10.0.1.0/24"]),
        fault,
    );
    let fault = "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid";
    changed(body, "/spec/providerID", json!("b"), fault);
}

#[test]
fn namespaces_are_judged() {
    let namespace = |finalizer: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}, "spec": {"finalizers": [finalizer]}});
    accepted([namespace("kubernetes"), namespace("example.com/x")]);
    refused_text([(
        namespace("x"),
        "spec.finalizers: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified",
    )]);
    let old = create(namespace("kubernetes")).expect("valid");
    let finalize = |finalizers: Value| {
        let mut new = old.clone();
        new["spec"]["finalizers"] = finalizers;
        write::update(resource_of(&old), Some("finalize"), &old, new, &context())
    };
    assert!(finalize(json!([])).is_ok());
    assert_eq!(
        causes(finalize(json!(["x"]))),
        [
            "spec.finalizers[0]: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified"
        ]
    );
}

#[test]
fn secrets_of_known_types() {
    let secret = |kind: &str, data: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "type": kind, "stringData": data});
    let logins = |text: &str| {
        secret(
            "kubernetes.io/dockerconfigjson",
            json!({".dockerconfigjson": text}),
        )
    };
    accepted([
        logins("{\"auths\":{}}"),
        secret("kubernetes.io/basic-auth", json!({"username": ""})),
        secret("kubernetes.io/ssh-auth", json!({"ssh-privatekey": "k"})),
        secret("example.com/other", json!({})),
    ]);
    let value = "Invalid value: \"<secret contents redacted>\"";
    refused([
        (
            logins("a"),
            format!(
                "data[.dockerconfigjson]: {value}: invalid character 'a' looking for beginning of value"
            ),
        ),
        (
            logins(""),
            format!("data[.dockerconfigjson]: {value}: unexpected end of JSON input"),
        ),
        (
            logins("[]"),
            format!(
                "data[.dockerconfigjson]: {value}: json: cannot unmarshal array into Go value of type map[string]interface {{}}"
            ),
        ),
        (
            secret("kubernetes.io/basic-auth", json!({"other": "x"})),
            "data[password]: Required value".to_owned(),
        ),
        (
            secret("kubernetes.io/ssh-auth", json!({"ssh-privatekey": ""})),
            "data[ssh-privatekey]: Required value".to_owned(),
        ),
    ]);
}

#[test]
fn roles_and_bindings() {
    let role = |kind: &str, rule: Value| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "r"}, "rules": [rule]});
    let binding = |kind: &str, subject: Value| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "b"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}, "subjects": [subject]})
    };
    let account = json!({"kind": "ServiceAccount", "name": "a"});
    accepted([
        role(
            "ClusterRole",
            json!({"verbs": ["get"], "nonResourceURLs": ["/x"]}),
        ),
        role(
            "Role",
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}),
        ),
        // Within a namespace an account's own may be left out.
        binding("RoleBinding", account.clone()),
    ]);
    refused_text([
        (
            role(
                "ClusterRole",
                json!({"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]}),
            ),
            "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both regular resources and non-resource URLs",
        ),
        (
            role("Role", json!({"verbs": ["get"], "nonResourceURLs": ["/x"]})),
            "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
        ),
        (
            binding("ClusterRoleBinding", account),
            "subjects[0].namespace: Required value",
        ),
        (
            binding(
                "RoleBinding",
                json!({"kind": "ServiceAccount", "name": "A_"}),
            ),
            "subjects[0].name: Invalid value: \"A_\": a lowercase RFC 1123 subdomain *",
        ),
    ]);
}

#[test]
fn events_are_judged() {
    let core = |more: Value| {
        let mut body = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}});
        merge(&mut body, more);
        body
    };
    let strict = |more: Value| {
        let mut body = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
            "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "R", "action": "A",
            "reportingController": "example.com/c", "reportingInstance": "i",
            "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}});
        merge(&mut body, more);
        body
    };
    accepted([
        core(json!({})),
        core(json!({"involvedObject": {"namespace": ""}})),
        strict(json!({})),
        strict(json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}})),
    ]);
    refused_text([
        (
            core(json!({"involvedObject": {"namespace": "other"}})),
            "involvedObject.namespace: Invalid value: \"other\": does not match event.namespace",
        ),
        (
            core(json!({"eventTime": "2026-01-01T00:00:00.000000Z"})),
            "reportingController: Required value",
        ),
        (
            strict(json!({"reportingInstance": ""})),
            "reportingInstance: Required value",
        ),
        (
            strict(json!({"reason": "x".repeat(129)})),
            "reason: Invalid value: \"\": can have at most 128 characters",
        ),
        (
            strict(json!({"type": "X"})),
            "type: Invalid value: \"\": has invalid value: X",
        ),
        (
            strict(json!({"deprecatedCount": 1})),
            "count: Invalid value: \"\": needs to be unset",
        ),
        (
            strict(json!({"series": {"count": 1}})),
            "series.count: Invalid value: \"\": should be at least 2",
        ),
        (
            strict(json!({"eventTime": null})),
            "eventTime: Required value",
        ),
    ]);
}

#[test]
fn a_claim_asks_for_one_device() {
    const VERSION: &str = "resource.k8s.io/v1";
    let spec = |request: Value| json!({"devices": {"requests": [request]}});
    let exactly = json!({"name": "a", "exactly": {"deviceClassName": "gpu"}});
    let body = object(
        VERSION,
        "ResourceClaimTemplate",
        json!({"spec": {"spec": spec(exactly)}}),
    );
    let made = create(body).expect("valid");
    assert_eq!(
        made["spec"]["spec"]["devices"]["requests"][0]["exactly"],
        json!({"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1})
    );
    let all = json!({"name": "b", "deviceClassName": "gpu", "allocationMode": "All"});
    let either =
        json!({"name": "a", "firstAvailable": [all, {"name": "c", "deviceClassName": "gpu"}]});
    let body = object(VERSION, "ResourceClaim", json!({"spec": spec(either)}));
    let made = create(body).expect("valid");
    assert_eq!(
        made["spec"]["devices"]["requests"][0]["firstAvailable"],
        json!([all, {"name": "c", "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1}])
    );
}
