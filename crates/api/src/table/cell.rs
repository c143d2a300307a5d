//! What several kinds' cells are made of.

use super::age;
use crate::kinds::field::{int, items, map, maybe_int, present, text};
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

pub(super) fn name(object: &Value) -> Value {
    text(object, "/metadata/name").into()
}

pub(super) fn age(object: &Value, now: Timestamp) -> Value {
    age::since(text(object, "/metadata/creationTimestamp"), now).into()
}

/// The creation time itself, as tables without a column of their own show it.
pub(super) fn created_at(object: &Value) -> Value {
    text(object, "/metadata/creationTimestamp").into()
}

pub(super) fn string(object: &Value, pointer: &str) -> Value {
    text(object, pointer).into()
}

pub(super) fn number(object: &Value, pointer: &str) -> Value {
    int(object, pointer).into()
}

/// How many entries the list or map at `pointer` has.
pub(super) fn count(object: &Value, pointer: &str) -> Value {
    match object.pointer(pointer) {
        Some(Value::Array(list)) => list.len().into(),
        Some(Value::Object(map)) => map.len().into(),
        _ => 0.into(),
    }
}

pub(super) fn or_none(text: &str) -> &str {
    or(text, "<none>")
}

pub(super) fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

/// The strings at `pointer` in each of `list`, joined.
pub(super) fn words(list: &[Value], pointer: &str, separator: &str) -> String {
    list.iter()
        .map(|item| text(item, pointer))
        .collect::<Vec<_>>()
        .join(separator)
}

/// The list's strings, joined.
pub(super) fn joined(list: &[Value], separator: &str) -> String {
    words(list, "", separator)
}

/// The status of the object's condition of that type, if it has one.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    items(object, "/status/conditions")
        .iter()
        .find(|condition| text(condition, "/type") == kind)
        .map(|condition| text(condition, "/status"))
}

/// At most `max` of the words, and how many are left out of `count`.
pub(super) fn capped(words: &[String], max: usize, count: usize, separator: &str) -> String {
    let shown = words[..words.len().min(max)].join(separator);
    if count > max {
        format!("{shown} + {} more...", count - max)
    } else {
        shown
    }
}

/// An integer or a percentage, whichever stands at `pointer`.
pub(super) fn int_or_string(object: &Value, pointer: &str, otherwise: &str) -> Value {
    match present(object, pointer) {
        Some(Value::String(text)) => text.as_str().into(),
        Some(number) => number.to_string().into(),
        None => otherwise.into(),
    }
}

pub(super) fn number_or(object: &Value, pointer: &str, otherwise: &str) -> Value {
    maybe_int(object, pointer).map_or_else(|| otherwise.into(), |number| number.to_string().into())
}

/// A map of labels as `a=b,c=d`, or `<none>`.
pub(super) fn labels(object: &Value, pointer: &str) -> Value {
    or_none(&equalities(map(object, pointer)).join(",")).into()
}

fn equalities(labels: Option<&Map<String, Value>>) -> Vec<String> {
    // Sorted here: the map's own order is that of the document where serde_json preserves it.
    let pairs: BTreeSet<(&str, &str)> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
        .collect();
    pairs
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

/// A `metav1.LabelSelector` in the form that `-l` takes, sorted by key; empty if it selects all.
pub(super) fn selector(object: &Value, pointer: &str) -> String {
    let Some(selector) = present(object, pointer) else {
        return String::new();
    };
    let mut terms: Vec<(String, String)> = map(selector, "/matchLabels")
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            (
                key.clone(),
                format!("{key}={}", value.as_str().unwrap_or_default()),
            )
        })
        .collect();
    for expression in items(selector, "/matchExpressions") {
        let key = text(expression, "/key");
        let values: BTreeSet<&str> = items(expression, "/values")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let values = values.into_iter().collect::<Vec<_>>().join(",");
        let term = match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return "<error>".to_owned(),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort_by(|a, b| a.0.cmp(&b.0));
    terms
        .into_iter()
        .map(|(_, term)| term)
        .collect::<Vec<_>>()
        .join(",")
}

/// As [`selector`], with `<none>` for an empty one.
pub(super) fn selector_or_none(object: &Value, pointer: &str) -> Value {
    or_none(&selector(object, pointer)).into()
}

/// `True`, `False`, or `<unset>`.
pub(super) fn tristate(object: &Value, pointer: &str) -> Value {
    match object.pointer(pointer).and_then(Value::as_bool) {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    }
    .into()
}
