//! Puts what a manager wants into an object, and takes out what it no longer wants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::set::{FieldSet, Step};
use super::shape::Kind;

/// The fields that an applied object speaks of.
pub(super) fn fields_of(kind: Kind<'_>, value: &Value, path: &mut Vec<Step>, out: &mut FieldSet) {
    match (kind, value) {
        (Kind::Struct(_) | Kind::Map(_), Value::Object(map)) => {
            for (name, value) in map {
                path.push(Step::Field(name.clone()));
                fields_of(kind.inside(name), value, path, out);
                let hollow = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                if hollow || matches!(kind, Kind::Map(_)) {
                    out.insert(path);
                }
                path.pop();
            }
        }
        (Kind::Set | Kind::Items(..), Value::Array(items)) => {
            for item in items {
                path.push(kind.step(item));
                fields_of(kind.item(), item, path, out);
                out.insert(path);
                path.pop();
            }
        }
        (Kind::Leaf, _) => out.insert(path),
        _ => {}
    }
}

/// `wanted` laid over `live`.
pub(super) fn merge(kind: Kind<'_>, live: Value, wanted: Value) -> Value {
    match (kind, live, wanted) {
        (Kind::Struct(_) | Kind::Map(_), Value::Object(mut live), Value::Object(wanted)) => {
            for (name, wanted) in wanted {
                let merged = match live.remove(&name) {
                    Some(live) => merge(kind.inside(&name), live, wanted),
                    None => wanted,
                };
                live.insert(name, merged);
            }
            Value::Object(live)
        }
        (Kind::Set | Kind::Items(..), Value::Array(live), Value::Array(wanted)) => {
            Value::Array(merge_items(kind, live, wanted))
        }
        (_, _, wanted) => wanted,
    }
}

/// Items that only the live list has stay where they stand among the others, which come in the
/// wanted order.
fn merge_items(kind: Kind<'_>, live: Vec<Value>, wanted: Vec<Value>) -> Vec<Value> {
    let steps: BTreeSet<Step> = wanted.iter().map(|item| kind.step(item)).collect();
    let mut shared: BTreeMap<Step, VecDeque<Value>> = BTreeMap::new();
    let mut wanted = wanted.into_iter();
    let mut out: Vec<(Step, Value)> = Vec::new();
    for item in live {
        let step = kind.step(&item);
        if steps.contains(&step) {
            shared.entry(step).or_default().push_back(item);
            out.extend(wanted.next().map(|item| (kind.step(&item), item)));
        } else {
            out.push((step, item));
        }
    }
    out.extend(wanted.map(|item| (kind.step(&item), item)));
    out.into_iter()
        .map(
            |(step, item)| match shared.get_mut(&step).and_then(VecDeque::pop_front) {
                Some(live) => merge(kind.item(), live, item),
                None => item,
            },
        )
        .collect()
}

/// Takes fields out, and what held them if nothing is left there that `kept` speaks of.
pub(super) fn remove(kind: Kind<'_>, value: &mut Value, gone: &FieldSet, kept: &FieldSet) {
    remove_at(kind, value, gone, &mut Vec::new(), kept);
}

fn remove_at(
    kind: Kind<'_>,
    value: &mut Value,
    gone: &FieldSet,
    walked: &mut Vec<Step>,
    kept: &FieldSet,
) {
    match value {
        Value::Object(map) => {
            for (step, inside) in gone.children() {
                let Step::Field(name) = step else { continue };
                let Some(inner) = map.get_mut(name) else {
                    continue;
                };
                walked.push(step.clone());
                let emptied = inside.is_member() || {
                    remove_at(kind.inside(name), inner, inside, walked, kept);
                    is_empty(inner) && !kept.touches(walked)
                };
                walked.pop();
                if emptied {
                    map.remove(name);
                }
            }
        }
        Value::Array(items) => items.retain_mut(|item| {
            let step = kind.step(item);
            let Some(inside) = gone.child(&step) else {
                return true;
            };
            if inside.is_member() {
                return false;
            }
            walked.push(step);
            remove_at(kind.item(), item, inside, walked, kept);
            walked.pop();
            true
        }),
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
