//! Which fields a write added, changed and removed.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::managers;
use super::set::{FieldSet, Step};
use super::shape::Kind;
use crate::resource::Resource;

/// What differs between two states of an object.
#[derive(Debug, Default)]
pub(super) struct Changes {
    set: FieldSet,
    removed: FieldSet,
}

impl Changes {
    /// Fields that were added or changed.
    pub(super) fn set(&self) -> &FieldSet {
        &self.set
    }

    /// Fields that are no longer there.
    pub(super) fn removed(&self) -> &FieldSet {
        &self.removed
    }

    /// Forgets the fields that nobody manages through this subresource.
    pub(super) fn strip(&mut self, resource: &Resource, subresource: Option<&str>) {
        managers::strip(resource, subresource, &mut self.set);
        managers::strip(resource, subresource, &mut self.removed);
    }
}

/// Compares two states of an object.
pub(super) fn compare(kind: Kind<'_>, old: &Value, new: &Value) -> Changes {
    let mut changes = Changes::default();
    walk(kind, Some(old), Some(new), &mut Vec::new(), &mut changes);
    changes
}

fn walk(
    kind: Kind<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &mut Vec<Step>,
    changes: &mut Changes,
) {
    let leaf = matches!(kind, Kind::Leaf) || (is_hollow(old) && is_hollow(new));
    match (old, new) {
        (None, None) => return,
        (None, Some(_)) => changes.set.insert(path),
        (Some(_), None) => changes.removed.insert(path),
        (Some(old), Some(new)) if leaf && old != new => changes.set.insert(path),
        (Some(_), Some(_)) => {}
    }
    if leaf {
        return;
    }
    if kind.is_list() {
        items(kind, old, new, path, changes);
    } else {
        fields(kind, old, new, path, changes);
    }
}

/// Nothing, null or empty.
fn is_hollow(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

fn fields(
    kind: Kind<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &mut Vec<Step>,
    changes: &mut Changes,
) {
    let none = Map::new();
    let (before, after) = (
        old.and_then(Value::as_object).unwrap_or(&none),
        new.and_then(Value::as_object).unwrap_or(&none),
    );
    let added = after.keys().filter(|name| !before.contains_key(*name));
    for name in before.keys().chain(added) {
        let there = kind.always_there(name);
        let one = before.get(name).or(old.and(there.as_ref()));
        let two = after.get(name).or(new.and(there.as_ref()));
        path.push(Step::Field(name.clone()));
        walk(kind.inside(name), one, two, path, changes);
        path.pop();
    }
}

fn items(
    kind: Kind<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &mut Vec<Step>,
    changes: &mut Changes,
) {
    let told = |list: Option<&Value>| -> Vec<Step> {
        let items = list.and_then(Value::as_array).into_iter().flatten();
        items.map(|item| kind.step(item)).collect()
    };
    let (before, after) = (told(old), told(new));
    let (olds, news) = (first_of_each(&before, old), first_of_each(&after, new));
    let added = after.iter().filter(|step| !olds.contains_key(step));
    for step in before.iter().chain(added) {
        let (one, two) = (olds.get(step).copied(), news.get(step).copied());
        path.push(step.clone());
        walk(kind.item(), one, two, path, changes);
        path.pop();
    }
}

/// A list's items by what tells them apart.
fn first_of_each<'a>(steps: &'a [Step], list: Option<&'a Value>) -> BTreeMap<&'a Step, &'a Value> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    let mut found = BTreeMap::new();
    for (step, item) in steps.iter().zip(items) {
        found.entry(step).or_insert(item);
    }
    found
}
