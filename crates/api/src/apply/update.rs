//! What a write that is no apply makes of the record.

use serde_json::Value;

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
    let brought = Managers::brought(target, new);
    let live = old.unwrap_or(&NOTHING);
    let changes = compare(target, live, new);
    if brought.is_none() && changes.is_empty() && old.is_some() {
        managers::put(new, managers::managed_fields(live).to_vec());
        return;
    }
    let mut managers = brought.unwrap_or_else(|| Managers::of(live));
    if managers.is_empty() && old.is_some() {
        managers::put(new, Vec::new());
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
    if before.len() != after.len() || before == after {
        return;
    }
    let (Some(before), Some(after)) = (Managers::read(before), Managers::read(after)) else {
        return;
    };
    if !after.are_as_before(&before) {
        return;
    }
    let entries = managers::managed_fields(new).to_vec();
    managers::put(new, managers::managed_fields(old).to_vec());
    if new != old {
        managers::put(new, entries);
    }
}

#[cfg(test)]
mod tests;
