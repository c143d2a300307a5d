//! Rules of statuses, of which one that is written by its own subresource is judged.

use super::*;

/// Writes `status` over that of `old`.
fn written(old: &Value, status: Value) -> Result<Value, Status> {
    let mut new = old.clone();
    new["status"] = status;
    write::update(resource_of(old), Some("status"), old, new, &context())
}

/// Of an object made of `body`, each status is refused for this, among its causes.
fn refuses<'a>(old: &Value, cases: impl IntoIterator<Item = (Value, &'a str)>) {
    for (status, fault) in cases {
        let found = causes(written(old, status.clone()));
        assert!(
            found.iter().any(|cause| cause == fault),
            "{status}: {fault}\n{found:#?}"
        );
    }
}

fn workload(kind: &str) -> Value {
    let labels = json!({"matchLabels": {"a": "b"}});
    let template = json!({"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    object(
        "apps/v1",
        kind,
        json!({"spec": {"selector": labels, "template": template}}),
    )
}

#[test]
fn counts_of_workloads() {
    let below = "Invalid value: -1: must be greater than or equal to 0";
    for (kind, beyond) in [
        ("Deployment", "cannot be greater than readyReplicas"),
        ("ReplicaSet", "cannot be greater than readyReplicas"),
        ("StatefulSet", "cannot be greater than status.readyReplicas"),
    ] {
        let old = create(workload(kind)).expect("valid");
        let good = json!({"replicas": 2, "readyReplicas": 2, "availableReplicas": 1});
        written(&old, good).expect(kind);
        let beyond = format!("status.availableReplicas: Invalid value: 2: {beyond}");
        let negative = format!("status.replicas: {below}");
        refuses(
            &old,
            [
                (json!({"replicas": -1}), negative.as_str()),
                (
                    json!({"replicas": 1, "readyReplicas": 2}),
                    "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
                ),
                (
                    json!({"replicas": 2, "readyReplicas": 1, "availableReplicas": 2}),
                    beyond.as_str(),
                ),
            ],
        );
    }
    let old = create(workload("Deployment")).expect("valid");
    let old = written(&old, json!({"collisionCount": 2})).expect("valid");
    refuses(
        &old,
        [(
            json!({"collisionCount": 1}),
            "status.collisionCount: Invalid value: 1: cannot be decremented",
        )],
    );
    let old = create(workload("DaemonSet")).expect("valid");
    let mut status = old["status"].clone();
    status["numberAvailable"] = json!(3);
    written(&old, status.clone()).expect("no count is part of another");
    status["numberReady"] = json!(-1);
    let fault = format!("status.numberReady: {below}");
    refuses(&old, [(status, fault.as_str())]);
    let body = object(
        "policy/v1",
        "PodDisruptionBudget",
        json!({"spec": {"minAvailable": 1}}),
    );
    let old = create(body).expect("valid");
    let mut status = old["status"].clone();
    status["currentHealthy"] = json!(-1);
    let fault = format!("status.currentHealthy: {below}");
    refuses(&old, [(status, fault.as_str())]);
}

#[test]
fn replication_controllers_count_as_replica_sets() {
    let template = json!({"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let body = object(
        "v1",
        "ReplicationController",
        json!({"spec": {"template": template}}),
    );
    let old = create(body).expect("valid");
    refuses(
        &old,
        [(
            json!({"replicas": 1, "fullyLabeledReplicas": 2}),
            "status.fullyLabeledReplicas: Invalid value: 2: cannot be greater than status.replicas",
        )],
    );
}

#[test]
fn phases_of_namespaces_follow_their_deletion() {
    let old = create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}))
        .expect("valid");
    written(&old, json!({"phase": "Active", "conditions": []})).expect("valid");
    // One that names none is active.
    let kept = written(&old, json!({"conditions": []})).expect("valid");
    assert_eq!(kept["status"]["phase"], "Active");
    refuses(
        &old,
        [(
            json!({"phase": "Terminating"}),
            "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty",
        )],
    );
    let mut going = old;
    going["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:57:07Z");
    written(&going, json!({"phase": "Terminating"})).expect("valid");
    going["status"]["phase"] = json!("Terminating");
    refuses(
        &going,
        [(
            json!({"phase": "Active"}),
            "status.Phase: Invalid value: \"Active\": may only be 'Terminating' if `deletionTimestamp` is not empty",
        )],
    );
}

#[test]
fn what_nodes_have() {
    let old = create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}))
        .expect("valid");
    let address = json!({"type": "InternalIP", "address": "10.0.0.1"});
    written(
        &old,
        json!({"capacity": {"cpu": "2", "pods": "110"}, "addresses": [address]}),
    )
    .expect("valid");
    refuses(
        &old,
        [
            (
                json!({"capacity": {"cpu": "-1"}}),
                "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                json!({"allocatable": {"pods": "1500m"}}),
                "status.allocatable.pods: Invalid value: \"1500m\": must be an integer",
            ),
            (
                json!({"addresses": [address, address]}),
                "status.addresses[1]: Duplicate value: {\"address\":\"10.0.0.1\",\"type\":\"InternalIP\"}",
            ),
        ],
    );
}

const START: &str = "2026-11-21T10:00:00Z";
const END: &str = "2026-11-21T11:00:00Z";

fn with_conditions(more: Value, conditions: &[&str]) -> Value {
    let held = conditions.iter();
    let held: Vec<Value> = held
        .map(|kind| json!({"type": kind, "status": "True"}))
        .collect();
    let mut status = json!({"startTime": START, "conditions": held});
    merge(&mut status, more);
    status
}

#[test]
fn how_jobs_end() {
    let old = create(job(json!({}))).expect("valid");
    let done = ["SuccessCriteriaMet", "Complete"];
    let lost = ["FailureTarget", "Failed"];
    let complete = with_conditions(json!({"completionTime": END}), &done);
    for status in [
        json!({"startTime": START, "active": 2, "ready": 1}),
        with_conditions(json!({"active": 1}), &["FailureTarget"]),
        with_conditions(json!({}), &lost),
        complete.clone(),
    ] {
        written(&old, status).expect("valid");
    }
    refuses(
        &old,
        [
            (
                json!({"active": -1}),
                "status.active: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"ready": 1}),
                "status.ready: Invalid value: 1: cannot set more ready pods than active",
            ),
            (
                with_conditions(json!({"completionTime": END}), &["Complete", "Failed"]),
                "status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions",
            ),
            (
                with_conditions(json!({}), &["Failed"]),
                "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
            ),
            (
                with_conditions(json!({"completionTime": END}), &["Complete"]),
                "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            ),
            (
                with_conditions(json!({}), &["SuccessCriteriaMet", "FailureTarget"]),
                "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
            ),
            (
                with_conditions(json!({}), &done),
                "status.completionTime: Required value: completionTime is required for Complete jobs",
            ),
            (
                json!({"completionTime": END}),
                "status.completionTime: Invalid value: \"2026-11-21T11:00:00Z\": cannot set completionTime when there is no Complete=True condition",
            ),
            (
                with_conditions(json!({"startTime": END, "completionTime": START}), &done),
                "status.completionTime: Invalid value: \"2026-11-21T10:00:00Z\": completionTime cannot be set before startTime",
            ),
            (
                with_conditions(json!({"startTime": null}), &lost),
                "status.startTime: Required value: startTime is required for finished job",
            ),
            (
                with_conditions(json!({"active": 1}), &lost),
                "status.active: Invalid value: 1: active>0 is invalid for finished job",
            ),
            (
                with_conditions(json!({"terminating": 1}), &lost),
                "status.terminating: Invalid value: 1: terminating>0 is invalid for finished job",
            ),
            (
                with_conditions(json!({"uncountedTerminatedPods": {"failed": ["a"]}}), &lost),
                "status.uncountedTerminatedPods: Invalid value: {\"failed\":[\"a\"]}: uncountedTerminatedPods needs to be empty for finished job",
            ),
            (
                json!({"uncountedTerminatedPods": {"succeeded": ["a"], "failed": ["a", ""]}}),
                "status.uncountedTerminatedPods.failed[0]: Duplicate value: \"a\"",
            ),
            (
                json!({"completedIndexes": "0"}),
                "status.completedIndexes: Invalid value: \"0\": cannot set non-empty completedIndexes when non-indexed completion mode",
            ),
            (
                json!({"failedIndexes": "0"}),
                "status.failedIndexes: Invalid value: \"0\": cannot set non-null failedIndexes when backoffLimitPerIndex is null",
            ),
        ],
    );
    let ended = written(&old, complete).expect("valid");
    refuses(
        &ended,
        [
            (
                with_conditions(json!({}), &["SuccessCriteriaMet"]),
                "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
            ),
            (
                with_conditions(json!({"completionTime": "2026-11-21T12:00:00Z"}), &done),
                "status.completionTime: Invalid value: \"2026-11-21T12:00:00Z\": completionTime cannot be mutated",
            ),
        ],
    );
}

#[test]
fn what_jobs_count_only_grows() {
    let old = create(job(json!({"completions": 5}))).expect("valid");
    let counted = json!({"startTime": START, "failed": 2, "succeeded": 2});
    let old = written(&old, counted).expect("valid");
    refuses(
        &old,
        [
            (
                json!({"startTime": START, "failed": 1, "succeeded": 2}),
                "status.failed: Invalid value: 1: cannot decrease the failed counter",
            ),
            (
                json!({"startTime": START, "failed": 2, "succeeded": 1}),
                "status.succeeded: Invalid value: 1: cannot decrease the succeeded counter",
            ),
            (
                json!({"failed": 2, "succeeded": 2}),
                "status.startTime: Required value: startTime cannot be removed for unsuspended job",
            ),
        ],
    );
    let body = job(json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2}));
    let old = create(body).expect("valid");
    written(&old, json!({"completedIndexes": "0,1"})).expect("valid");
    refuses(
        &old,
        [(
            json!({"completedIndexes": "2"}),
            "status.completedIndexes: Invalid value: \"2\": error parsing completedIndexes: too large index: \"2\"",
        )],
    );
}
