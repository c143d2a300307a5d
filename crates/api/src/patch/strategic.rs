//! Strategic merge patch: a merge patch whose lists are merged by the schema's keys, with
//! directives (`$patch`, `$retainKeys`, `$setElementOrder/…`, `$deleteFromPrimitiveList/…`).
//!
//! Behaves as `k8s.io/apimachinery/pkg/util/strategicpatch` does on a server.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

use crate::schema::{Field, PatchStrategy, Shape, Type};
use crate::status::Status;

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// Applies a patch to an object of this type.
///
/// # Errors
///
/// 400 when a directive has the wrong form, 422 when lists cannot be merged.
pub fn strategic(ty: &Type, old: Value, patch: Value) -> Result<Value, Status> {
    let (Value::Object(old), Value::Object(patch)) = (old, patch) else {
        return Err(Status::bad_request("a strategic merge patch is an object"));
    };
    Ok(Value::Object(merge_map(old, patch, Lookup::Struct(ty))?))
}

/// What the schema knows about an object's fields.
#[derive(Clone, Copy)]
enum Lookup<'a> {
    Struct(&'a Type),
    Entries(&'a Shape),
    Nothing,
}

/// What the schema says about one field.
#[derive(Clone, Copy)]
struct Meta<'a> {
    strategy: PatchStrategy,
    key: Option<&'a str>,
    inside: Lookup<'a>,
}

impl<'a> Lookup<'a> {
    fn of(shape: &'a Shape) -> Self {
        match shape {
            Shape::Struct(ty) => Self::Struct(ty),
            Shape::Map(item) => Self::Entries(item),
            Shape::List(item) => Self::of(item),
            _ => Self::Nothing,
        }
    }

    fn field(self, name: &str) -> Meta<'a> {
        let unset = |inside| Meta {
            strategy: PatchStrategy::Unset,
            key: None,
            inside,
        };
        match self {
            Self::Struct(ty) => match ty.field(name) {
                Some(field) => Meta::of(field),
                None => unset(Self::Nothing),
            },
            Self::Entries(item) => unset(Self::of(item)),
            Self::Nothing => unset(Self::Nothing),
        }
    }
}

impl<'a> Meta<'a> {
    fn of(field: &'a Field) -> Self {
        Self {
            strategy: field.patch,
            key: field.merge_key.as_deref(),
            inside: Lookup::of(&field.shape),
        }
    }
}

type Object = Map<String, Value>;

fn malformed(what: &str) -> Status {
    Status::bad_request(format!("strategic merge patch: {what}"))
}

fn unmergeable(what: String) -> Status {
    let mut status = Status::unprocessable();
    status.message = format!("strategic merge patch: {what}");
    status
}

fn merge_map(mut old: Object, mut patch: Object, lookup: Lookup<'_>) -> Result<Object, Status> {
    match patch.remove(PATCH) {
        None => {}
        Some(Value::String(directive)) => match directive.as_str() {
            "replace" => return Ok(without_directives(patch)),
            "delete" => return Ok(Object::new()),
            "merge" => {}
            other => return Err(malformed(&format!("unknown $patch {other:?}"))),
        },
        Some(_) => return Err(malformed("$patch is not a string")),
    }
    retain_keys(&mut old, &mut patch)?;
    order_lists(&mut old, &mut patch, lookup)?;
    for (key, change) in patch {
        if let Some(list) = key.strip_prefix(DELETE) {
            delete_scalars(&mut old, list, &change)?;
            continue;
        }
        if change.is_null() {
            old.remove(&key);
            continue;
        }
        let merged = match (old.remove(&key), change) {
            (Some(Value::Object(old)), Value::Object(change)) => {
                let meta = lookup.field(&key);
                if meta.strategy == PatchStrategy::Replace {
                    Some(Value::Object(without_directives(change)))
                } else {
                    Some(Value::Object(merge_map(old, change, meta.inside)?))
                }
            }
            (Some(Value::Array(old)), Value::Array(change)) => Some(Value::Array(merge_list(
                old,
                change,
                lookup.field(&key),
                &key,
            )?)),
            (_, change) => plain(change),
        };
        if let Some(merged) = merged {
            old.insert(key, merged);
        }
    }
    Ok(old)
}

/// A value that was not there before: without directives and nulls, or nothing where it only
/// says what to delete.
fn plain(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) => match map.get(PATCH).and_then(Value::as_str) {
            Some("delete") => None,
            _ => Some(Value::Object(without_directives(map))),
        },
        Value::Array(items) => Some(Value::Array(
            items.into_iter().filter_map(plain_item).collect(),
        )),
        value => Some(value),
    }
}

fn plain_item(item: Value) -> Option<Value> {
    match &item {
        Value::Object(map) if map.get(PATCH).and_then(Value::as_str) == Some("replace") => {
            // An element that only says that the list is replaced.
            if map.len() == 1 { None } else { plain(item) }
        }
        _ => plain(item),
    }
}

fn without_directives(map: Object) -> Object {
    let directive = |key: &str| {
        key == PATCH || key == RETAIN || key.starts_with(ORDER) || key.starts_with(DELETE)
    };
    map.into_iter()
        .filter(|(key, value)| !directive(key) && !value.is_null())
        .filter_map(|(key, value)| Some((key, plain(value)?)))
        .collect()
}

fn retain_keys(old: &mut Object, patch: &mut Object) -> Result<(), Status> {
    let Some(keys) = patch.remove(RETAIN) else {
        return Ok(());
    };
    let keys = keys
        .as_array()
        .ok_or_else(|| malformed("$retainKeys is not a list"))?;
    let keys: HashSet<&str> = keys.iter().filter_map(Value::as_str).collect();
    let kept = |key: &str| keys.contains(key);
    for (key, value) in patch.iter() {
        let plain = !key.starts_with('$');
        if plain && !value.is_null() && !kept(key) {
            return Err(malformed(
                "$retainKeys does not hold all fields that the patch sets",
            ));
        }
    }
    old.retain(|key, _| kept(key));
    Ok(())
}

fn delete_scalars(old: &mut Object, list: &str, gone: &Value) -> Result<(), Status> {
    let gone = gone
        .as_array()
        .ok_or_else(|| malformed("$deleteFromPrimitiveList is not a list"))?;
    if let Some(Value::Array(items)) = old.get_mut(list) {
        let gone: HashSet<&Value> = gone.iter().collect();
        items.retain(|item| !gone.contains(item));
    }
    Ok(())
}

/// Merges the lists whose order the patch gives, and takes them out of it.
fn order_lists(old: &mut Object, patch: &mut Object, lookup: Lookup<'_>) -> Result<(), Status> {
    let orders: Vec<String> = patch
        .keys()
        .filter(|k| k.starts_with(ORDER))
        .cloned()
        .collect();
    for directive in orders {
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return Err(malformed("$setElementOrder is not a list"));
        };
        let name = &directive[ORDER.len()..];
        let meta = lookup.field(name);
        let gone = patch.remove(&format!("{DELETE}{name}"));
        let mut before = old.get(name).and_then(Value::as_array).cloned();
        if let (Some(items), Some(gone)) = (&mut before, &gone) {
            let gone = gone
                .as_array()
                .ok_or_else(|| malformed("$deleteFromPrimitiveList is not a list"))?;
            let gone: HashSet<&Value> = gone.iter().collect();
            items.retain(|item| !gone.contains(item));
        }
        let changes = match patch.get(name) {
            None => None,
            Some(Value::Array(_)) => match patch.remove(name) {
                Some(Value::Array(items)) => Some(items),
                _ => None,
            },
            // Removed or replaced as a whole: the order has nothing to say.
            Some(_) => continue,
        };
        if let Some(changes) = &changes {
            check_order(changes, &order, meta.key)?;
        }
        let merged = match (before.clone(), changes) {
            (None, None) => continue,
            (Some(before), None) => before,
            (None, Some(changes)) => changes.into_iter().filter_map(plain_item).collect(),
            (Some(before), Some(changes)) if meta.strategy == PatchStrategy::Merge => {
                merge_list(before, changes, meta, name)?
            }
            (Some(_), Some(changes)) => changes.into_iter().filter_map(plain_item).collect(),
        };
        let sorted = arrange(merged, &order, &before.unwrap_or_default(), meta.key);
        old.insert(name.to_owned(), Value::Array(sorted));
    }
    Ok(())
}

/// Every element that the patch sets must stand in the order that it gives.
fn check_order(changes: &[Value], order: &[Value], key: Option<&str>) -> Result<(), Status> {
    let places = Places::of(order, key);
    let ordered = changes
        .iter()
        .filter(|item| item.get(PATCH).is_none())
        .all(|item| places.find(item).is_some());
    if ordered {
        Ok(())
    } else {
        Err(malformed(
            "$setElementOrder does not hold all elements that the patch sets",
        ))
    }
}

fn merge_list(
    old: Vec<Value>,
    changes: Vec<Value>,
    meta: Meta<'_>,
    name: &str,
) -> Result<Vec<Value>, Status> {
    if meta.strategy != PatchStrategy::Merge {
        return Ok(changes.into_iter().filter_map(plain_item).collect());
    }
    let objects = old.iter().chain(&changes).any(Value::is_object);
    if !objects {
        let order = changes.clone();
        let mut merged = old.clone();
        let mut there = Places::of(&old, None);
        for change in changes {
            if there.note(&change, merged.len()) {
                merged.push(change);
            }
        }
        return Ok(arrange(merged, &order, &old, None));
    }
    let Some(key) = meta.key else {
        return Err(unmergeable(format!("{name} has no merge key")));
    };
    let directive = |item: &Value| item.get(PATCH).cloned();
    // A list that takes the old one's place is not merged into anything: it may be of any objects.
    let replaced = changes
        .iter()
        .any(|item| directive(item) == Some("replace".into()));
    let keyless = |item: &Value| item.get(key).is_none() && directive(item).is_none();
    if changes
        .iter()
        .any(|item| !item.is_object() || (!replaced && keyless(item)))
    {
        return Err(unmergeable(format!(
            "an element of {name} does not contain declared merge key: {key}"
        )));
    }
    let before = old.clone();
    let (mut merged, changes) = special_elements(old, changes, key)?;
    if replaced {
        return Ok(changes.into_iter().filter_map(plain_item).collect());
    }
    let order = changes.clone();
    let mut there = Places::of(&merged, Some(key));
    for change in changes {
        match (there.find(&change), change) {
            (Some(at), Value::Object(change)) => {
                if let Value::Object(item) = merged[at].take() {
                    merged[at] = Value::Object(merge_map(item, change, meta.inside)?);
                }
            }
            (_, change) => {
                if let Some(item) = plain_item(change) {
                    there.note(&item, merged.len());
                    merged.push(item);
                }
            }
        }
    }
    Ok(arrange(merged, &order, &before, Some(key)))
}

/// Carries out `$patch: delete` in elements; returns what stays of the list, and the other elements.
fn special_elements(
    mut old: Vec<Value>,
    changes: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), Status> {
    let mut rest = Vec::with_capacity(changes.len());
    let mut gone = HashSet::new();
    for change in changes {
        match change.get(PATCH).map(Value::as_str) {
            None => rest.push(change),
            Some(Some("delete")) => {
                if change.get(key).is_none() {
                    return Err(unmergeable(format!(
                        "delete patch type with no merge key {key} defined"
                    )));
                }
                gone.extend(change.get(key).cloned());
            }
            Some(Some("replace")) => {
                if change.get(key).is_some() {
                    rest.push(change);
                }
            }
            Some(Some("merge")) => {
                return Err(malformed("$patch: merge cannot stand in a list"));
            }
            Some(_) => return Err(malformed("unknown $patch in a list")),
        }
    }
    old.retain(|item| item.get(key).is_none_or(|key| !gone.contains(key)));
    Ok((old, rest))
}

/// Where each element of a list stands, the first of equals: lists may be as long as a body.
struct Places<'a> {
    key: Option<&'a str>,
    /// By what is told, encoded.
    at: BTreeMap<String, usize>,
}

impl<'a> Places<'a> {
    fn of(list: &[Value], key: Option<&'a str>) -> Self {
        let mut places = Self {
            key,
            at: BTreeMap::new(),
        };
        for (at, item) in list.iter().enumerate() {
            places.note(item, at);
        }
        places
    }

    /// What tells an element from the others. None: it has no key, and is like no other.
    fn told(&self, item: &Value) -> Option<String> {
        match self.key {
            Some(key) => item.get(key).map(Value::to_string),
            None => Some(item.to_string()),
        }
    }

    /// Takes an element up, unless there is one like it already.
    fn note(&mut self, item: &Value, at: usize) -> bool {
        let Some(told) = self.told(item) else {
            return false;
        };
        match self.at.entry(told) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(at);
                true
            }
        }
    }

    fn find(&self, item: &Value) -> Option<usize> {
        self.at.get(&self.told(item)?).copied()
    }
}

/// Puts the elements that `order` names into that order, and the others between them where they
/// stood before, as far as both can be had.
fn arrange(merged: Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) -> Vec<Value> {
    let (order, before) = (Places::of(order, key), Places::of(before, key));
    let rank = |list: &Places<'_>, item: &Value| list.find(item).unwrap_or(usize::MAX);
    let (mut named, mut others): (Vec<Value>, Vec<Value>) = merged
        .into_iter()
        .partition(|item| order.find(item).is_some());
    named.sort_by_cached_key(|item| rank(&order, item));
    others.sort_by_cached_key(|item| rank(&before, item));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(left), Some(right)) = (others.peek(), named.peek()) {
        let at = (before.find(left), before.find(right));
        let first = matches!(at, (Some(left), Some(right)) if left < right);
        out.extend(if first { others.next() } else { named.next() });
    }
    out.extend(named);
    out.extend(others);
    out
}

#[cfg(test)]
mod tests;
