//! What may change in a pod's spec after its creation: images, the deadline (downwards),
//! tolerations (more of them), scheduling gates (fewer of them), a negative grace period (to 1).

use crate::kinds::field::{items, maybe_int, present, restore, same, text};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

const FORBIDDEN: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Judges the new spec against the old one.
pub(super) fn validate(new: &Value, old: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for list in ["containers", "initContainers"] {
        let pointer = format!("/{list}");
        if items(new, &pointer).len() != items(old, &pointer).len() {
            errors.push(FieldError::forbidden(
                &path.child(list),
                "pod updates may not add or remove containers",
            ));
            return;
        }
    }
    deadline(new, old, path, errors);
    tolerations(new, old, &path.child("tolerations"), errors);
    if !errors.is_empty() {
        return;
    }
    gates(new, old, &path.child("schedulingGates"), errors);
    let masked = masked(new, old);
    if !same(Some(&masked), Some(old)) {
        let mut detail = FORBIDDEN.to_owned();
        difference(old, &masked, "spec", &mut detail);
        errors.push(FieldError::forbidden(path, &detail));
    }
}

fn deadline(new: &Value, old: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let path = path.child("activeDeadlineSeconds");
    let field = "/activeDeadlineSeconds";
    match (maybe_int(new, field), maybe_int(old, field)) {
        (Some(new), Some(old)) if new > old => errors.push(FieldError::invalid(
            &path,
            new,
            "must be less than or equal to previous value",
        )),
        (None, Some(_)) => errors.push(FieldError::invalid(
            &path,
            Value::Null,
            "must not update from a positive integer to nil value",
        )),
        _ => {}
    }
}

/// Every old toleration must still be there; only its seconds may differ.
fn tolerations(new: &Value, old: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let without_seconds = |toleration: &Value| {
        let mut held = toleration.clone();
        if let Some(held) = held.as_object_mut() {
            held.remove("tolerationSeconds");
        }
        held
    };
    let new: Vec<Value> = items(new, "/tolerations")
        .iter()
        .map(without_seconds)
        .collect();
    let kept = items(old, "/tolerations").iter().all(|toleration| {
        let toleration = without_seconds(toleration);
        new.iter().any(|held| same(Some(held), Some(&toleration)))
    });
    if !kept {
        errors.push(FieldError::forbidden(
            path,
            "existing toleration can not be modified except its tolerationSeconds",
        ));
    }
}

fn gates(new: &Value, old: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let held = items(old, "/schedulingGates");
    for (index, gate) in items(new, "/schedulingGates").iter().enumerate() {
        if !held.contains(gate) {
            errors.push(FieldError::forbidden(
                &path.index(index).child("name"),
                &format!(
                    "only deletion is allowed, but found new scheduling gate '{}'",
                    text(gate, "/name")
                ),
            ));
        }
    }
}

/// The new spec with what may change put back to what it was.
fn masked(new: &Value, old: &Value) -> Value {
    let mut masked = new.clone();
    for list in ["containers", "initContainers"] {
        for (index, container) in items(old, &format!("/{list}")).iter().enumerate() {
            if let Some(held) = masked
                .pointer_mut(&format!("/{list}/{index}"))
                .and_then(Value::as_object_mut)
            {
                restore(held, container, "image");
            }
        }
    }
    let gated = !items(old, "/schedulingGates").is_empty();
    let was_negative =
        maybe_int(old, "/terminationGracePeriodSeconds").is_some_and(|held| held < 0);
    let now_one = maybe_int(new, "/terminationGracePeriodSeconds") == Some(1);
    if let Some(held) = masked.as_object_mut() {
        for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
            restore(held, old, field);
        }
        if was_negative && now_one {
            restore(held, old, "terminationGracePeriodSeconds");
        }
        // Before it may be scheduled, a pod may still be narrowed to fewer nodes.
        if gated && narrowed(new, old) {
            restore(held, old, "nodeSelector");
        }
    }
    masked
}

fn narrowed(new: &Value, old: &Value) -> bool {
    let Some(old) = present(old, "/nodeSelector").and_then(Value::as_object) else {
        return true;
    };
    old.iter()
        .all(|(key, value)| new["nodeSelector"].get(key) == Some(value))
}

/// Appends a line each for what a field was and what it is now to be.
fn difference(old: &Value, new: &Value, path: &str, out: &mut String) {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                difference(
                    value,
                    b.get(key).unwrap_or(&Value::Null),
                    &format!("{path}.{key}"),
                    out,
                );
            }
            for (key, value) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
                difference(&Value::Null, value, &format!("{path}.{key}"), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                difference(a, b, &format!("{path}[{index}]"), out);
            }
        }
        _ if same(Some(old), Some(new)) => {}
        _ => {
            out.push_str(&format!("\n- {path}: {old}\n+ {path}: {new}"));
        }
    }
}
