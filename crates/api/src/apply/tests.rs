use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::{Value, json};

use super::*;
use crate::resource::Resource;
use crate::write;

/// Applies, and makes what is stored.
fn store(
    resource: &Resource,
    old: Option<&Value>,
    wanted: Value,
    manager: &str,
    force: bool,
) -> Result<Value, Status> {
    write::apply(resource, None, old, wanted, force, &by(manager))
}

/// `manager operation fields` of each entry.
fn owners(object: &Value) -> Vec<(String, Value)> {
    let entries = object["metadata"]["managedFields"].as_array();
    entries
        .into_iter()
        .flatten()
        .map(|entry| {
            let text = |field: &str| entry[field].as_str().unwrap_or_default();
            let who = format!(
                "{} {} {}",
                text("manager"),
                text("operation"),
                text("subresource")
            );
            (who.trim_end().to_owned(), entry["fieldsV1"].clone())
        })
        .collect()
}

fn owner(who: &str, fields: Value) -> (String, Value) {
    (who.to_owned(), fields)
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s", "namespace": "demo"}, "data": data})
}

/// The steps that a real server was put through, with what it said.
#[test]
fn managers_share_a_map() {
    let maps = Resource::of::<ConfigMap>();
    let first = store(maps, None, map(json!({"a": "1", "b": "1"})), "one", false).expect("new");
    assert_eq!(
        owners(&first),
        [owner(
            "one Apply",
            json!({"f:data": {"f:a": {}, "f:b": {}}})
        )]
    );

    let conflict = store(maps, Some(&first), map(json!({"b": "2"})), "two", false);
    assert_eq!(
        conflict.expect_err("conflict").to_value(),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "Apply failed with 1 conflict: conflict with \"one\": .data.b", "reason": "Conflict",
            "details": {"causes": [{"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.b"}]},
            "code": 409})
    );
    // The same value is no conflict: both own it then.
    let shared = store(maps, Some(&first), map(json!({"b": "1"})), "two", false).expect("shared");
    assert_eq!(owners(&shared).len(), 2);

    let forced = store(
        maps,
        Some(&first),
        map(json!({"b": "2", "c": "3"})),
        "two",
        true,
    )
    .expect("forced");
    assert_eq!(forced["data"], json!({"a": "1", "b": "2", "c": "3"}));
    assert_eq!(
        owners(&forced),
        [
            owner("one Apply", json!({"f:data": {"f:a": {}}})),
            owner("two Apply", json!({"f:data": {"f:b": {}, "f:c": {}}})),
        ]
    );

    let dropped = store(maps, Some(&forced), map(json!({})), "one", false).expect("dropped");
    assert_eq!(dropped["data"], json!({"b": "2", "c": "3"}));
    assert_eq!(
        owners(&dropped),
        [
            owner("one Apply", json!({"f:data": {}})),
            owner("two Apply", json!({"f:data": {"f:b": {}, "f:c": {}}})),
        ]
    );

    let mut updated = map(json!({"d": "4"}));
    track(
        Target::new(maps, None),
        Some(&dropped),
        &mut updated,
        &by("three"),
    );
    assert_eq!(
        owners(&updated),
        [
            owner("one Apply", json!({"f:data": {}})),
            owner("three Update", json!({"f:data": {"f:d": {}}})),
        ]
    );
    let taken = apply(
        Target::new(maps, None),
        Some(&updated),
        map(json!({"d": "5", "e": "6"})),
        false,
        &by("one"),
    );
    assert_eq!(
        taken.expect_err("conflict").message,
        "Apply failed with 1 conflict: conflict with \"three\" using v1: .data.d"
    );
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "demo"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "d"}}, "template": {
            "metadata": {"labels": {"a": "d"}},
            "spec": {"containers": [
                {"name": "one", "image": "one:v1", "ports": [{"containerPort": 80}]},
                {"name": "two", "image": "two:v1"}]}}}})
}

fn one() -> Value {
    json!({".": {}, "f:image": {}, "f:name": {},
        "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}})
}

fn spec(containers: Value) -> Value {
    json!({"f:spec": {"f:replicas": {}, "f:selector": {}, "f:template": {
        "f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:containers": containers}}}})
}

#[test]
fn managers_share_a_deployment() {
    let deployments = Resource::of::<Deployment>();
    let first = store(deployments, None, deployment(), "one", false).expect("new");
    let two = json!({".": {}, "f:image": {}, "f:name": {}});
    let both = json!({"k:{\"name\":\"one\"}": one(), "k:{\"name\":\"two\"}": two});
    assert_eq!(owners(&first), [owner("one Apply", spec(both))]);

    // A patch takes one field over.
    let mut patched = first.clone();
    patched["spec"]["template"]["spec"]["containers"][1]["image"] = "two:v2".into();
    track(
        Target::new(deployments, None),
        Some(&first),
        &mut patched,
        &by("unknown"),
    );
    let two = json!({".": {}, "f:name": {}});
    let mine = json!({"k:{\"name\":\"one\"}": one(), "k:{\"name\":\"two\"}": two});
    let theirs = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"two\"}": {"f:image": {}}}}}}});
    assert_eq!(
        owners(&patched),
        [
            owner("one Apply", spec(mine)),
            owner("unknown Update", theirs)
        ]
    );

    // A removed container is nobody's.
    let mut removed = patched.clone();
    let containers = removed["spec"]["template"]["spec"]["containers"].as_array_mut();
    containers.expect("containers").truncate(1);
    track(
        Target::new(deployments, None),
        Some(&patched),
        &mut removed,
        &by("unknown"),
    );
    let left = json!({"k:{\"name\":\"one\"}": one()});
    assert_eq!(owners(&removed), [owner("one Apply", spec(left))]);

    // What its manager no longer wants goes, with the defaults in it.
    let mut less = deployment();
    less["spec"]["template"]["spec"]["containers"]
        .as_array_mut()
        .expect("containers")
        .truncate(1);
    let shrunk = store(deployments, Some(&first), less, "one", false).expect("shrunk");
    let containers = shrunk["spec"]["template"]["spec"]["containers"].as_array();
    assert_eq!(containers.map(Vec::len), Some(1));
    assert_eq!(shrunk["metadata"]["generation"], 2);
    let again = store(deployments, Some(&first), deployment(), "one", false).expect("again");
    assert_eq!(again, first);
}

#[test]
fn updates_own_what_they_add() {
    let pods = Resource::of::<Pod>();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "demo", "uid": "u", "generation": 1, "labels": {"n": "p"}},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i:v1",
            "imagePullPolicy": "IfNotPresent", "resources": {}, "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File"}],
            "dnsPolicy": "ClusterFirst", "securityContext": {}},
        "status": {"phase": "Pending"}});
    track(Target::new(pods, None), None, &mut pod, &by("unknown"));
    let created = json!({"f:metadata": {"f:labels": {".": {}, "f:n": {}}},
        "f:spec": {"f:automountServiceAccountToken": {}, "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {},
            "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {}, "f:terminationMessagePath": {},
            "f:terminationMessagePolicy": {}}}, "f:dnsPolicy": {}, "f:securityContext": {}}});
    assert_eq!(owners(&pod), [owner("unknown Update", created.clone())]);

    let old = pod.clone();
    pod["status"] =
        json!({"phase": "Running", "podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.1"}]});
    pod["spec"]["nodeName"] = "x".into();
    track(
        Target::new(pods, Some("status")),
        Some(&old),
        &mut pod,
        &by("unknown"),
    );
    let status = json!({"f:status": {"f:phase": {}, "f:podIP": {},
        "f:podIPs": {".": {}, "k:{\"ip\":\"10.1.1.1\"}": {".": {}, "f:ip": {}}}}});
    assert_eq!(
        owners(&pod),
        [
            owner("unknown Update", created),
            owner("unknown Update status", status)
        ]
    );
}

#[test]
fn what_nobody_recorded_was_there_before_the_first_apply() {
    let maps = Resource::of::<ConfigMap>();
    let mut made = write::create(maps, map(json!({"a": "1"})), &by("kubectl")).expect("created");
    assert_eq!(
        owners(&made),
        [owner(
            "kubectl Update",
            json!({"f:data": {".": {}, "f:a": {}}})
        )]
    );
    let conflict = store(maps, Some(&made), map(json!({"a": "2"})), "one", false);
    assert_eq!(
        conflict.expect_err("conflict").message,
        "Apply failed with 1 conflict: conflict with \"kubectl\" using v1: .data.a"
    );

    made["metadata"]["managedFields"] = json!([{}]);
    let stored = write::create(maps, map(json!({"a": "1"})), &by("kubectl")).expect("created");
    let made = write::update(maps, None, &stored, made, &by("kubectl")).expect("reset");
    assert_eq!(owners(&made), []);
    let mut edited = made.clone();
    edited["data"]["a"] = "1.1".into();
    let edited = write::update(maps, None, &made, edited, &by("edit")).expect("edited");
    assert_eq!(owners(&edited), [], "there is still nobody known");

    let conflict = store(maps, Some(&made), map(json!({"a": "2"})), "one", false);
    assert_eq!(
        conflict.expect_err("conflict").message,
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.a"
    );
    let applied = store(maps, Some(&made), map(json!({"b": "2"})), "one", false).expect("applied");
    let before = json!({"f:data": {".": {}, "f:a": {}}});
    let mine = json!({"f:data": {"f:b": {}}});
    assert_eq!(
        owners(&applied),
        [
            owner("one Apply", mine),
            owner("before-first-apply Update", before.clone())
        ]
    );
    let mut edited = applied.clone();
    edited["data"]["b"] = "3".into();
    let edited = write::update(maps, None, &applied, edited, &by("edit")).expect("edited");
    assert_eq!(
        owners(&edited),
        [
            owner("before-first-apply Update", before),
            owner("edit Update", json!({"f:data": {"f:b": {}}}))
        ]
    );
    let unknown = json!({"metadata": {"name": "s"}, "extra": 1});
    assert_eq!(
        store(maps, Some(&made), unknown, "one", true)
            .expect_err("refused")
            .code,
        500
    );
}

#[test]
fn finalizers_are_a_set() {
    let maps = Resource::of::<ConfigMap>();
    let with = |finalizers: Value| {
        let mut object = map(json!({"k": "v"}));
        object["metadata"]["finalizers"] = finalizers;
        object
    };
    let first = store(maps, None, with(json!(["a.io/x"])), "one", false).expect("new");
    let second = store(maps, Some(&first), with(json!(["a.io/y"])), "two", false).expect("second");
    assert_eq!(
        second["metadata"]["finalizers"],
        json!(["a.io/x", "a.io/y"])
    );
    let third = store(maps, Some(&second), map(json!({"k": "v"})), "one", false).expect("third");
    assert_eq!(third["metadata"]["finalizers"], json!(["a.io/y"]));
    assert_eq!(
        owners(&third)[1],
        owner(
            "two Apply",
            json!({"f:data": {"f:k": {}}, "f:metadata": {"f:finalizers": {"v:\"a.io/y\"": {}}}})
        )
    );
}

#[test]
fn many_updaters_are_put_together() {
    let maps = Resource::of::<ConfigMap>();
    let mut object = map(json!({}));
    object["data"]["k"] = "v".into();
    track(Target::new(maps, None), None, &mut object, &by("first"));
    for number in 0..15 {
        let old = object.clone();
        object["data"][format!("k{number}")] = "v".into();
        track(
            Target::new(maps, None),
            Some(&old),
            &mut object,
            &by(&format!("m{number:02}")),
        );
    }
    let owners = owners(&object);
    assert_eq!(owners.len(), 10);
    assert!(
        owners
            .iter()
            .any(|(who, _)| who == "ancient-changes Update")
    );
}

#[test]
fn odd_input_does_no_harm() {
    let maps = Resource::of::<ConfigMap>();
    let own = json!({"metadata": {"managedFields": []}});
    assert_eq!(
        apply(Target::new(maps, None), None, own, false, &by("one"))
            .expect_err("refused")
            .code,
        400
    );
    let odd = json!({"metadata": {"managedFields": [1, {"fieldsV1": {"f": {}, "é": 1, "k:x": {}, "f:data": [], ".": 1}}, {"operation": "Update", "fieldsV1": {"f:data": {"i:0": {}, "v:1": {}}}}]}, "data": []});
    for wanted in [
        json!(null),
        json!([]),
        json!({"metadata": 1, "data": {"a": null}}),
        odd.clone(),
    ] {
        for old in [json!(null), json!({"data": {"a": {"b": 1}}}), odd.clone()] {
            let _ = apply(
                Target::new(maps, None),
                Some(&old),
                wanted.clone(),
                true,
                &by("one"),
            );
            let mut new = wanted.clone();
            track(
                Target::new(maps, Some("status")),
                Some(&old),
                &mut new,
                &by("one"),
            );
        }
    }
}

/// Comparing each item with each other one would take hours.
#[test]
fn lists_as_long_as_a_body_are_merged() {
    let maps = Resource::of::<ConfigMap>();
    let names = |range: std::ops::Range<u32>| -> Vec<String> {
        range.map(|i| format!("example.com/f{i}")).collect()
    };
    let holding = |finalizers: Vec<String>| {
        let mut object = map(json!({}));
        object["metadata"]["finalizers"] = json!(finalizers);
        object
    };
    let old = holding(names(0..50_000));
    let first =
        apply(Target::new(maps, None), None, old.clone(), false, &by("a")).expect("applied");
    let wanted = holding(names(25_000..75_000));
    let second = apply(
        Target::new(maps, None),
        Some(&first),
        wanted,
        false,
        &by("a"),
    )
    .expect("applied");
    assert_eq!(
        second["metadata"]["finalizers"],
        json!(names(25_000..75_000))
    );
    let patch = json!({"metadata": {"finalizers": names(25_000..75_000)}});
    let patched = crate::patch::strategic(maps.schema(), old, patch).expect("patched");
    let merged = patched["metadata"]["finalizers"].as_array().expect("list");
    assert_eq!(merged.len(), 75_000);
}
