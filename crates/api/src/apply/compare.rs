//! Which fields a write added, changed and removed.

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
    let told = |list: Option<&Value>| -> Vec<(Step, Value)> {
        let items = list.and_then(Value::as_array).into_iter().flatten();
        items.map(|item| (kind.step(item), item.clone())).collect()
    };
    let (before, after) = (told(old), told(new));
    let find = |list: &[(Step, Value)], step: &Step| {
        list.iter()
            .find(|(other, _)| other == step)
            .map(|(_, item)| item.clone())
    };
    let added = after
        .iter()
        .filter(|(step, _)| find(&before, step).is_none());
    for (step, _) in before.iter().chain(added) {
        let (one, two) = (find(&before, step), find(&after, step));
        path.push(step.clone());
        walk(kind.item(), one.as_ref(), two.as_ref(), path, changes);
        path.pop();
    }
}
