use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use serde_json::json;

use super::*;
use crate::resource::Resource;
use crate::write;

fn at(manager: &str, second: u8) -> Context {
    Context {
        now: time::parse(&format!("2026-11-21T10:00:{second:02}Z")).expect("time"),
        ..crate::apply::by(manager)
    }
}

fn maps() -> &'static Resource {
    Resource::of::<ConfigMap>()
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s", "namespace": "demo"}, "data": data})
}

fn stored() -> Value {
    write::create(maps(), map(json!({"a": "1"})), &at("one", 0)).expect("created")
}

fn updated(old: &Value, change: Value, context: &Context) -> Value {
    let mut new = old.clone();
    crate::patch::merge(&mut new, change);
    write::update(maps(), None, old, new, context).expect("updated")
}

/// `manager operation version subresource second fields` of each entry, without what is empty.
fn lines(object: &Value) -> Vec<String> {
    let entries = managers::managed_fields(object).iter();
    let line = |entry: &Value| {
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        assert_eq!(text("fieldsType"), "FieldsV1");
        let names = ["manager", "operation", "apiVersion", "subresource"].map(text);
        let second = text("time").get(17..19).unwrap_or("-");
        let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
        format!("{} {second} {}", names.join(" "), entry["fieldsV1"])
    };
    entries.map(line).collect()
}

#[test]
fn times_are_those_of_the_last_change() {
    let made = stored();
    let a = r#"{"f:data":{".":{},"f:a":{}}}"#;
    assert_eq!(lines(&made), [format!("one Update v1 00 {a}")]);
    // Another value of the same field.
    let changed = updated(&made, json!({"data": {"a": "2"}}), &at("one", 1));
    assert_eq!(lines(&changed), [format!("one Update v1 01 {a}")]);
    // The same value.
    let same = updated(&changed, json!({"data": {"a": "2"}}), &at("one", 2));
    assert_eq!(same, changed);
    let same = updated(&changed, json!({"data": {"a": "2"}}), &at("two", 2));
    assert_eq!(same, changed);
    // Somebody else's.
    let taken = updated(&changed, json!({"data": {"a": "3"}}), &at("two", 3));
    assert_eq!(
        lines(&taken),
        [
            r#"one Update v1 01 {"f:data":{}}"#,
            r#"two Update v1 03 {"f:data":{"f:a":{}}}"#,
        ]
    );
    // What is removed is nobody's; nobody has set anything then.
    let removed = updated(&taken, json!({"data": {"a": null}}), &at("two", 4));
    assert_eq!(lines(&removed), [r#"one Update v1 01 {"f:data":{}}"#]);
    let removed = updated(&taken, json!({"data": null}), &at("three", 4));
    assert_eq!(lines(&removed), [""; 0]);
}

#[test]
fn what_nobody_manages_is_not_recorded() {
    let body = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"a": "b"}},
        "status": {"phase": "Running"}});
    let nodes = Resource::of::<Node>();
    let made = write::create(nodes, body, &at("agent", 0)).expect("created");
    let labels = r#"agent Update v1 00 {"f:metadata":{"f:labels":{".":{},"f:a":{}}}}"#;
    assert_eq!(lines(&made), [labels]);
    // Through the status, annotations may be written too; not the spec.
    let mut new = made.clone();
    new["metadata"]["annotations"] = json!({"c": "d"});
    new["spec"]["unschedulable"] = true.into();
    new["status"]["phase"] = "Pending".into();
    let reported = write::update(nodes, Some("status"), &made, new, &at("agent", 1)).expect("ok");
    assert_eq!(
        lines(&reported),
        [
            labels,
            r#"agent Update v1 status 01 {"f:metadata":{"f:annotations":{".":{},"f:c":{}}},"f:status":{"f:phase":{}}}"#,
        ]
    );
}

/// Go writes the time of the last probe even where there is none.
#[test]
fn a_condition_s_probe_is_always_there() {
    let pods = Resource::of::<Pod>();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "demo"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = write::create(pods, pod, &at("one", 0)).expect("created");
    let mut new = made.clone();
    new["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False"}]);
    let unfit = write::update(pods, Some("status"), &made, new, &at("s", 1)).expect("updated");
    let condition = r#"{".":{},"k:{\"type\":\"PodScheduled\"}":{".":{},"f:lastProbeTime":{},"f:status":{},"f:type":{}}}"#;
    assert_eq!(
        lines(&unfit)[1],
        format!(r#"s Update v1 status 01 {{"f:status":{{"f:conditions":{condition}}}}}"#)
    );
    let mut new = unfit.clone();
    new["status"]["conditions"][0]["status"] = "True".into();
    let fits = write::update(pods, Some("status"), &unfit, new, &at("t", 2)).expect("updated");
    let mine = r#"{"f:status":{"f:conditions":{"k:{\"type\":\"PodScheduled\"}":{"f:status":{}}}}}"#;
    assert_eq!(lines(&fits)[2], format!("t Update v1 status 02 {mine}"));
}

#[test]
fn clients_may_bring_entries() {
    let entry = |fields: Value| {
        let mut entry = json!({"manager": "m", "operation": "Apply", "apiVersion": "v1",
            "time": "2026-11-21T10:00:07Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:a": {}}}});
        crate::patch::merge(&mut entry, fields);
        entry
    };
    let kept = lines(&stored());
    let brought = [r#"m Apply v1 07 {"f:data":{"f:a":{}}}"#.to_owned()];
    for (given, want) in [
        (json!(null), &kept[..]),
        (json!([]), &kept[..]),
        (json!([{}]), &[]),
        (json!([{}, {}]), &kept[..]),
        (json!([entry(json!({}))]), &brought[..]),
        // Of one manager the last counts; who applies is the same in any version.
        (
            json!([entry(json!({"apiVersion": "v0"})), entry(json!({}))]),
            &brought[..],
        ),
        (json!([entry(json!({"operation": "Delete"}))]), &kept[..]),
        (json!([entry(json!({"apiVersion": null}))]), &kept[..]),
        (json!([entry(json!({"fieldsType": null}))]), &kept[..]),
        (json!([entry(json!({"fieldsType": "FieldsV2"}))]), &kept[..]),
        (
            json!([entry(json!({"fieldsV1": {"f:data": 1}}))]),
            &kept[..],
        ),
        (json!([entry(json!({"fieldsV1": {"k:{": {}}}))]), &kept[..]),
        (
            json!([entry(json!({"fieldsV1": {"x:new": {}}}))]),
            &brought[..],
        ),
        // Who owns nothing is forgotten.
        (json!([entry(json!({"fieldsV1": null}))]), &[]),
    ] {
        let mut new = stored();
        new["metadata"]["managedFields"] = given.clone();
        let updated = write::update(maps(), None, &stored(), new, &at("two", 9)).expect("updated");
        assert_eq!(lines(&updated), want, "{given}");
    }
    // Together with a change, and in a new object.
    let mut new = stored();
    new["metadata"]["managedFields"] = json!([entry(json!({}))]);
    new["data"]["b"] = "2".into();
    let both = write::update(maps(), None, &stored(), new.clone(), &at("two", 9)).expect("updated");
    assert_eq!(
        lines(&both),
        [&brought[0], r#"two Update v1 09 {"f:data":{"f:b":{}}}"#]
    );
    if let Some(metadata) = new["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    let made = write::create(maps(), new.clone(), &at("two", 9)).expect("created");
    let all = r#"two Update v1 09 {"f:data":{".":{},"f:a":{},"f:b":{}}}"#;
    assert_eq!(lines(&made), [all], "creating sets every field");
    new["metadata"]["managedFields"] = json!([{}]);
    let made = write::create(maps(), new, &at("two", 9)).expect("created");
    assert_eq!(lines(&made), [all]);
}

#[test]
fn no_entries_are_brought_through_a_subresource() {
    let pods = Resource::of::<Pod>();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "demo"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = write::create(pods, pod, &at("one", 0)).expect("created");
    let mut new = made.clone();
    new["metadata"]["managedFields"] = json!([{}]);
    let same = write::update(pods, Some("status"), &made, new, &at("two", 1)).expect("updated");
    assert_eq!(same, made);
}

#[test]
fn names_that_clients_bring_are_judged() {
    let faults = |field: &str, text: String| -> Vec<String> {
        let mut entry = json!({"manager": "m", "operation": "Update", "apiVersion": "v1",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:a": {}}}});
        entry[field] = text.into();
        let mut new = stored();
        new["metadata"]["managedFields"] = json!([entry]);
        match write::update(maps(), None, &stored(), new, &at("two", 1)) {
            Ok(_) => Vec::new(),
            Err(status) => {
                let details = status.details.expect("details");
                let causes = details.causes.into_iter();
                causes
                    .map(|c| format!("{}: {}", c.field, c.message))
                    .collect()
            }
        }
    };
    assert_eq!(faults("manager", "x".repeat(128)), [""; 0]);
    assert_eq!(
        faults("manager", "x".repeat(129)),
        ["metadata.managedFields[0].manager: Too long: may not be more than 128 bytes"]
    );
    assert_eq!(
        faults("manager", "a\n".into()),
        [
            "metadata.managedFields[0].manager: Invalid value: \"a\\n\": invalid character U+000A (at position 1)"
        ]
    );
    assert_eq!(faults("subresource", "x".repeat(256)), [""; 0]);
    assert_eq!(
        faults("subresource", "x".repeat(257)),
        ["metadata.managedFields[0].subresource: Too long: may not be more than 256 bytes"]
    );
}

#[test]
fn the_oldest_updates_are_put_together() {
    let mut object = stored();
    for number in 1..=11 {
        let change = json!({"data": {format!("k{number}"): "v"}});
        object = updated(&object, change, &at(&format!("m{number}"), number));
    }
    let told = lines(&object);
    assert_eq!(told.len(), 10);
    assert_eq!(
        told[0],
        r#"ancient-changes Update v1 02 {"f:data":{".":{},"f:a":{},"f:k1":{},"f:k2":{}}}"#
    );
    assert_eq!(told[1], r#"m3 Update v1 03 {"f:data":{"f:k3":{}}}"#);
    // Entries of applies do not count, nor are they put together; versions stay apart.
    let entry = |n: usize, operation: &str, version: &str| {
        json!({"manager": format!("m{n:02}"), "operation": operation, "apiVersion": version,
            "time": format!("2026-11-21T10:00:{n:02}Z"), "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {format!("f:k{n}"): {}}}})
    };
    let versions = ["v0", "v1"];
    let updates = (0..12).map(|n| entry(n, "Update", versions[n % 2]));
    let applies = (12..20).map(|n| entry(n, "Apply", "v1"));
    let mut new = stored();
    new["metadata"]["managedFields"] = updates.chain(applies).collect();
    new["data"]["a"] = "2".into();
    let capped = write::update(maps(), None, &stored(), new, &at("last", 30)).expect("updated");
    let told = lines(&capped);
    assert_eq!(told.len(), 8 + 10);
    assert_eq!(
        told[8..12],
        [
            r#"ancient-changes Update v1 03 {"f:data":{"f:k1":{},"f:k3":{}}}"#,
            r#"ancient-changes Update v0 04 {"f:data":{"f:k0":{},"f:k2":{},"f:k4":{}}}"#,
            r#"m05 Update v1 05 {"f:data":{"f:k5":{}}}"#,
            r#"m06 Update v0 06 {"f:data":{"f:k6":{}}}"#,
        ]
    );
}

#[test]
fn a_renewed_lease_keeps_one_entry() {
    let leases = Resource::of::<Lease>();
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "n1", "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": "n1", "leaseDurationSeconds": 4, "renewTime": "2026-11-21T10:00:00.000000Z"}});
    let mut lease = write::create(leases, lease, &at("carob-agent", 0)).expect("created");
    for second in 1..60 {
        let mut new = lease.clone();
        new["spec"]["renewTime"] = format!("2026-11-21T10:00:{second:02}.000000Z").into();
        let context = at("carob-agent", second);
        lease = write::update(leases, None, &lease, new, &context).expect("renewed");
    }
    let spec = r#"{"f:spec":{"f:holderIdentity":{},"f:leaseDurationSeconds":{},"f:renewTime":{}}}"#;
    let entry = format!("carob-agent Update coordination.k8s.io/v1 59 {spec}");
    assert_eq!(lines(&lease), [entry]);
}

#[test]
fn what_is_defaulted_away_is_no_change() {
    let pods = Resource::of::<Pod>();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "demo"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = write::create(pods, pod, &at("one", 0)).expect("created");
    // The class follows from the spec: who writes another changes nothing.
    let mut new = made.clone();
    new["status"]["qosClass"] = "Guaranteed".into();
    let written =
        write::update(pods, Some("status"), &made, new.clone(), &at("two", 1)).expect("ok");
    assert_eq!(
        lines(&written).len(),
        2,
        "but it is recorded that two tried"
    );
    let again = write::update(pods, Some("status"), &written, new, &at("two", 2)).expect("ok");
    assert_eq!(again, written);
}

#[test]
fn an_object_that_is_too_large_is_stored_without_entries() {
    let mut data = serde_json::Map::new();
    for number in 0..1000 {
        data.insert(format!("key-{number}"), "x".repeat(1000).into());
    }
    let made = write::create(maps(), map(Value::Object(data)), &at("one", 0)).expect("created");
    let kept = |object: Value| {
        let bytes = write::encode(object).expect("fits");
        assert!(bytes.len() <= write::MAX_OBJECT_BYTES);
        bytes.windows(13).any(|w| w == b"managedFields")
    };
    assert!(kept(made.clone()));
    let mut larger = made;
    let left = write::MAX_OBJECT_BYTES - larger.to_string().len();
    larger["metadata"]["annotations"] = json!({"a": "x".repeat(left)});
    assert!(!kept(larger.clone()));
    larger["metadata"]["annotations"] = json!({"a": "x".repeat(left * 2)});
    assert_eq!(write::encode(larger).expect_err("too large").code, 413);
}
