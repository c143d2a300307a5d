//! Server-side apply, and the record of who set which field (`metadata.managedFields`).
//!
//! Behaves as `sigs.k8s.io/structured-merge-diff` does: [`apply`] takes what one manager wants of
//! an object, merges it into the stored one, refuses to take other managers' fields unless forced,
//! and removes what the manager wanted before and nobody else does. [`track`] records what any
//! other write changed.
//!
//! Recording begins with the first apply: an object that is never applied carries no
//! `managedFields`. What it had before its first apply then belongs to the manager
//! `before-first-apply`, so that an apply does not silently overwrite it.

mod compare;
mod managers;
mod merge;
mod set;
mod shape;

use serde_json::Value;

use crate::resource::Resource;
use crate::status::{Cause, Status};
use crate::write::Context;
use compare::compare;
use managers::{Entry, Managers};
use set::FieldSet;
use shape::Kind;

pub use managers::track;

/// What an object becomes when `context.manager` applies `wanted`, with its new managed fields.
/// The result still has to be brought into the schema's types; [`write::apply`](crate::write::apply)
/// does it all.
///
/// `old` is the stored object, none if there is none yet.
///
/// # Errors
///
/// 400 when `wanted` brings managed fields of its own, 409 when it would take other managers'
/// fields and `force` is not set.
pub fn apply(
    resource: &Resource,
    subresource: Option<&str>,
    old: Option<&Value>,
    wanted: Value,
    force: bool,
    context: &Context,
) -> Result<Value, Status> {
    let given = wanted.get("metadata").and_then(|m| m.get("managedFields"));
    if given.is_some_and(|fields| !fields.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let root = Kind::Struct(resource.schema());
    let mut set = FieldSet::default();
    merge::fields_of(root, &wanted, &mut Vec::new(), &mut set);
    managers::strip(resource, subresource, &mut set);
    let empty = Value::Object(serde_json::Map::new());
    let live = old.unwrap_or(&empty);
    let mut managers = Managers::read(live);
    if old.is_some() {
        managers.begin(resource, live, context);
    }
    let mut merged = merge::merge(root, live.clone(), wanted);
    let mut changes = compare(root, live, &merged);
    changes.strip(resource, subresource);
    let own = Entry::identity(resource, subresource, "Apply", context);
    let taken = changes.set();
    let conflicts: Vec<(&Entry, Vec<String>)> = managers
        .others(&own)
        .map(|entry| (entry, entry.set.common(taken)))
        .filter(|(_, paths)| !paths.is_empty())
        .collect();
    if !conflicts.is_empty() && !force {
        return Err(conflict(&conflicts));
    }
    managers.take_from_others(&own, taken);
    let before = managers.set_of(&own);
    let mut gone = FieldSet::default();
    for path in before.minus(&set).paths() {
        if !managers.others(&own).any(|entry| entry.set.touches(&path)) {
            gone.insert(&path);
        }
    }
    merge::remove(root, &mut merged, &gone, &set);
    managers.put(own, set, context);
    managers.write(&mut merged);
    Ok(merged)
}

/// `Apply failed with 1 conflict: conflict with "one": .data.b`.
fn conflict(conflicts: &[(&Entry, Vec<String>)]) -> Status {
    let mut causes = Vec::new();
    for (entry, paths) in conflicts {
        for path in paths {
            causes.push(Cause {
                reason: "FieldManagerConflict".into(),
                message: format!("conflict with {entry}"),
                field: path.clone(),
            });
        }
    }
    let message = match causes.as_slice() {
        [one] => format!(
            "Apply failed with 1 conflict: {}: {}",
            one.message, one.field
        ),
        many => {
            let mut lines = Vec::new();
            for (entry, paths) in conflicts {
                lines.push(format!("conflicts with {entry}:"));
                lines.extend(paths.iter().map(|path| format!("- {path}")));
            }
            format!(
                "Apply failed with {} conflicts: {}",
                many.len(),
                lines.join("\n")
            )
        }
    };
    Status::apply_conflict(message, causes)
}

#[cfg(test)]
mod tests;
