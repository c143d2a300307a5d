//! What a write that is no apply makes of the record.

use serde_json::{Map, Value};

use super::compare::{NOTHING, compare};
use super::entry::{Entry, Operation};
use super::managers::{self, Managers};
use super::target::Target;
use crate::time;
use crate::write::Context;

/// Records that `context.manager` made `new` of `old`, which is none for what is created, by a write
/// that is no apply.
///
/// A stored object without any entry stays so: nobody is known who owns its fields. A client may
/// bring entries of its own, but through no subresource.
pub fn track(target: Target<'_>, old: Option<&Value>, new: &mut Value, context: &Context) {
    let live = old.unwrap_or(&NOTHING);
    let stored = managers::managed_fields(live);
    let carried = managers::take(new);
    let changes = compare(target, live, new);
    let same = carried == stored;
    let brought = Some(()).filter(|()| !same);
    let brought = brought.and_then(|()| Managers::brought(target, &carried));
    if brought.is_none() && changes.is_empty() && old.is_some() {
        managers::put(new, stored.to_vec());
        return;
    }
    let mut managers = match brought {
        Some(brought) => brought,
        None if same => Managers::unread(carried),
        None => Managers::unread(stored.to_vec()),
    };
    if managers.is_empty() && old.is_some() {
        return;
    }
    managers.lose(&changes, None);
    if !changes.set.is_empty() {
        let own = Entry::new(target, Operation::Update, context);
        managers.gain(own, &changes.set, time::format(context.now));
    }
    managers.drop_empty();
    managers.cap();
    managers.write(new);
}

/// Undoes a write that changed nothing but the times of entries, so that nothing is written: what
/// looked like a change was defaulted or corrected away.
pub(crate) fn ignore_times(old: &Value, new: &mut Value) {
    let (before, after) = (managers::managed_fields(old), managers::managed_fields(new));
    let timeless = |one: &Value, two: &Value| same_but(one, two, "time", |_, _| true);
    let known = |entry: &Value| before.iter().any(|old| timeless(old, entry));
    if before.len() != after.len() || before == after || !after.iter().all(known) {
        return;
    }
    let metadata = |one: &Value, two: &Value| same_but(one, two, "managedFields", |_, _| true);
    if same_but(old, new, "metadata", metadata) {
        managers::put(new, before.to_vec());
    }
}

/// Whether two objects are the same, if one of their fields is by another measure.
fn same_but(one: &Value, two: &Value, field: &str, same: fn(&Value, &Value) -> bool) -> bool {
    let (Value::Object(one), Value::Object(two)) = (one, two) else {
        return one == two;
    };
    let others = |map: &'_ Map<String, Value>| map.len() - usize::from(map.contains_key(field));
    let alike = |(name, value): (&String, &Value)| match two.get(name) {
        Some(other) if name == field => same(value, other),
        Some(other) => value == other,
        None => name == field,
    };
    others(one) == others(two) && one.iter().all(alike)
}

#[cfg(test)]
mod tests;
