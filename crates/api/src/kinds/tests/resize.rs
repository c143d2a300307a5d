//! Rules of the pods' subresource `resize`.

use super::*;

fn resize(old: &Value, new: Value) -> Result<Value, Status> {
    write::update(resource_of(old), Some("resize"), old, new, &context())
}

fn resources(cpu: &str, limit: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": "64Mi"}, "limits": {"cpu": limit, "memory": "128Mi"}})
}

/// A stored pod with two containers, a sidecar and an init container.
fn stored() -> Value {
    let container =
        |name: &str| json!({"name": name, "image": "i", "resources": resources("100m", "200m")});
    let mut sidecar = container("side");
    sidecar["restartPolicy"] = "Always".into();
    create(pod(json!({
        "containers": [container("a"), container("b")],
        "initContainers": [sidecar, container("init")],
    })))
    .expect("valid")
}

/// The stored pod with this in place of what is at the pointer.
fn but(pod: &Value, pointer: &str, value: Value) -> Value {
    let mut pod = pod.clone();
    *pod.pointer_mut(pointer).expect("a field") = value;
    pod
}

#[test]
fn what_is_resized_and_what_is_left() {
    let old = stored();
    let mut new = old.clone();
    new["spec"]["containers"][1]["resources"] = resources("300m", "1");
    new["spec"]["initContainers"][0]["resources"]["limits"]["memory"] = "256Mi".into();
    let wanted = new.clone();
    // All else belongs to other ways of writing.
    new["spec"]["containers"][0]["image"] = "other".into();
    new["spec"]["nodeSelector"] = json!({"a": "b"});
    new["metadata"]["labels"] = json!({"a": "b"});
    new["metadata"]["annotations"] = json!({"a": "b"});
    new["status"]["phase"] = "Failed".into();
    let resized = resize(&old, new).expect("valid");
    assert_eq!(resized["spec"], wanted["spec"]);
    assert_eq!(resized["status"], old["status"]);
    assert_eq!(resized["metadata"]["labels"], old["metadata"]["labels"]);
    assert_eq!(
        resized["metadata"]["annotations"],
        old["metadata"]["annotations"]
    );
    assert_eq!(resized["metadata"]["generation"], 2);
    // What changes nothing counts for nothing.
    let again = resize(&resized, resized.clone()).expect("valid");
    assert_eq!(again["metadata"]["generation"], 2);
    // An amount may come, though none may go.
    let mut old = old;
    for list in ["requests", "limits"] {
        let held = old["spec"]["containers"][0]["resources"][list].as_object_mut();
        held.expect("a list").remove("memory");
    }
    let mut new = old.clone();
    new["spec"]["containers"][0]["resources"]["limits"]["memory"] = "1Gi".into();
    let resized = resize(&old, new).expect("valid");
    let held = &resized["spec"]["containers"][0]["resources"];
    assert_eq!(held["limits"]["memory"], "1Gi");
    assert_eq!(held["requests"]["memory"], "1Gi");
    // By any other way nothing of it may change.
    let old = stored();
    let new = but(&old, "/spec/containers/0/resources", resources("300m", "1"));
    let found = causes(update(&old, new));
    assert!(
        found[0].starts_with("spec: Forbidden: pod updates may not change"),
        "{found:#?}"
    );
}

#[test]
fn what_may_not_be_resized() {
    let old = stored();
    let list = "/spec/containers/0/resources";
    let mut one = json!(old["spec"]["containers"][0]);
    one["name"] = "c".into();
    let mut swapped = old.clone();
    swapped["spec"]["containers"]
        .as_array_mut()
        .expect("a list")
        .swap(0, 1);
    let fewer = but(
        &old,
        "/spec/containers",
        json!([old["spec"]["containers"][0]]),
    );
    let more = but(
        &old,
        "/spec/initContainers",
        json!([
            old["spec"]["initContainers"][0],
            old["spec"]["initContainers"][1],
            one
        ]),
    );
    let policy = json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]);
    let mut policed = old.clone();
    policed["spec"]["containers"][0]["resizePolicy"] = policy.clone();
    let mut policed_sidecar = old.clone();
    policed_sidecar["spec"]["initContainers"][0]["resizePolicy"] = policy;
    let mut all_equal = old.clone();
    for list in ["containers", "initContainers"] {
        for at in 0..2 {
            let held = &mut all_equal["spec"][list][at]["resources"];
            held["requests"] = held["limits"].clone();
        }
    }
    for (new, expected) in [
        (
            fewer,
            vec!["spec.containers: Forbidden: containers may not be added or removed on resize"],
        ),
        (
            more,
            vec![
                "spec.initContainers: Forbidden: initContainers may not be added or removed on resize",
            ],
        ),
        (
            swapped,
            vec![
                "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize",
                "spec.containers[1].name: Forbidden: containers may not be renamed or reordered on resize",
            ],
        ),
        (
            but(
                &old,
                list,
                json!({"limits": {"cpu": "200m", "memory": "128Mi"}, "requests": {"cpu": "100m"}}),
            ),
            // What is limited and not requested is requested in full: it is never gone.
            vec![],
        ),
        (
            but(
                &old,
                list,
                json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}),
            ),
            vec![
                "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
            ],
        ),
        (
            but(
                &old,
                list,
                json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}),
            ),
            vec![
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
                "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
            ],
        ),
        (
            but(&old, &format!("{list}/requests/cpu"), json!("300m")),
            vec![
                "spec.containers[0].resources.requests: Invalid value: \"300m\": must be less than or equal to cpu limit of 200m",
            ],
        ),
        (
            {
                let mut new = old.clone();
                for kind in ["requests", "limits"] {
                    new["spec"]["containers"][0]["resources"][kind]["ephemeral-storage"] =
                        "1Gi".into();
                }
                new
            },
            vec!["spec: Forbidden: only cpu and memory resources are mutable"],
        ),
        (
            policed,
            vec!["spec: Forbidden: only cpu and memory resources are mutable"],
        ),
        (
            policed_sidecar,
            vec![
                "spec: Forbidden: only cpu and memory resources for sidecar containers are mutable",
            ],
        ),
        (
            but(
                &old,
                "/spec/initContainers/1/resources",
                resources("150m", "200m"),
            ),
            vec!["spec: Forbidden: resources for non-sidecar init containers are immutable"],
        ),
        (
            all_equal,
            vec![
                "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
                "spec: Forbidden: resources for non-sidecar init containers are immutable",
            ],
        ),
    ] {
        match expected.as_slice() {
            [] => drop(resize(&old, new).expect("valid")),
            expected => assert_eq!(causes(resize(&old, new)), expected),
        }
    }
}

#[test]
fn which_pods_are_not_resized() {
    let new = |old: &Value| {
        but(
            old,
            "/spec/containers/0/resources",
            resources("150m", "200m"),
        )
    };
    let mut mirror = stored();
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    let mut windows = stored();
    windows["spec"]["os"] = json!({"name": "windows"});
    let mut whole = stored();
    whole["spec"]["resources"] = json!({"limits": {"cpu": "2"}});
    for (old, why) in [
        (mirror, ": Forbidden: static pods cannot be resized"),
        (windows, ": Forbidden: windows pods cannot be resized"),
        (
            whole,
            ": Forbidden: pods with pod-level resources cannot be resized",
        ),
    ] {
        assert_eq!(causes(resize(&old, new(&old))), [why]);
    }
    let mut running = stored();
    running["status"]["containerStatuses"] = json!([
        {"name": "a", "state": {"waiting": {}}},
        {"name": "b", "state": {"running": {"startedAt": null}}},
    ]);
    assert_eq!(
        causes(resize(&running, new(&running))),
        ["spec: Forbidden: Pod running on node without support for resize"]
    );
    running["status"]["containerStatuses"][1]["resources"] = resources("100m", "200m");
    resize(&running, new(&running)).expect("valid");
    // The uid names which pod is meant.
    let other = but(&new(&running), "/metadata/uid", json!("other"));
    assert_eq!(resize(&running, other).expect_err("another pod").code, 409);
}
