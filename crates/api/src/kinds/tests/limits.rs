//! Rules of what limits others: ranges, quotas, runtime classes, levels of priority; and of what is
//! kept for controllers.

use super::*;

#[test]
fn limit_ranges_are_judged() {
    let range = |limits: Value| object("v1", "LimitRange", json!({"spec": {"limits": limits}}));
    let one = |limit: Value| range(json!([limit]));
    accepted([
        one(
            json!({"type": "Container", "min": {"cpu": "1"}, "default": {"cpu": "2"}, "max": {"cpu": "3"}}),
        ),
        one(
            json!({"type": "Pod", "max": {"memory": "1Gi"}, "min": {"memory": "1Mi"}, "maxLimitRequestRatio": {"memory": "2"}}),
        ),
        one(json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}})),
        one(json!({"type": "example.com/thing", "max": {"example.com/x": "1"}})),
    ]);
    let at = "spec.limits[0]";
    refused([
        (
            one(json!({"type": "A B"})),
            format!("{at}.type: Invalid value: \"A B\": name part must consist *"),
        ),
        (
            one(json!({"type": "X"})),
            format!(
                "{at}.type: Invalid value: \"X\": must be a standard limit type or fully qualified"
            ),
        ),
        (
            range(json!([{"type": "Container"}, {"type": "Container"}])),
            "spec.limits[1].type: Duplicate value: \"Container\"".to_owned(),
        ),
        (
            one(json!({"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}})),
            format!("{at}.min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1"),
        ),
        (
            one(json!({"type": "Container", "default": {"cpu": "2"}, "max": {"cpu": "1"}})),
            format!(
                "{at}.default[cpu]: Invalid value: \"1\": default value 2 is greater than max value 1"
            ),
        ),
        (
            one(
                json!({"type": "Container", "defaultRequest": {"cpu": "2"}, "default": {"cpu": "1"}}),
            ),
            format!(
                "{at}.defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than default limit value 1"
            ),
        ),
        (
            one(json!({"type": "Pod", "default": {"cpu": "2"}})),
            format!("{at}.default: Forbidden: may not be specified when `type` is 'Pod'"),
        ),
        (
            one(json!({"type": "PersistentVolumeClaim"})),
            format!(
                "{at}.limits: Required value: either minimum or maximum storage value is required, but neither was provided"
            ),
        ),
        (
            one(json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "500m"}})),
            format!(
                "{at}.maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1"
            ),
        ),
        (
            one(
                json!({"type": "Pod", "min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "3"}}),
            ),
            format!(
                "{at}.maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000"
            ),
        ),
        (
            one(json!({"type": "Container", "max": {"storage": "1"}})),
            format!(
                "{at}.max[storage]: Invalid value: \"storage\": must be a standard resource for containers"
            ),
        ),
    ]);
}

#[test]
fn quotas_are_judged() {
    let quota = |spec: Value| object("v1", "ResourceQuota", json!({"spec": spec}));
    accepted([
        quota(
            json!({"hard": {"pods": "10", "requests.cpu": "1500m", "count/deployments.apps": "2", "example.com/x": "1",
            "requests.nvidia.com/gpu": "4", "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"}}),
        ),
        quota(json!({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotTerminating"]})),
        quota(
            json!({"hard": {"cpu": "1"}, "scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}),
        ),
    ]);
    refused_text([
        (
            quota(json!({"hard": {"pods": "-1"}})),
            "spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (
            quota(json!({"hard": {"pods": "1500m"}})),
            "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
        ),
        (
            quota(json!({"hard": {"foo": "1"}})),
            "spec.hard[foo]: Invalid value: \"foo\": must be a standard resource for quota",
        ),
        (
            quota(json!({"scopes": ["X"]})),
            "spec.scopes: Invalid value: [\"X\"]: unsupported scope",
        ),
        (
            quota(json!({"scopes": ["BestEffort", "NotBestEffort"], "hard": {"pods": "1"}})),
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
        ),
        (
            quota(json!({"scopes": ["BestEffort"], "hard": {"cpu": "1"}})),
            "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource",
        ),
        (
            quota(
                json!({"scopeSelector": {"matchExpressions": [{"scopeName": "Terminating", "operator": "In", "values": ["x"]}]}}),
            ),
            "spec.scopeSelector.matchExpressions.operator: Invalid value: \"In\": must be 'Exists' when scope is any of *",
        ),
        (
            quota(
                json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}}),
            ),
            "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        ),
    ]);
    let body = quota(json!({"scopes": ["Terminating"]}));
    changed(
        body,
        "/spec/scopes",
        json!([]),
        "spec.scopes: Invalid value: []: field is immutable",
    );
}

#[test]
fn what_is_above_users_priorities_is_the_systems() {
    let class = |name: &str, value: i64| {
        let rest = json!({"metadata": {"name": name}, "value": value});
        object("scheduling.k8s.io/v1", "PriorityClass", rest)
    };
    accepted([
        class("x", 1_000_000_000),
        class("system-cluster-critical", 2_000_000_000),
        class("system-node-critical", 2_000_001_000),
    ]);
    let reserved = "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only";
    refused_text([
        (
            class("x", 1_000_000_001),
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        ),
        (class("system-node-critical", 2_000_000_000), reserved),
        (class("system-x", 1), reserved),
    ]);
}

#[test]
fn runtime_classes_are_judged() {
    let class = |more: Value| {
        let mut body = object("node.k8s.io/v1", "RuntimeClass", json!({"handler": "wasm"}));
        merge(&mut body, more);
        body
    };
    let toleration = json!({"key": "a", "operator": "Exists"});
    accepted([class(
        json!({"overhead": {"podFixed": {"cpu": "1m"}}, "scheduling": {"tolerations": [toleration]}}),
    )]);
    refused_text([
        (
            class(json!({"handler": "A_"})),
            "handler: Invalid value: \"A_\": a lowercase RFC 1123 label *",
        ),
        (
            class(json!({"overhead": {"podFixed": {"cpu": "-1"}}})),
            "overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (
            class(json!({"scheduling": {"tolerations": [toleration, toleration]}})),
            "scheduling.tolerations[1]: Duplicate value: {*",
        ),
        (
            class(json!({"scheduling": {"nodeSelector": {"a b": "c"}}})),
            "scheduling.nodeSelector: Invalid value: \"a b\": *",
        ),
    ]);
    changed(
        class(json!({})),
        "/handler",
        json!("other"),
        "handler: Invalid value: \"other\": field is immutable",
    );
}

#[test]
fn revisions_never_change() {
    let revision = |more: Value| {
        let mut body = object(
            "apps/v1",
            "ControllerRevision",
            json!({"revision": 1, "data": {"a": 1}}),
        );
        merge(&mut body, more);
        body
    };
    accepted([revision(json!({}))]);
    refused_text([
        (
            revision(json!({"data": null})),
            "data: Required value: data is mandatory",
        ),
        (
            revision(json!({"revision": -1})),
            "revision: Invalid value: -1: must be greater than or equal to 0",
        ),
    ]);
    changed(
        revision(json!({})),
        "/data/a",
        json!(2),
        "data: Invalid value: {\"a\":2}: field is immutable",
    );
}

#[test]
fn flows_and_their_levels() {
    let schema = |more: Value| {
        let mut spec = json!({"priorityLevelConfiguration": {"name": "global-default"}});
        merge(&mut spec, more);
        object(
            "flowcontrol.apiserver.k8s.io/v1",
            "FlowSchema",
            json!({"spec": spec}),
        )
    };
    let subject = |subject: Value| {
        schema(json!({"rules": [{"subjects": [subject],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/healthz", "/logs/*"]}]}]}))
    };
    let resources = |rule: Value| {
        let mut whole = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]});
        merge(&mut whole, rule);
        schema(
            json!({"rules": [{"subjects": [{"kind": "User", "user": {"name": "*"}}], "resourceRules": [whole]}]}),
        )
    };
    let level = |spec: Value| {
        object(
            "flowcontrol.apiserver.k8s.io/v1",
            "PriorityLevelConfiguration",
            json!({"spec": spec}),
        )
    };
    let queue = |queuing: Value| {
        level(
            json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": queuing}}}),
        )
    };
    accepted([
        schema(json!({"matchingPrecedence": 500, "distinguisherMethod": {"type": "ByUser"}})),
        subject(
            json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "a"}}),
        ),
        resources(json!({"namespaces": null, "clusterScope": true})),
        level(
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 0, "limitResponse": {"type": "Reject"}}}),
        ),
        queue(json!({"queues": 64, "handSize": 6, "queueLengthLimit": 50})),
        queue(json!({})),
    ]);
    refused_text([
        (
            schema(json!({"priorityLevelConfiguration": {"name": ""}})),
            "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
        ),
        (
            schema(json!({"matchingPrecedence": 10_001})),
            "spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000",
        ),
        (
            schema(json!({"matchingPrecedence": 1})),
            "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
        ),
        (
            subject(json!({"kind": "X"})),
            "spec.rules[0].subjects[0].kind: Unsupported value: \"X\": supported values: \"Group\", \"ServiceAccount\", \"User\"",
        ),
        (
            subject(json!({"kind": "User"})),
            "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
        ),
        (
            subject(json!({"kind": "User", "user": {"name": "a"}, "group": {"name": "g"}})),
            "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
        ),
        (
            resources(json!({"verbs": ["*", "get"]})),
            "spec.rules[0].resourceRules[0].verbs: Invalid value: [\"*\",\"get\"]: if '*' is present, must not specify other verbs",
        ),
        (
            resources(json!({"namespaces": null})),
            "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace",
        ),
        (
            level(json!({"type": "X"})),
            "spec.type: Unsupported value: \"X\": supported values: \"Exempt\", \"Limited\"",
        ),
        (
            level(json!({"type": "Exempt"})),
            "spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'",
        ),
        (
            level(json!({"type": "Limited"})),
            "spec.limited: Required value: must not be empty when type is Limited",
        ),
        (
            queue(json!({"queues": 4, "handSize": 5})),
            "spec.limited.limitResponse.queuing.handSize: Invalid value: 5: should not be greater than queues (4)",
        ),
        (
            queue(json!({"queues": 1024, "handSize": 7})),
            "spec.limited.limitResponse.queuing.handSize: Invalid value: 7: required entropy bits of deckSize 1024 and handSize 7 should not be greater than 60",
        ),
    ]);
}

#[test]
fn devices_and_claims_of_them() {
    let claim = |spec: Value| object("resource.k8s.io/v1", "ResourceClaim", json!({"spec": spec}));
    let request = |request: Value| claim(json!({"devices": {"requests": [request]}}));
    let class = |spec: Value| object("resource.k8s.io/v1", "DeviceClass", json!({"spec": spec}));
    let slice = |more: Value| {
        let mut spec = json!({"driver": "d.example.com", "nodeName": "n",
            "pool": {"name": "n/p", "resourceSliceCount": 1, "generation": 0}});
        merge(&mut spec, more);
        object("resource.k8s.io/v1", "ResourceSlice", json!({"spec": spec}))
    };
    let exactly = json!({"name": "a", "exactly": {"deviceClassName": "gpu"}});
    let template = |metadata: Value| {
        let spec = json!({"metadata": metadata, "spec": {"devices": {"requests": [exactly]}}});
        object(
            "resource.k8s.io/v1",
            "ResourceClaimTemplate",
            json!({"spec": spec}),
        )
    };
    accepted([
        request(exactly.clone()),
        request(
            json!({"name": "a", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}}),
        ),
        request(json!({"name": "a", "firstAvailable": [{"name": "b", "deviceClassName": "gpu"}]})),
        claim(
            json!({"devices": {"requests": [exactly], "config": [{"requests": ["a"], "opaque": {"driver": "d", "parameters": {}}}]}}),
        ),
        template(json!({"labels": {"a": "b"}})),
        class(json!({"selectors": [{"cel": {"expression": "true"}}]})),
        slice(json!({"devices": [{"name": "d0"}]})),
    ]);
    let at = "spec.devices.requests[0]";
    refused([
        (
            request(json!({"name": "a", "exactly": {"deviceClassName": "gpu", "count": -1}})),
            format!("{at}.exactly.count: Invalid value: -1: must be greater than zero"),
        ),
        (request(json!({"name": "A_", "exactly": {"deviceClassName": "gpu"}})), format!("{at}.name: Invalid value: \"A_\": a lowercase RFC 1123 label *")),
        (request(json!({"name": "a"})), format!("{at}: Required value: exactly one of `exactly` or `firstAvailable` is required")),
        (request(json!({"name": "a", "exactly": {"deviceClassName": ""}})), format!("{at}.exactly.deviceClassName: Required value")),
        (
            request(json!({"name": "a", "exactly": {"deviceClassName": "gpu", "allocationMode": "All", "count": 1}})),
            format!("{at}.exactly.count: Invalid value: 1: must not be specified when allocationMode is 'All'"),
        ),
        (claim(json!({"devices": {"requests": [exactly, exactly]}})), "spec.devices.requests[1].name: Duplicate value: \"a\"".to_owned()),
        (
            claim(json!({"devices": {"requests": [exactly], "constraints": [{"requests": ["b"], "matchAttribute": "d/x"}]}})),
            "spec.devices.constraints[0].requests[0]: Invalid value: \"b\": must be the name of a request in the claim *".to_owned(),
        ),
        (template(json!({"name": "x"})), "spec.metadata.name: Forbidden: cannot be set".to_owned()),
        (class(json!({"selectors": [{}]})), "spec.selectors[0].cel: Required value".to_owned()),
        (class(json!({"extendedResourceName": "x"})), "spec.extendedResourceName: Invalid value: \"x\": must be a valid extended resource name".to_owned()),
        (slice(json!({"driver": ""})), "spec.driver: Required value".to_owned()),
        (slice(json!({"pool": {"resourceSliceCount": 0}})), "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero".to_owned()),
        (slice(json!({"allNodes": true})), "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of *".to_owned()),
        (slice(json!({"nodeName": null})), "spec: Required value: exactly one of `nodeName`, *".to_owned()),
        (slice(json!({"devices": [{"name": "d"}, {"name": "d"}]})), "spec.devices[1].name: Duplicate value: \"d\"".to_owned()),
    ]);
    changed(
        request(exactly.clone()),
        "/spec/devices/requests/0/name",
        json!("b"),
        "spec: Invalid value: {*",
    );
    changed(
        slice(json!({})),
        "/spec/nodeName",
        json!("m"),
        "spec.nodeName: Invalid value: \"m\": field is immutable",
    );
}
