//! Rules of kinds. The pairs of `data/defaults.json`, what a real API server makes of a small object of
//! each kind, are also replayed by a server (`apiserver/tests/defaults.rs`), which adds admission.

mod admission;
mod cluster;
mod definitions;
mod filled;
mod limits;
mod network;
mod pods;
mod resize;
mod services;
mod statuses;
mod storage;
mod workloads;

use crate::kinds::field::text;
use crate::resource::{self, Resource};
use crate::status::{Details, Status};
use crate::write::{self, Context, User};
use serde_json::{Value, json};

const UID: &str = "1820dc7c-c71d-44f8-8057-2d6915c55b2c";

fn context() -> Context {
    Context {
        now: "2026-11-21T00:57:07Z".parse().expect("a time"),
        uid: UID.to_owned(),
        suffix: "gs47l".to_owned(),
        user: User::default(),
        manager: "test".to_owned(),
    }
}

fn resource_of(object: &Value) -> &'static Resource {
    resource::by_kind(text(object, "/apiVersion"), text(object, "/kind")).expect("a served kind")
}

fn create(body: Value) -> Result<Value, Status> {
    let resource = resource_of(&body);
    let mut body = body;
    let namespace = body["metadata"]["namespace"]
        .as_str()
        .unwrap_or("default")
        .to_owned();
    write::place(resource, Some(&namespace), None, &mut body)?;
    write::create(resource, body, &context())
}

fn update(old: &Value, new: Value) -> Result<Value, Status> {
    write::update(resource_of(old), None, old, new, &context())
}

fn pairs() -> Vec<Value> {
    serde_json::from_str(include_str!("../../data/defaults.json")).expect("pairs")
}

#[test]
fn writing_what_was_stored_changes_nothing() {
    for pair in pairs() {
        let stored = create(pair["given"].clone()).expect("valid");
        let again = update(&stored, stored.clone()).expect("valid");
        assert_eq!(again, stored, "{}", pair["given"]["kind"]);
        // Applying the manifest again fills the same defaults.
        let mut given = pair["given"].clone();
        given["metadata"] = stored["metadata"].clone();
        let kind = text(&stored, "/kind");
        // Selector, account and priority are set at birth; clients send them back.
        if !matches!(kind, "Pod" | "Job" | "Node" | "Namespace") {
            let again = update(&stored, given).expect("valid");
            assert_eq!(again["spec"], stored["spec"], "{kind}");
        }
    }
}

/// The causes as `field: message`.
fn causes(result: Result<Value, Status>) -> Vec<String> {
    let status = result.expect_err("refused");
    assert_eq!(status.code, 422, "{}", status.message);
    let details: Details = *status.details.expect("details");
    details
        .causes
        .iter()
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect()
}

/// Puts the fields of `more` into `object`; maps are merged.
fn merge(object: &mut Value, more: Value) {
    match (object, more) {
        (Value::Object(held), Value::Object(more)) => {
            for (field, value) in more {
                merge(held.entry(field).or_insert(Value::Null), value);
            }
        }
        (object, more) => *object = more,
    }
}

/// An object named `x` of this kind.
fn object(version: &str, kind: &str, rest: Value) -> Value {
    let mut body = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}});
    merge(&mut body, rest);
    body
}

/// Each of the bodies makes an object.
fn accepted(bodies: impl IntoIterator<Item = Value>) {
    for body in bodies {
        if let Err(status) = create(body.clone()) {
            panic!("{body}\n{}", status.message);
        }
    }
}

/// Each of the bodies is refused, and one of the causes is this one; a star ends what is compared.
fn refused(cases: impl IntoIterator<Item = (Value, String)>) {
    for (body, fault) in cases {
        let found = causes(create(body));
        let fits = |cause: &String| match fault.strip_suffix('*') {
            Some(start) => cause.starts_with(start),
            None => *cause == fault,
        };
        assert!(found.iter().any(fits), "{fault}\n{found:#?}");
    }
}

fn refused_text<'a>(cases: impl IntoIterator<Item = (Value, &'a str)>) {
    let owned = cases
        .into_iter()
        .map(|(body, fault)| (body, fault.to_owned()));
    refused(owned);
}

/// An object made of `body` may not become one with `value` at `pointer`, for this one reason.
fn changed(body: Value, pointer: &str, value: Value, fault: &str) {
    let old = create(body).expect("valid");
    let mut new = old.clone();
    match new.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => panic!("{pointer}"),
    }
    let found = causes(update(&old, new));
    let fits = match fault.strip_suffix('*') {
        Some(start) => found[0].starts_with(start),
        None => found == [fault],
    };
    assert!(fits, "{fault}\n{found:#?}");
}

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "q"}, "spec": spec})
}

#[test]
fn a_pod_with_many_faults() {
    let faults = causes(create(pod(json!({"automountServiceAccountToken": false,
        "containers": [
            {"name": "a", "image": "i", "ports": [{"containerPort": 0}], "env": [{"name": "", "value": "x"}],
                "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}},
                "volumeMounts": [{"name": "v", "mountPath": ""}],
                "livenessProbe": {"periodSeconds": -1, "httpGet": {"port": "name-that-is-far-too-long"}}},
            {"name": "a", "image": "i"}],
        "restartPolicy": "Perhaps", "terminationGracePeriodSeconds": -1}))));
    assert_eq!(
        faults,
        [
            "spec.containers[0].ports[0].containerPort: Required value",
            "spec.containers[0].env[0].name: Required value",
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
            "spec.containers[0].volumeMounts[0].mountPath: Required value",
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            "spec.containers[0].livenessProbe.httpGet.port: Invalid value: \"name-that-is-far-too-long\": must be no more than 15 characters",
            "spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
            "spec.containers[1].name: Duplicate value: \"a\"",
            "spec.restartPolicy: Unsupported value: \"Perhaps\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ]
    );
    assert_eq!(
        causes(create(pod(json!({"containers": []})))),
        ["spec.containers: Required value"]
    );
}

#[test]
fn what_a_pod_may_not_say() {
    let container = json!({"name": "c", "image": "i"});
    for (spec, fault) in [
        (
            json!({"containers": [{"name": "C", "image": "i"}]}),
            "spec.containers[0].name: Invalid value: \"C\"",
        ),
        (
            json!({"containers": [{"name": "c"}]}),
            "spec.containers[0].image: Required value",
        ),
        (
            json!({"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]}),
            "spec.volumes[1].name: Duplicate value: \"v\"",
        ),
        (
            json!({"containers": [container], "volumes": [{"name": "v", "emptyDir": {}, "configMap": {"name": "c"}}]}),
            "may not specify more than 1 volume type",
        ),
        (
            json!({"containers": [container], "volumes": [{"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "../x"}]}}]}),
            "must not contain '..'",
        ),
        (
            json!({"containers": [{"name": "c", "image": "i", "env": [{"name": "N", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}]}),
            "may not be specified when `value` is not empty",
        ),
        (
            json!({"containers": [{"name": "c", "image": "i", "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.none"}}}]}]}),
            "field label not supported: spec.none",
        ),
        (
            json!({"containers": [container], "initContainers": [container]}),
            "spec.initContainers[0].name: Duplicate value: \"c\"",
        ),
        (
            json!({"containers": [container], "tolerations": [{"key": "k", "operator": "Exists", "value": "v"}]}),
            "value must be empty when `operator` is 'Exists'",
        ),
        (
            json!({"containers": [container], "activeDeadlineSeconds": 0}),
            "spec.activeDeadlineSeconds: Invalid value: 0",
        ),
        (
            json!({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"gpu": "1"}}}]}),
            "must be a standard resource",
        ),
        (
            json!({"containers": [{"name": "c", "image": "i", "livenessProbe": {"exec": {"command": ["a"]}, "successThreshold": 2}}]}),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            json!({"containers": [{"name": "c", "image": "i", "readinessProbe": {}}]}),
            "must specify a handler type",
        ),
        (
            json!({"containers": [container], "nodeSelector": {"a b": "c"}}),
            "spec.nodeSelector: Invalid value: \"a b\"",
        ),
    ] {
        let found = causes(create(pod(spec)));
        assert!(
            found.iter().any(|cause| cause.contains(fault)),
            "{fault}\n{found:#?}"
        );
    }
}

#[test]
fn what_may_change_in_a_pod() {
    let old = create(pod(
        json!({"containers": [{"name": "c", "image": "i:v1"}], "activeDeadlineSeconds": 9,
            "tolerations": [{"key": "held", "operator": "Exists"}]}),
    ))
    .expect("valid");
    let changed = |pointer: &str, value: Value| {
        let mut new = old.clone();
        match new.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => panic!("{pointer}"),
        }
        update(&old, new)
    };
    assert!(changed("/spec/containers/0/image", json!("i:v2")).is_ok());
    assert!(changed("/spec/activeDeadlineSeconds", json!(8)).is_ok());
    assert_eq!(
        causes(changed("/spec/activeDeadlineSeconds", json!(10))),
        [
            "spec.activeDeadlineSeconds: Invalid value: 10: must be less than or equal to previous value"
        ]
    );
    let refused = causes(changed("/spec/restartPolicy", json!("Never")));
    assert!(
        refused[0].starts_with("spec: Forbidden: pod updates may not change fields other than")
    );
    assert!(
        refused[0].ends_with("\n- spec.restartPolicy: \"Always\"\n+ spec.restartPolicy: \"Never\"")
    );
    let two = json!([{"name": "c", "image": "i:v1"}, {"name": "d", "image": "i"}]);
    assert_eq!(
        causes(changed("/spec/containers", two)),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
    let mut more = old["spec"]["tolerations"].clone();
    if let Some(list) = more.as_array_mut() {
        list.push(json!({"key": "x", "operator": "Exists"}));
    }
    assert!(changed("/spec/tolerations", more).is_ok());
    assert_eq!(
        causes(changed("/spec/tolerations", json!([]))),
        [
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
        ]
    );
}

#[test]
fn a_status_that_is_written_keeps_the_spec_and_the_class() {
    let old = create(pod(json!({"containers": [{"name": "c", "image": "i"}]}))).expect("valid");
    let mut new = old.clone();
    new["spec"]["nodeName"] = "x".into();
    new["status"] = json!({"phase": "Running", "podIP": "10.1.1.1"});
    let made =
        write::update(resource_of(&old), Some("status"), &old, new, &context()).expect("valid");
    assert_eq!(made["spec"], old["spec"]);
    assert_eq!(
        made["status"],
        json!({"phase": "Running", "podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.1"}], "qosClass": "BestEffort"})
    );
}

#[test]
fn quality_of_service() {
    let class = |resources: Value| {
        let made = create(pod(
            json!({"containers": [{"name": "c", "image": "i", "resources": resources}]}),
        ));
        text(&made.expect("valid"), "/status/qosClass").to_owned()
    };
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(
        class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})),
        "Guaranteed"
    );
    assert_eq!(
        class(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}})),
        "Guaranteed"
    );
    assert_eq!(class(json!({"limits": {"cpu": "1"}})), "Burstable");
    assert_eq!(class(json!({"requests": {"memory": "1"}})), "Burstable");
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "d"}},
            "template": {"metadata": {"labels": {"a": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[test]
fn deployments_are_judged() {
    let old = create(deployment()).expect("valid");
    let mut new = old.clone();
    new["spec"]["selector"] = json!({"matchLabels": {"a": "x"}});
    new["spec"]["template"]["metadata"]["labels"] = json!({"a": "x"});
    assert_eq!(
        causes(update(&old, new)),
        ["spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"x\"}}: field is immutable"]
    );
    let with = |pointer: &str, field: &str, value: Value| {
        let mut body = deployment();
        if let Some(place) = body.pointer_mut(pointer) {
            place[field] = value;
        }
        causes(create(body))
    };
    assert_eq!(
        with("/spec", "replicas", json!(-1)),
        ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]
    );
    assert_eq!(
        with("/spec/template/metadata", "labels", json!({"a": "e"})),
        [
            "spec.template.metadata.labels: Invalid value: {\"a\":\"e\"}: `selector` does not match template `labels`"
        ]
    );
    assert_eq!(
        with("/spec", "selector", json!({})),
        ["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]
    );
    for kind in ["Deployment", "ReplicaSet", "StatefulSet"] {
        let mut body = deployment();
        body["kind"] = kind.into();
        body["spec"]["selector"] = Value::Null;
        assert_eq!(
            causes(create(body)),
            [
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: {\"a\":\"d\"}: `selector` does not match template `labels`"
            ],
            "{kind}"
        );
    }
    assert_eq!(
        with("/spec/template/spec", "restartPolicy", json!("Never")),
        [
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""
        ]
    );
    assert_eq!(
        with(
            "/spec",
            "strategy",
            json!({"type": "Recreate", "rollingUpdate": {"maxSurge": 1}})
        ),
        [
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"
        ]
    );
}

fn job(spec: Value) -> Value {
    let mut job =
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": spec});
    if job["spec"]["template"].is_null() {
        job["spec"]["template"] = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    }
    job
}

#[test]
fn data_is_judged() {
    let config = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "k"}, "data": data});
    let found = causes(create(config(json!({"a b": "1"}))));
    assert!(
        found[0]
            .starts_with("data[a b]: Invalid value: \"a b\": a valid config key must consist of")
    );
    let large = "x".repeat(1024 * 1024 + 1);
    assert_eq!(
        causes(create(config(json!({"a": large})))),
        ["[]: Too long: may not be more than 1048576 bytes"]
    );
    let mut fixed = config(json!({"a": "1"}));
    fixed["immutable"] = true.into();
    let fixed = create(fixed).expect("valid");
    let mut new = fixed.clone();
    new["data"]["a"] = "2".into();
    assert_eq!(
        causes(update(&fixed, new)),
        ["data: Forbidden: field is immutable when `immutable` is set"]
    );
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "t"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": "c"}});
    assert_eq!(causes(create(secret)), ["data[tls.key]: Required value"]);
}

#[test]
fn odd_objects_are_refused_or_kept_but_never_panic() {
    let odd = [
        Value::Null,
        json!({}),
        json!([]),
        json!("x"),
        json!({"containers": [null, {}, "x"], "template": [], "volumes": [{}, null], "ports": {}, "selector": "x",
            "taints": "x", "versions": [1], "initContainers": [{"resources": 1}], "metrics": {}, "strategy": 5}),
    ];
    for resource in resource::all() {
        for spec in &odd {
            let body = json!({"apiVersion": resource.api_version, "kind": resource.kind,
                "metadata": {"name": "a"}, "spec": spec, "status": spec, "data": spec, "webhooks": spec,
                "rules": spec, "subjects": spec, "roleRef": spec, "template": spec, "endpoints": spec});
            // Either answer is right: types are the decoder's affair.
            let made = create(body.clone());
            let old = made.unwrap_or(body.clone());
            let _ = update(&old, body);
        }
    }
}

#[test]
fn the_table_of_hooks_is_sorted_and_names_served_kinds() {
    assert!(super::ALL.is_sorted_by_key(|hooks| hooks.kind));
    for hooks in super::ALL {
        let (version, kind) = hooks.kind.split_once(' ').expect("apiVersion and kind");
        assert!(resource::by_kind(version, kind).is_some(), "{}", hooks.kind);
    }
}
