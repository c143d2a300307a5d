//! The patches of JSON that make one tree of another.

use serde_json::{Map, Value, json};

/// A JSON merge patch. Neither tree may hold nulls.
pub(crate) fn merge(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return new.clone();
    };
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        match old.get(key) {
            Some(before) if before == value => {}
            // What is no object becomes an empty one before it is merged into.
            Some(before) if before.is_object() => {
                patch.insert(key.clone(), merge(before, value));
            }
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(patch)
}

/// A JSON patch.
pub(crate) fn operations(old: &Value, new: &Value) -> Value {
    let mut out = Vec::new();
    differ(old, new, "", &mut out);
    Value::Array(out)
}

fn differ(old: &Value, new: &Value, path: &str, out: &mut Vec<Value>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(before), Value::Object(after)) => {
            let at = |key: &str| format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
            for key in before.keys().filter(|key| !after.contains_key(*key)) {
                out.push(json!({"op": "remove", "path": at(key)}));
            }
            for (key, value) in after {
                match before.get(key) {
                    Some(before) => differ(before, value, &at(key), out),
                    None => out.push(json!({"op": "add", "path": at(key), "value": value})),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            for (at, (old, new)) in before.iter().zip(after).enumerate() {
                differ(old, new, &format!("{path}/{at}"), out);
            }
            for value in after.iter().skip(before.len()) {
                out.push(json!({"op": "add", "path": format!("{path}/-"), "value": value}));
            }
            for at in (after.len()..before.len()).rev() {
                out.push(json!({"op": "remove", "path": format!("{path}/{at}")}));
            }
        }
        _ => {
            out.push(json!({"op": "test", "path": path, "value": old}));
            out.push(json!({"op": "replace", "path": path, "value": new}));
        }
    }
}
