//! An object of each kind to begin with, as small as the kind takes it.

use std::collections::BTreeSet;

use api::write::{self, Context, User};
use api::{Status, resource};
use serde_json::{Value, json};

use crate::codecs::resource_of;

/// The circumstances of all writes here.
pub(crate) fn by(manager: &str) -> Context {
    Context {
        now: "2026-11-21T10:00:00Z".parse().expect("a time"),
        uid: "1820dc7c-c71d-44f8-8057-2d6915c55b2c".into(),
        suffix: "gs47l".into(),
        user: User::default(),
        manager: manager.into(),
    }
}

/// What real clients sent of some kinds.
fn recorded() -> Vec<Value> {
    let pairs: Vec<Value> =
        serde_json::from_str(include_str!("../../data/defaults.json")).expect("pairs");
    pairs
        .into_iter()
        .map(|mut pair| pair["given"].take())
        .collect()
}

/// One of each kind that can be created; of kinds with many forms there are several.
pub(crate) fn all() -> Vec<Value> {
    let mut out = recorded();
    out.extend(small());
    for resource in resource::all().iter().filter(|r| r.has_verb("create")) {
        let there = |object: &Value| resource_of(object).is_some_and(|r| std::ptr::eq(r, resource));
        if !out.iter().any(there) {
            let (version, kind) = (resource.api_version, resource.kind);
            out.push(json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}}));
        }
    }
    out
}

/// What must be there of the kinds of which nothing was recorded.
fn small() -> Vec<Value> {
    let pod = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let target = json!({"kind": "Deployment", "name": "a"});
    let rules = json!({"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "a"});
    [
        ("v1", "PodTemplate", "x", json!({"template": pod})),
        ("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicy", "x", json!({"spec": {"matchConstraints": rules, "reinvocationPolicy": "Never", "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}})),
        ("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicyBinding", "x", json!({"spec": {"policyName": "a"}})),
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "x", json!({"spec": {"matchConstraints": rules, "validations": [{"expression": "true"}]}})),
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "x", json!({"spec": {"policyName": "a", "validationActions": ["Deny"]}})),
        ("apiregistration.k8s.io/v1", "APIService", "v1.example.com", json!({"spec": {"group": "example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}})),
        ("apps/v1", "ControllerRevision", "x", json!({"data": {"a": 1}, "revision": 1})),
        ("autoscaling/v1", "HorizontalPodAutoscaler", "x", json!({"spec": {"maxReplicas": 2, "scaleTargetRef": target}})),
        ("discovery.k8s.io/v1", "EndpointSlice", "x", json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]})),
        ("events.k8s.io/v1", "Event", "x", json!({"eventTime": "2026-11-21T10:00:00.000000Z", "type": "Normal", "reason": "a", "action": "b", "reportingController": "example.com/c", "reportingInstance": "d"})),
        ("flowcontrol.apiserver.k8s.io/v1", "FlowSchema", "x", json!({"spec": {"priorityLevelConfiguration": {"name": "a"}}})),
        ("flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration", "x", json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}})),
        ("networking.k8s.io/v1", "IngressClass", "x", json!({"spec": {"controller": "example.com/a"}})),
        ("networking.k8s.io/v1", "IPAddress", "10.0.0.1", json!({"spec": {"parentRef": {"resource": "services", "name": "a", "namespace": "b"}}})),
        ("networking.k8s.io/v1", "ServiceCIDR", "x", json!({"spec": {"cidrs": ["10.0.0.0/24"]}})),
        ("node.k8s.io/v1", "RuntimeClass", "x", json!({"handler": "a"})),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "x", json!({"roleRef": role})),
        ("resource.k8s.io/v1", "ResourceSlice", "x", json!({"spec": {"driver": "example.com", "pool": {"name": "a", "generation": 1, "resourceSliceCount": 1}, "allNodes": true}})),
        ("storage.k8s.io/v1", "CSIStorageCapacity", "x", json!({"storageClassName": "a"})),
        ("storage.k8s.io/v1", "VolumeAttachment", "x", json!({"spec": {"attacher": "example.com", "nodeName": "a", "source": {"persistentVolumeName": "b"}}})),
        ("storage.k8s.io/v1", "VolumeAttributesClass", "x", json!({"driverName": "example.com", "parameters": {"a": "b"}})),
    ]
    .into_iter()
    .map(|(version, kind, name, mut body)| {
        body["apiVersion"] = version.into();
        body["kind"] = kind.into();
        body["metadata"] = json!({"name": name});
        body
    })
    .collect()
}

/// What is stored of a body.
pub(crate) fn created(mut body: Value) -> Result<Value, Status> {
    let resource = resource_of(&body).ok_or_else(Status::no_such_resource)?;
    write::place(resource, Some("default"), None, &mut body)?;
    write::create(resource, body, &by("test"))
}

#[test]
fn there_is_one_of_each_kind_that_is_created() {
    let mut kinds = BTreeSet::new();
    for body in all() {
        kinds.insert(format!("{} {}", body["apiVersion"], body["kind"]));
        // A request is signed by its sender's key, and nobody here has one.
        if body["kind"] != "CertificateSigningRequest"
            && let Err(status) = created(body)
        {
            panic!("{}", status.message);
        }
    }
    let served = resource::all().iter().filter(|r| r.has_verb("create"));
    assert_eq!(kinds.len(), served.count());
}
