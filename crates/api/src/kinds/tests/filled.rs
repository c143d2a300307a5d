//! What is filled in, and rules of single fields of pods and of ingresses.

use super::*;

/// The pod with one container and this in its spec, with these in its metadata.
fn with(metadata: Value, more: Value) -> Value {
    let mut body = pod(json!({"containers": [{"name": "c", "image": "i"}]}));
    merge(&mut body["spec"], more);
    merge(&mut body["metadata"], metadata);
    body
}

/// The pod whose container also has this.
fn contains(more: Value) -> Value {
    let mut body = with(json!({}), json!({}));
    merge(&mut body["spec"]["containers"][0], more);
    body
}

/// The pod with an init container that also has this.
fn begins(more: Value) -> Value {
    let mut first = json!({"name": "first", "image": "i"});
    merge(&mut first, more);
    with(json!({}), json!({"initContainers": [first]}))
}

#[test]
fn patterns_of_conditions_hold_by_default() {
    let rules = json!([{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]);
    let job = job(json!({"podFailurePolicy": {"rules": rules}}));
    let spec = job["spec"].clone();
    let made = create(job).expect("a job");
    let pattern = "podFailurePolicy/rules/0/onPodConditions/0/status";
    assert_eq!(text(&made, &format!("/spec/{pattern}")), "True");
    let cron = json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": spec}}});
    let made = create(object("batch/v1", "CronJob", cron)).expect("a cron job");
    let at = format!("/spec/jobTemplate/spec/{pattern}");
    assert_eq!(text(&made, &at), "True");
}

#[test]
fn both_directions_of_scaling_are_completed() {
    let scaler = |behavior: Value| {
        let target = json!({"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"});
        let spec = json!({"scaleTargetRef": target, "maxReplicas": 3, "behavior": behavior});
        object(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({"spec": spec}),
        )
    };
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let own = json!({"type": "Pods", "value": 1, "periodSeconds": 60});
    let up = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [pods, percent]});
    let down = json!({"selectPolicy": "Max", "policies": [percent]});
    for (given, up, down) in [
        (json!({}), up.clone(), down.clone()),
        (
            json!({"scaleDown": {"selectPolicy": "Min", "policies": [own]}}),
            up,
            json!({"selectPolicy": "Min", "policies": [own]}),
        ),
        (
            json!({"scaleUp": {"stabilizationWindowSeconds": 5, "policies": [own]}}),
            json!({"stabilizationWindowSeconds": 5, "selectPolicy": "Max", "policies": [own]}),
            down,
        ),
    ] {
        let made = create(scaler(given.clone())).expect("an autoscaler");
        let behavior = &made["spec"]["behavior"];
        assert_eq!(
            *behavior,
            json!({"scaleUp": up, "scaleDown": down}),
            "{given}"
        );
    }
    refused_text([(
        scaler(json!({"scaleUp": {"policies": []}})),
        "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy",
    )]);
}

#[test]
fn a_gated_pod_says_so_from_birth() {
    let gates = json!({"schedulingGates": [{"name": "example.com/g"}]});
    let made = create(with(json!({}), gates)).expect("a pod");
    assert_eq!(
        made["status"]["conditions"],
        json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null, "lastTransitionTime": "2026-11-21T00:57:07Z"}])
    );
    let made = create(with(json!({}), json!({}))).expect("a pod");
    assert_eq!(made["status"].get("conditions"), None);
}

#[test]
fn label_keys_become_requirements() {
    let selector = json!({"matchLabels": {"app": "a"}});
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let term = json!({"topologyKey": "zone", "labelSelector": selector,
        "matchLabelKeys": ["hash", "absent"], "mismatchLabelKeys": ["tenant"]});
    let spread = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": selector, "matchLabelKeys": ["hash"]});
    let spec = json!({"affinity": {
            "podAffinity": {required: [term]},
            "podAntiAffinity": {preferred: [{"weight": 1, "podAffinityTerm": term}]}},
        "topologySpreadConstraints": [spread]});
    let labels = json!({"labels": {"hash": "h", "tenant": "t"}});
    let made = create(with(labels, spec)).expect("a pod");
    let hash = json!({"key": "hash", "operator": "In", "values": ["h"]});
    let tenant = json!({"key": "tenant", "operator": "NotIn", "values": ["t"]});
    for (at, wanted) in [
        (
            format!("/spec/affinity/podAffinity/{required}/0"),
            json!([hash, tenant]),
        ),
        (
            format!("/spec/affinity/podAntiAffinity/{preferred}/0/podAffinityTerm"),
            json!([hash, tenant]),
        ),
        (
            "/spec/topologySpreadConstraints/0".to_owned(),
            json!([hash]),
        ),
    ] {
        let found = made.pointer(&format!("{at}/labelSelector/matchExpressions"));
        assert_eq!(found, Some(&wanted), "{at}");
    }
    // What a change of the pod brings is not merged again.
    assert_eq!(update(&made, made.clone()).expect("valid"), made);
}

#[test]
fn resources_are_counted_in_thousandths() {
    let made = create(contains(
        json!({"resources": {"requests": {"cpu": "100u", "memory": "0.0001Ki"}, "limits": {"cpu": "1500001u"}}}),
    ))
    .expect("a pod");
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"requests": {"cpu": "1m", "memory": "103m"}, "limits": {"cpu": "1501m"}})
    );
    let quota = json!({"spec": {"hard": {"limits.cpu": "1n"}}});
    let made = create(object("v1", "ResourceQuota", quota)).expect("a quota");
    assert_eq!(made["spec"]["hard"]["limits.cpu"], "1m");
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
        "status": {"capacity": {"cpu": "1999999999n"}}});
    let made = create(node).expect("a node");
    assert_eq!(made["status"]["allocatable"]["cpu"], "2");
}

#[test]
fn what_disks_and_flow_schemas_get() {
    let disk = json!({"volumes": [{"name": "v", "azureDisk": {"diskName": "d", "diskURI": "u"}}]});
    let made = create(with(json!({}), disk)).expect("a pod");
    let disk = &made["spec"]["volumes"][0]["azureDisk"];
    assert_eq!(
        (text(disk, "/cachingMode"), text(disk, "/kind")),
        ("ReadWrite", "Shared")
    );
    let flow = json!({"spec": {"priorityLevelConfiguration": {"name": "a"}}});
    let made = create(object(
        "flowcontrol.apiserver.k8s.io/v1",
        "FlowSchema",
        flow,
    ));
    assert_eq!(
        made.expect("a flow schema")["spec"]["matchingPrecedence"],
        1000
    );
}

#[test]
fn single_fields_of_pods() {
    let sleep =
        |seconds: i64| contains(json!({"lifecycle": {"preStop": {"sleep": {"seconds": seconds}}}}));
    let restarts =
        |rule: Value| contains(json!({"restartPolicy": "Never", "restartPolicyRules": [rule]}));
    let codes = json!({"operator": "In", "values": [42]});
    let noted = |key: &str, value: &str| with(json!({"annotations": {key: value}}), json!({}));
    let armor = "container.apparmor.security.beta.kubernetes.io";
    let long = "a.".repeat(32) + "b";
    accepted([
        sleep(0),
        sleep(30),
        restarts(json!({"action": "Restart", "exitCodes": codes})),
        begins(json!({"restartPolicy": "OnFailure"})),
        noted(&format!("{armor}/c"), "runtime/default"),
        with(
            json!({"annotations": {"kubernetes.io/config.mirror": "x"}}),
            json!({"nodeName": "n"}),
        ),
        with(json!({}), json!({"hostnameOverride": "a.example"})),
    ]);
    let time = "must be non-negative and less than terminationGracePeriodSeconds (30)";
    let at = "spec.containers[0]";
    refused([
        (sleep(31), format!("{at}.lifecycle.preStop.sleep: Invalid value: 31: {time}")),
        (sleep(-1), format!("{at}.lifecycle.preStop.sleep: Invalid value: -1: {time}")),
        (
            contains(json!({"restartPolicy": "Sometimes"})),
            format!("{at}.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\""),
        ),
        (
            contains(json!({"restartPolicyRules": [{"action": "Restart", "exitCodes": codes}]})),
            format!("{at}.restartPolicy: Required value: must specify restartPolicy when restart rules are used"),
        ),
        (
            restarts(json!({"action": "Stop", "exitCodes": codes})),
            format!("{at}.restartPolicyRules[0].action: Unsupported value: \"Stop\": supported values: \"Restart\", \"RestartAllContainers\""),
        ),
        (
            restarts(json!({"action": "Restart"})),
            format!("{at}.restartPolicyRules[0].exitCodes: Required value: must be specified"),
        ),
        (
            begins(json!({"restartPolicy": "Never", "readinessProbe": {"exec": {"command": ["x"]}}})),
            "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always".to_owned(),
        ),
        (
            with(json!({}), json!({"hostUsers": false, "hostNetwork": true})),
            "spec.hostNetwork: Forbidden: when `hostUsers` is false".to_owned(),
        ),
        (
            noted("kubernetes.io/config.mirror", "x"),
            "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"x\": must set spec.nodeName if mirror pod annotation is set".to_owned(),
        ),
        (
            noted(&format!("{armor}/other"), "runtime/default"),
            format!("metadata.annotations[{armor}/other]: Invalid value: \"other\": container not found"),
        ),
        (
            noted(&format!("{armor}/c"), "none"),
            format!("metadata.annotations[{armor}/c]: Invalid value: \"none\": invalid AppArmor profile name: \"none\""),
        ),
        (
            with(json!({}), json!({"hostnameOverride": "A"})),
            "spec.hostnameOverride: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of*".to_owned(),
        ),
        (
            with(json!({}), json!({"hostnameOverride": long})),
            "spec.hostnameOverride: Too long: *".to_owned(),
        ),
        (
            with(json!({}), json!({"hostnameOverride": "a", "hostNetwork": true})),
            "spec.hostnameOverride: Forbidden: may not be specified when hostNetwork is true".to_owned(),
        ),
    ]);
}

#[test]
fn an_ingress_has_one_class() {
    let ingress = |annotation: &str| {
        let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
        let spec = json!({"ingressClassName": "nginx", "defaultBackend": backend});
        let annotations = json!({"kubernetes.io/ingress.class": annotation});
        let rest = json!({"metadata": {"annotations": annotations}, "spec": spec});
        object("networking.k8s.io/v1", "Ingress", rest)
    };
    accepted([ingress("nginx")]);
    refused_text([(
        ingress("other"),
        "annotations.kubernetes.io/ingress.class: Invalid value: \"other\": must match `ingressClassName` when both are specified",
    )]);
}

#[test]
fn annotations_that_stay_as_they_were_made() {
    let mirror = "kubernetes.io/config.mirror";
    let armor = "container.apparmor.security.beta.kubernetes.io/c";
    let made = |key: &str, value: &str| {
        with(
            json!({"annotations": {key: value}}),
            json!({"nodeName": "n"}),
        )
    };
    for (old, value, fault) in [
        (
            made(mirror, "x"),
            json!({}),
            format!("[{mirror}]: Forbidden: may not remove or update mirror pod annotation"),
        ),
        (
            made(mirror, "x"),
            json!({mirror: "y"}),
            format!("[{mirror}]: Forbidden: may not remove or update mirror pod annotation"),
        ),
        (
            made("a", "b"),
            json!({mirror: "x"}),
            format!("[{mirror}]: Forbidden: may not add mirror pod annotation"),
        ),
        (
            made(armor, "unconfined"),
            json!({}),
            format!("[{armor}]: Forbidden: may not remove or update AppArmor annotations"),
        ),
        (
            made("a", "b"),
            json!({armor: "unconfined"}),
            format!("[{armor}]: Forbidden: may not add AppArmor annotations"),
        ),
    ] {
        changed(
            old,
            "/metadata/annotations",
            value,
            &format!("metadata.annotations{fault}"),
        );
    }
}
