//! Rules of jobs, sets, autoscalers and budgets.

use super::*;

fn job_with(more: Value) -> Value {
    let mut body = job(json!({}));
    merge(&mut body["spec"], more);
    body
}

fn indexed(more: Value) -> Value {
    let mut body = job_with(json!({"completionMode": "Indexed", "completions": 3}));
    merge(&mut body["spec"], more);
    body
}

#[test]
fn jobs_are_judged() {
    let old = create(job(json!({}))).expect("valid");
    let mut new = old.clone();
    new["spec"]["parallelism"] = 5.into();
    assert!(update(&old, new.clone()).is_ok());
    new["spec"]["completions"] = 5.into();
    assert_eq!(
        causes(update(&old, new)),
        ["spec.completions: Invalid value: 5: field is immutable"]
    );
    let mut new = old.clone();
    new["spec"]["template"]["spec"]["containers"][0]["image"] = "j".into();
    let refused = causes(update(&old, new));
    assert!(
        refused[0].starts_with("spec.template: Invalid value: "),
        "{refused:?}"
    );
    assert!(refused[0].ends_with("field is immutable"), "{refused:?}");
    for (spec, fault) in [
        (
            json!({"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}),
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ),
        (
            json!({"completionMode": "Indexed", "parallelism": 2}),
            "spec.completions: Required value: when completion mode is Indexed",
        ),
        (
            json!({"backoffLimit": -1}),
            "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            json!({"selector": {"matchLabels": {"a": "b"}}}),
            "`selector` not auto-generated",
        ),
    ] {
        let found = causes(create(job(spec)));
        assert!(
            found.iter().any(|cause| cause.contains(fault)),
            "{fault}\n{found:#?}"
        );
    }
    // An indexed job can be stretched with its parallelism.
    let old = create(job(
        json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2}),
    ))
    .expect("valid");
    let mut new = old.clone();
    new["spec"]["completions"] = 3.into();
    new["spec"]["parallelism"] = 3.into();
    assert!(update(&old, new).is_ok());
}

#[test]
fn when_jobs_fail_or_are_done() {
    let failure = |rule: Value| job_with(json!({"podFailurePolicy": {"rules": [rule]}}));
    let codes = |operator: &str, values: Value| {
        failure(
            json!({"action": "FailJob", "onExitCodes": {"operator": operator, "values": values}}),
        )
    };
    let success = |rule: Value| indexed(json!({"successPolicy": {"rules": [rule]}}));
    accepted([
        codes("In", json!([1, 2])),
        codes("NotIn", json!([0])),
        failure(
            json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}),
        ),
        success(json!({"succeededIndexes": "0,2", "succeededCount": 2})),
        indexed(json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 2})),
        job_with(json!({"managedBy": "example.com/x"})),
    ]);
    let rule = "spec.podFailurePolicy.rules[0]";
    let done = "spec.successPolicy.rules[0]";
    refused([
        (codes("In", json!([0])), format!("{rule}.onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator")),
        (codes("In", json!([2, 1])), format!("{rule}.onExitCodes.values: Invalid value: [2,1]: must be ordered")),
        (codes("In", json!([1, 1])), format!("{rule}.onExitCodes.values[1]: Duplicate value: 1")),
        (codes("", json!([1])), format!("{rule}.onExitCodes.operator: Required value: valid values: [\"In\" \"NotIn\"]")),
        (
            failure(json!({"action": "X", "onExitCodes": {"operator": "In", "values": [1]}})),
            format!("{rule}.action: Unsupported value: \"X\": supported values: \"Count\", \"FailIndex\", \"FailJob\", \"Ignore\""),
        ),
        (
            failure(json!({"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1]}})),
            format!("{rule}.action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set"),
        ),
        (
            failure(json!({"action": "FailJob", "onExitCodes": {"containerName": "x", "operator": "In", "values": [1]}})),
            format!("{rule}.onExitCodes.containerName: Invalid value: \"x\": must be one of the container or initContainer names in the pod template"),
        ),
        (failure(json!({"action": "FailJob"})), format!("{rule}: Invalid value: specifying one of OnExitCodes and OnPodConditions is required")),
        (success(json!({})), format!("{done}: Required value: at least one of succeededCount or succeededIndexes must be specified")),
        (success(json!({"succeededCount": 4})), format!("{done}.succeededCount: Invalid value: 4: must be less than or equal to 3 (the number of specified completions)")),
        (success(json!({"succeededIndexes": "0-5"})), format!("{done}.succeededIndexes: Invalid value: \"0-5\": error parsing succeededIndexes: too large index: \"5\"")),
        (
            job_with(json!({"successPolicy": {"rules": [{"succeededCount": 1}]}})),
            "spec.successPolicy: Invalid value: {\"rules\":[{\"succeededCount\":1}]}: requires indexed completion mode".to_owned(),
        ),
        (indexed(json!({"maxFailedIndexes": 2})), "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified".to_owned()),
        (
            indexed(json!({"maxFailedIndexes": 4, "backoffLimitPerIndex": 1})),
            "spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions".to_owned(),
        ),
        (job_with(json!({"managedBy": "x"})), "spec.managedBy: Invalid value: \"x\": must be a domain-prefixed path (such as \"acme.io/foo\")".to_owned()),
        (
            job_with(json!({"podReplacementPolicy": "TerminatingOrFailed",
                "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}]}})),
            "spec.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\"".to_owned(),
        ),
    ]);
    let mut long = indexed(json!({}));
    long["metadata"]["name"] = "a".repeat(62).into();
    refused_text([(long, "metadata.name: Invalid value: \"aaa*")]);
}

#[test]
fn jobs_that_wait_may_be_sent_elsewhere() {
    let old = create(job_with(json!({"suspend": true}))).expect("valid");
    let mut new = old.clone();
    new["spec"]["template"]["metadata"]["labels"]["more"] = "x".into();
    new["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"});
    assert!(update(&old, new).is_ok());
    let old = create(indexed(json!({"parallelism": 3}))).expect("valid");
    let mut new = old.clone();
    new["spec"]["completions"] = 4.into();
    assert_eq!(
        causes(update(&old, new)),
        [
            "spec.completions: Invalid value: 4: can only be modified in tandem with spec.parallelism"
        ]
    );
}

fn cron(more: Value) -> Value {
    let mut body = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job(json!({}))["spec"].clone()}}});
    merge(&mut body["spec"], more);
    body
}

#[test]
fn cron_jobs_are_judged() {
    let named = |name: String| {
        let mut body = cron(json!({}));
        body["metadata"]["name"] = name.into();
        body
    };
    accepted([cron(json!({"timeZone": "Etc/UTC"})), named("a".repeat(52))]);
    refused_text([
        (
            cron(json!({"timeZone": "No where"})),
            "spec.timeZone: Invalid value: \"No where\": unknown time zone No where",
        ),
        (
            cron(json!({"timeZone": "Nowhere"})),
            "spec.timeZone: Invalid value: \"Nowhere\": unknown time zone Nowhere",
        ),
        (
            cron(json!({"schedule": "bad"})),
            "spec.schedule: Invalid value: \"bad\": expected exactly 5 fields, found 1: [bad]",
        ),
        (
            named("a".repeat(53)),
            "metadata.name: Invalid value: \"aaa*",
        ),
        (
            cron(json!({"jobTemplate": {"spec": {"selector": {"matchLabels": {"a": "b"}}}}})),
            "spec.jobTemplate.spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` will be auto-generated",
        ),
    ]);
    // What is there already may stay.
    let mut old = create(cron(json!({}))).expect("valid");
    old["metadata"]["name"] = "a".repeat(60).into();
    let mut new = old.clone();
    new["spec"]["suspend"] = true.into();
    assert!(update(&old, new).is_ok());
}

#[test]
fn sets_are_judged() {
    let set = |name: &str, more: Value| {
        let mut body = deployment();
        body["kind"] = "StatefulSet".into();
        body["metadata"]["name"] = name.into();
        merge(&mut body["spec"], more);
        body
    };
    accepted([
        set(
            "s",
            json!({"ordinals": {"start": 2}, "podManagementPolicy": "Parallel"}),
        ),
        set("s", json!({"updateStrategy": {"type": "OnDelete"}})),
        set(
            "s",
            json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}}}),
        ),
    ]);
    refused_text([
        (
            set("s", json!({"ordinals": {"start": -1}})),
            "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            set("s", json!({"podManagementPolicy": "X"})),
            "spec.podManagementPolicy: Invalid value: \"X\": must be 'OrderedReady' or 'Parallel'",
        ),
        (
            set("s", json!({"updateStrategy": {"type": "X"}})),
            "spec.updateStrategy: Invalid value: {\"type\":\"X\"}: must be 'RollingUpdate' or 'OnDelete'",
        ),
        (
            set(
                "s",
                json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}}}),
            ),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
        ),
        (
            set(
                "s",
                json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "101%"}}}),
            ),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        ),
        (
            set("a.b", json!({})),
            "metadata.name: Invalid value: \"a.b\": a lowercase RFC 1123 label *",
        ),
    ]);
}

#[test]
fn daemon_sets_roll_out_by_shares() {
    let set = |rolling: Value| {
        let mut body = deployment();
        body["kind"] = "DaemonSet".into();
        merge(
            &mut body["spec"],
            json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}),
        );
        body
    };
    accepted([
        set(json!({"maxUnavailable": "100%"})),
        set(json!({"maxUnavailable": 0, "maxSurge": 2})),
    ]);
    refused_text([
        (
            set(json!({"maxUnavailable": "101%"})),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        ),
        (
            set(json!({"maxUnavailable": 0, "maxSurge": "101%"})),
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: \"101%\": must not be greater than 100%",
        ),
    ]);
}

#[test]
fn budgets_are_judged() {
    let budget = |spec: Value| json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": spec});
    accepted([
        budget(json!({"minAvailable": "100%", "unhealthyPodEvictionPolicy": "AlwaysAllow"})),
        budget(json!({"maxUnavailable": 0})),
    ]);
    refused_text([
        (
            budget(json!({"minAvailable": "101%"})),
            "spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%",
        ),
        (
            budget(json!({"minAvailable": 1, "unhealthyPodEvictionPolicy": "X"})),
            "spec.unhealthyPodEvictionPolicy: Unsupported value: \"X\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
        ),
    ]);
}

#[test]
fn autoscalers_are_judged() {
    let scaler = |more: Value| {
        let mut spec =
            json!({"maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "d"}});
        merge(&mut spec, more);
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}, "spec": spec})
    };
    let metric = |metric: Value| scaler(json!({"metrics": [metric]}));
    let cpu = |target: Value| {
        metric(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}))
    };
    accepted([
        scaler(json!({})),
        cpu(json!({"type": "Utilization", "averageUtilization": 50})),
        metric(
            json!({"type": "Object", "object": {"describedObject": {"kind": "Ingress", "name": "i"},
            "metric": {"name": "requests"}, "target": {"type": "Value", "value": "10"}}}),
        ),
        scaler(
            json!({"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0},
            "scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]}}}),
        ),
    ]);
    refused_text([
        (
            metric(json!({"type": "Resource"})),
            "spec.metrics[0].resource: Required value: must populate information for the given metric source",
        ),
        (
            metric(
                json!({"type": "Pods", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 1}}}),
            ),
            "spec.metrics[0].resource: Forbidden: must populate the given metric source only",
        ),
        (
            cpu(json!({"type": "Utilization"})),
            "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
        ),
        (
            cpu(json!({"type": "X", "averageUtilization": 1})),
            "spec.metrics[0].resource.target.type: Invalid value: \"X\": must be either Utilization, Value, or AverageValue",
        ),
        (
            cpu(json!({"type": "AverageValue", "averageValue": "0"})),
            "spec.metrics[0].resource.target.averageValue: Invalid value: \"0\": must be positive",
        ),
        (
            scaler(json!({"behavior": {"scaleUp": {"stabilizationWindowSeconds": -1}}})),
            "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: -1: must be greater than or equal to zero",
        ),
        (
            scaler(
                json!({"behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 1801}]}}}),
            ),
            "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
        ),
        (
            scaler(json!({"scaleTargetRef": {"kind": "a/b"}})),
            "spec.scaleTargetRef.kind: Invalid value: \"a/b\": may not contain '/'",
        ),
        (
            json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
                "spec": {"maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "targetCPUUtilizationPercentage": 0}}),
            "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
        ),
    ]);
}
