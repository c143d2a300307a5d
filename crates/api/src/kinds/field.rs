//! Reading fields of an object's JSON by pointer, where absent and null are the zero value, as they are in Kubernetes' Go types.

use serde_json::{Map, Value};

/// The string at `pointer`, or `""`.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The integer at `pointer`, or 0.
pub(crate) fn int(object: &Value, pointer: &str) -> i64 {
    maybe_int(object, pointer).unwrap_or_default()
}

/// The integer at `pointer`, if there is one.
pub(crate) fn maybe_int(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Value::as_i64)
}

/// The boolean at `pointer`, or false.
pub(crate) fn flag(object: &Value, pointer: &str) -> bool {
    maybe_flag(object, pointer).unwrap_or_default()
}

/// The boolean at `pointer`, if there is one.
pub(crate) fn maybe_flag(object: &Value, pointer: &str) -> Option<bool> {
    object.pointer(pointer).and_then(Value::as_bool)
}

/// The list at `pointer`, or an empty one.
pub(crate) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The map at `pointer`, if it is there and not null.
pub(crate) fn map<'a>(object: &'a Value, pointer: &str) -> Option<&'a Map<String, Value>> {
    object.pointer(pointer).and_then(Value::as_object)
}

/// The value at `pointer`, if it is there and not null.
pub(crate) fn present<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    object.pointer(pointer).filter(|value| !value.is_null())
}

/// Whether two fields mean the same: null and empty texts, lists and maps count as absent.
pub(crate) fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a.filter(|a| !is_empty(a)), b.filter(|b| !is_empty(b))) {
        (None, None) => true,
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            a.iter().all(|(key, value)| same(Some(value), b.get(key)))
                && b.iter()
                    .all(|(key, value)| a.contains_key(key) || is_empty(value))
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), Some(b)))
        }
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether the field `name` is missing or null.
pub(crate) fn absent(object: &Map<String, Value>, name: &str) -> bool {
    object.get(name).is_none_or(Value::is_null)
}

/// Puts `value` at field `name` unless something stands there.
pub(crate) fn default(object: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    if absent(object, name) {
        object.insert(name.to_owned(), value.into());
    }
}

/// As [`default`], also where the string there is empty (Go's zero value counts as not given).
pub(crate) fn default_text(object: &mut Map<String, Value>, name: &str, value: &str) {
    if object
        .get(name)
        .is_none_or(|held| held.is_null() || held.as_str() == Some(""))
    {
        object.insert(name.to_owned(), value.into());
    }
}

/// As [`default`], also where the number there is 0.
pub(crate) fn default_number(object: &mut Map<String, Value>, name: &str, value: i64) {
    if object
        .get(name)
        .is_none_or(|held| held.is_null() || held.as_i64() == Some(0))
    {
        object.insert(name.to_owned(), value.into());
    }
}

/// The map in field `name`; an empty one is put there if the field is missing or null.
/// None if something other than a map stands there.
pub(crate) fn entry<'a>(
    object: &'a mut Map<String, Value>,
    name: &str,
) -> Option<&'a mut Map<String, Value>> {
    if absent(object, name) {
        object.insert(name.to_owned(), Value::Object(Map::new()));
    }
    object.get_mut(name).and_then(Value::as_object_mut)
}

/// The map in field `name`, if there is one.
pub(crate) fn child<'a>(
    object: &'a mut Map<String, Value>,
    name: &str,
) -> Option<&'a mut Map<String, Value>> {
    object.get_mut(name).and_then(Value::as_object_mut)
}

/// Makes field `name` what it is in `old`.
pub(crate) fn restore(object: &mut Map<String, Value>, old: &Value, name: &str) {
    match old.get(name) {
        Some(value) => object.insert(name.to_owned(), value.clone()),
        None => object.remove(name),
    };
}

/// The object's map; None if it is none.
pub(crate) fn root(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object.as_object_mut()
}

/// The object's `spec`, put there if missing.
pub(crate) fn spec(object: &mut Value) -> Option<&mut Map<String, Value>> {
    entry(root(object)?, "spec")
}

/// The maps in the list in field `name`.
pub(crate) fn children<'a>(
    object: &'a mut Map<String, Value>,
    name: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    object
        .get_mut(name)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}
