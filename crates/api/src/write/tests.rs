mod binding;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod};
use serde_json::{Value, json};

use super::*;
use crate::status::Details;

fn context() -> Context {
    Context {
        now: time::parse("2026-11-21T10:00:00.7Z").expect("time"),
        uid: "new-uid".into(),
        suffix: "x7x7x".into(),
        user: User::default(),
        manager: "test".into(),
    }
}

fn maps() -> &'static Resource {
    Resource::of::<ConfigMap>()
}

fn pods() -> &'static Resource {
    Resource::of::<Pod>()
}

fn map(metadata: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
}

fn stored_map() -> Value {
    map(
        json!({"name": "a", "namespace": "demo", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}),
    )
}

/// Messages of the causes.
fn causes(result: Result<Value, Status>) -> Vec<String> {
    let status = result.expect_err("refused");
    assert_eq!(status.code, 422, "{}", status.message);
    let details: Details = *status.details.expect("details");
    details
        .causes
        .iter()
        .map(|c| format!("{}: {}", c.field, c.message))
        .collect()
}

#[test]
fn a_new_object_gets_what_the_server_sets() {
    let body = map(
        json!({"name": "a", "namespace": "demo", "uid": "mine", "generation": 9,
        "deletionTimestamp": "2026-01-01T00:00:00Z", "creationTimestamp": "2020-01-01T00:00:00Z"}),
    );
    assert_eq!(
        create(maps(), body, &context()).expect("created")["metadata"],
        json!({"name": "a", "namespace": "demo", "uid": "new-uid", "creationTimestamp": "2026-11-21T10:00:00Z"})
    );
}

#[test]
fn names_are_generated() {
    let body = map(json!({"generateName": "g-", "namespace": "demo"}));
    let created = create(maps(), body, &context()).expect("created");
    assert_eq!(created["metadata"]["name"], "g-x7x7x");
    let body = map(json!({"generateName": "é".repeat(40), "namespace": "demo"}));
    assert_eq!(causes(create(maps(), body, &context())).len(), 2);
    let long = map(json!({"generateName": "a".repeat(100), "namespace": "demo"}));
    let created = create(maps(), long, &context()).expect("created");
    assert_eq!(created["metadata"]["name"].as_str().map(str::len), Some(63));
}

#[test]
fn metadata_is_validated() {
    let table = [
        (
            json!({"namespace": "demo"}),
            "metadata.name: Required value: name or generateName is required",
        ),
        (json!({"name": "a"}), "metadata.namespace: Required value"),
        (
            json!({"name": "a", "namespace": "demo", "finalizers": ["x"]}),
            "metadata.finalizers[0]: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified",
        ),
        (
            json!({"name": "a", "namespace": "demo", "annotations": {"a": "x".repeat(262_144)}}),
            "metadata.annotations: Too long: may not be more than 262144 bytes",
        ),
        (
            json!({"name": "a", "namespace": "demo", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}),
            "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty",
        ),
        (
            json!({"name": "a", "namespace": "demo", "ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "u"}]}),
            "metadata.ownerReferences: Invalid value: {\"apiVersion\":\"v1\",\"kind\":\"Event\",\"name\":\"e\",\"uid\":\"u\"}: /v1, Kind=Event is disallowed from being an owner",
        ),
    ];
    for (metadata, fault) in table {
        assert_eq!(causes(create(maps(), map(metadata), &context())), [fault]);
    }
    let body = map(json!({"name": "a", "namespace": "demo", "labels": {"-": "-"}}));
    assert!(
        causes(create(maps(), body, &context()))[0]
            .starts_with("metadata.labels: Invalid value: \"-\": name part must consist")
    );
    let body = map(json!({"name": "Bad_Name", "namespace": "demo"}));
    let status = create(maps(), body, &context()).expect_err("refused");
    assert_eq!(
        status.message,
        "ConfigMap \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    );
    let body = map(json!({"name": "rv", "namespace": "demo", "resourceVersion": "5"}));
    assert_eq!(
        create(maps(), body, &context()).expect_err("refused").code,
        500
    );
}

#[test]
fn bodies_are_placed() {
    let mut body = map(json!({}));
    assert_eq!(
        place(maps(), Some("demo"), Some("a"), &mut body)
            .expect_err("refused")
            .message,
        "the name of the object (a based on URL) was undeterminable: name must be provided"
    );
    give_name(&mut body, "a");
    place(maps(), Some("demo"), Some("a"), &mut body).expect("placed");
    assert_eq!(body["metadata"], json!({"name": "a", "namespace": "demo"}));
    let mut other = map(json!({"namespace": "other"}));
    assert_eq!(
        place(maps(), Some("demo"), None, &mut other)
            .expect_err("refused")
            .message,
        "the namespace of the provided object does not match the namespace sent on the request"
    );
    let mut renamed = map(json!({"name": "b"}));
    assert_eq!(
        place(maps(), Some("demo"), Some("a"), &mut renamed)
            .expect_err("refused")
            .message,
        "the name of the object (b) does not match the name on the URL (a)"
    );
    let mut node = json!({"metadata": {"name": "n", "namespace": "x"}});
    place(Resource::of::<Node>(), None, Some("n"), &mut node).expect("placed");
    assert_eq!(node["metadata"], json!({"name": "n"}));
}

#[test]
fn an_update_keeps_identity() {
    let new = map(
        json!({"name": "a", "namespace": "demo", "labels": {"l": "1"}, "resourceVersion": "7"}),
    );
    let updated = update(maps(), None, &stored_map(), new, &context()).expect("updated");
    assert_eq!(
        updated["metadata"],
        json!({"name": "a", "namespace": "demo", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"l": "1"}})
    );
    let other = map(json!({"name": "a", "namespace": "demo", "uid": "v"}));
    assert_eq!(
        update(maps(), None, &stored_map(), other, &context())
            .expect_err("refused")
            .code,
        409
    );
    let older =
        map(json!({"name": "a", "namespace": "demo", "creationTimestamp": "2020-01-01T00:00:00Z"}));
    assert_eq!(
        causes(update(maps(), None, &stored_map(), older, &context()))[0],
        "metadata.creationTimestamp: Invalid value: \"2020-01-01T00:00:00Z\": field is immutable"
    );
}

#[test]
fn versions_are_compared() {
    let body = |version: &str| map(json!({"name": "a", "resourceVersion": version}));
    assert!(check_version(maps(), &body(""), 7).is_ok());
    assert!(check_version(maps(), &body("7"), 7).is_ok());
    assert!(
        check_version(maps(), &body("6"), 7)
            .expect_err("stale")
            .is_conflict()
    );
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "demo"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "d"}}, "template": {"metadata": {"labels": {"a": "d"}},
            "spec": {"containers": [{"name": "one", "image": "one:v1"}]}}},
        "status": {"replicas": 5}})
}

#[test]
fn generation_counts_changes_of_the_spec() {
    let deployments = Resource::of::<Deployment>();
    let first = create(deployments, deployment(), &context()).expect("created");
    assert_eq!(first["metadata"]["generation"], 1);
    assert_eq!(first["status"].get("replicas"), None);
    let mut scaled = first.clone();
    scaled["spec"]["replicas"] = 2.into();
    scaled["status"] = json!({"replicas": 9});
    let second = update(deployments, None, &first, scaled, &context()).expect("updated");
    assert_eq!(second["metadata"]["generation"], 2);
    assert_eq!(second["status"].get("replicas"), None);
    let mut status = second.clone();
    status["spec"]["replicas"] = 7.into();
    status["status"] = json!({"replicas": 2});
    let third = update(deployments, Some("status"), &second, status, &context()).expect("updated");
    assert_eq!(third["metadata"]["generation"], 2);
    assert_eq!(
        (&third["spec"]["replicas"], &third["status"]["replicas"]),
        (&json!(2), &json!(2))
    );
    let mut labelled = third.clone();
    labelled["metadata"]["labels"] = json!({"x": "y"});
    let fourth = update(deployments, None, &third, labelled, &context()).expect("updated");
    assert_eq!(fourth["metadata"]["generation"], 2);
    assert_eq!(
        update(
            deployments,
            Some("nope"),
            &fourth,
            fourth.clone(),
            &context()
        )
        .expect_err("404")
        .code,
        404
    );
}

#[test]
fn scales() {
    let deployments = Resource::of::<Deployment>();
    let old = create(deployments, deployment(), &context()).expect("created");
    let mut read = scale(&old);
    assert_eq!(read["spec"], json!({"replicas": 1}));
    assert_eq!(read["status"], json!({"replicas": 0, "selector": "a=d"}));
    assert_eq!(read["metadata"]["uid"], "new-uid");
    read["spec"]["replicas"] = 3.into();
    let new = update_scale(deployments, &old, &read, &context()).expect("scaled");
    assert_eq!(
        (&new["spec"]["replicas"], &new["metadata"]["generation"]),
        (&json!(3), &json!(2))
    );
    read["spec"]["replicas"] = (-1).into();
    assert_eq!(
        causes(update_scale(deployments, &old, &read, &context())),
        ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]
    );
}

#[test]
fn what_the_schema_requires_must_be_there() {
    // A kind without rules of its own.
    let (version, kind) = ("authorization.k8s.io/v1", "SelfSubjectAccessReview");
    let selector = json!({"requirements": [{"key": "a"}]});
    let body = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"},
        "spec": {"resourceAttributes": {"labelSelector": selector}}});
    let resource = crate::resource::by_kind(version, kind).expect("served");
    assert_eq!(
        causes(create(resource, body, &context())),
        ["spec.resourceAttributes.labelSelector.requirements[0].operator: Required value"]
    );
}

#[test]
fn finalizers_hold_a_deletion() {
    let mut held = stored_map();
    held["metadata"]["finalizers"] = json!(["demo.example/hold"]);
    let options = DeleteOptions::default();
    let Ok(Deletion::Mark(marked)) = delete(maps(), &held, 1, &options, &context()) else {
        panic!("not marked");
    };
    assert_eq!(
        marked["metadata"]["deletionTimestamp"],
        "2026-11-21T10:00:00Z"
    );
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(
        delete(maps(), &marked, 1, &options, &context()),
        Ok(Deletion::Mark(marked.clone()))
    );
    let mut more = marked.clone();
    more["metadata"]["finalizers"] = json!(["demo.example/hold", "demo.example/more"]);
    assert_eq!(
        causes(update(maps(), None, &marked, more, &context())),
        ["metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"demo.example/more\"}";
            2]
    );
    let mut free = marked.clone();
    free["metadata"]["finalizers"] = Value::Null;
    let free = update(maps(), None, &marked, free, &context()).expect("updated");
    assert!(should_delete(maps(), &free));
    assert!(!should_delete(maps(), &marked) && !should_delete(maps(), &stored_map()));
    assert!(matches!(
        delete(maps(), &stored_map(), 1, &options, &context()),
        Ok(Deletion::Now(_))
    ));
}

#[test]
fn preconditions_and_propagation() {
    let wrong = DeleteOptions {
        uid: Some("v".into()),
        ..Default::default()
    };
    assert_eq!(
        delete(maps(), &stored_map(), 1, &wrong, &context())
            .expect_err("refused")
            .message,
        "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (v) does not match the UID in record (u). The object might have been deleted and then recreated"
    );
    let stale = DeleteOptions {
        resource_version: Some("4".into()),
        ..Default::default()
    };
    assert!(
        delete(maps(), &stored_map(), 5, &stale, &context())
            .expect_err("refused")
            .is_conflict()
    );
    for (policy, finalizer) in [
        (Propagation::Foreground, "foregroundDeletion"),
        (Propagation::Orphan, "orphan"),
    ] {
        let options = DeleteOptions {
            propagation: Some(policy),
            ..Default::default()
        };
        let Ok(Deletion::Mark(marked)) = delete(maps(), &stored_map(), 1, &options, &context())
        else {
            panic!("not marked");
        };
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
        let background = DeleteOptions {
            propagation: Some(Propagation::Background),
            ..Default::default()
        };
        assert!(matches!(
            delete(maps(), &marked, 1, &background, &context()),
            Ok(Deletion::Now(_))
        ));
    }
    let body = json!({"propagationPolicy": "Foreground", "gracePeriodSeconds": 4, "preconditions": {"uid": "u"}, "dryRun": ["All"]});
    assert_eq!(
        DeleteOptions::from_value(&body).expect("options"),
        DeleteOptions {
            grace_period_seconds: Some(4),
            propagation: Some(Propagation::Foreground),
            uid: Some("u".into()),
            resource_version: None,
            dry_run: true
        }
    );
    let refused = "DeleteOptions.meta.k8s.io \"\" is invalid: ";
    let unknown = "propagationPolicy: Unsupported value: \"Never\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"";
    let both = "propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set";
    for (body, why) in [
        (json!({"propagationPolicy": "Never"}), unknown),
        (
            json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
            both,
        ),
    ] {
        let status = DeleteOptions::from_value(&body).expect_err("refused");
        assert_eq!(
            (status.code, status.message),
            (422, format!("{refused}{why}"))
        );
    }
    for (orphan, propagation) in [
        (true, Propagation::Orphan),
        (false, Propagation::Background),
    ] {
        let options = DeleteOptions::from_value(&json!({"orphanDependents": orphan}));
        assert_eq!(options.expect("options").propagation, Some(propagation));
    }
}

fn pod(node: &str, phase: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "demo", "uid": "u", "generation": 2},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}, "status": {"phase": phase}})
}

#[test]
fn pods_end_with_grace() {
    let delete = |pod: &Value, grace| {
        let options = DeleteOptions {
            grace_period_seconds: grace,
            ..Default::default()
        };
        delete(pods(), pod, 1, &options, &context()).expect("deleted")
    };
    assert!(matches!(
        delete(&pod("", "Pending"), None),
        Deletion::Now(_)
    ));
    assert!(matches!(
        delete(&pod("n", "Succeeded"), None),
        Deletion::Now(_)
    ));
    assert!(matches!(
        delete(&pod("n", "Running"), Some(0)),
        Deletion::Now(_)
    ));
    let Deletion::Mark(marked) = delete(&pod("n", "Running"), None) else {
        panic!("gone")
    };
    assert_eq!(
        marked["metadata"],
        json!({"name": "p", "namespace": "demo", "uid": "u", "generation": 3,
            "deletionTimestamp": "2026-11-21T10:00:30Z", "deletionGracePeriodSeconds": 30})
    );
    // Only a shorter time counts.
    assert_eq!(delete(&marked, None), Deletion::Mark(marked.clone()));
    assert_eq!(delete(&marked, Some(60)), Deletion::Mark(marked.clone()));
    let Deletion::Mark(sooner) = delete(&marked, Some(5)) else {
        panic!("gone")
    };
    assert_eq!(
        sooner["metadata"]["deletionTimestamp"],
        "2026-11-21T10:00:05Z"
    );
    assert_eq!(sooner["metadata"]["generation"], 3);
    let Deletion::Now(last) = delete(&marked, Some(0)) else {
        panic!("still there")
    };
    assert_eq!(last["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(last["metadata"]["generation"], 3);
}

#[test]
fn namespaces_wait_for_their_contents() {
    let namespaces = Resource::of::<Namespace>();
    let old = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo", "uid": "u"},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
    let Ok(Deletion::Mark(marked)) =
        delete(namespaces, &old, 1, &DeleteOptions::default(), &context())
    else {
        panic!("not marked");
    };
    assert_eq!(marked["status"]["phase"], "Terminating");
    assert!(!should_delete(namespaces, &marked));
    let mut emptied = marked.clone();
    emptied["spec"] = json!({});
    let kept = update(namespaces, None, &marked, emptied.clone(), &context()).expect("updated");
    assert_eq!(kept["spec"], json!({"finalizers": ["kubernetes"]}));
    let done =
        update(namespaces, Some("finalize"), &marked, emptied, &context()).expect("finalized");
    assert!(should_delete(namespaces, &done));
}

#[test]
fn pods_of_jobs_stay_where_nobody_says_otherwise() {
    let jobs = crate::resource::by_kind("batch/v1", "Job").expect("jobs");
    let finalizers = |old: Value, propagation| {
        let options = DeleteOptions {
            propagation,
            ..DeleteOptions::default()
        };
        match delete(jobs, &old, 1, &options, &context()).expect("deleted") {
            Deletion::Mark(new) => new["metadata"]["finalizers"].clone(),
            Deletion::Now(_) => Value::Null,
        }
    };
    let plain = json!({"metadata": {"name": "j"}});
    let waiting = json!({"metadata": {"name": "j", "finalizers": ["foregroundDeletion"]}});
    assert_eq!(finalizers(plain.clone(), None), json!(["orphan"]));
    assert_eq!(finalizers(waiting, None), json!(["foregroundDeletion"]));
    assert!(finalizers(plain, Some(Propagation::Background)).is_null());
}

#[test]
fn odd_trees_do_no_harm() {
    for odd in [
        json!(null),
        json!([]),
        json!({"metadata": 1}),
        json!({"metadata": {"labels": 1, "finalizers": {}}}),
    ] {
        let _ = create(maps(), odd.clone(), &context());
        let _ = update(maps(), None, &odd, odd.clone(), &context());
        let _ = delete(pods(), &odd, 1, &DeleteOptions::default(), &context());
        let _ = scale(&odd);
        let _ = bind(pods(), &odd, 7, &odd, &context());
        assert!(!should_delete(maps(), &odd));
    }
}
