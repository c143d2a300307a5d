//! Rules of security contexts.

use crate::kinds::field::{flag, items, maybe_flag, maybe_int, present};
use crate::kinds::names;
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

const LARGEST_ID: i64 = i32::MAX as i64;

fn ids(context: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        if let Some(id) = maybe_int(context, &format!("/{field}")) {
            id_range(id, &path.child(field), errors);
        }
    }
}

fn id_range(id: i64, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if !(0..=LARGEST_ID).contains(&id) {
        errors.push(FieldError::invalid(
            path,
            id,
            "must be between 0 and 2147483647, inclusive",
        ));
    }
}

/// Judges a container's security context.
pub(super) fn container(context: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    ids(context, path, errors);
    names::one_of(errors, context, "procMount", path, &["Default", "Unmasked"]);
    if flag(context, "/privileged")
        && maybe_flag(context, "/allowPrivilegeEscalation") == Some(false)
    {
        errors.push(FieldError::invalid(
            path,
            context.clone(),
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        ));
    }
    seccomp(context, path, errors);
}

/// Judges a pod's security context.
pub(super) fn pod(context: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    ids(context, path, errors);
    for (index, group) in items(context, "/supplementalGroups").iter().enumerate() {
        let path = path.child("supplementalGroups").index(index);
        id_range(group.as_i64().unwrap_or_default(), &path, errors);
    }
    names::one_of(
        errors,
        context,
        "fsGroupChangePolicy",
        path,
        &["Always", "OnRootMismatch"],
    );
    seccomp(context, path, errors);
}

fn seccomp(context: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if let Some(profile) = present(context, "/seccompProfile") {
        names::one_of(
            errors,
            profile,
            "type",
            &path.child("seccompProfile"),
            &["Localhost", "RuntimeDefault", "Unconfined"],
        );
    }
}
