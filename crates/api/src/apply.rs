//! Server-side apply, and the record of who set which field (`metadata.managedFields`).
//!
//! Behaves as Kubernetes' field manager and `sigs.k8s.io/structured-merge-diff` do: [`apply`] takes
//! what one manager wants of an object, merges it into the stored one, refuses to take other
//! managers' fields unless forced, and removes what the manager wanted before and nobody else does.
//! [`track`] records what any other write changed.
//!
//! Every write is recorded but those that only the server makes: bindings, marks of deletion. An
//! object without any entry, because a client took them away, is recorded again from its next apply
//! on; what it had before then belongs to the manager `before-first-apply`.

mod compare;
mod entry;
mod last_applied;
mod manager_name;
mod managers;
mod merge;
mod scale;
mod set;
mod shape;
mod target;
mod unique;
mod update;

use serde_json::Value;

use crate::status::{Cause, Status};
use crate::time;
use crate::write::Context;
use compare::{NOTHING, compare};
use entry::{Entry, Operation};
use managers::Managers;
use set::FieldSet;
use shape::Kind;

pub use manager_name::{manager_faults, manager_of_user_agent};
pub(crate) use scale::{entries_from_scale, entries_to_scale};
pub use target::Target;
pub(crate) use unique::ambiguous;
pub(crate) use update::ignore_times;
pub use update::track;

/// Fields that one manager owns and another would take.
type Conflict<'a> = (&'a Entry, FieldSet);

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
    target: Target<'_>,
    old: Option<&Value>,
    wanted: Value,
    force: bool,
    context: &Context,
) -> Result<Value, Status> {
    let given = wanted.get("metadata").and_then(|m| m.get("managedFields"));
    if given.is_some_and(|fields| !fields.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let root = Kind::Struct(target.ty);
    let mut own = Entry::new(target, Operation::Apply, context);
    merge::fields_of(root, &wanted, &mut Vec::new(), &mut own.set);
    target.strip(&mut own.set);
    let live = old.unwrap_or(&NOTHING);
    let mut managers = Managers::of(live);
    if managers.is_empty() && old.is_some() {
        begin(target, live, &mut managers, context);
    }
    let of_kubectl = own.manager == last_applied::KUBECTL;
    let applied = of_kubectl.then(|| wanted.clone());
    let mut merged = merge::merge(root, live.clone(), wanted);
    let gone = dropped(&managers, &own);
    merge::remove(root, &mut merged, &gone, &own.set);
    let changes = compare(target, live, &merged);
    if !force {
        let mut conflicts: Vec<Conflict<'_>> = managers
            .others(&own)
            .map(|entry| (entry, entry.set.common(&changes.set)))
            .collect();
        if of_kubectl && let Some(free) = last_applied::applied_and_unchanged(target, live) {
            for (_, fields) in &mut conflicts {
                fields.subtract(&free);
            }
        }
        conflicts.retain(|(_, fields)| !fields.is_empty());
        if !conflicts.is_empty() {
            return Err(conflict(&conflicts));
        }
    }
    managers.lose(&changes, Some(&own));
    own.time = if merged == *live {
        let before = managers.find(&own);
        before.map(|entry| entry.time.clone()).unwrap_or_default()
    } else {
        time::format(context.now)
    };
    managers.set(own);
    managers.write(&mut merged);
    if let Some(applied) = applied {
        last_applied::refresh(&mut merged, applied);
    }
    Ok(merged)
}

/// Where nothing was recorded yet: makes what is there now somebody's.
fn begin(target: Target<'_>, live: &Value, managers: &mut Managers, context: &Context) {
    let mut before = Entry::new(target, Operation::Update, context);
    before.manager = "before-first-apply".to_owned();
    let changes = compare(target, &NOTHING, live);
    managers.gain(before, &changes.set, time::format(context.now));
}

/// What the manager wanted before and does not any more, and nobody else has.
fn dropped(managers: &Managers, own: &Entry) -> FieldSet {
    let mut gone = FieldSet::default();
    let Some(before) = managers.find(own) else {
        return gone;
    };
    for path in before.set.minus(&own.set).paths() {
        // Who has something inside has the field around it, too.
        let kept = own.set.touches(&path);
        if !kept && !managers.others(own).any(|entry| entry.set.touches(&path)) {
            gone.insert(&path);
        }
    }
    gone
}

/// `Apply failed with 1 conflict: conflict with "one": .data.b`.
fn conflict(conflicts: &[Conflict<'_>]) -> Status {
    let mut causes = Vec::new();
    for (entry, fields) in conflicts {
        for path in fields.texts() {
            causes.push(Cause {
                reason: "FieldManagerConflict".into(),
                message: format!("conflict with {entry}"),
                field: path,
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
            for (entry, fields) in conflicts {
                lines.push(format!("conflicts with {entry}:"));
                lines.extend(fields.texts().iter().map(|path| format!("- {path}")));
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

/// What the tests write as this manager.
#[cfg(test)]
fn by(manager: &str) -> Context {
    Context {
        now: time::parse("2026-11-21T10:00:00Z").expect("time"),
        uid: "u".into(),
        suffix: "abcde".into(),
        user: crate::write::User::default(),
        manager: manager.into(),
    }
}

#[cfg(test)]
mod migration_tests;
#[cfg(test)]
mod tests;
