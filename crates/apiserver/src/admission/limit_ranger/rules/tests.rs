use super::*;
use serde_json::json;

fn range(limits: Value) -> LimitRange {
    serde_json::from_value(json!({"spec": {"limits": limits}})).unwrap()
}

fn pod(resources: &[Value]) -> Value {
    let containers = resources.iter().enumerate();
    let containers: Vec<Value> = containers
        .map(|(index, resources)| json!({"name": format!("c{index}"), "resources": resources}))
        .collect();
    json!({"metadata": {"name": "p"}, "spec": {"containers": containers}})
}

fn one(requests: Value, limits: Value) -> Value {
    pod(&[json!({"requests": requests, "limits": limits})])
}

#[test]
fn what_is_not_said_gets_the_defaults() {
    let defaults = range(json!([
        {"type": "Container", "default": {"memory": "64Mi", "cpu": "1"}, "defaultRequest": {"cpu": "100m"}},
        {"type": "Pod", "max": {"cpu": "9"}}]));
    let mut given = pod(&[
        json!({}),
        json!({"requests": {"cpu": "1m"}, "limits": {"cpu": "2"}}),
    ]);
    given["spec"]["initContainers"] =
        json!([{"name": "i", "resources": {"limits": {"memory": "1"}}}]);
    fill(&mut given, &defaults);
    let resources = |pointer: &str| given.pointer(pointer).unwrap()["resources"].clone();
    assert_eq!(
        resources("/spec/containers/0"),
        json!({"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "100m"}})
    );
    assert_eq!(
        resources("/spec/containers/1"),
        json!({"limits": {"cpu": "2", "memory": "64Mi"}, "requests": {"cpu": "1m"}})
    );
    assert_eq!(
        resources("/spec/initContainers/0"),
        json!({"limits": {"cpu": "1", "memory": "1"}, "requests": {"cpu": "100m"}})
    );
    assert_eq!(
        given["metadata"]["annotations"][ANNOTATION],
        "LimitRanger plugin set: cpu request for container c0; cpu, memory limit for container c0; \
         memory limit for container c1; cpu request for init container i; cpu limit for init container i"
    );
}

#[test]
fn who_says_all_is_left_as_it_is() {
    let bare = range(json!([{"type": "Container", "max": {"cpu": "1"}}]));
    let full = range(json!([{"type": "Container", "default": {"cpu": "1"}}]));
    for (given, range) in [
        (pod(&[json!({})]), bare),
        (one(json!({}), json!({"cpu": "2"})), full),
    ] {
        let mut made = given.clone();
        fill(&mut made, &range);
        assert_eq!(made, given);
    }
}

#[test]
fn a_container_between_its_bounds() {
    let min = json!({"type": "Container", "min": {"cpu": "100m"}});
    let max = json!({"type": "Container", "max": {"memory": "1Gi"}});
    let ratio = json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "1500m"}});
    let cpu = |amount: &str| json!({"cpu": amount});
    let memory = |amount: &str| json!({"memory": amount});
    let none = json!({});
    for (limit, requests, limits, fault) in [
        (&min, &cpu("100m"), &none, None),
        (
            &min,
            &none,
            &none,
            Some("minimum cpu usage per Container is 100m.  No request is specified"),
        ),
        (
            &min,
            &cpu("1m"),
            &none,
            Some("minimum cpu usage per Container is 100m, but request is 1m"),
        ),
        (
            &min,
            &cpu("0.2"),
            &cpu("50m"),
            Some("minimum cpu usage per Container is 100m, but limit is 50m"),
        ),
        (&max, &none, &memory("1024Mi"), None),
        (
            &max,
            &none,
            &none,
            Some("maximum memory usage per Container is 1Gi.  No limit is specified"),
        ),
        (
            &max,
            &none,
            &memory("2Gi"),
            Some("maximum memory usage per Container is 1Gi, but limit is 2Gi"),
        ),
        (
            &max,
            &memory("2Gi"),
            &memory("1Gi"),
            Some("maximum memory usage per Container is 1Gi, but request is 2Gi"),
        ),
        (&ratio, &cpu("2"), &cpu("3"), None),
        (
            &ratio,
            &cpu("1"),
            &cpu("2"),
            Some(
                "cpu max limit to request ratio per Container is 1500m, but provided ratio is 2.000000",
            ),
        ),
        (
            &ratio,
            &cpu("0"),
            &cpu("2"),
            Some(
                "cpu max limit to request ratio per Container is 1500m, but no request is specified or request is 0",
            ),
        ),
        (
            &ratio,
            &cpu("1"),
            &none,
            Some(
                "cpu max limit to request ratio per Container is 1500m, but no limit is specified or limit is 0",
            ),
        ),
    ] {
        let pod = one(requests.clone(), limits.clone());
        let found = pod_faults(&pod, &range(json!([limit])));
        assert_eq!(
            found,
            fault.map(str::to_owned).into_iter().collect::<Vec<_>>(),
            "{pod}"
        );
    }
}

#[test]
fn all_faults_of_all_containers_are_told() {
    let both = range(json!([{"type": "Container", "min": {"cpu": "2", "memory": "1"}}]));
    let mut given = pod(&[json!({"requests": {"cpu": "1", "memory": "1"}})]);
    given["spec"]["initContainers"] =
        json!([{"name": "i", "resources": {"requests": {"cpu": "3"}}}]);
    assert_eq!(
        pod_faults(&given, &both),
        [
            "minimum cpu usage per Container is 2, but request is 1",
            "minimum memory usage per Container is 1.  No request is specified",
        ]
    );
}

#[test]
fn a_whole_pod() {
    let requests = |cpu: &str| json!({"requests": {"cpu": cpu}});
    let init = |cpu: &str, policy: Value| json!({"name": "i", "restartPolicy": policy, "resources": requests(cpu)});
    for (init, whole_pod, sum) in [
        (json!([]), json!(null), "3"),
        // The start takes more.
        (json!([init("4", json!(null))]), json!(null), "4"),
        (json!([init("1", json!(null))]), json!(null), "3"),
        // It runs beside the others.
        (json!([init("1", json!("Always"))]), json!(null), "4"),
        (
            json!([init("1", json!("Always")), init("5", json!(null))]),
            json!(null),
            "6",
        ),
        (
            json!([init("5", json!(null)), init("1", json!("Always"))]),
            json!(null),
            "5",
        ),
        (json!([]), requests("7"), "7"),
    ] {
        let mut pod = pod(&[requests("1"), requests("2")]);
        pod["spec"]["initContainers"] = init.clone();
        pod["spec"]["resources"] = whole_pod;
        let max = range(json!([{"type": "Pod", "min": {"cpu": "100"}}]));
        let want = format!("minimum cpu usage per Pod is 100, but request is {sum}");
        assert_eq!(pod_faults(&pod, &max), [want], "{init}");
    }
}

#[test]
fn a_claim_between_its_bounds() {
    let limits = range(json!([
        {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}},
        {"type": "Pod", "max": {"storage": "1"}}]));
    for (storage, fault) in [
        (json!({"storage": "1Gi"}), None),
        (json!({"storage": "2Gi"}), None),
        (
            json!({"storage": "512Mi"}),
            Some("minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 512Mi"),
        ),
        (
            json!({"storage": "3Gi"}),
            Some("maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"),
        ),
    ] {
        let claim = json!({"spec": {"resources": {"requests": storage}}});
        let found = claim_faults(&claim, &limits);
        assert_eq!(
            found,
            fault.map(str::to_owned).into_iter().collect::<Vec<_>>(),
            "{claim}"
        );
    }
    assert_eq!(
        claim_faults(&json!({"spec": {}}), &limits),
        [
            "minimum storage usage per PersistentVolumeClaim is 1Gi.  No request is specified",
            "maximum storage usage per PersistentVolumeClaim is 2Gi.  No request is specified",
        ]
    );
}

#[test]
fn how_many_amounts_a_range_has_for_a_pod() {
    let range = range(json!([
        {"type": "Container", "default": {"cpu": "1"}, "max": {"cpu": "2", "memory": "1Gi"}},
        {"type": "Pod", "min": {"cpu": "1"}}]));
    let containers = |count: usize| json!(vec![json!({"name": "c"}); count]);
    for (spec, amounts) in [
        (json!(null), 1),
        (json!({"containers": containers(1)}), 4),
        (
            json!({"containers": containers(2), "initContainers": containers(3)}),
            16,
        ),
        (json!({"containers": {"a": 1}, "initContainers": "b"}), 1),
    ] {
        assert_eq!(
            amounts_for(&json!({"spec": spec}), &range),
            amounts,
            "{spec}"
        );
    }
}
