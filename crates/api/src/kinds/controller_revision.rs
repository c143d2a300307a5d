//! ControllerRevisions: what a set's template was.

use super::field::present;
use super::{Hooks, names, template};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "apps/v1 ControllerRevision",
    validate,
    ..Hooks::NONE
};

fn validate(revision: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let root = FieldPath::root();
    if present(revision, "/data").is_none() {
        let path = root.child("data");
        errors.push(FieldError::required(&path, "data is mandatory"));
    }
    names::not_negative(errors, revision, "revision", &root);
    if let Some(old) = old {
        template::immutable(revision, old, "data", &root, errors);
    }
}
