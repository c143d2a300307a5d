use super::*;
use crate::resource;
use serde_json::json;

fn of(version: &str, kind: &str, old: Option<&Value>, new: &Value) -> Vec<String> {
    let resource = resource::by_kind(version, kind).expect("a served kind");
    warnings(resource, old, new)
}

fn of_spec(spec: Value) -> Vec<String> {
    let pod = json!({"metadata": {"name": "p"}, "spec": spec});
    of("v1", "Pod", None, &pod)
}

#[test]
fn what_a_pod_hardly_means() {
    let port = |host: i64, ip: &str| json!({"containerPort": 80, "protocol": "TCP", "hostPort": host, "hostIP": ip});
    let ports = |list: Value| json!({"containers": [{"name": "c", "ports": list}]});
    let env = |list: Value| json!({"containers": [{"name": "c", "env": list}]});
    let hides = "spec.containers[0].env[1]: hides previous definition of \"X\", which may be dropped when using apply";
    for (spec, told) in [
        (json!({"nodeSelector": {"kubernetes.io/os": "linux"}}), None),
        (
            json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"}}),
            Some(
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            ),
        ),
        (
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "beta.kubernetes.io/arch"}]}]}}}}),
            Some(
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/arch is deprecated since v1.14; use \"kubernetes.io/arch\" instead",
            ),
        ),
        (
            json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"preference": {"matchExpressions": [{"key": "beta.kubernetes.io/arch"}]}}]}}}),
            Some(
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].key: beta.kubernetes.io/arch is deprecated since v1.14; use \"kubernetes.io/arch\" instead",
            ),
        ),
        (
            json!({"topologySpreadConstraints": [{"topologyKey": "failure-domain.beta.kubernetes.io/zone", "labelSelector": {}}]}),
            Some(
                "spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
            ),
        ),
        (
            json!({"topologySpreadConstraints": [{"topologyKey": "k"}]}),
            Some(
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
            ),
        ),
        (
            json!({"volumes": [{"name": "v", "gitRepo": {"repository": "r"}}]}),
            Some("spec.volumes[0].gitRepo: deprecated in v1.11"),
        ),
        (
            json!({"imagePullSecrets": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}),
            Some("spec.imagePullSecrets[2].name: duplicate name \"a\""),
        ),
        (
            json!({"hostAliases": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.1"}]}),
            Some("spec.hostAliases[1].ip: duplicate ip \"10.0.0.1\""),
        ),
        (
            json!({"terminationGracePeriodSeconds": -1}),
            Some(
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
            ),
        ),
        (
            json!({"containers": [{"name": "c", "resources": {"limits": {"memory": "128m"}}}]}),
            Some(
                "spec.containers[0].resources.limits[memory]: fractional byte value \"128m\" is invalid, must be an integer",
            ),
        ),
        (
            json!({"containers": [{"name": "c", "resources": {"limits": {"cpu": "128m"}}}]}),
            None,
        ),
        (
            env(json!([{"name": "X", "value": "a"}, {"name": "X", "value": "$(X)b"}])),
            None,
        ),
        (
            env(json!([{"name": "X", "value": "a"}, {"name": "X", "value": "$(X)"}])),
            Some(hides),
        ),
        (
            env(json!([{"name": "X", "value": "a"}, {"name": "X", "value": "b"}])),
            Some(hides),
        ),
        (
            env(json!([{"name": "X", "value": "a"}, {"name": "X", "valueFrom": {}}])),
            Some(hides),
        ),
        (
            ports(json!([port(0, ""), port(0, "")])),
            Some(
                "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
            ),
        ),
        (
            ports(json!([port(0, ""), port(81, "")])),
            Some(
                "spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]",
            ),
        ),
        (
            ports(json!([port(81, ""), port(81, "10.0.0.1")])),
            Some(
                "spec.containers[0].ports[1]: dangerously ambiguous port definition with spec.containers[0].ports[0]",
            ),
        ),
        (ports(json!([port(81, ""), port(82, "")])), None),
    ] {
        let found = of_spec(spec.clone());
        assert_eq!(found, told.into_iter().collect::<Vec<_>>(), "{spec}");
    }
}

#[test]
fn annotations_that_fields_replaced() {
    let annotations = json!({"scheduler.alpha.kubernetes.io/critical-pod": ""});
    let pod = json!({"metadata": {"name": "p", "annotations": annotations}});
    assert_eq!(
        of("v1", "Pod", None, &pod),
        [
            "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \"priorityClassName\" field instead"
        ]
    );
}

#[test]
fn names_that_become_hostnames() {
    let pod = json!({"metadata": {"name": "a.b"}});
    let found = of("v1", "Pod", None, &pod);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [a lowercase RFC 1123 label must"), "{found:?}");
    assert_eq!(of("v1", "ConfigMap", None, &pod), Vec::<String>::new());
}

#[test]
fn templates_are_judged_when_they_change() {
    let spec = json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"}});
    let why = "nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead";
    let object = |generation: i64, spec: Value| json!({"metadata": {"name": "n", "generation": generation}, "spec": spec});
    let template = json!({"template": {"spec": spec}});
    for (version, kind, body, path) in [
        (
            "apps/v1",
            "Deployment",
            template.clone(),
            "spec.template.spec",
        ),
        (
            "apps/v1",
            "DaemonSet",
            template.clone(),
            "spec.template.spec",
        ),
        ("batch/v1", "Job", template.clone(), "spec.template.spec"),
        (
            "batch/v1",
            "CronJob",
            json!({"jobTemplate": {"spec": template}}),
            "spec.jobTemplate.spec.template.spec",
        ),
    ] {
        let want = [format!("{path}.{why}")];
        let (first, second) = (object(1, body.clone()), object(2, body));
        assert_eq!(of(version, kind, None, &first), want);
        assert_eq!(of(version, kind, Some(&first), &second), want);
        assert_eq!(
            of(version, kind, Some(&first), &first),
            Vec::<String>::new()
        );
    }
    // Pods are changed often, and by programs.
    let pod = object(2, spec);
    assert_eq!(
        of("v1", "Pod", Some(&object(1, json!({}))), &pod),
        Vec::<String>::new()
    );
}

#[test]
fn what_no_node_starts_is_told_once() {
    let told = "hostNetwork is not supported by carob yet: no node starts a pod that asks for it";
    let spec = json!({"hostNetwork": true, "containers": [{"name": "c"}]});
    assert_eq!(of_spec(spec.clone()), [format!("spec.{told}")]);
    let mut set = json!({"metadata": {"name": "s"}, "spec": {"template": {"spec": spec}}});
    let of_set = |set: &Value| of("apps/v1", "ReplicaSet", None, set);
    assert_eq!(of_set(&set), [format!("spec.template.spec.{told}")]);
    // The Deployment's writer was told.
    set["metadata"]["ownerReferences"] = json!([{"kind": "Deployment", "name": "d"}]);
    assert_eq!(of_set(&set), Vec::<String>::new());
}

#[test]
fn many_faults_cost_little() {
    let ports: Vec<Value> = (0..40_000)
        .map(|_| json!({"containerPort": 80, "protocol": "TCP"}))
        .collect();
    let env: Vec<Value> = (0..40_000).map(|_| json!({"name": "X"})).collect();
    let told = of_spec(json!({"containers": [{"name": "c", "ports": ports, "env": env}]}));
    assert_eq!(told.len(), MOST);
}
