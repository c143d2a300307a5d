use serde_json::{Value, json};

use super::strategic;
use crate::schema;

fn pod_spec(old: Value, patch: Value) -> Value {
    let ty = schema::lookup("core.v1.PodSpec").expect("spec");
    strategic(ty, old, patch).expect("patched")
}

#[test]
fn lists_of_objects_are_merged_by_their_key() {
    let old = json!({"containers": [{"name": "one", "image": "a", "env": [{"name": "A", "value": "1"}]}, {"name": "two"}]});
    let patch = json!({"containers": [{"name": "two", "image": "b"}, {"name": "one", "env": [{"name": "B", "value": "2"}]}]});
    assert_eq!(
        pod_spec(old, patch),
        json!({"containers": [
            {"name": "two", "image": "b"},
            {"name": "one", "image": "a", "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]},
        ]})
    );
}

#[test]
fn untouched_elements_keep_their_place() {
    let old = json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]});
    let patch = json!({"containers": [{"name": "b", "image": "x"}, {"name": "d"}]});
    assert_eq!(
        pod_spec(old, patch),
        json!({"containers": [{"name": "a"}, {"name": "b", "image": "x"}, {"name": "d"}, {"name": "c"}]})
    );
}

#[test]
fn elements_are_deleted_and_lists_replaced_on_demand() {
    let old = || json!({"containers": [{"name": "one"}, {"name": "two"}]});
    let patch = json!({"containers": [{"$patch": "delete", "name": "two"}]});
    assert_eq!(
        pod_spec(old(), patch),
        json!({"containers": [{"name": "one"}]})
    );
    let patch = json!({"containers": [{"$patch": "replace"}, {"name": "new"}]});
    assert_eq!(
        pod_spec(old(), patch),
        json!({"containers": [{"name": "new"}]})
    );
    // The new elements are not merged: they need no key, nor do they have to differ.
    let patch = json!({"containers": [{"$patch": "replace"}, {}, {"name": "a"}, {"name": "a"}]});
    assert_eq!(
        pod_spec(old(), patch),
        json!({"containers": [{}, {"name": "a"}, {"name": "a"}]})
    );
    let patch = json!({"containers": null});
    assert_eq!(pod_spec(old(), patch), json!({}));
    let patch = json!({"volumes": [{"$patch": "delete", "name": "x"}]});
    assert_eq!(pod_spec(json!({}), patch), json!({"volumes": []}));
}

#[test]
fn order_is_set() {
    let old = json!({"containers": [{"name": "one"}]});
    let patch = json!({
        "$setElementOrder/containers": [{"name": "three"}, {"name": "one"}],
        "containers": [{"name": "three", "image": "x"}],
    });
    assert_eq!(
        pod_spec(old, patch),
        json!({"containers": [{"name": "three", "image": "x"}, {"name": "one"}]})
    );
    let old = json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "mine"}]});
    let patch = json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]});
    assert_eq!(
        pod_spec(old, patch),
        json!({"containers": [{"name": "b"}, {"name": "a"}, {"name": "mine"}]})
    );
}

#[test]
fn scalars_are_merged_as_sets() {
    let ty = schema::object_meta();
    let old = || json!({"finalizers": ["a", "b"]});
    let patched = strategic(ty, old(), json!({"finalizers": ["c", "b"]})).expect("patched");
    assert_eq!(patched, json!({"finalizers": ["c", "a", "b"]}));
    let patch = json!({"$deleteFromPrimitiveList/finalizers": ["a"]});
    assert_eq!(
        strategic(ty, old(), patch).expect("patched"),
        json!({"finalizers": ["b"]})
    );
    let patch = json!({
        "$deleteFromPrimitiveList/finalizers": ["a"],
        "$setElementOrder/finalizers": ["c", "b"],
        "finalizers": ["c"],
    });
    assert_eq!(
        strategic(ty, old(), patch).expect("patched"),
        json!({"finalizers": ["c", "b"]})
    );
}

#[test]
fn atomic_lists_are_replaced() {
    let old = json!({"tolerations": [{"key": "a"}], "containers": [{"name": "c", "args": ["x"]}]});
    let patch =
        json!({"tolerations": [{"key": "b"}], "containers": [{"name": "c", "args": ["y"]}]});
    assert_eq!(
        pod_spec(old, patch),
        json!({"tolerations": [{"key": "b"}], "containers": [{"name": "c", "args": ["y"]}]})
    );
}

#[test]
fn objects_are_merged_replaced_deleted() {
    let ty = schema::object_meta();
    let old = || json!({"labels": {"a": "1", "b": "2"}});
    let patched = strategic(ty, old(), json!({"labels": {"b": null, "c": "3"}})).expect("patched");
    assert_eq!(patched, json!({"labels": {"a": "1", "c": "3"}}));
    let patch = json!({"labels": {"$patch": "replace", "z": "9"}});
    assert_eq!(
        strategic(ty, old(), patch).expect("patched"),
        json!({"labels": {"z": "9"}})
    );
    let patch = json!({"labels": {"$patch": "delete"}});
    assert_eq!(
        strategic(ty, old(), patch).expect("patched"),
        json!({"labels": {}})
    );
    let patch = json!({"annotations": {"x": null, "y": "1"}});
    assert_eq!(
        strategic(ty, json!({}), patch).expect("patched"),
        json!({"annotations": {"y": "1"}})
    );
}

#[test]
fn keys_are_retained() {
    let ty = schema::lookup("apps.v1.DeploymentSpec").expect("spec");
    let old = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}});
    let patch = json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}});
    assert_eq!(
        strategic(ty, old.clone(), patch).expect("patched"),
        json!({"strategy": {"type": "Recreate"}})
    );
    let patch = json!({"strategy": {"$retainKeys": ["rollingUpdate"], "type": "Recreate"}});
    assert_eq!(strategic(ty, old, patch).expect_err("refused").code, 400);
}

#[test]
fn replace_strategy_holds_for_objects() {
    let ty = schema::lookup("policy.v1.PodDisruptionBudgetSpec").expect("spec");
    let old = json!({"selector": {"matchLabels": {"a": "b"}}});
    let patch = json!({"selector": {"matchLabels": {"c": "d"}}});
    assert_eq!(
        strategic(ty, old, patch).expect("patched"),
        json!({"selector": {"matchLabels": {"c": "d"}}})
    );
}

#[test]
fn bad_patches_are_refused() {
    let ty = schema::lookup("core.v1.PodSpec").expect("spec");
    let table = [
        (json!([]), 400),
        (json!({"$patch": "dance"}), 400),
        (json!({"$patch": 1}), 400),
        (json!({"$retainKeys": "x"}), 400),
        (json!({"$setElementOrder/containers": 1}), 400),
        (json!({"$deleteFromPrimitiveList/x": 1}), 400),
        (json!({"containers": [{"image": "x"}]}), 422),
        (json!({"containers": [1]}), 422),
        (json!({"containers": [{"$patch": "delete"}]}), 422),
        (
            json!({"containers": [{"$patch": "merge", "name": "a"}]}),
            400,
        ),
        (
            json!({"$setElementOrder/containers": [], "containers": [{"name": "a"}]}),
            400,
        ),
    ];
    for (patch, code) in table {
        let old = json!({"containers": [{"name": "a"}]});
        assert_eq!(
            strategic(ty, old, patch.clone()).expect_err("refused").code,
            code,
            "{patch}"
        );
    }
}
