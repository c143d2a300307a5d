//! A new pod of a RuntimeClass: what the class costs beyond its containers, and the nodes that have it.

use api::quantity::Quantity;
use api::{Resource, Status};
use k8s_openapi::api::node::v1::RuntimeClass;
use serde_json::{Map, Value};

use super::admit::{find, refused, writes};
use crate::dispatch::Call;

/// So many tolerations are compared with each other; more, which nobody means, are all kept.
const MOST_COMPARED: usize = 100;

/// The plugin.
pub(super) fn admit(call: &Call, old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
    if old.is_some() || !writes(call, "", "pods") {
        return Ok(());
    }
    let class = class_of(call, &new["spec"]);
    let filled = class.and_then(|class| fill(&mut new["spec"], class.as_ref()));
    filled.map_err(|why| refused(call, new, &why))
}

/// The class that a pod names, if it names one.
pub(super) fn name_of(spec: &Value) -> Option<&str> {
    spec["runtimeClassName"].as_str()
}

fn class_of(call: &Call, spec: &Value) -> Result<Option<Value>, String> {
    let Some(name) = name_of(spec) else {
        return Ok(None);
    };
    find(call, Resource::of::<RuntimeClass>(), None, name)
        .ok_or_else(|| format!("pod rejected: RuntimeClass {name:?} not found"))
}

/// Gives the pod what follows from its class, or says what it may not say itself.
fn fill(spec: &mut Value, class: Option<&Value>) -> Result<(), String> {
    let part = |name: &str| class.and_then(|class| class[name].as_object());
    cost(spec, part("overhead"))?;
    if let Some(scheduling) = part("scheduling") {
        select(spec, scheduling)?;
        tolerate(spec, scheduling);
    }
    Ok(())
}

/// An object of a field, where it has anything in it.
fn filled(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value?.as_object().filter(|object| !object.is_empty())
}

fn cost(spec: &mut Value, overhead: Option<&Map<String, Value>>) -> Result<(), String> {
    let own = filled(spec.get("overhead"));
    let Some(overhead) = overhead else {
        return match own {
            Some(_) => Err(
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
                    .to_owned(),
            ),
            None => Ok(()),
        };
    };
    let fixed = filled(overhead.get("podFixed"));
    if own.is_some_and(|own| !fixed.is_some_and(|fixed| same_amounts(own, fixed))) {
        let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
        return Err(why.to_owned());
    }
    if let Some(fixed) = fixed {
        spec["overhead"] = Value::Object(fixed.clone());
    }
    Ok(())
}

/// However the amounts are written.
fn same_amounts(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    let amount = |value: &Value| Quantity::parse(value.as_str()?).ok();
    let same = |name: &String, value: &Value| {
        let other = other.get(name);
        other.is_some_and(|other| other == value || amount(other) == amount(value))
    };
    one.len() == other.len() && one.iter().all(|(name, value)| same(name, value))
}

/// Pods of the class run where both it and they say.
fn select(spec: &mut Value, scheduling: &Map<String, Value>) -> Result<(), String> {
    let Some(labels) = filled(scheduling.get("nodeSelector")) else {
        return Ok(());
    };
    let mut selector = spec["nodeSelector"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    for (key, value) in labels {
        if let Some(own) = selector.insert(key.clone(), value.clone())
            && own != *value
        {
            let (value, own) = (
                value.as_str().unwrap_or_default(),
                own.as_str().unwrap_or_default(),
            );
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
            ));
        }
    }
    spec["nodeSelector"] = Value::Object(selector);
    Ok(())
}

/// The pod's tolerations and the class', without those that others of them cover.
fn tolerate(spec: &mut Value, scheduling: &Map<String, Value>) {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let mut all = list(spec.get("tolerations"));
    all.extend(list(scheduling.get("tolerations")));
    if all.is_empty() {
        return;
    }
    if all.len() > MOST_COMPARED {
        spec["tolerations"] = Value::Array(all);
        return;
    }
    let mut merged: Vec<Value> = Vec::new();
    for (at, toleration) in all.iter().enumerate() {
        let earlier = merged.iter().any(|other| covers(other, toleration));
        // Of equal ones the first stays.
        let mut later = all[at + 1..].iter();
        if !earlier && !later.any(|other| other != toleration && covers(other, toleration)) {
            merged.push(toleration.clone());
        }
    }
    spec["tolerations"] = Value::Array(merged);
}

/// Whether whatever `other` tolerates is tolerated by `one`: `isSuperset` of Kubernetes' `pkg/util/tolerations`.
fn covers(one: &Value, other: &Value) -> bool {
    if one == other {
        return true;
    }
    let same = |name: &str| field(one, name) == field(other, name);
    let every_key = field(one, "key").is_empty() && field(one, "operator") == "Exists";
    let effect = field(one, "effect");
    if !(same("key") || every_key) || !(effect.is_empty() || same("effect")) {
        return false;
    }
    let seconds = |of: &Value| of["tolerationSeconds"].as_i64();
    if effect == "NoExecute"
        && let Some(most) = seconds(one)
        && seconds(other).is_none_or(|seconds| seconds > most)
    {
        return false;
    }
    match field(one, "operator") {
        "Exists" => true,
        "Equal" | "" => field(other, "operator") == "Equal" && same("value"),
        _ => false,
    }
}

fn field<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What becomes of a pod's spec under a class.
    fn filled_by(spec: &Value, class: Option<&Value>) -> Result<Value, String> {
        let mut spec = spec.clone();
        fill(&mut spec, class).map(|()| spec)
    }

    #[test]
    fn the_overhead_is_the_class_s() {
        let class = |fixed: Value| json!({"handler": "h", "overhead": {"podFixed": fixed}});
        let own = |amounts: Value| json!({"overhead": amounts});
        let differs = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
        let without =
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
        let costly = class(json!({"cpu": "250m"}));
        let plain = json!({"handler": "h"});
        for (spec, class, made) in [
            (json!({}), None, Ok(json!({}))),
            (json!({}), Some(&plain), Ok(json!({}))),
            (json!({}), Some(&class(json!({}))), Ok(json!({}))),
            (json!({}), Some(&costly), Ok(own(json!({"cpu": "250m"})))),
            (
                own(json!({"cpu": "0.25"})),
                Some(&costly),
                Ok(own(json!({"cpu": "250m"}))),
            ),
            (own(json!({"cpu": "1"})), Some(&costly), Err(differs)),
            (
                own(json!({"cpu": "250m", "memory": "1"})),
                Some(&costly),
                Err(differs),
            ),
            (own(json!({"memory": "250m"})), Some(&costly), Err(differs)),
            (
                own(json!({"cpu": "1"})),
                Some(&class(json!({}))),
                Err(differs),
            ),
            (own(json!({"cpu": "1"})), Some(&plain), Err(without)),
            (own(json!({"cpu": "1"})), None, Err(without)),
            (own(json!({})), None, Ok(own(json!({})))),
        ] {
            let made = made.map_err(str::to_owned);
            assert_eq!(filled_by(&spec, class), made, "{spec} {class:?}");
        }
    }

    #[test]
    fn pods_run_where_both_say() {
        let class = json!({"scheduling": {"nodeSelector": {"a": "1", "b": "2"}}});
        for (own, made) in [
            (json!(null), Ok(json!({"a": "1", "b": "2"}))),
            (
                json!({"b": "2", "c": "3"}),
                Ok(json!({"a": "1", "b": "2", "c": "3"})),
            ),
            (
                json!({"b": "3"}),
                Err(
                    "conflict: runtimeClass.scheduling.nodeSelector[b] = 2; pod.spec.nodeSelector[b] = 3",
                ),
            ),
        ] {
            let spec = json!({"nodeSelector": own});
            let merged = filled_by(&spec, Some(&class)).map(|spec| spec["nodeSelector"].clone());
            assert_eq!(merged, made.map_err(str::to_owned), "{own}");
        }
        let nowhere = json!({"scheduling": {}});
        assert_eq!(filled_by(&json!({}), Some(&nowhere)), Ok(json!({})));
    }

    #[test]
    fn tolerations_that_others_cover_go() {
        let exists = |key: &str| json!({"key": key, "operator": "Exists"});
        let equal = |value: &str| json!({"key": "a", "operator": "Equal", "value": value});
        let stays = |seconds: i64| json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let bare = json!({"key": "a", "value": "1"});
        for (own, of_class, merged) in [
            (vec![], vec![exists("a")], vec![exists("a")]),
            (
                vec![exists("a")],
                vec![exists("b")],
                vec![exists("a"), exists("b")],
            ),
            (vec![exists("a")], vec![exists("a")], vec![exists("a")]),
            (vec![equal("1")], vec![exists("a")], vec![exists("a")]),
            (vec![exists("a")], vec![equal("1")], vec![exists("a")]),
            (
                vec![equal("1")],
                vec![equal("2")],
                vec![equal("1"), equal("2")],
            ),
            // As in Kubernetes an operator that is left out covers Equal, and not the other way round.
            (vec![bare.clone()], vec![equal("1")], vec![bare.clone()]),
            (vec![equal("1")], vec![bare.clone()], vec![bare.clone()]),
            (
                vec![equal("1")],
                vec![json!({"operator": "Exists"})],
                vec![json!({"operator": "Exists"})],
            ),
            (vec![stays(5)], vec![stays(9)], vec![stays(9)]),
            (vec![stays(5)], vec![exists("a")], vec![exists("a")]),
            (
                vec![stays(5)],
                vec![json!({"key": "a", "operator": "Exists", "effect": "NoSchedule"})],
                vec![
                    stays(5),
                    json!({"key": "a", "operator": "Exists", "effect": "NoSchedule"}),
                ],
            ),
        ] {
            let class = json!({"scheduling": {"tolerations": of_class}});
            let spec = json!({"tolerations": own});
            let made = filled_by(&spec, Some(&class)).map(|spec| spec["tolerations"].clone());
            assert_eq!(made, Ok(Value::Array(merged)), "{spec} {class}");
        }
        let many = vec![exists("a"); MOST_COMPARED];
        let class = json!({"scheduling": {"tolerations": [exists("a")]}});
        let made = filled_by(&json!({"tolerations": many}), Some(&class)).unwrap();
        let kept = made["tolerations"].as_array().map(Vec::len);
        assert_eq!(kept, Some(MOST_COMPARED + 1));
    }
}
