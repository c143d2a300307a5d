//! Which fields a write added, changed and removed.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::set::{FieldSet, Step};
use super::shape::Kind;
use super::target::Target;

/// An object without any field, as it is before its creation.
pub(super) static NOTHING: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));

/// What differs between two states of an object, or of a part of it.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Fields that were added or changed.
    pub(super) set: FieldSet,
    /// Fields that are no longer there.
    pub(super) removed: FieldSet,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }

    fn graft(&mut self, step: impl Fn() -> Step, inside: Self) {
        if !inside.set.is_empty() {
            self.set.graft(step(), inside.set);
        }
        if !inside.removed.is_empty() {
            self.removed.graft(step(), inside.removed);
        }
    }
}

/// Compares two states of an object in one walk over both; what nobody manages is not looked at.
pub(super) fn compare(target: Target<'_>, old: &Value, new: &Value) -> Changes {
    let root = Kind::Struct(target.ty);
    walk(root, Level::Root(target), Some(old), Some(new))
}

/// How deep the walk is, as far as fields that nobody manages go.
#[derive(Clone, Copy)]
enum Level<'a> {
    Root(Target<'a>),
    Metadata(Target<'a>),
    Inside,
}

impl Level<'_> {
    fn ignores(self, name: &str) -> bool {
        match self {
            Self::Root(target) => target.ignores(name),
            Self::Metadata(target) => target.ignores_metadata(name),
            Self::Inside => false,
        }
    }

    fn below(self, name: &str) -> Self {
        match self {
            Self::Root(target) if name == "metadata" => Self::Metadata(target),
            _ => Self::Inside,
        }
    }
}

fn walk(kind: Kind<'_>, level: Level<'_>, old: Option<&Value>, new: Option<&Value>) -> Changes {
    let mut changes = Changes::default();
    // Two empty ones are told apart as a whole: there is nothing inside to do it by.
    let leaf = matches!(kind, Kind::Leaf) || (is_hollow(old) && is_hollow(new));
    match (old, new) {
        (None, None) => return changes,
        (None, Some(_)) => changes.set.join(),
        (Some(_), None) => changes.removed.join(),
        (Some(old), Some(new)) if leaf && old != new => changes.set.join(),
        (Some(_), Some(_)) => {}
    }
    match kind {
        _ if leaf => {}
        Kind::Set | Kind::Items(..) => items(kind, old, new, &mut changes),
        _ => fields(kind, level, old, new, &mut changes),
    }
    changes
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
    level: Level<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    changes: &mut Changes,
) {
    let has = |value: Option<&Value>, name: &str| value.is_some_and(|v| v.get(name).is_some());
    let added = names(new).filter(|name| !has(old, name));
    let unwritten = kind.unwritten().iter().copied();
    let unwritten = unwritten.filter(|name| !has(old, name) && !has(new, name));
    for name in names(old).chain(added).chain(unwritten) {
        if level.ignores(name) {
            continue;
        }
        let (inside, there) = kind.field(name);
        let one = old.and_then(|old| old.get(name).or(there));
        let two = new.and_then(|new| new.get(name).or(there));
        let inside = walk(inside, level.below(name), one, two);
        changes.graft(|| Step::Field(name.to_owned()), inside);
    }
}

fn names(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let map = value.and_then(Value::as_object);
    map.into_iter().flat_map(Map::keys).map(String::as_str)
}

fn items(kind: Kind<'_>, old: Option<&Value>, new: Option<&Value>, changes: &mut Changes) {
    // Most writes leave most lists alone.
    if old == new {
        return;
    }
    let (olds, news) = (told(kind, old), told(kind, new));
    let added = news.iter().filter(|(step, _)| !olds.contains_key(step));
    for (step, _) in olds.iter().chain(added) {
        let (one, two) = (olds.get(step).copied(), news.get(step).copied());
        let inside = walk(kind.item(), Level::Inside, one, two);
        changes.graft(|| step.clone(), inside);
    }
}

/// A list's items by what tells them apart; of two that are alike, the first.
fn told<'a>(kind: Kind<'_>, list: Option<&'a Value>) -> BTreeMap<Step, &'a Value> {
    let mut found = BTreeMap::new();
    for item in list.and_then(Value::as_array).into_iter().flatten() {
        found.entry(kind.step(item)).or_insert(item);
    }
    found
}
