//! From client-side apply to server-side apply, and the number of replicas through scales.

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::{by, managers};
use crate::resource::Resource;
use crate::status::Status;
use crate::write;

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn deployments() -> &'static Resource {
    Resource::of::<Deployment>()
}

fn manifest(replicas: u32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "demo"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "d"}}, "template": {
            "metadata": {"labels": {"a": "d"}},
            "spec": {"containers": [{"name": "c", "image": "<i>:v1"}]}}}})
}

/// What `kubectl apply` makes of a manifest.
fn client_side(replicas: u32) -> Value {
    let mut object = manifest(replicas);
    object["metadata"]["annotations"][ANNOTATION] = manifest(replicas).to_string().into();
    write::create(deployments(), object, &by("kubectl-client-side-apply")).expect("created")
}

fn server_side(old: &Value, wanted: Value, manager: &str) -> Result<Value, Status> {
    write::apply(deployments(), None, Some(old), wanted, false, &by(manager))
}

/// Who owns `spec.replicas`: `manager operation version subresource`, and whether a time is known.
fn owners(object: &Value) -> Vec<String> {
    let entries = managers::managed_fields(object).iter();
    let owning = entries.filter(|e| e.pointer("/fieldsV1/f:spec/f:replicas").is_some());
    let line = |entry: &Value| {
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        let names = ["manager", "operation", "apiVersion", "subresource"].map(text);
        let timed = if entry["time"].is_string() {
            ""
        } else {
            " untimed"
        };
        format!("{}{timed}", names.join(" ").trim_end())
    };
    owning.map(line).collect()
}

#[test]
fn kubectl_goes_from_client_side_to_server_side() {
    let old = client_side(1);
    assert_eq!(owners(&old), ["kubectl-client-side-apply Update apps/v1"]);
    // Anybody else is refused.
    let refused = server_side(&old, manifest(2), "other").expect_err("conflict");
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas"
    );
    let new = server_side(&old, manifest(2), "kubectl").expect("applied");
    assert_eq!(new["spec"]["replicas"], 2);
    assert_eq!(owners(&new), ["kubectl Apply apps/v1"]);
    // The annotation follows, so that the way back is open; it stays who wrote it first's.
    let text = new["metadata"]["annotations"][ANNOTATION]
        .as_str()
        .expect("text");
    assert!(
        text.ends_with("}\n") && text.contains("\\u003ci\\u003e:v1"),
        "{text}"
    );
    let last: Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(last, manifest(2));
}

#[test]
fn what_was_changed_since_is_not_kubectl_s() {
    let old = client_side(1);
    let mut edited = old.clone();
    edited["spec"]["replicas"] = 5.into();
    let edited = write::update(deployments(), None, &old, edited, &by("edit")).expect("edited");
    let mut wanted = manifest(2);
    wanted["spec"]["template"]["spec"]["containers"][0]["image"] = "i:v2".into();
    let refused = server_side(&edited, wanted, "kubectl").expect_err("conflict");
    // The image is what the annotation says, and would not be in the way.
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"edit\" using apps/v1: .spec.replicas"
    );
}

#[test]
fn an_annotation_that_says_nothing_helps_nobody() {
    for text in [
        "",
        "{",
        "[]",
        "{\"apiVersion\":\"apps/v2\",\"spec\":{\"replicas\":1}}",
        "{\"apiVersion\":\"apps/v1\",\"spec\":{\"replicas\":3}}",
    ] {
        let mut old = client_side(1);
        old["metadata"]["annotations"][ANNOTATION] = text.into();
        let refused = server_side(&old, manifest(2), "kubectl").expect_err(text);
        assert_eq!(refused.code, 409, "{text}");
    }
}

/// What kubectl sends after that: the client-side manager's entry becomes the server-side one's.
#[test]
fn kubectl_hands_its_old_entry_over() {
    let old = server_side(&client_side(1), manifest(2), "kubectl").expect("applied");
    let mut fields =
        json!({"f:metadata": {"f:annotations": {".": {}}}, "f:spec": {"f:replicas": {}}});
    fields["f:metadata"]["f:annotations"][format!("f:{ANNOTATION}")] = json!({});
    // An update owns the map around the labels, an apply only what it says in it.
    fields["f:spec"]["f:template"]["f:metadata"]["f:labels"] = json!({".": {}, "f:a": {}});
    let entry = json!({"manager": "kubectl", "operation": "Apply", "apiVersion": "apps/v1",
        "time": "2026-11-21T10:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields});
    let patch = json!([{"op": "replace", "path": "/metadata/managedFields", "value": [entry]}]);
    let patched = crate::patch::json(old.clone(), &patch).expect("patched");
    let migrated = write::update(deployments(), None, &old, patched, &by("kubectl")).expect("ok");
    assert_eq!(migrated["metadata"]["managedFields"], json!([entry]));
    // The annotation is not in the manifest: the next apply removes it.
    let after = server_side(&migrated, manifest(2), "kubectl").expect("applied");
    assert!(after["metadata"]["annotations"].is_null(), "{after}");
    let labels = &after["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels, &json!({"a": "d"}));
}

#[test]
fn a_second_applier_of_the_same_has_changed_nothing() {
    let first = write::apply(deployments(), None, None, manifest(1), false, &by("one"));
    let both = server_side(&first.expect("made"), manifest(1), "two").expect("applied");
    assert_eq!(
        owners(&both),
        ["two Apply apps/v1 untimed", "one Apply apps/v1"]
    );
    // A newer version of the API is no other manager.
    let mut renamed = both.clone();
    renamed["metadata"]["managedFields"][1]["apiVersion"] = "apps/v1beta2".into();
    let applied = server_side(&renamed, manifest(3), "one").expect_err("two has it, too");
    assert!(
        applied.message.contains("conflict with \"two\""),
        "{}",
        applied.message
    );
}

fn scaled(old: &Value, replicas: u32, manager: &str) -> Value {
    let scale = json!({"metadata": {"name": "d"}, "spec": {"replicas": replicas}});
    write::update_scale(deployments(), old, &scale, &by(manager)).expect("scaled")
}

#[test]
fn who_scales_owns_the_number_of_replicas() {
    let old = client_side(1);
    let fields = managers::managed_fields(&old)[0]["fieldsV1"].clone();
    let two = scaled(&old, 2, "kubectl");
    assert_eq!(two["spec"]["replicas"], 2);
    assert_eq!(two["metadata"]["generation"], 2);
    assert_eq!(owners(&two), ["kubectl Update apps/v1 scale untimed"]);
    // Everything else stays whose it was.
    let mut rest = fields;
    rest["f:spec"]
        .as_object_mut()
        .expect("spec")
        .remove("f:replicas");
    let entries = managers::managed_fields(&two);
    assert_eq!(entries.len(), 2);
    assert_eq!(
        (&entries[1]["fieldsV1"], &entries[1]["time"]),
        (&rest, &json!("2026-11-21T10:00:00Z"))
    );

    assert_eq!(
        scaled(&two, 2, "other"),
        two,
        "the same number is no change"
    );
    let three = scaled(&two, 3, "other");
    assert_eq!(owners(&three), ["other Update apps/v1 scale untimed"]);
    let again = scaled(&three, 4, "other");
    assert_eq!(owners(&again), owners(&three));
    // None is what a scale leaves out: it is nobody's, and then nobody's number is recorded.
    let none = scaled(&again, 0, "other");
    assert_eq!(
        (owners(&none), &none["spec"]["replicas"]),
        (vec![], &json!(0))
    );
    assert_eq!(owners(&scaled(&none, 1, "other")), [""; 0]);
}

#[test]
fn scales_are_applied() {
    let wanted = |replicas: u32| {
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d", "namespace": "demo"},
            "spec": {"replicas": replicas}})
    };
    let apply = |old: &Value, replicas: u32, manager: &str, force: bool| {
        write::apply_scale(deployments(), old, wanted(replicas), force, &by(manager))
    };
    let old = client_side(1);
    let refused = apply(&old, 2, "hpa", false).expect_err("conflict");
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using autoscaling/v1: .spec.replicas"
    );
    let two = apply(&old, 2, "hpa", true).expect("forced");
    assert_eq!(two["spec"]["replicas"], 2);
    assert_eq!(owners(&two), ["hpa Apply apps/v1 scale untimed"]);
    assert_eq!(apply(&two, 2, "hpa", false).expect("again"), two);
    let shared = apply(&two, 2, "other", false).expect("the same");
    assert_eq!(owners(&shared).len(), 2);
    let refused = server_side(&two, manifest(5), "one").expect_err("conflict");
    assert_eq!(
        refused.details.expect("details").causes[0].message,
        "conflict with \"hpa\" with subresource \"scale\""
    );
    let odd = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replica": 1}});
    let refused = write::apply_scale(deployments(), &old, odd, false, &by("hpa"));
    assert_eq!(refused.expect_err("unknown field").code, 500);
    let negative =
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": -1}});
    let refused = write::apply_scale(deployments(), &old, negative, true, &by("hpa"));
    assert_eq!(refused.expect_err("negative").code, 422);
}
