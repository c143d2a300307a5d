//! ReplicaSets.

use super::field::{default, spec};
use super::names::not_negative;
use super::{Hooks, template};
use crate::status::{FieldError, FieldPath};
use crate::write::Context;
use serde_json::{Value, json};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "apps/v1 ReplicaSet",
    default: fill,
    prepare,
    validate,
};

fn fill(set: &mut Value) {
    if let Some(spec) = spec(set) {
        default(spec, "replicas", 1);
        template::fill(spec);
    }
}

fn prepare(set: &mut Value, old: Option<&Value>, _context: &Context) {
    if old.is_none() {
        set["status"] = json!({"replicas": 0});
    }
}

fn validate(set: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &set["spec"];
    if old.is_some_and(|old| old["spec"] == *spec) {
        return;
    }
    let path = FieldPath::new("spec");
    not_negative(errors, spec, "replicas", &path);
    not_negative(errors, spec, "minReadySeconds", &path);
    template::validate_selector(spec, &path, "replicaset", errors);
    template::validate_match(spec, &path, errors);
    template::validate_always(
        &spec["template"],
        &path.child("template"),
        "ReplicaSet",
        errors,
    );
    if let Some(old) = old {
        template::immutable(spec, &old["spec"], "selector", &path, errors);
    }
}
